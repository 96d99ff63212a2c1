"""Caffe's file formats, and nothing about FCN: bytes -> messages -> net and blobs -> PyTorch, and back.

    spec = converters.read_prototxt("deploy.prototxt")
    model = converters.read_caffemodel("weights.caffemodel")      # .spec, .blobs: views of the mapped file
    net = converters.CaffeNet(model.spec)
    net.load_state_dict(converters.to_state_dict(model))

Reading needs no torch; what does is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import layers as layers  # makes the layer types known
from .errors import (
    CaffeFormatError,
    LimitError,
    MismatchError,
    NetError,
    PrototxtError,
    UnknownLayerError,
    WireError,
)
from .lazy import lazy_attributes
from .net import Layer, LayerSpec, NetSpec, register_layer
from .old_names import CONVERTERS, keep_old_names

if TYPE_CHECKING:
    from . import diff as diff
    from . import execution as execution
    from . import export as export
    from . import formats as formats
    from . import net as net
    from . import passes as passes
    from . import solver as solver
    from .cancelling import Cancelled, stop_when
    from .conversion import ConversionReport, convert
    from .execution import CaffeNet, from_state_dict, to_state_dict
    from .formats import (
        CaffeModel,
        parse_prototxt,
        read_caffemodel,
        read_mean,
        read_prototxt,
        write_caffemodel,
        write_hdf5,
        write_prototxt,
    )
    from .passes import to_deploy

__all__ = [
    "CaffeFormatError",
    "CaffeModel",
    "CaffeNet",
    "Cancelled",
    "ConversionReport",
    "Layer",
    "LayerSpec",
    "LimitError",
    "MismatchError",
    "NetError",
    "NetSpec",
    "PrototxtError",
    "UnknownLayerError",
    "WireError",
    "convert",
    "from_state_dict",
    "parse_prototxt",
    "read_caffemodel",
    "read_mean",
    "read_prototxt",
    "register_layer",
    "stop_when",
    "to_deploy",
    "to_state_dict",
    "write_caffemodel",
    "write_hdf5",
    "write_prototxt",
]

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        **dict.fromkeys(("Cancelled", "stop_when"), "cancelling"),
        **dict.fromkeys(("ConversionReport", "convert"), "conversion"),
        **dict.fromkeys(("CaffeNet", "from_state_dict", "to_state_dict"), "execution"),
        **dict.fromkeys(("CaffeModel", "parse_prototxt", "read_caffemodel", "read_mean", "read_prototxt"), "formats"),
        **dict.fromkeys(("write_caffemodel", "write_hdf5", "write_prototxt"), "formats"),
        "to_deploy": "passes",
    },
    rooms=("diff", "execution", "export", "formats", "layers", "net", "passes", "solver"),
)
keep_old_names(CONVERTERS)
