"""Caffe's layer types, one small file for each family: parameters, shape rule, computation.

`register_layer` adds a type from outside this project; `find_layer` looks one up.

Not here: the losses and data layers, which `to_deploy` takes out of a net.
"""

from __future__ import annotations

from . import (
    activations,
    batch,
    batch_norm,
    blocks,
    cascade,
    concat,
    convolution,
    crop,
    detection_output,
    dropout,
    eltwise,
    inner_product,
    lrn,
    masks,
    mscnn,
    neuron,
    normalize,
    pooling,
    prior_box,
    proposal,
    recurrent,
    reorg,
    reshape,
    resize,
    roi_align,
    roi_pooling,
    scale,
    sequence,
    softmax,
    source,
    stage_bridge,
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

__all__ = [
    "Convolution",
    "Deconvolution",
    "Layer",
    "Pooling",
    "activations",
    "batch",
    "batch_norm",
    "bilinear_kernel",
    "bilinear_weight",
    "blocks",
    "cascade",
    "concat",
    "conv2d",
    "convolution",
    "crop",
    "detection_output",
    "dropout",
    "eltwise",
    "find_layer",
    "inner_product",
    "kind_of_upsampling",
    "lrn",
    "masks",
    "mscnn",
    "neuron",
    "normalize",
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
    "scale",
    "sequence",
    "softmax",
    "source",
    "stage_bridge",
    "tensor",
    "upsample",
    "volume",
    "yolo",
]
