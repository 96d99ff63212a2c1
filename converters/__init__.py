"""Caffe's file formats, and nothing about FCN: bytes -> messages -> net and blobs -> PyTorch, and back.

    spec = converters.read_prototxt("deploy.prototxt")
    model = converters.read_caffemodel("weights.caffemodel")      # .spec, .blobs: views of the mapped file
    net = converters.CaffeNet(model.spec)
    net.load_state_dict(converters.to_state_dict(model))

Reading needs no torch; what does is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .binaryproto import read_mean
from .caffemodel import CaffeModel, read_caffemodel, write_caffemodel
from .conversion import ConversionReport, convert
from .errors import CaffeFormatError, LimitError, MismatchError, NetError, PrototxtError, UnknownLayerError, WireError
from .hdf5 import write_hdf5
from .layers import Layer, register_layer
from .net import LayerSpec, NetSpec
from .passes import to_deploy
from .prototxt import parse_prototxt, read_prototxt, write_prototxt
from .state_dict import from_state_dict, to_state_dict

if TYPE_CHECKING:
    from .caffe_net import CaffeNet

__all__ = [
    "CaffeFormatError",
    "CaffeModel",
    "CaffeNet",
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
    "to_deploy",
    "to_state_dict",
    "write_caffemodel",
    "write_hdf5",
    "write_prototxt",
]


def __getattr__(name: str) -> Any:
    if name == "CaffeNet":
        from .caffe_net import CaffeNet

        return CaffeNet
    raise AttributeError(f"module 'converters' has no attribute '{name}'")
