"""Warp and Grid of LiteFlowNet's fork: an image read at coordinates (twhui/LiteFlowNet, src/caffe/layers)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..net.onnx_form import FLOAT
from ..net.reach import EVERYTHING, NOTHING, PIXEL, Reach
from .base import Layer, as_image, register_layer

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import Shape
    from ..net.onnx_form import OnnxLayer


@register_layer("Warp")
@dataclass(frozen=True)
class Warp(Layer):
    """The first bottom read, bilinearly, at the places (x, y) in pixels that the second (n, 2, h, w) holds.

    Pixels outside of the image are 0, each on its own: half a pixel beyond the border half of it counts. In FlowWarp
    the second bottom is added to each pixel's own place, and a place outside is as a whole the value of its `fill`.
    """

    bottom_count: ClassVar[tuple[int, float]] = (2, 2)
    top_count: ClassVar[tuple[int, float]] = (1, 1)

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        n, _, h, w = as_image(bottoms[0])
        if bottoms[1] != (n, 2, h, w):
            raise ValueError(f"the coordinates must be ({n}, 2, {h}, {w})")
        return (bottoms[0],)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return PIXEL if bottom else EVERYTHING

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (bottoms[0],)

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return 4 * prod(tops[0])

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        import torch

        image, places = bottoms
        h, w = image.shape[2:]
        flat = image.flatten(2)
        x, y = places[:, 0], places[:, 1]
        left, upper = x.floor(), y.floor()
        top = torch.zeros_like(image)
        for column, across in ((left, 1 - (x - left)), (left + 1, x - left)):
            for row, down in ((upper, 1 - (y - upper)), (upper + 1, y - upper)):
                inside = (column >= 0) & (column <= w - 1) & (row >= 0) & (row <= h - 1)
                place = torch.where(inside, row * w + column, 0).long().flatten(1)
                pixel = flat.gather(2, place[:, None].expand(-1, flat.shape[1], -1)).reshape(image.shape)
                top = top + torch.where(inside, across * down, 0)[:, None] * pixel
        return (top,)

    def to_onnx(self, out: OnnxLayer) -> None:
        """GridSample with zeros around the image."""
        image, places = out.bottoms
        size = out.size(image, (2, 3)).known
        if size is None or min(size) < 2 or out.opset < 16:
            raise out.refuse("Warp of free sizes, of a side of one pixel, or below opset 16", hint="give --size HxW")
        half = np.array([2 / (size[1] - 1), 2 / (size[0] - 1)], np.float32).reshape(1, 2, 1, 1)
        scaled = out.node("Mul", [places, out.constant("half", half)], part="scaled")
        unit = out.node("Sub", [scaled, out.constant("one", np.float32(1))], part="unit")
        grid = out.node("Transpose", [unit], part="grid", perm=[0, 2, 3, 1])
        mode = "linear" if out.opset >= 20 else "bilinear"
        out.top("GridSample", [image, grid], mode=mode, padding_mode="zeros", align_corners=1)


@register_layer("Grid")
@dataclass(frozen=True)
class Grid(Layer):
    """Each pixel's own place (x, y) in a bottom (n, c, h, w), as Warp takes it: (n, 2, h, w); grid_layer.cpp."""

    bottom_count: ClassVar[tuple[int, float]] = (1, 1)
    top_count: ClassVar[tuple[int, float]] = (1, 1)

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        n, _, h, w = as_image(bottoms[0])
        return ((n, 2, h, w),)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return NOTHING

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (2,)

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        import torch

        x = bottoms[0]
        n, _, h, w = x.shape
        down, across = (torch.arange(size, dtype=x.dtype, device=x.device) for size in (h, w))
        return (torch.stack((across.expand(h, w), down[:, None].expand(h, w)))[None].repeat(n, 1, 1, 1),)

    def to_onnx(self, out: OnnxLayer) -> None:
        x = out.bottoms[0]
        n, h, w = (out.size(x, [axis]) for axis in (0, 2, 3))
        first, following = (out.constant(part, np.int64(value)) for part, value in (("first", 0), ("next", 1)))
        axes = []
        for part, count, dims in (("across", w, [1, 1, 1, -1]), ("down", h, [1, 1, -1, 1])):
            places = out.node("Range", [first, out.reshape(count, [], part="count"), following], part=part)
            places = out.reshape(out.node("Cast", [places], part=part, to=FLOAT), dims, part=part)
            axes.append(out.node("Expand", [places, out.sizes([n, 1, h, w])], part=part))
        out.top("Concat", axes, axis=1)
