"""Eltwise (eltwise_layer.cpp), and what forks added to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from math import inf, prod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..net.onnx_form import Operand
from ..net.python_form import Form, call, number, spread, times
from ..net.reach import EVERYTHING, PIXEL, Reach
from .arithmetic import Power
from .base import Layer, chain, refuse, register_layer, same_everywhere
from .fork import fork_fields

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec, Shape
    from ..net.onnx_form import OnnxLayer
    from ..net.python_form import Site

OTHER_OPERATIONS = {"MIN": "MIN", "4": "MIN", "DIV": "DIV", "3": "DIV"}
"""Synopsys' operations by name and by number (caffe.proto, EltwiseOp)."""


class _Alike(Layer):
    """Base of what takes bottoms of one shape to a top of that shape."""

    bottom_count: ClassVar[tuple[int, float]] = (2, inf)
    top_count: ClassVar[tuple[int, float]] = (1, 1)

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (bottoms[0],)

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        if len(set(bottoms)) > 1:
            raise ValueError("the bottoms must have one shape")
        return (bottoms[0],)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return PIXEL


@register_layer("Eltwise")
@dataclass(frozen=True)
class Eltwise(_Alike):
    """The sum (each bottom times its coefficient), product or maximum of bottoms of one shape.

    With `coeff_blob: true` (the fork of recurrent nets, jeffdonahue/caffe, eltwise_layer.cpp) the last bottom has a
    coefficient for each item of each other bottom. Synopsys' fork (synopsys-caffe, eltwise_layer.cpp) has MIN and DIV,
    takes one bottom, and a second of fewer axes, which `passes/fork_readings.py` makes a Bias or a Scale.
    """

    operation: str
    coefficients: tuple[float, ...]
    stable: bool = True

    @classmethod
    def parse(cls, spec: LayerSpec) -> Layer:
        message, fork = spec.message.eltwise_param, fork_fields(spec, "eltwise_param")
        operation, coefficients = message.EltwiseOp.Name(message.operation), tuple(message.coeff)
        by_blob = fork.flag("coeff_blob", default=False)
        if coefficients and len(coefficients) != len(spec.bottoms) - by_blob:
            raise refuse(spec, f"{len(coefficients)} coefficients for {len(spec.bottoms) - by_blob} bottoms")
        if by_blob:
            return _by_blob(spec, operation, coefficients)
        other = fork.word("operation", "")
        if other in OTHER_OPERATIONS:
            return _other(spec, OTHER_OPERATIONS[other], coefficients)
        if other:
            problem = (
                f"field 'eltwise_param.operation' has a value ({other[:40]}) unknown to BVLC Caffe and to Synopsys'"
            )
            raise refuse(spec, problem, hint="Caffe's values: PROD, SUM, MAX; Synopsys': DIV, MIN")
        if coefficients and operation == "PROD":
            raise refuse(spec, "a product takes no coefficients")
        lost = [bottom for bottom in spec.bottoms if bottom in spec.tops]
        if lost and operation != "PROD":
            problem = f"bottom '{lost[0]}' is its top too, which Caffe clears before it reads the bottoms"
            raise refuse(spec, problem, hint="give the top a name of its own, so that the bottom counts")
        if len(spec.bottoms) == 1:  # as Synopsys' fork takes it
            return Power(1.0, coefficients[0] if coefficients else 1.0, 0.0)
        if 0 in coefficients and operation == "SUM":
            return SumOfSome(coefficients)
        return cls(operation, coefficients or (1.0,) * len(spec.bottoms), message.stable_prod_grad)

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        factors = sum(factor not in (1.0, -1.0) for factor in self.coefficients)
        return prod(tops[0]) * {"SUM": factors, "PROD": len(bottoms) - 1}.get(self.operation, 0)

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        import torch

        from .functions import larger

        if self.operation == "MAX":
            one, two, *more = bottoms
            return (reduce(lambda top, x: larger(x, top), more, larger(one, two)),)
        if self.operation == "PROD":
            if not self.stable:
                from .slopes import product

                return (product(bottoms),)
            return (reduce(torch.mul, bottoms),)
        return (_sum(bottoms, self.coefficients),)

    def to_onnx(self, out: OnnxLayer) -> None:
        if self.operation == "MAX":
            out.top("Max", out.bottoms)
            return
        _chain_in_onnx(out, "Mul" if self.operation == "PROD" else "Add", out.bottoms, self.coefficients)

    def to_python(self, site: Site) -> Form:
        if self.operation == "MAX":
            one, two, *more = site.bottoms
            return Form((reduce(lambda top, x: call("larger", x, top), more, call("larger", one, two)),))
        if self.operation == "PROD":
            return Form((" * ".join(site.bottoms),))
        return Form((_sum_in_python(site.bottoms, self.coefficients),))


def _sum(bottoms: Sequence[Tensor], coefficients: Sequence[float]) -> Tensor:
    import torch

    first, c = bottoms[0], coefficients[0]
    top = first if c == 1 else c * first
    for x, c in zip(bottoms[1:], coefficients[1:], strict=True):
        top = torch.add(top, x, alpha=c)
    return top


def _sum_in_python(bottoms: Sequence[str], coefficients: Sequence[float]) -> str:
    text = bottoms[0] if coefficients[0] == 1 else f"{number(coefficients[0])} * {bottoms[0]}"
    for x, c in zip(bottoms[1:], coefficients[1:], strict=True):
        text = f"{text} {'+' if c == 1 else '-'} {x}" if abs(c) == 1 else f"torch.add({text}, {x}, alpha={number(c)})"
    return text


