"""R*CNN's layers: MIL, the best of several regions' scores, and Sum.

Source: gkioxari's Caffe for R*CNN as WalterMa/caffe-fast-rcnn has it, src/caffe/layers/mil_layer.cpp and sum_layer.cpp.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from math import inf, prod
from typing import TYPE_CHECKING, ClassVar

from ..net.python_form import Form
from ..net.reach import EVERYTHING, PIXEL, Reach
from .base import Layer, OneToOne, legacy_shape, refuse, register_layer
from .fork import fork_message

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec, Shape
    from ..net.onnx_form import OnnxLayer
    from ..net.python_form import Site


@register_layer("MIL")
@dataclass(frozen=True)
class MIL(OneToOne):
    """The largest of the scores of `each` regions in a row, class by class: (n * each, c) become (n, c, 1, 1)."""

    each: int

    @classmethod
    def parse(cls, spec: LayerSpec) -> MIL:
        each = fork_message(spec, "mil_param").integer("context_per_roi", 1)
        if each < 1:
            raise refuse(spec, f"context_per_roi is {each}; it must be at least 1")
        return cls(each)

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        n, c, h, w = legacy_shape(bottoms[0])
        if (h, w) != (1, 1) or n < self.each:
            raise ValueError(f"scores of {n} regions; {self.each} of them make one, and each has one score for a class")
        return ((n // self.each, c, 1, 1),)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return EVERYTHING

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (bottoms[0],)

    @property
    def moves(self) -> bool:
        return True

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        scores = bottoms[0].reshape(bottoms[0].shape[0], -1)
        whole = scores[: len(scores) // self.each * self.each]
        return (whole.unflatten(0, (-1, self.each)).max(1).values[:, :, None, None],)

    def to_onnx(self, out: OnnxLayer) -> None:
        x = out.bottoms[0]
        rows = out.reshape(x, [-1, x.shape[1] or 0], part="rows")
        count = out.size(x, [0]) // self.each
        whole = out.slice(rows, [0], [0], count * self.each, part="whole")
        groups = out.reshape(whole, [-1, self.each, x.shape[1] or 0], part="groups")
        out.reshape(out.reduce("ReduceMax", groups, (1,), keepdims=False, part="best"), [-1, x.shape[1] or 0, 1, 1])


@register_layer("Sum")
@dataclass(frozen=True)
class SumOfScores(Layer):
    """The sum of bottoms with the same numbers of channels, rows and columns; the top has the first one's shape."""

    bottom_count: ClassVar[tuple[int, float]] = (1, inf)
    top_count: ClassVar[tuple[int, float]] = (1, 1)

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        if len({legacy_shape(shape) for shape in bottoms}) > 1:
            raise ValueError("the bottoms must have one shape")
        return (bottoms[0],)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return PIXEL

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (bottoms[0],)

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return (len(bottoms) - 1) * prod(tops[0])

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        return (reduce(lambda a, b: a + b, (bottom.reshape(bottoms[0].shape) for bottom in bottoms)),)

    def to_onnx(self, out: OnnxLayer) -> None:
        if len({bottom.shape for bottom in out.bottoms}) > 1:
            raise out.refuse("bottoms whose shapes differ by axes of one place have no form")
        out.top("Sum", list(out.bottoms))

    def to_python(self, site: Site) -> Form:
        first, *others = site.bottoms
        shape = site.shapes[0]
        others = [x if site.shapes[i] == shape else f"{x}.reshape({first}.shape)" for i, x in enumerate(others, 1)]
        return Form((" + ".join([first, *others]),))
