"""Python layers of Synopsys' fork of Caffe that stand for operations of TensorFlow: Eltwise and Reshape.

Source: foss-for-synopsys-dwc-arc-processors/synopsys-caffe, python/eltwise.py and python/reshape.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from math import prod
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..net.onnx_form import INT64, Operand
from ..net.python_form import Form, call, times
from ..net.reach import EVERYTHING, NOTHING, Reach
from .base import Layer, refuse, register_layer
from .fork import python_integer, python_settings

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec, Shape
    from ..net.onnx_form import OnnxLayer
    from ..net.python_form import Site

OPERATIONS = ("Mul", "Add", "Max", "Div", "Min")
"""ONNX's names of the operations by their numbers in param_str."""


@register_layer("Python:Eltwise")
@dataclass(frozen=True)
class PythonEltwise(Layer):
    """Two bottoms multiplied, added (each times its `coeff`), compared or divided, the smaller spread as in NumPy.

    The top has the shape of the bottom of more axes, or of the one whose shape comes later in order.
    """

    operation: str
    coefficients: tuple[float, float]

    bottom_count: ClassVar[tuple[int, float]] = (2, 2)
    top_count: ClassVar[tuple[int, float]] = (1, 1)

    @classmethod
    def parse(cls, spec: LayerSpec) -> PythonEltwise:
        number = python_integer(spec, "operation")
        if number not in range(len(OPERATIONS)):
            raise refuse(spec, f"operation is {number}; expected 0 to {len(OPERATIONS) - 1}")
        given = python_settings(spec).get("coeff", (1, 1)) if OPERATIONS[number] == "Add" else (1, 1)
        if not isinstance(given, (list, tuple)) or [isinstance(c, (int, float)) for c in given] != [True, True]:
            raise refuse(spec, f"coeff is {given!r}; expected two numbers")
        return cls(OPERATIONS[number], (float(given[0]), float(given[1])))

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        a, b = bottoms
        top = max((len(a), a), (len(b), b))[1]
        spread = [max(x, y) for x, y in zip_longest(a[::-1], b[::-1], fillvalue=1)][::-1]
        fits = all(1 in (x, y) or x == y for x, y in zip(a[::-1], b[::-1], strict=False))
        if not fits or tuple(spread) != top:
            raise ValueError(f"{a} and {b} do not spread to {top}")
        return (top,)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return EVERYTHING

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (max(bottoms),)

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return prod(tops[0]) * (self.operation in ("Mul", "Div") or self.coefficients != (1.0, 1.0))

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        import torch

        a, b = bottoms
        if self.operation == "Add":
            return (self.coefficients[0] * a + self.coefficients[1] * b,)
        functions = {"Mul": torch.mul, "Max": torch.maximum, "Div": torch.div, "Min": torch.minimum}
        return (functions[self.operation](a, b),)

    def to_onnx(self, out: OnnxLayer) -> None:
        terms: list[Operand] = list(out.bottoms)
        for i, c in enumerate(self.coefficients):
            if c != 1:
                terms[i] = out.node("Mul", [terms[i], out.constant(f"coeff{i}", np.float32(c))], part=f"term{i}")
        out.top(self.operation, terms)

    def to_python(self, site: Site) -> Form:
        a, b = (times(x, c) for x, c in zip(site.bottoms, self.coefficients, strict=True))
        texts = {"Mul": f"{a} * {b}", "Add": f"{a} + {b}", "Div": f"{a} / {b}"}
        function = {"Max": "torch.maximum", "Min": "torch.minimum"}.get(self.operation)
        return Form((call(function, a, b) if function else texts[self.operation],))


@register_layer("Python:Reshape")
@dataclass(frozen=True)
class PythonReshape(Layer):
    """The first bottom in the shape whose sizes are the numbers of the second.

    Only the numbers tell the shape. Before the net runs it is taken for the first bottom's own, which is what the nets
    that have this layer undo a Reshape to; there the second bottom must have a number for each of its axes.
    """

    bottom_count: ClassVar[tuple[int, float]] = (2, 2)
    top_count: ClassVar[tuple[int, float]] = (1, 1)

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        if bottoms[1] != (len(bottoms[0]),):
            raise ValueError(f"a shape of {bottoms[1]} numbers for a bottom of {len(bottoms[0])} axes: only they tell")
        return (bottoms[0],)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return NOTHING if bottom else EVERYTHING

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        return (bottoms[0].reshape([int(size) for size in bottoms[1].flatten().tolist()]),)

    def to_onnx(self, out: OnnxLayer) -> None:
        out.top("Reshape", [out.bottoms[0], out.node("Cast", [out.bottoms[1]], part="shape", to=INT64)])

    def to_python(self, site: Site) -> Form:
        return Form((f"{site.x}.reshape([int(size) for size in {site.bottoms[1]}.flatten()])",))