def _chain_in_onnx(out: OnnxLayer, op: str, bottoms: Sequence[Operand], coefficients: Sequence[float]) -> None:
    terms: list[Operand] = [
        x if c == 1 else out.node("Mul", [x, out.constant(f"coeff{i}", np.float32(c))], part=f"term{i}")
        for i, (x, c) in enumerate(zip(bottoms, coefficients, strict=True))
    ]
    total = terms[0]
    for i, term in enumerate(terms[1:-1], 1):
        total = out.node(op, [total, term], part=f"sum{i}")
    out.top(op, [total, terms[-1]])


def _by_blob(spec: LayerSpec, operation: str, coefficients: tuple[float, ...]) -> BlobSum:
    if operation != "SUM" or len(spec.bottoms) < 2:
        raise refuse(spec, "coeff_blob needs operation SUM, and a bottom of coefficients after the others")
    return BlobSum(coefficients or (1.0,) * (len(spec.bottoms) - 1))


def _other(spec: LayerSpec, operation: str, coefficients: tuple[float, ...]) -> OtherEltwise:
    if coefficients:
        raise refuse(spec, "only a sum takes coefficients")
    if operation == "DIV" and len(spec.bottoms) != 2:
        raise refuse(spec, f"a division of {len(spec.bottoms)} bottoms; expected 2")
    return OtherEltwise(operation)


@dataclass(frozen=True)
class SumOfSome(_Alike):
    """A sum of bottoms of which those with a coefficient of 0 do not count, whatever they hold.

    Source: eltwise_layer.cpp, Forward_cpu; caffe_axpy adds nothing for a factor of 0, as BLAS says.
    """

    coefficients: tuple[float, ...]

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        import torch

        some, factors = self._counted(bottoms)
        return (_sum(some, factors) if some else torch.zeros_like(bottoms[0]),)

    def to_onnx(self, out: OnnxLayer) -> None:
        some, factors = self._counted(out.bottoms)
        if not some:
            same_everywhere(out, out.bottoms[0], 0.0)
        elif len(some) == 1:
            chain(out, some[0], [("Mul", "coeff", factors[0])] if factors[0] != 1 else [])
        else:
            _chain_in_onnx(out, "Add", some, factors)

    def to_python(self, site: Site) -> Form:
        some, factors = self._counted(site.bottoms)
        return Form((_sum_in_python(some, factors) if some else f"torch.zeros_like({site.bottoms[0]})",))

    def _counted(self, bottoms: Sequence[Any]) -> tuple[list[Any], list[float]]:
        """The bottoms that count, and their coefficients."""
        return [x for x, c in zip(bottoms, self.coefficients, strict=True) if c], [c for c in self.coefficients if c]


@dataclass(frozen=True)
class BlobSum(_Alike):
    """A sum whose last bottom (bottoms, n, ...) has a coefficient for each item of each other bottom (n, ...)."""

    coefficients: tuple[float, ...]

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        *terms, factors = bottoms
        if len(set(terms)) > 1:
            raise ValueError("the bottoms must have one shape")
        if factors[:1] != (len(terms),) or terms[0][: len(factors) - 1] != factors[1:]:
            raise ValueError(f"coefficients of shape {factors}; expected {(len(terms), *terms[0])}, or its first axes")
        return (terms[0],)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return PIXEL if bottom < len(self.coefficients) else EVERYTHING

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return prod(tops[0]) * len(self.coefficients)

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        *terms, factors = bottoms
        rest = [1] * (terms[0].ndim - factors.ndim + 1)
        weighed = (
            x * (factors[i] * c).reshape(*factors.shape[1:], *rest)
            for i, (x, c) in enumerate(zip(terms, self.coefficients, strict=True))
        )
        return (sum(weighed),)  # type: ignore[return-value]

    def to_onnx(self, out: OnnxLayer) -> None:
        *terms, factors = out.bottoms
        trailing = len(terms[0].shape) - len(factors.shape) + 1
        weighed: list[Operand] = []
        for i, (x, c) in enumerate(zip(terms, self.coefficients, strict=True)):
            row: Operand = out.node("Gather", [factors, out.constant(f"row{i}", np.int64(i))], part=f"row{i}", axis=0)
            if c != 1:
                row = out.node("Mul", [row, out.constant(f"coeff{i}", np.float32(c))], part=f"factor{i}")
            if trailing:
                axes = out.constant("axes", list(range(-trailing, 0)))
                row = out.node("Unsqueeze", [row, axes], part=f"spread{i}")
            weighed.append(out.node("Mul", [x, row], part=f"term{i}"))
        out.top("Sum", weighed)

    def to_python(self, site: Site) -> Form:
        *terms, factors = site.bottoms
        trailing = len(site.shapes[0]) - len(site.shapes[-1]) + 1
        rows = (f"({times(f'{factors}[{i}]', c)})" for i, c in enumerate(self.coefficients))
        return Form((" + ".join(f"{x} * {spread(row, trailing)}" for x, row in zip(terms, rows, strict=True)),))


@dataclass(frozen=True)
class OtherEltwise(_Alike):
    """The least of bottoms of one shape, or the first divided by the second (Synopsys' MIN and DIV)."""

    operation: str

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        import torch

        return (reduce(torch.minimum if self.operation == "MIN" else torch.div, bottoms),)

    def to_onnx(self, out: OnnxLayer) -> None:
        out.top("Min" if self.operation == "MIN" else "Div", out.bottoms)

    def to_python(self, site: Site) -> Form:
        if self.operation == "DIV":
            return Form((" / ".join(site.bottoms),))
        return Form((reduce(lambda a, b: f"torch.minimum({a}, {b})", site.bottoms),))
