"""Forms for OpenCV, whose DNN module has layers of Caffe's kind: as nodes, they take every size in both of its engines.

OpenCV's classic engine works shapes out when it reads a model, and refuses what depends on a free size (Shape, Reduce,
ArgMax); and it leaves the padding out of averages though count_include_pad is set (tried with 5.0.0; docs/log.md). An
operator that OpenCV's ONNX importers do not know is taken for a layer of OpenCV of that name, with the attributes as
its parameters (onnx_importer.cpp, parseCustomLayer).
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from ..net.onnx_form import FLOAT, Operand
from .bilinear import bilinear_weight

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..net.onnx_form import OnnxLayer, OnnxValue

TO_THE_END = 2**63 - 1
"""The end of a slice that goes to the end of an axis, whatever its size."""

MOST_SPREAD = 1 << 26
"""Numbers of a kernel that is no blob: one that has zeros for its dilation, or that interpolates."""


def opencv_crop(out: OnnxLayer, *, axis: int, offsets: Sequence[int]) -> None:
    """OpenCV's Crop, which takes its size from the second bottom (layers/crop_layer.cpp in 4, slice_layer.cpp)."""
    out.top("Crop", out.bottoms, axis=axis, offset=list(offsets))


def sum_over_channels(out: OnnxLayer, x: Operand, channels: int, *, part: str) -> str:
    """The sum over the channels of an image (n, c, h, w) as (n, 1, h, w): a convolution with ones."""
    ones = out.constant(f"{part}_ones", np.ones((1, channels, 1, 1), np.float32))
    return out.node("Conv", [x, ones], part=part)


def zoomed(out: OnnxLayer, x: Operand, channels: int, zoom: int) -> None:
    """Bilinear interpolation to (size - 1) * zoom + 1, corners on corners: a deconvolution of each channel."""
    shape = (channels, 1, 2 * zoom - 1, 2 * zoom - 1)
    if prod(shape) > MOST_SPREAD:
        raise out.refuse(f"a kernel that enlarges {channels} channels {zoom} times would take {prod(shape):,} numbers")
    weight = bilinear_weight(shape)
    window: dict[str, Any] = {"kernel_shape": weight.shape[2:], "strides": (zoom, zoom), "pads": (zoom - 1,) * 4}
    out.top("ConvTranspose", [x, out.constant("ramp", weight)], group=channels, **window)


def of_a_row(window: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a kernel over one axis for an image of one row."""
    (kernel,), (stride,), (before, after), (dilation,) = window.values()
    return {
        "kernel_shape": (1, kernel),
        "strides": (1, stride),
        "pads": (0, before, 0, after),
        "dilations": (1, dilation),
    }


def deconvolved_row(out: OnnxLayer, inputs: Sequence[Any], channels: int, *, index: int, **window: Any) -> None:
    """A deconvolution over one axis as that of an image of one row: the classic engine leaves its top unwritten."""
    x, *weights = inputs
    row = out.reshape(x, [out.size(x, (0, 1)), 1, -1], part="row")
    top = out.node("ConvTranspose", [row, *weights], part="of_row", **window)
    out.reshape(top, [out.size(x, (0,)), channels, -1], index=index)


def kernel_with_zeros(out: OnnxLayer, window: dict[str, Any]) -> str:
    """A deconvolution's kernel with zeros for the dilation, of which OpenCV 4 takes no notice; `window` says so."""
    kernel, dilation = window["kernel_shape"], window["dilations"]
    extent = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    shape = (*out.blob_shape(0)[:2], *extent)
    if prod(shape) > MOST_SPREAD:
        raise out.refuse(f"a kernel of {kernel} with a dilation of {dilation} would take {prod(shape):,} numbers")
    spread = np.zeros(shape, np.float32)
    every = (slice(None), slice(None), *(slice(None, None, d) for d in dilation))
    spread[every] = out.blob_value(0).reshape(*shape[:2], *kernel)
    window |= {"kernel_shape": extent, "dilations": [1] * len(extent)}
    return out.constant("spread", spread)


def last_largest_channel(out: OnnxLayer, x: OnnxValue, channels: int) -> None:
    """The last place of the largest value along the channels: the first one with the channels backwards."""
    backwards = np.eye(channels, dtype=np.float32)[::-1].reshape(channels, channels, 1, 1)
    flipped = out.node("Conv", [x, out.constant("backwards", np.ascontiguousarray(backwards))], part="flipped")
    inputs = [flipped, out.constant("k", [1])]
    back = out.node_of_several("TopK", inputs, ("values", "from_the_end"), axis=1)[1]
    number = out.node("Cast", [back], part="number", to=FLOAT)
    out.top("Sub", [out.constant("last", np.float32(channels - 1)), number])


def softplus_of_any_size(out: OnnxLayer) -> None:
    """log(1 + e^x) as max(x, 0) + log(1 + e^-|x|), as Caffe's BNLL has it; OpenCV's own is infinite above 88."""
    x = out.bottoms[0]
    below = out.node("Neg", [out.node("Abs", [x], part="magnitude")], part="below")
    more = out.node("Add", [out.node("Exp", [below], part="exp"), out.constant("one", np.float32(1))], part="more")
    out.top("Add", [out.node("Relu", [x], part="positive"), out.node("Log", [more], part="log")])
