"""ResizeBilinear and ResizeNearestNeighbor, TensorFlow's resizing as Synopsys' fork of Caffe has it.

Source: synopsys-caffe (github.com/foss-for-synopsys-dwc-arc-processors), src/caffe/layers/resize_bilinear_layer.cpp,
compute_interpolation_weights; resize_nearest_neighbor_layer.cpp, Forward_cpu. Places are float32 there, and here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..net.reach import EVERYTHING, Reach
from .base import OneToOne, as_image, refuse, register_layer
from .between import Between, Interpolating, scaled
from .fork import ForkMessage, fork_message

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ..net.layer import LayerSpec, Shape
    from ..net.onnx_form import OnnxLayer, Operand, Sizes

CORNERS, HALF, HALF_PYTORCH, HALF_ONNX, FIRST = "corners", "half", "half pytorch", "half onnx", "first"


@dataclass(frozen=True)
class Side:
    """The length of h or of w in the top: given, or a factor of the bottom's, rounded down."""

    length: int | None
    factor: float

    def of(self, size: int) -> int:
        return scaled(size, self.factor) if self.length is None else self.length


@dataclass(frozen=True)
class Resize(OneToOne):
    """h and w of a bottom (n, c, h, w), or (n, h, w, c) where `nhwc`, resized; `places` says which pixels meet."""

    sides: tuple[Side, Side]
    nhwc: bool
    places: str

    @classmethod
    def read(cls, spec: LayerSpec, message: ForkMessage) -> tuple[tuple[Side, Side], bool]:
        """The sides, and the layout, checked."""
        layout = message.word("data_format", "NHWC")
        if layout not in ("NHWC", "NCHW"):
            raise refuse(spec, f"data_format is {layout!r}; expected NHWC or NCHW")
        height, width = (
            Side(
                message.integer(f"output_{name}", 0) if f"output_{name}" in message else None,
                message.number(f"scale_{name}", 1.0),
            )
            for name in ("height", "width")
        )
        if any((side.length is not None and side.length < 1) or not 0 < side.factor < 1e6 for side in (height, width)):
            raise refuse(spec, "output_height, output_width, scale_height and scale_width must be above 0")
        return (height, width), layout == "NHWC"

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        n, *rest = as_image(bottoms[0])
        h, w, c = rest if self.nhwc else (*rest[1:], rest[0])
        h, w = self.sides[0].of(h), self.sides[1].of(w)
        return ((n, h, w, c) if self.nhwc else (n, c, h, w),)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return EVERYTHING

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (self.sides[0].of(bottoms[0]) if self.nhwc else bottoms[0],)  # axis 1 is h where nhwc

    def _places(self, axis: int, size: int) -> NDArray[np.float32]:
        """The place in a bottom of this size of each pixel of the top along h (0) or w (1)."""
        out = self.sides[axis].of(size)
        corners = self.places == CORNERS and out > 1
        scale = np.float32(size - corners) / np.float32(out - corners)
        middle = np.float32(0 if self.places in (CORNERS, FIRST) else 0.5)
        places: NDArray[np.float32] = (np.arange(out, dtype=np.float32) + middle) * scale
        return places

    def _recorded_places(self, axis: int, size: int, device: torch.device) -> Tensor:
        """`_places` where torch.export records the net and only a run tells the size."""
        import torch

        out = self.sides[axis].of(size)
        corners = int(self.places == CORNERS)  # a single place is 0 whatever the scale
        scale = torch.scalar_tensor(size - corners) / torch.scalar_tensor(torch.sym_max(out - corners, 1))
        middle = 0 if self.places in (CORNERS, FIRST) else 0.5
        return (torch.arange(out, dtype=torch.float32, device=device) + middle) * scale.to(device)

    def _resized(self, out: OnnxLayer, places: str, **how: Any) -> None:
        """The form by ONNX's Resize; `places` is its name for the pixels that meet."""
        x: Operand = out.bottoms[0]
        axes = (1, 2) if self.nhwc else (2, 3)
        size = out.size(out.bottoms[0], axes)
        if self.nhwc:
            x = out.node("Transpose", [x], part="image", perm=(0, 3, 1, 2))
        n, c = out.size(out.bottoms[0], [0]), out.size(out.bottoms[0], [3 if self.nhwc else 1])
        goal = out.sizes([n, c, *(self._side(out, size[i], side) for i, side in enumerate(self.sides))])
        top = out.make(
            "Resize",
            [x, None, None, goal],
            part="resized" if self.nhwc else None,
            coordinate_transformation_mode=places,
            **how,
        )
        if self.nhwc:
            out.top("Transpose", [top], perm=(0, 2, 3, 1))

    def _side(self, out: OnnxLayer, size: Sizes, side: Side) -> Sizes:
        if side.length is not None:
            return out.sizes([side.length])
        known = size.known
        if known is not None:
            return out.sizes([side.of(known[0])])
        ratio = Fraction(side.factor).limit_denominator(1000)
        if float(ratio) != side.factor:
            raise out.refuse(f"a free size times {side.factor:g}", hint="fix the input size: --size")
        return size * ratio.numerator // ratio.denominator


