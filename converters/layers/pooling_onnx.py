"""The ONNX form of Pooling.

Rounding up is rounding down with a longer padding at the end (`Pooling.beyond`), whatever the size; so no operator
needs ONNX's ceil_mode, whose rule about the last window changed with the opset and differs between runtimes.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..net.onnx_form import FLOAT, OPENCV, Operand
from .base import Pair
from .shifted_pooling_onnx import LOWEST, ShiftedWindows, around, largest_and_places, largest_of_shifted
from .window_means_onnx import are_long, mean_of_padded

if TYPE_CHECKING:
    from ..net.onnx_form import OnnxLayer, Sizes

MOST_SHARES = 1 << 20
"""Windows of an image that is fixed, up to which a constant says by how many places each is divided."""


class PoolingWindows(ShiftedWindows, Protocol):
    """The settings of a Pooling (pooling.py) that its form reads."""

    @property
    def method(self) -> str: ...
    @property
    def ceil(self) -> bool: ...
    @property
    def global_pooling(self) -> bool: ...
    @property
    def mask(self) -> bool: ...
    def sizes(self, size: Sequence[int]) -> Pair: ...


def pooling_to_onnx(layer: PoolingWindows, out: OnnxLayer, *, part: str | None = None) -> str:
    """Put down a pooling of the first bottom; with `part` it makes a value in the middle. Returns the value's name."""
    if layer.global_pooling:
        return _global(layer, out)
    if out.target in OPENCV and layer.dilation == (1, 1) and (layer.mask or layer.method == "AVE"):
        return _opencv(layer, out, part)
    if out.target == "tensorrt" and layer.mask:
        return largest_and_places(layer, out)
    if out.target in (*OPENCV, "tensorrt") and layer.method == "MAX" and layer.dilation != (1, 1) and not layer.mask:
        return largest_of_shifted(layer, out, part)
    if layer.method == "MAX":
        return _maximum(layer, out, part)
    return _average(layer, out, part) if layer.method == "AVE" else _stochastic(layer, out, part)


def _global(layer: PoolingWindows, out: OnnxLayer) -> str:
    x = out.bottoms[0]
    if layer.method == "AVE":
        return out.top("GlobalAveragePool", [x])
    if layer.method != "MAX":
        square = out.node("Mul", [x, x], part="square")
        squares = out.reduce("ReduceSum", square, (2, 3), part="squares")
        return weighted(out, squares, out.reduce("ReduceSum", x, (2, 3), part="sums"))
    if layer.mask:
        flat = out.reshape(x, [out.size(x, (0, 1)), -1], part="flat")
        place = out.node("ArgMax", [flat], part="place", axis=2, keepdims=1)
        number = out.node("Cast", [place], part="number", to=FLOAT)
        out.reshape(number, [out.size(x, (0, 1)), 1, 1], index=1)
    return out.top("GlobalMaxPool", [x])


def _opencv(layer: PoolingWindows, out: OnnxLayer, part: str | None) -> str:
    """OpenCV's Pooling (pooling_layer.cpp), which rounds up and counts the padding as Caffe does."""
    (kernel_h, kernel_w), (stride_h, stride_w), (pad_h, pad_w) = layer.kernel, layer.stride, layer.pad
    settings: dict[str, Any] = {
        "pool": layer.method.lower(),
        "kernel_h": kernel_h,
        "kernel_w": kernel_w,
        "stride_h": stride_h,
        "stride_w": stride_w,
        "pad_h": pad_h,
        "pad_w": pad_w,
        "ceil_mode": int(layer.ceil),
        "ave_pool_padded_area": 1,
    }
    bare = layer.pad.index(min(layer.pad))
    if layer.ceil and any(layer.pad) and layer.pad[bare] == 0 and layer.stride[bare] > layer.kernel[bare]:
        return _opencv_inside(layer, out, part, bare, settings)
    if layer.mask and any(beyond >= kernel for beyond, kernel in zip(layer.beyond, layer.kernel, strict=True)):
        # A window beyond the blob has the place -1, as in Caffe, but the value 0.
        zero, place = out.node_of_several("Pooling", [out.bottoms[0]], ("with_zeros", 1), **settings)
        ends = [out.constant(name, np.float32(end)) for name, end in (("least", -1), ("most", 0))]
        number = out.node("Cast", [place], part="number", to=FLOAT)  # an integer in OpenCV 5's new engine
        empty = out.node("Clip", [number, *ends], part="empty")
        lowest = out.node("Mul", [empty, out.constant("lowest", np.float32(-LOWEST))], part="lowest")
        return out.top("Add", [zero, lowest])
    if layer.mask:
        return out.node_of_several("Pooling", [out.bottoms[0]], (0, 1), **settings)[0]
    return out.make("Pooling", [out.bottoms[0]], part=part, **settings)


