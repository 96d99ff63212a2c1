"""Softmax, ArgMax and Reduction (softmax_layer.cpp, argmax_layer.cpp, reduction_layer.cpp)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from ..net.onnx_form import OPENCV
from ..net.python_form import Form, call, times, unless
from ..net.reach import ALIGNED, EVERYTHING, PIXEL, Reach
from .argmax_onnx import argmax_to_onnx
from .base import Neuron, OneToOne, canonical_axis, image_axis, refuse, register_layer, same_everywhere

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec, Shape
    from ..net.onnx_form import OnnxLayer, Operand
    from ..net.python_form import Site


@register_layer("Softmax")
@dataclass(frozen=True)
class Softmax(Neuron):
    """e^x divided by its sum along `axis`."""

    axis: int

    @classmethod
    def parse(cls, spec: LayerSpec) -> Softmax:
        return cls(spec.message.softmax_param.axis)

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        canonical_axis(self.axis, bottoms[0])
        return (bottoms[0],)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return ALIGNED if image_axis(self.axis) == axis else PIXEL

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        return (bottoms[0].softmax(self.axis),)

    def to_onnx(self, out: OnnxLayer) -> None:
        out.top("Softmax", out.bottoms, axis=self.axis)

    def to_python(self, site: Site) -> Form:
        return Form((call(f"{site.x}.softmax", self.axis % site.rank),))


@register_layer("ArgMax")
@dataclass(frozen=True)
class ArgMax(OneToOne):
    """The places of the `top_k` largest values along `axis`, largest first; of equal values the last place.

    With `out_max_val` the values instead. Without `axis` each item is one row of values and the top is
    (n, 1, top_k, ...ones), with `out_max_val` (n, 2, top_k, ...ones): places, then values.
    """

    top_k: int
    axis: int | None
    out_max_val: bool

    @classmethod
    def parse(cls, spec: LayerSpec) -> ArgMax:
        message = spec.message.argmax_param
        if message.top_k < 1:
            raise refuse(spec, "top_k must be at least 1")
        return cls(message.top_k, message.axis if message.HasField("axis") else None, message.out_max_val)

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        shape = bottoms[0]
        if not shape:
            raise ValueError("a bottom without axes; expected (n, ...)")
        axis = None if self.axis is None else canonical_axis(self.axis, shape)
        values = prod(shape[1:]) if axis is None else shape[axis]
        if self.top_k > values:
            raise ValueError(f"top_k {self.top_k} of {values} values")
        if axis is None:
            return ((shape[0], 2 if self.out_max_val else 1, self.top_k, *[1] * (len(shape) - 3)),)
        return ((*shape[:axis], self.top_k, *shape[axis + 1 :]),)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return EVERYTHING if self.axis is None or image_axis(self.axis) == axis else PIXEL

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        if self.axis is None:
            return (2 if self.out_max_val else 1,)
        return (self.top_k if image_axis(self.axis) == 1 else bottoms[0],)

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        from .functions import largest, largest_of_items

        if self.axis is None:
            return (largest_of_items(bottoms[0], self.top_k, self.out_max_val),)
        values, places = largest(bottoms[0], self.axis, self.top_k)
        return (values if self.out_max_val else places,)

    def to_onnx(self, out: OnnxLayer) -> None:
        argmax_to_onnx(out, top_k=self.top_k, axis=self.axis, out_max_val=self.out_max_val)

    def to_python(self, site: Site) -> Form:
        if self.axis is None:
            return Form((call("largest_of_items", site.x, self.top_k, with_values=unless(False, self.out_max_val)),))
        return Form((f"largest({site.x}, {self.axis % site.rank}, {self.top_k})[{0 if self.out_max_val else 1}]",))


@register_layer("Reduction")
@dataclass(frozen=True)
class Reduction(OneToOne):
    """coeff times the SUM, ASUM (of magnitudes), SUMSQ (of squares) or MEAN of all axes from `axis` on.

    A coeff of 0 makes 0 of what is no number, too (caffe_scal, by OpenBLAS).
    """

    operation: str
    axis: int
    coefficient: float

    @classmethod
    def parse(cls, spec: LayerSpec) -> Reduction:
        message = spec.message.reduction_param
        return cls(message.ReductionOp.Name(message.operation), message.axis, message.coeff)

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        return (bottoms[0][: canonical_axis(self.axis, bottoms[0])],)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return EVERYTHING

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        x = bottoms[0].flatten(self.axis)
        if self.operation == "MEAN":
            top = x.mean(-1)
        elif self.operation == "ASUM":
            top = x.abs().sum(-1)
        else:
            top = (x.square() if self.operation == "SUMSQ" else x).sum(-1)
        if self.coefficient == 0:
            import torch

            return (torch.zeros_like(top),)
        return (top * self.coefficient if self.coefficient != 1 else top,)

    def to_onnx(self, out: OnnxLayer) -> None:
        x = out.bottoms[0]
        op = {"SUMSQ": "ReduceSumSquare", "MEAN": "ReduceMean"}.get(self.operation, "ReduceSum")
        axes = range(canonical_axis(self.axis, x.shape), len(x.shape))
        if out.target in OPENCV and axes.start < 2:
            self._opencv(out, whole=axes.start == 0)
            return
        # ReduceL1 below opset 18 loses its axes in OpenVINO 2026.2.
        values: Operand = out.node("Abs", [x], part="magnitudes") if self.operation == "ASUM" else x
        if out.target in OPENCV and self.operation == "SUMSQ":  # whose classic engine leaves one number as it is
            op, values = "ReduceSum", out.node("Mul", [x, x], part="squares")
        if self.coefficient == 1:
            out.reduce(op, values, axes, keepdims=False)
            return
        total = out.reduce(op, values, axes, keepdims=False, part="total")
        if self.coefficient == 0:
            same_everywhere(out, total, 0.0)
            return
        out.top("Mul", [total, out.constant("coeff", np.float32(self.coefficient))])

    def _opencv(self, out: OnnxLayer, *, whole: bool) -> None:
        """A pooling of each item, or of the whole bottom, as one row: OpenCV's classic engine mistakes free sizes.

        OpenCV 4 also mistakes the vector that a Reduce leaves where it is multiplied. A Reduce of all axes ends its
        process, and the new engine does not take the number that it makes.
        """
        x: Operand = out.bottoms[0]
        if self.operation == "ASUM":
            x = out.node("Abs", [x], part="magnitudes")
        elif self.operation == "SUMSQ":
            x = out.node("Mul", [x, x], part="squares")
        if whole:
            row = out.reshape(x, [1, 1, 1, -1], part="row")
        else:
            row = out.reshape(out.node("Flatten", [x], part="flat", axis=1), [0, 1, 1, -1], part="row")
        pool = "ave" if self.operation == "MEAN" else "sum"
        total: Operand = out.node("Pooling", [row], part="total", pool=pool, global_pooling=1)
        if self.coefficient != 1:
            total = out.node("Mul", [total, out.constant("coeff", np.float32(self.coefficient))], part="scaled")
        out.reshape(total, [-1])

    def to_python(self, site: Site) -> Form:
        axis = self.axis % site.rank
        flat = site.x if axis == site.rank - 1 else f"{site.x}.flatten({unless(0, axis) or ''})"
        before = {"ASUM": ".abs()", "SUMSQ": ".square()"}.get(self.operation, "")
        text = f"{flat}{before}.{'mean' if self.operation == 'MEAN' else 'sum'}(-1)"
        return Form((times(text, self.coefficient) if self.coefficient else f"torch.zeros_like({text})",))
