"""BatchReindex and Filter: items of a batch chosen by another blob (batch_reindex_layer.cpp, filter_layer.cpp)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, prod
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..net.onnx_form import INT64, OPENCV
from ..net.python_form import Form, call
from ..net.reach import EVERYTHING, NOTHING, PIXEL, Reach
from .base import Layer, refuse, register_layer

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec, Shape
    from ..net.onnx_form import OnnxLayer
    from ..net.python_form import Site


@register_layer("BatchReindex")
@dataclass(frozen=True)
class BatchReindex(Layer):
    """top[i] = the first bottom's item whose number the second bottom has at i."""

    bottom_count: ClassVar[tuple[int, float]] = (2, 2)
    top_count: ClassVar[tuple[int, float]] = (1, 1)

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        if len(bottoms[1]) != 1 or not bottoms[0]:
            raise ValueError("expected (n, ...) and a second bottom with one axis")
        return ((bottoms[1][0], *bottoms[0][1:]),)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return EVERYTHING if bottom else PIXEL

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (bottoms[0],)

    def index_limits(self, bottoms: Sequence[Shape]) -> dict[int, int]:
        return {1: bottoms[0][0]}

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        return (bottoms[0].index_select(0, bottoms[1].long()),)

    def to_onnx(self, out: OnnxLayer) -> None:
        items = out.node("Cast", [out.bottoms[1]], part="items", to=INT64)
        out.top("Gather", [out.bottoms[0], items], axis=0)

    def to_python(self, site: Site) -> Form:
        return Form((f"{site.x}.index_select(0, {site.bottoms[1]}.long())",))


@register_layer("Filter")
@dataclass(frozen=True)
class Filter(Layer):
    """The items of all bottoms but the last where the last, the selector (n, 1, ...), is not 0.

    How many there are is known only when it runs: the shape rule gives the most.
    """

    items: int

    bottom_count: ClassVar[tuple[int, float]] = (2, inf)
    top_count: ClassVar[tuple[int, float]] = (1, inf)

    @classmethod
    def parse(cls, spec: LayerSpec) -> Filter:
        if len(spec.tops) != len(spec.bottoms) - 1:
            raise refuse(spec, f"{len(spec.bottoms)} bottoms and {len(spec.tops)} tops; expected one top less")
        return cls(len(spec.tops))

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        *items, selector = bottoms
        if not selector or prod(selector[1:]) != 1 or any(shape[:1] != selector[:1] for shape in items):
            raise ValueError("the selector, the last bottom, must be (n, 1, ...) with the others' n")
        return tuple(items)

    def open_sizes(self) -> tuple[tuple[int, int], ...]:
        return tuple((top, 0) for top in range(self.items))

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        if bottom < self.items:
            return PIXEL if bottom == top else NOTHING
        return EVERYTHING

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return tuple(bottoms[:-1])

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        from .functions import filter_items

        return filter_items(*bottoms)

    def to_onnx(self, out: OnnxLayer) -> None:
        if out.target in OPENCV:
            raise out.refuse(
                "OpenCV has no operator whose number of items only a run tells",
                hint="end the net before it with --outputs, and choose the items in your program",
            )
        *items, selector = out.bottoms
        flat = out.reshape(selector, [-1], part="selector")
        zero = out.node("Equal", [flat, out.constant("zero", np.float32(0))], part="zeros")
        chosen = out.node("Not", [zero], part="chosen")
        if out.target == "tensorrt":  # which has no Compress
            places = out.reshape(out.node("NonZero", [chosen], part="of_axes"), [-1], part="places")
        for index, x in enumerate(items):
            if out.target == "tensorrt":
                out.top("Gather", [x, places], index=index, axis=0)
            else:
                out.top("Compress", [x, chosen], index=index, axis=0)

    def to_python(self, site: Site) -> Form:
        chosen = call("filter_items", *site.bottoms)
        return Form((chosen if site.tops > 1 else f"{chosen}[0]",))