@register_layer("ResizeBilinear")
@dataclass(frozen=True)
class ResizeBilinear(Resize, Interpolating):
    """Bilinear resizing; with align_corners, half_pixel_centers or pytorch_half_pixel, or from the first pixel on."""

    @classmethod
    def parse(cls, spec: LayerSpec) -> ResizeBilinear:
        message = fork_message(spec, "resize_bilinear_param")
        names = {"align_corners": CORNERS, "half_pixel_centers": HALF, "pytorch_half_pixel": HALF_PYTORCH}
        given = [places for name, places in names.items() if message.flag(name, default=False)]
        if len(given) > 1:
            raise refuse(spec, f"one at most of {', '.join(names)} can be true")
        return cls(*cls.read(spec, message), given[0] if given else FIRST)

    by_difference: ClassVar[bool] = True

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return 4 * prod(tops[0])

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        x = bottoms[0]
        first = 1 if self.nhwc else 2
        x = self._along(1, self._along(0, x, first), first + 1)
        return (x,)

    def between(self, bottoms: Sequence[Shape]) -> tuple[Between, Between]:
        height, width = bottoms[0][1:3] if self.nhwc else bottoms[0][2:]
        return self._between(0, height), self._between(1, width)

    def _between(self, axis: int, size: int) -> Between:
        """The pixels of a bottom of this size along h (0) or w (1) between which those of the top lie."""
        places = self._places(axis, size)
        if self.places in (HALF, HALF_PYTORCH):
            places = places - np.float32(0.5)
            if self.places == HALF_PYTORCH and self.sides[axis].of(size) == 1:
                places = np.full_like(places, -0.5)
        return Between.of_places(places, size)

    def _along(self, axis: int, x: Tensor, dim: int) -> Tensor:
        """`x` resized along h (0) or w (1), which is its axis `dim`."""
        import torch

        if isinstance(x.shape[dim], torch.SymInt):
            places, shares = self._recorded_between(axis, x.shape[dim], x.device)
        else:
            between = self._between(axis, x.shape[dim])
            places, shares = (
                [_index(each, x) for each in (between.first, between.second)],
                torch.from_numpy(between.share),
            )
        first, second = (x.index_select(dim, each) for each in places)
        return first + (second - first) * shares.to(x).reshape(-1, *[1] * (x.ndim - dim - 1))

    def _recorded_between(self, axis: int, size: int, device: torch.device) -> tuple[list[Tensor], Tensor]:
        """`_between` where only a run tells the size: the two pixels, and the share of the second."""
        import torch

        places = self._recorded_places(axis, size, device)
        if self.places in (HALF, HALF_PYTORCH):
            places = places - 0.5
            if self.places == HALF_PYTORCH:
                one = torch.scalar_tensor(self.sides[axis].of(size), device=device) == 1
                places = torch.where(one, -0.5, places)
        return [_within(each, size) for each in (places.floor(), places.ceil())], places - places.floor()

    def to_onnx(self, out: OnnxLayer) -> None:
        names = {CORNERS: "align_corners", HALF: "half_pixel", HALF_PYTORCH: "pytorch_half_pixel", FIRST: "asymmetric"}
        self._resized(out, names[self.places], mode="linear")


@register_layer("ResizeNearestNeighbor")
@dataclass(frozen=True)
class ResizeNearestNeighbor(Resize):
    """The nearest pixel; with align_corners, half_pixel_centers or half_pixel_onnx, or from the first pixel on."""

    @classmethod
    def parse(cls, spec: LayerSpec) -> ResizeNearestNeighbor:
        message = fork_message(spec, "resize_nearest_neighbor_param")
        names = {"align_corners": CORNERS, "half_pixel_centers": HALF, "half_pixel_onnx": HALF_ONNX}
        given = [places for name, places in names.items() if message.flag(name, default=False)]
        if len(given) > 1:
            raise refuse(spec, f"one at most of {', '.join(names)} can be true")
        return cls(*cls.read(spec, message), given[0] if given else FIRST)

    @property
    def moves(self) -> bool:
        return True

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        import torch

        x = bottoms[0]
        for axis, dim in enumerate((1, 2) if self.nhwc else (2, 3)):
            size = x.shape[dim]
            if isinstance(size, torch.SymInt):
                place = self._recorded_places(axis, size, x.device)
            else:
                place = torch.from_numpy(self._places(axis, size)).to(x.device)
            if self.places == HALF_ONNX:
                place = place - 0.5
            nearest = (place + 0.5 if self.places == CORNERS else place).floor()  # round half up
            x = x.index_select(dim, _within(nearest, size))
        return (x,)

    def to_onnx(self, out: OnnxLayer) -> None:
        names = {CORNERS: "align_corners", HALF: "half_pixel", HALF_ONNX: "half_pixel", FIRST: "asymmetric"}
        up = self.places in (CORNERS, HALF)  # floor(place + 0.5)
        nearest = "round_prefer_ceil" if up else "floor"
        self._resized(out, names[self.places], mode="nearest", nearest_mode=nearest)


def _within(places: Tensor, size: int) -> Tensor:
    """Places of a bottom of this size as indices, the nearest pixel's for a place outside."""
    return places.long().clamp(0, size - 1)


def _index(places: NDArray[np.int64], x: Tensor) -> Tensor:
    """Places as a tensor on the device of `x`."""
    import torch

    return torch.from_numpy(places).to(x.device)
