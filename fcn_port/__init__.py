"""The FCNs of Long, Shelhamer and Darrell in PyTorch, with Caffe's weights and Caffe's numbers.

    net = fcn_port.load("voc-fcn8s")              # fetched, verified and converted the first time
    seen = fcn_port.segment(net, "street.jpg")    # seen.labels, seen.scores, seen.overlay()
    found = fcn_port.detect(ssd, "street.jpg")    # found[0].name, .score, .box; found.picture()
    best = fcn_port.classify(vgg, "cat.jpg")[0]   # best.name, .score; `see` takes nets of every kind

`fast` gives the same net without its padding's work, `numpy_net` one on NumPy arrays without PyTorch. `build` makes a
net without weights, `blobs` runs one and gives every blob by Caffe's name, `trace` every shape.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import converters as converters
    import weights as weights
    from converters.cancelling import Cancelled, stop_when
    from converters.version import VERSION as __version__

    from . import cluster as cluster
    from . import data as data
    from . import detection as detection
    from . import evaluation as evaluation
    from . import exporting as exporting
    from . import fastpath as fastpath
    from . import nets as nets
    from . import opencv as opencv
    from . import predict as predict
    from . import predictor as predictor
    from . import publishing as publishing
    from . import report as report
    from . import serving as serving
    from . import surgery as surgery
    from . import training as training
    from . import view as view
    from .detection import Detection, Detections, detect
    from .fastpath.lossless import fast
    from .fastpath.numpy_net import NumpyNet, numpy_net
    from .inspection import blobs, trace
    from .loading import load
    from .nets import Net, build
    from .predict import Classification, Segmentation, ValueMap, classify, prepare, see, segment
    from .predictor import Prediction, Predictor

__all__ = [
    "Cancelled",
    "Classification",
    "Detection",
    "Detections",
    "Net",
    "NumpyNet",
    "Prediction",
    "Predictor",
    "Segmentation",
    "ValueMap",
    "__version__",
    "blobs",
    "build",
    "classify",
    "detect",
    "fast",
    "load",
    "numpy_net",
    "prepare",
    "see",
    "segment",
    "stop_when",
    "trace",
]

_HOMES = {
    "Cancelled": ("converters.cancelling", "Cancelled"),
    "stop_when": ("converters.cancelling", "stop_when"),
    "Detection": ("fcn_port.detection", "Detection"),
    "Detections": ("fcn_port.detection", "Detections"),
    "Segmentation": ("fcn_port.predict", "Segmentation"),
    "__version__": ("converters.version", "VERSION"),
    "Classification": ("fcn_port.predict", "Classification"),
    "ValueMap": ("fcn_port.predict", "ValueMap"),
    "classify": ("fcn_port.predict", "classify"),
    "prepare": ("fcn_port.predict", "prepare"),
    "see": ("fcn_port.predict", "see"),
    "Prediction": ("fcn_port.predictor", "Prediction"),
    "Predictor": ("fcn_port.predictor", "Predictor"),
    "detect": ("fcn_port.detection", "detect"),
    "segment": ("fcn_port.predict", "segment"),
    "fast": ("fcn_port.fastpath.lossless", "fast"),
    "NumpyNet": ("fcn_port.fastpath.numpy_net", "NumpyNet"),
    "numpy_net": ("fcn_port.fastpath.numpy_net", "numpy_net"),
    "blobs": ("fcn_port.inspection", "blobs"),
    "trace": ("fcn_port.inspection", "trace"),
    "load": ("fcn_port.loading", "load"),
    "Net": ("fcn_port.nets", "Net"),
    "build": ("fcn_port.nets", "build"),
}


_BESIDE = ("converters", "weights")
_ROOMS = (
    "cluster",
    "data",
    "detection",
    "evaluation",
    "exporting",
    "fastpath",
    "nets",
    "opencv",
    "predict",
    "predictor",
    "publishing",
    "report",
    "serving",
    "surgery",
    "training",
    "view",
)
"""The packages and modules in here that people import names from; `fcn_port.training` alone imports it, too."""


def _refuse_namesakes() -> None:
    """ImportError where another `weights` or `converters` comes first, such as a weights.py beside a script."""
    from importlib.util import find_spec
    from pathlib import Path

    home = Path(__file__).resolve().parents[1]
    for name in _BESIDE:
        spec = find_spec(name)
        places = () if spec is None else (spec.origin, *(spec.submodule_search_locations or ()))
        found = next((place for place in places if place), "nothing")
        if Path(found).resolve().parent != home / name:
            raise ImportError(
                f"fcn_port: 'import {name}' finds {found} instead of the package that came with fcn_port; "
                "rename it, or run the program from another folder"
            )


_refuse_namesakes()
logging.getLogger(__name__).addHandler(logging.NullHandler())  # silent until the program that uses it listens


def __getattr__(name: str) -> object:
    """Import what is asked for when it is asked for.

    torch takes a second, and `fcn-port --help` does not need it; the program hears Ctrl-C from its first import on.
    `converters` and `weights` are the packages beside this one, the very same modules.
    """
    if name in _BESIDE:
        from importlib import import_module

        return import_module(name)
    if name not in _HOMES and name not in _ROOMS:
        raise AttributeError(f"module 'fcn_port' has no attribute '{name}'")
    from converters.lazy import import_or_say

    if name in _ROOMS:
        return import_or_say(f"fcn_port.{name}", f"fcn_port.{name}")
    module, attribute = _HOMES[name]
    value = getattr(import_or_say(module, f"fcn_port.{name}"), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    from converters.lazy import shown_names

    return shown_names(__name__, *_BESIDE, *_ROOMS)
