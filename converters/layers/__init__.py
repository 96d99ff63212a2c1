"""Caffe's layer types, one small file for each family: parameters, shape rule, computation.

`register_layer` adds a type from outside this project; `find_layer` looks one up, and imports its family then: there
are so many that a small net would wait for those it does not have. homes.py, which `make docs-generated` writes, has
the module of each type.

Not here: the losses and data layers, which `to_deploy` takes out of a net.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_attributes
from ..net.layer import Layer, all_layers, find_layer, register_homes, register_layer
from .homes import HOMES

if TYPE_CHECKING:
    from .bilinear import bilinear_kernel, bilinear_weight, kind_of_upsampling
    from .convolution import Convolution, Deconvolution
    from .fork import fork_message
    from .functions import lrn_across_channels
    from .im2col import conv2d
    from .pooling import Pooling

__all__ = [
    "Convolution",
    "Deconvolution",
    "Layer",
    "Pooling",
    "all_layers",
    "bilinear_kernel",
    "bilinear_weight",
    "conv2d",
    "find_layer",
    "fork_message",
    "kind_of_upsampling",
    "lrn_across_channels",
    "register_layer",
]

register_homes({name: f"{__name__}.{module}" for name, module in HOMES.items()})

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        **dict.fromkeys(("bilinear_kernel", "bilinear_weight", "kind_of_upsampling"), "bilinear"),
        **dict.fromkeys(("Convolution", "Deconvolution"), "convolution"),
        "conv2d": "im2col",
        "fork_message": "fork",
        "lrn_across_channels": "functions",
        "Pooling": "pooling",
    },
)
