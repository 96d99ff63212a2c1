"""Layers of Multi-task Network Cascades (MNC) that work with a mask for each region.

Sources: daijifeng001/caffe-mnc, src/caffe/layers/mask_pooling_layer.cu and mask_resize_layer.cu; daijifeng001/MNC,
lib/pylayer/mask_layer.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt, prod
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..net.onnx_form import FLOAT
from ..net.reach import EVERYTHING, PIXEL, Reach
from .base import Layer, OneToOne, Pair, as_image, register_layer
from .fork import fork_message
from .regions import grid_of
from .roi_align import bilinear, interpolate
from .roi_onnx import bilinear as bilinear_onnx

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec, Shape
    from ..net.onnx_form import OnnxLayer


@register_layer("MaskPooling")
@dataclass(frozen=True)
class MaskPooling(Layer):
    """The first bottom (n, c, h, w), every channel times the second bottom's mask (n, 1, h, w)."""

    bottom_count: ClassVar[tuple[int, float]] = (2, 2)
    top_count: ClassVar[tuple[int, float]] = (1, 1)

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        n, _, h, w = as_image(bottoms[0])
        count, channels, *size = as_image(bottoms[1])
        if (count, *size) != (n, h, w) or channels != 1:
            raise ValueError(f"a mask of shape {bottoms[1]}; expected {(n, 1, h, w)}")
        return (bottoms[0],)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return PIXEL

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (bottoms[0],)

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return prod(tops[0])

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        return (bottoms[0] * bottoms[1],)

    def to_onnx(self, out: OnnxLayer) -> None:
        out.top("Mul", list(out.bottoms))


@register_layer("MaskResize")
@dataclass(frozen=True)
class MaskResize(OneToOne):
    """The bottom at another size, bilinear: place i of the top reads place i * bottom size / top size."""

    size: Pair

    @classmethod
    def parse(cls, spec: LayerSpec) -> MaskResize:
        return cls(grid_of(spec, fork_message(spec, "mask_resize_param"), "output_height", "output_width"))

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        n, c, _, _ = as_image(bottoms[0])
        return ((n, c, *self.size),)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return EVERYTHING

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (bottoms[0],)

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return 4 * prod(tops[0])

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        x = bottoms[0]
        rows, columns = (
            bilinear(np.arange(top) * (np.float32(size) / np.float32(top)), size, margin=0.5)
            for top, size in zip(self.size, x.shape[2:], strict=True)
        )
        return (interpolate(x, rows, columns),)

    def to_onnx(self, out: OnnxLayer) -> None:
        weights = []
        for axis, top in zip((2, 3), self.size, strict=True):
            size = out.node("Cast", [out.size(out.bottoms[0], [axis])], part="size", to=FLOAT)
            step = out.node("Div", [size, out.constant("top", np.float32(top))], part="step")
            places = out.constant("places", np.arange(top, dtype=np.float32)[:, None])
            points = out.node("Mul", [places, step], part="points")
            weights.append(bilinear_onnx(out, points, axis=axis, margin=0.5))
        rows = out.node("MatMul", [weights[0], out.bottoms[0]], part="rows")
        out.top("MatMul", [rows, out.node("Transpose", [weights[1]], part="columns", perm=[1, 0])])


@register_layer("Python:MaskLayer")
@dataclass(frozen=True)
class MaskLayer(Layer):
    """A mask (n, 1, s, s) for each region from s * s numbers (n, s * s), as at test; other bottoms are not read."""

    bottom_count: ClassVar[tuple[int, float]] = (1, 3)
    top_count: ClassVar[tuple[int, float]] = (1, 1)

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        if len(bottoms[0]) < 2:
            raise ValueError(f"a bottom of shape {bottoms[0]}; expected numbers for each region")
        numbers = prod(bottoms[0][1:])
        side = isqrt(numbers)
        if side * side != numbers:
            raise ValueError(f"{numbers} numbers for each region are no square mask")
        return ((bottoms[0][0], 1, side, side),)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return EVERYTHING

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (1,)

    @property
    def moves(self) -> bool:
        return True

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        numbers = bottoms[0].flatten(1)
        side = isqrt(numbers.shape[1])
        return (numbers.unflatten(1, (1, side, side)),)

    def to_onnx(self, out: OnnxLayer) -> None:
        sizes = out.bottoms[0].shape[1:]
        if None in sizes:
            raise out.refuse("the masks' size is free")
        side = isqrt(prod(size or 1 for size in sizes))
        out.reshape(out.bottoms[0], [-1, 1, side, side])
