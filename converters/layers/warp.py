"""Warping: an image read, bilinearly, at places that another bottom says, and each pixel's own place.

Source: twhui/LiteFlowNet, src/caffe/layers/warp_layer.cpp and grid_layer.cpp; lmb-freiburg's FlowNet 2, whose layers
synopsys-caffe (github.com/foss-for-synopsys-dwc-arc-processors) has, flow_warp_layer.cpp.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..net.onnx_form import BOOL, FLOAT
from ..net.reach import EVERYTHING, NOTHING, PIXEL, Reach
from .base import Layer, Pair, as_image, refuse, register_layer
from .fork import fork_message

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec, Shape
    from ..net.onnx_form import OnnxLayer, Operand


@dataclass(frozen=True)
class Warping(Layer):
    """The first bottom (n, c, h, w), read at a place for each pixel, of which the second (n, 2, h, w) has x and y."""

    bottom_count: ClassVar[tuple[int, float]] = (2, 2)
    top_count: ClassVar[tuple[int, float]] = (1, 1)

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        n, _, h, w = as_image(bottoms[0])
        if bottoms[1] != (n, 2, h, w):
            raise ValueError(f"the second bottom, x and y of each pixel, must be ({n}, 2, {h}, {w})")
        return (bottoms[0],)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return PIXEL if bottom else EVERYTHING

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (bottoms[0],)

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return 4 * prod(tops[0])

    def fixed_size(self, out: OnnxLayer) -> Pair:
        """The image's (h, w), by which GridSample counts; refused where it is free, or has a side of one pixel."""
        size = out.size(out.bottoms[0], (2, 3)).known
        if size is None or min(size) < 2 or out.opset < 16:
            problem = f"{type(self).__name__} of free sizes, of a side of one pixel, or below opset 16"
            raise out.refuse(problem, hint="give --size HxW")
        h, w = size
        return h, w

    def read_at(self, out: OnnxLayer, places: Operand, *, padding: str) -> tuple[list[Operand], dict[str, Any]]:
        """GridSample's inputs and attributes that read the image at `places`, in pixels."""
        h, w = self.fixed_size(out)
        half = out.constant("half", np.array([2 / (w - 1), 2 / (h - 1)], np.float32).reshape(1, 2, 1, 1))
        scaled = out.node("Mul", [places, half], part="scaled")
        unit = out.node("Sub", [scaled, out.constant("one", np.float32(1))], part="unit")
        grid = out.node("Transpose", [unit], part="grid", perm=[0, 2, 3, 1])
        mode = "linear" if out.opset >= 20 else "bilinear"
        return [out.bottoms[0], grid], {"mode": mode, "padding_mode": padding, "align_corners": 1}


@register_layer("Warp")
@dataclass(frozen=True)
class Warp(Warping):
    """The first bottom read, bilinearly, at the places (x, y) in pixels that the second (n, 2, h, w) holds.

    Pixels outside of the image are 0, each on its own: half a pixel beyond the border half of it counts. In FlowWarp
    the second bottom is added to each pixel's own place, and a place outside is as a whole the value of its `fill`.
    """

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
        inputs, attributes = self.read_at(out, out.bottoms[1], padding="zeros")
        out.top("GridSample", inputs, **attributes)


@register_layer("FlowWarp")
@dataclass(frozen=True)
class FlowWarp(Warping):
    """The image read, bilinearly, at each place plus its flow (x, y); `fill` (0 or NaN) where that lies outside."""

    fill: float

    @classmethod
    def parse(cls, spec: LayerSpec) -> FlowWarp:
        kind = fork_message(spec, "flow_warp_param").word("fill_value", "ZERO")
        if kind not in ("ZERO", "NOT_A_NUMBER", "1", "2"):
            raise refuse(spec, f"fill_value is {kind}; expected ZERO or NOT_A_NUMBER")
        return cls(0.0 if kind in ("ZERO", "1") else float("nan"))

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        import torch

        image, flow = bottoms
        h, w = image.shape[2:]
        x = torch.arange(w, device=image.device, dtype=image.dtype) + flow[:, 0]
        y = torch.arange(h, device=image.device, dtype=image.dtype)[:, None] + flow[:, 1]
        inside = (x >= 0) & (y >= 0) & (x < w) & (y < h)
        x, y = (torch.where(inside, place, 0) for place in (x, y))
        left, top = x.floor().long(), y.floor().long()
        right, bottom = (left + 1).clamp(max=w - 1), (top + 1).clamp(max=h - 1)
        alpha, beta = (x - left)[:, None], (y - top)[:, None]
        flat = image.flatten(2)

        def at(row: Tensor, column: Tensor) -> Tensor:
            places = (row * w + column).flatten(1)[:, None].expand(-1, image.shape[1], -1)
            found: Tensor = flat.gather(2, places).unflatten(2, (h, w))
            return found

        above = (1 - alpha) * at(top, left) + alpha * at(top, right)
        below = (1 - alpha) * at(bottom, left) + alpha * at(bottom, right)
        return (torch.where(inside[:, None], (1 - beta) * above + beta * below, self.fill),)

    def to_onnx(self, out: OnnxLayer) -> None:
        """GridSample, whose corners are the outer pixels, and `fill` where the place is outside."""
        h, w = self.fixed_size(out)
        grid = np.stack(np.meshgrid(np.arange(w), np.arange(h)))[None].astype(np.float32)
        place = out.node("Add", [out.bottoms[1], out.constant("pixels", grid)], part="place")
        most = out.constant("most", np.array([w, h], np.float32).reshape(1, 2, 1, 1))
        zero = out.constant("zero", np.float32(0))
        within = [
            out.node("GreaterOrEqual", [place, zero], part="begins"),
            out.node("Less", [place, most], part="ends"),
        ]
        both = out.node("Cast", [out.node("And", within, part="within")], part="counts", to=FLOAT)
        inside = out.node("Cast", [out.reduce("ReduceMin", both, (1,), part="all")], part="inside", to=BOOL)
        inputs, attributes = self.read_at(out, place, padding="border")
        read = out.node("GridSample", inputs, part="read", **attributes)
        out.top("Where", [inside, read, out.constant("fill", np.float32(self.fill))])


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