def _opencv_inside(layer: PoolingWindows, out: OnnxLayer, part: str | None, axis: int, settings: dict[str, Any]) -> str:
    """The same with a pad along the other axis alone, for which Caffe leaves out a window behind the blob on this one.

    OpenCV looks at the pad of each axis by itself. Rounding down with a longer end leaves it out: a maximum passes
    over that end, and of an average this axis comes first, without the end in it.
    """
    x, (before, behind) = out.bottoms[0], (("pad_t", "pad_l"), ("pad_b", "pad_r"))
    ends = {**dict(zip(before, layer.pad, strict=True)), **dict(zip(behind, layer.beyond, strict=True))}
    if layer.mask:
        return out.node_of_several("Pooling", [x], (0, 1), **{**settings, **ends, "ceil_mode": 0})[0]
    this, other = (("kernel_h", "stride_h"), ("kernel_w", "stride_w"))[:: 1 - 2 * axis]
    first = {**settings, **ends, **dict.fromkeys(other, 1), "ceil_mode": 0, "ave_pool_padded_area": 0}
    mean = out.node("Pooling", [x], part="mean", **{**first, before[1 - axis]: 0, behind[1 - axis]: 0})
    return out.make("Pooling", [mean], part=part, **{**settings, **dict.fromkeys(this, 1)})


def _maximum(layer: PoolingWindows, out: OnnxLayer, part: str | None) -> str:
    x: Operand = out.bottoms[0]
    pads = (*layer.pad, *layer.beyond)
    padded = are_long(pads, layer.kernel)
    if padded:  # which is more than operators take, and such a window is lower than any value
        x = out.pad(x, around(layer), constant=LOWEST, part="padded")
    window: dict[str, Any] = {
        "kernel_shape": layer.kernel,
        "strides": layer.stride,
        "dilations": layer.dilation if layer.dilation != (1, 1) else None,
        "pads": (0, 0, 0, 0) if padded else pads,
    }
    if not layer.mask:
        return out.make("MaxPool", [x], part=part, **window)
    top, index = out.node_of_several("MaxPool", [x], (0, "index"), **window)
    if padded:
        _mask_of_padded(layer, out, top, index)
    else:
        place = out.node("Mod", [index, out.size(out.bottoms[0], (2, 3)).product()], part="place")
        out.top("Cast", [place], index=1, to=FLOAT)
    return top


def _mask_of_padded(layer: PoolingWindows, out: OnnxLayer, top: str, index: str) -> None:
    """Places in the blob of places in the padded one, -1 where a window holds nothing of the blob."""
    size = out.size(out.bottoms[0], (2, 3))
    wide = size + layer.pad + layer.beyond
    place = out.node("Mod", [index, wide.product()], part="padded_place")
    row = out.node("Div", [place, wide[1]], part="padded_row")
    column = out.node("Mod", [place, wide[1]], part="padded_column")
    row = out.node("Sub", [row, out.constant("above", [layer.pad[0]])], part="row")
    column = out.node("Sub", [column, out.constant("left", [layer.pad[1]])], part="column")
    inside = out.node("Add", [out.node("Mul", [row, size[1]], part="rows"), column], part="place")
    number = out.node("Cast", [inside], part="number", to=FLOAT)
    nothing = out.node("Equal", [top, out.constant("lowest", np.float32(LOWEST))], part="nothing")
    out.top("Where", [nothing, out.constant("none", np.float32(-1)), number], index=1)


def _average(layer: PoolingWindows, out: OnnxLayer, part: str | None) -> str:
    x = out.bottoms[0]
    window: dict[str, Any] = {"kernel_shape": layer.kernel, "strides": layer.stride}
    size = out.size(x, (2, 3))
    ends = _ends(layer, size.known)
    if all(end <= pad for end, pad in zip(ends, layer.pad, strict=True)):
        return out.make("AveragePool", [x], part=part, pads=(*layer.pad, *ends), count_include_pad=1, **window)
    is_long = are_long((*layer.pad, *layer.beyond), layer.kernel)
    mean = mean_of_padded(out, _sides(layer, out, x), part="mean", is_long=is_long, **window)
    return out.make("Div", [mean, _share(layer, out, size)], part=part)


