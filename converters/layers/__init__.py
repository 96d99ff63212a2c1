"""Caffe's layer types, one small file for each family: parameters, shape rule, computation.

`register_layer` adds a type from outside this project; `find_layer` looks one up.

Not here: the losses and data layers, which `to_deploy` takes out of a net.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_attributes
from . import (
    activations,
    arithmetic,
    batch,
    batch_norm,
    blocks,
    borders,
    boxes,
    cascade,
    colinear,
    concat,
    convolution,
    correlation,
    crop,
    detection_output,
    detectnet,
    dropout,
    eltwise,
    flow,
    inner_product,
    lrn,
    masked,
    masks,
    meanfield,
    mscnn,
    neuron,
    normalize,
    normface,
    pooling,
    prior_box,
    proposal,
    recurrent,
    reorg,
    reshape,
    resize,
    roi_align,
    roi_pooling,
    rstarcnn,
    scale,
    sequence,
    softmax,
    source,
    stage_bridge,
    synopsys_python,
    tensor,
    upsample,
    volume,
    yolo,
)
from .base import Layer, find_layer, register_layer
from .bilinear import bilinear_kernel, bilinear_weight, kind_of_upsampling
from .convolution import Convolution, Deconvolution
from .im2col import conv2d
from .pooling import Pooling

if TYPE_CHECKING:
    from .functions import lrn_across_channels

__all__ = [
    "Convolution",
    "Deconvolution",
    "Layer",
    "Pooling",
    "activations",
    "arithmetic",
    "batch",
    "batch_norm",
    "bilinear_kernel",
    "bilinear_weight",
    "blocks",
    "borders",
    "boxes",
    "cascade",
    "colinear",
    "concat",
    "conv2d",
    "convolution",
    "correlation",
    "crop",
    "detection_output",
    "detectnet",
    "dropout",
    "eltwise",
    "find_layer",
    "flow",
    "inner_product",
    "kind_of_upsampling",
    "lrn",
    "lrn_across_channels",
    "masked",
    "masks",
    "meanfield",
    "mscnn",
    "neuron",
    "normalize",
    "normface",
    "pooling",
    "prior_box",
    "proposal",
    "recurrent",
    "register_layer",
    "reorg",
    "reshape",
    "resize",
    "roi_align",
    "roi_pooling",
    "rstarcnn",
    "scale",
    "sequence",
    "softmax",
    "source",
    "stage_bridge",
    "synopsys_python",
    "tensor",
    "upsample",
    "volume",
    "yolo",
]

__getattr__, __dir__ = lazy_attributes(__name__, {"lrn_across_channels": "functions"})
