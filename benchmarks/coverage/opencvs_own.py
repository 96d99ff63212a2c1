"""What OpenCV 4 loads and computes in another way than the layer's source, so that there is nothing to compare."""

from __future__ import annotations

from converters.layers.batch_norm import BatchNorm
from converters.layers.convolution import Convolution
from converters.layers.dropout import Dropout
from converters.layers.lrn import LRN
from converters.net import NetSpec, Shape
from converters.net.shapes import LayerShapes, iter_layer_shapes

BY_CLASS = {
    "UnitInnerProduct": "it passes over inner_product_param.normalize",
    "UnitChannels": "it passes over normalize_param",
    "Axpy": "its Axpy is not SENet's (axpy_layer.cpp)",
}
"""Layers by our class; see docs/layers.md."""

OPENCV_HAS = {"batch_norm_param.scale_bias"}
"""Fields of forks that OpenCV's own schema has (opencv-caffe.proto, BatchNormParameter)."""


def opencvs_own(spec: NetSpec) -> str | None:
    """The first such thing in the net, None where there is none."""
    return next(filter(None, map(_of_layer, iter_layer_shapes(spec))), None)


def _of_layer(row: LayerShapes) -> str | None:
    layer = row.layer
    if layer.type == "InnerProduct" and layer.message.inner_product_param.transpose:
        return "it passes over inner_product_param.transpose"
    if layer.type == "BatchNorm":
        return _of_batch_norm(row)
    if isinstance(layer.params, LRN) and layer.params.k != 1:
        return "it passes over lrn_param.k"
    if isinstance(layer.params, Dropout) and layer.params.sample:
        return "it passes over dropout_param.sample_weights_test"
    if type(layer.params) is Convolution and _reads_beside(layer.params, row.bottoms[0]):
        return "its depthwise 3x3 convolution of one row or column reads what lies beside it in memory"
    return BY_CLASS.get(type(layer.params).__name__)


def _of_batch_norm(row: LayerShapes) -> str | None:
    if isinstance(row.layer.params, BatchNorm) and row.layer.params.use_global_stats is False:
        return "its BatchNorm on batch statistics divides by the root of 1 + eps as well, and sums in float32"
    if any(name.startswith("batch_norm_param") for name in {field.name for field in row.layer.extra} - OPENCV_HAS):
        # a message with a field that OpenCV's schema lacks has all its defaults written in, use_global_stats: false
        return "its BatchNorm goes by the batch's statistics where batch_norm_param has a field of a fork"
    return None


def _reads_beside(params: Convolution, bottom: Shape) -> bool:
    """True for a convolution (n, c, h, w) that OpenCV 4.14 gets wrong: 3x3 with pads of 1, a group for each channel."""
    return (
        len(bottom) == 4
        and min(bottom[2:]) == 1
        and params.group == bottom[1] == params.num_output > 1
        and set(params.kernel) == {3}
        and set(params.pad) == {1}
        and set(params.dilation) == {1}
    )
