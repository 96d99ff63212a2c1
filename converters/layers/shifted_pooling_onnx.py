"""MAX poolings as the largest of shifted copies, for programs whose MaxPool has no holes or gives no places."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ..net.onnx_form import FLOAT, Operand
from .base import Pair
from .opencv_onnx import TO_THE_END

if TYPE_CHECKING:
    from ..net.onnx_form import OnnxLayer

LOWEST = float(np.finfo(np.float32).min)
"""The value that Caffe's maximum begins with (pooling_layer.cpp, Forward_cpu: -FLT_MAX)."""


class ShiftedWindows(Protocol):
    """The settings of a Pooling (pooling.py) that say where its windows are."""

    @property
    def kernel(self) -> Pair: ...
    @property
    def stride(self) -> Pair: ...
    @property
    def pad(self) -> Pair: ...
    @property
    def dilation(self) -> Pair: ...
    @property
    def beyond(self) -> Pair: ...


def around(layer: ShiftedWindows) -> list[int]:
    """The pads of an image (n, c, h, w) with which its windows come out by rounding down."""
    return [0, 0, *layer.pad, 0, 0, *layer.beyond]


def largest_of_shifted(layer: ShiftedWindows, out: OnnxLayer, part: str | None) -> str:
    """The maximum alone, along h and then w."""
    found: Operand = out.pad(out.bottoms[0], around(layer), constant=LOWEST, part="padded")
    for axis, (kernel, hole) in enumerate(zip(layer.kernel, layer.dilation, strict=True), 2):
        name = "hw"[axis - 2]
        ends = [-(kernel - 1 - i) * hole or TO_THE_END for i in range(kernel)]
        copies = [out.slice(found, [axis], [i * hole], [end], part=f"{name}{i}") for i, end in enumerate(ends)]
        found = out.node("Max", copies, part=f"largest_{name}") if kernel > 1 else copies[0]
    return out.make("MaxPool", [found], part=part, kernel_shape=(1, 1), strides=layer.stride)


def largest_and_places(layer: ShiftedWindows, out: OnnxLayer) -> str:
    """Both tops, the second being the first of the places with the largest value, -1 where a window holds nothing."""
    image = out.pad(out.bottoms[0], around(layer), constant=LOWEST, part="padded")
    numbers = out.pad(_numbers(out), around(layer), constant=-1.0, part="padded_numbers")
    offsets = list(product(*map(range, layer.kernel)))
    copies = [_shifted(layer, out, image, offset, "value") for offset in offsets]
    top = out.top("Max", copies)
    place = out.constant("none", np.float32(-1))
    for offset, copy in reversed(list(zip(offsets, copies, strict=True))):
        here = out.node("Equal", [copy, top], part="here")
        number = _shifted(layer, out, numbers, offset, "number")
        first = offset == offsets[0]
        place = out.make("Where", [here, number, place], part=None if first else "place", index=1)
    return top


def _numbers(out: OnnxLayer) -> str:
    """The places of an image, (1, 1, h, w), in Caffe's order."""
    size = out.size(out.bottoms[0], (2, 3))
    if size.known is not None:
        return out.constant("numbers", np.arange(np.prod(size.known), dtype=np.float32).reshape(1, 1, *size.known))
    ends = (
        out.constant("first", np.int64(0)),
        out.reshape(size.product(), [], part="count"),
        out.constant("step", np.int64(1)),
    )
    number = out.node("Cast", [out.node("Range", ends, part="range")], part="numbers", to=FLOAT)
    return out.reshape(number, [1, 1, size], part="image_of_numbers")


def _shifted(layer: ShiftedWindows, out: OnnxLayer, value: str, offset: Sequence[int], name: str) -> str:
    """The value at this place of every window."""
    windows = list(zip(offset, layer.kernel, layer.dilation, strict=True))
    starts = [place * hole for place, _, hole in windows]
    ends = [-(kernel - 1 - place) * hole or TO_THE_END for place, kernel, hole in windows]
    parts = (("starts", starts), ("ends", ends), ("axes", [2, 3]), ("steps", list(layer.stride)))
    return out.node("Slice", [value, *(out.constant(part, numbers) for part, numbers in parts)], part=name)
