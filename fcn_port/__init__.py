"""The FCNs of Long, Shelhamer and Darrell in PyTorch, with Caffe's weights and Caffe's numbers.

    net = fcn_port.load("voc-fcn8s")              # fetched, verified and converted the first time
    seen = fcn_port.segment(net, "street.jpg")    # seen.labels, seen.scores, seen.overlay()

`fast` gives the same net without its padding's work. `build` makes a net without weights, `blobs` runs one and gives
every blob by Caffe's name, `trace` every shape.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from converters.version import VERSION as __version__

if TYPE_CHECKING:
    from .inference import Segmentation, segment
    from .inference.lossless import fast
    from .inspection import blobs, trace
    from .loading import load
    from .nets import build

__all__ = ["Segmentation", "__version__", "blobs", "build", "fast", "load", "segment", "trace"]

_HOMES = {
    "Segmentation": "inference",
    "segment": "inference",
    "fast": "inference.lossless",
    "blobs": "inspection",
    "trace": "inspection",
    "load": "loading",
    "build": "nets",
}


def __getattr__(name: str) -> object:
    """Import what is asked for when it is asked for: torch takes a second, and `fcn-port --help` does not need it."""
    if name not in _HOMES:
        raise AttributeError(f"module 'fcn_port' has no attribute '{name}'")
    from importlib import import_module

    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value