def _ends(layer: PoolingWindows, size: tuple[int, ...] | None) -> tuple[int, ...]:
    """The length by which the last windows reach past the blob; at sizes that are not known, by which they may."""
    if size is None:
        return layer.beyond
    windows = zip(size, layer.sizes(size), layer.kernel, layer.stride, layer.pad, strict=True)
    return tuple(max((count - 1) * s + k - p - x, 0) for x, count, k, s, p in windows)


def _share(layer: PoolingWindows, out: OnnxLayer, size: Sizes) -> str:
    """The part of each window that lies in the padded blob, by which Caffe divides, of the kernel's size."""
    known = size.known
    if known is not None and prod(layer.sizes(known)) <= MOST_SHARES:
        counts = [_counts(layer, axis, known) for axis in (0, 1)]
        share = np.outer(*counts) / prod(layer.kernel)
        return out.constant("share", share.astype(np.float32)[None, None])
    one = out.constant("one", np.ones((1, 1, 1, 1), np.float32))
    inside = size + [2 * pad for pad in layer.pad]
    rest = [beyond - pad for beyond, pad in zip(layer.beyond, layer.pad, strict=True)]
    if any(r >= k for r, k in zip(rest, layer.kernel, strict=True)):
        return out.node("Mul", [_share_along(layer, out, axis, one, inside, rest) for axis in (0, 1)], part="share")
    ones = out.node("Expand", [one, out.sizes([1, 1, inside])], part="ones")
    marked = out.pad(ones, [0, 0, 0, 0, 0, 0, *rest], part="counted")
    return out.node("AveragePool", [marked], part="share", kernel_shape=layer.kernel, strides=layer.stride)


def _share_along(
    layer: PoolingWindows, out: OnnxLayer, axis: int, one: str, inside: Sizes, rest: Sequence[int]
) -> Operand:
    """The same along one axis, where windows may lie wholly beyond the blob.

    Caffe divides their sum, which is 0, by a length that is 0 just behind the blob (which is NaN) and below 0 further
    on (which is 0): there the length is above 0 here, which makes the same of it.
    """
    name = ("rows", "columns")[axis]
    along: tuple[Sizes | int, int | Sizes] = (inside[0], 1) if axis == 0 else (1, inside[1])
    marked: Operand = out.node("Expand", [one, out.sizes([1, 1, *along])], part=f"{name}_inside")
    behind = min(rest[axis], layer.kernel[axis])
    for part, length, value in (("behind", behind, 0.0), ("beyond", rest[axis] - behind, 1.0)):
        if length:
            pads = [0, 0, 0, 0, 0, 0, length * (axis == 0), length * (axis == 1)]
            marked = out.pad(marked, pads, constant=value, part=f"{name}_{part}")
    kernel, stride = ((n[0], 1) if axis == 0 else (1, n[1]) for n in (layer.kernel, layer.stride))
    return mean_of_padded(out, marked, part=f"{name}_share", is_long=True, kernel_shape=kernel, strides=stride)


def _counts(layer: PoolingWindows, axis: int, size: tuple[int, ...]) -> np.ndarray:
    start = np.arange(layer.sizes(size)[axis]) * layer.stride[axis] - layer.pad[axis]
    return np.minimum(start + layer.kernel[axis], size[axis] + layer.pad[axis]) - start


def _stochastic(layer: PoolingWindows, out: OnnxLayer, part: str | None) -> str:
    x = out.bottoms[0]
    window: dict[str, Any] = {"kernel_shape": layer.kernel, "strides": layer.stride}
    padded = _sides(layer, out, x)
    square = out.node("Mul", [padded, padded], part="square")
    squares = out.node("AveragePool", [square], part="squares", **window)
    return weighted(out, squares, out.node("AveragePool", [padded], part="sums", **window), part=part)


def weighted(out: OnnxLayer, squares: str, sums: str, *, part: str | None = None) -> str:
    """Squares divided by sums where these are above 0, else 0: the mean weighted by itself."""
    zero, one = out.constant("zero", np.float32(0)), out.constant("one", np.float32(1))
    above = out.node("Greater", [sums, zero], part="above")
    divisor = out.node("Where", [above, sums, one], part="divisor")
    ratio = out.node("Div", [squares, divisor], part="ratio")
    return out.make("Where", [above, ratio, zero], part=part)


def _sides(layer: PoolingWindows, out: OnnxLayer, x: Operand) -> Operand:
    pads = around(layer)
    return out.pad(x, pads, part="padded") if any(pads) else x
