"""Eltwise (eltwise_layer.cpp)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from math import inf, prod
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..net.onnx_form import Operand
from ..net.python_form import Form, number
from ..net.reach import PIXEL, Reach
from .base import Layer, refuse, register_layer

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec, Shape
    from ..net.onnx_form import OnnxLayer
    from ..net.python_form import Site


@register_layer("Eltwise")
@dataclass(frozen=True)
class Eltwise(Layer):
    """The sum (each bottom times its coefficient), product or maximum of bottoms of one shape."""

    operation: str
    coefficients: tuple[float, ...]

    bottom_count: ClassVar[tuple[int, float]] = (2, inf)
    top_count: ClassVar[tuple[int, float]] = (1, 1)

    @classmethod
    def parse(cls, spec: LayerSpec) -> Eltwise:
        message = spec.message.eltwise_param
        operation, coefficients = message.EltwiseOp.Name(message.operation), tuple(message.coeff)
        if coefficients and len(coefficients) != len(spec.bottoms):
            raise refuse(spec, f"{len(coefficients)} coefficients for {len(spec.bottoms)} bottoms")
        if coefficients and operation == "PROD":
            raise refuse(spec, "a product takes no coefficients")
        lost = [bottom for bottom in spec.bottoms if bottom in spec.tops]
        if lost and operation != "PROD":
            problem = f"bottom '{lost[0]}' is its top too, which Caffe clears before it reads the bottoms"
            raise refuse(spec, problem, hint="give the top a name of its own, so that the bottom counts")
        return cls(operation, coefficients or (1.0,) * len(spec.bottoms))

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        if len(set(bottoms)) > 1:
            raise ValueError("the bottoms must have one shape")
        return (bottoms[0],)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return PIXEL

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (bottoms[0],)

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        factors = sum(factor not in (1.0, -1.0) for factor in self.coefficients)
        return prod(tops[0]) * {"SUM": factors, "PROD": len(bottoms) - 1}.get(self.operation, 0)

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        import torch

        if self.operation == "MAX":
            return (reduce(torch.maximum, bottoms),)
        if self.operation == "PROD":
            return (reduce(torch.mul, bottoms),)
        terms = zip(bottoms, self.coefficients, strict=True)
        first, c = next(terms)
        top = first if c == 1 else c * first
        for x, c in terms:
            top = torch.add(top, x, alpha=c)
        return (top,)

    def to_onnx(self, out: OnnxLayer) -> None:
        if self.operation == "MAX":
            out.top("Max", out.bottoms)
            return
        op = "Mul" if self.operation == "PROD" else "Add"
        terms: list[Operand] = [
            x if c == 1 else out.node("Mul", [x, out.constant(f"coeff{i}", np.float32(c))], part=f"term{i}")
            for i, (x, c) in enumerate(zip(out.bottoms, self.coefficients, strict=True))
        ]
        total = terms[0]
        for i, term in enumerate(terms[1:-1], 1):
            total = out.node(op, [total, term], part=f"sum{i}")
        out.top(op, [total, terms[-1]])

    def to_python(self, site: Site) -> Form:
        if self.operation == "MAX":
            return Form((reduce(lambda a, b: f"torch.maximum({a}, {b})", site.bottoms),))
        if self.operation == "PROD":
            return Form((" * ".join(site.bottoms),))
        first, *others = zip(site.bottoms, self.coefficients, strict=True)
        text = first[0] if first[1] == 1 else f"{number(first[1])} * {first[0]}"
        for x, c in others:
            text = (
                f"{text} {'+' if c == 1 else '-'} {x}" if abs(c) == 1 else f"torch.add({text}, {x}, alpha={number(c)})"
            )
        return Form((text,))
