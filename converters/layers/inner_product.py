"""InnerProduct and Embed (inner_product_layer.cpp, embed_layer.cpp); what NormFace's fork added is in normface.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from math import prod
from operator import add
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..net.onnx_form import CLASSIC, INT64, OPENCV
from ..net.python_form import Form, call, unless
from ..net.reach import EVERYTHING, Reach
from .base import Layer, OneToOne, canonical_axis, image_axis, kept, refuse, register_layer
from .fork import fork_fields, read_as
from .normface import FedInnerProduct, UnitInnerProduct

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec, Shape
    from ..net.onnx_form import OnnxLayer, Operand
    from ..net.python_form import Site


LONG = 32768
"""Inputs that PyTorch adds up in one go.

One row times a matrix is added in few running sums: 1e-5 of the result is lost over 750,000 inputs, and Caffe, whose
OpenBLAS goes block by block, loses 4e-7.
"""


@register_layer("InnerProduct")
@dataclass(frozen=True)
class InnerProduct(OneToOne):
    """top = bottom flattened from `axis` on, times the weight; blobs (O, I), or (I, O) with `transpose`, and (O,)."""

    num_output: int
    bias: bool
    axis: int
    transpose: bool

    blob_ranks: ClassVar[tuple[int, ...]] = (2, 1)

    @classmethod
    def parse(cls, spec: LayerSpec) -> Layer:
        message = spec.message.inner_product_param
        if len(spec.bottoms) > 1:
            return FedInnerProduct.of(spec)
        if not message.num_output:
            # NVIDIA/DIGITS, digits/model/tasks/caffe_train.py, sets it in the layers that the net ends in
            hint = "write inner_product_param { num_output: N }; DIGITS leaves it out and takes the number of classes"
            raise refuse(spec, "num_output is missing or 0", hint=hint)
        if fork_fields(spec, "inner_product_param").flag("normalize", default=False):
            return UnitInnerProduct.of(spec)
        return cls(message.num_output, message.bias_term, message.axis, message.transpose)

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        return ((*bottoms[0][: canonical_axis(self.axis, bottoms[0])], self.num_output),)

    def blob_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        inputs = prod(bottoms[0][canonical_axis(self.axis, bottoms[0]) :])
        weight = (inputs, self.num_output) if self.transpose else (self.num_output, inputs)
        return (weight, (self.num_output,)) if self.bias else (weight,)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return EVERYTHING

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (self.num_output,) if image_axis(self.axis) == 1 else None

    def filler_fields(self) -> tuple[str, ...]:
        return "inner_product_param.weight_filler", "inner_product_param.bias_filler"

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return prod(bottoms[0]) * self.num_output

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        from torch.nn.functional import linear

        weight = blobs[0].t() if self.transpose else blobs[0]
        bias = blobs[1] if self.bias else None
        x = bottoms[0].flatten(self.axis)
        if weight.shape[1] <= LONG:
            return (linear(x, weight, bias),)
        sums = map(linear, x.split(LONG, dim=-1), weight.split(LONG, dim=1))
        top = reduce(add, sums)
        return (top if bias is None else top + bias,)

    def to_onnx(self, out: OnnxLayer) -> None:
        x = out.bottoms[0]
        axis = canonical_axis(self.axis, x.shape)
        if out.target == CLASSIC and axis > 0:
            settings = {"num_output": self.num_output, "bias_term": int(self.bias), "axis": axis}
            out.top("InnerProduct", [x, *self._rows_of_weights(out)], **settings)
            return
        if out.target in OPENCV and axis > 1:
            last = axis == len(x.shape) - 1
            self._opencv(out, x if last else out.reshape(x, [*[0] * axis, -1], part="rows"))
            return
        rows = x if len(x.shape) == 2 and axis == 1 else out.node("Flatten", [x], part="rows", axis=axis)
        inputs = [rows, out.blob(0), *([out.blob(1)] if self.bias else [])]
        if axis == 1:
            out.top("Gemm", inputs, transB=int(not self.transpose))
            return
        product = out.node("Gemm", inputs, part="product", transB=int(not self.transpose))
        leading = x.shape[:axis]
        if leading.count(None) == 1:  # what is left needs no Shape
            out.reshape(product, [*(-1 if size is None else size for size in leading), self.num_output])
        else:
            out.reshape(product, [out.size(x, range(axis)), self.num_output])

    def _rows_of_weights(self, out: OnnxLayer) -> list[str]:
        """The blobs as OpenCV's InnerProduct has them, (O, I) and (O,)."""
        if not self.transpose:
            return [out.blob(position) for position in range(1 + self.bias)]
        turned = out.constant("rows", np.ascontiguousarray(out.blob_value(0).T))
        return [turned, *([out.blob(1)] if self.bias else [])]

    def _opencv(self, out: OnnxLayer, rows: Operand) -> None:
        """Rows of any number of axes; OpenCV's classic engine has no Reshape for what several free sizes make."""
        weight = out.blob_value(0) if self.transpose else out.blob_value(0).T
        matrix = out.constant("matrix", np.ascontiguousarray(weight))
        if not self.bias:
            out.top("MatMul", [rows, matrix])
            return
        out.top("Add", [out.node("MatMul", [rows, matrix], part="product"), out.blob(1)])

    def to_python(self, site: Site) -> Form:
        axis = self.axis % site.rank
        flat = site.x if axis == site.rank - 1 else f"{site.x}.flatten({unless(0, axis) or ''})"
        weight, *bias = site.blobs
        plain = call("F.linear", flat, f"{weight}.t()" if self.transpose else weight, *bias)
        if self.transpose:
            return Form((plain,), shared=(plain,))
        outputs, inputs = site.blob_shapes[0]
        made = call("nn.Linear", inputs, outputs, bias=unless(True, self.bias))
        return Form((f"{site.module}({flat})",), made, (plain,))


@register_layer("Embed")
@dataclass(frozen=True)
class Embed(OneToOne):
    """Row `bottom[i]` of the weight for each element of the bottom; blobs (input_dim, O), (O,).

    The rows are a last axis more. In the fork of bottom-up-attention (peteanderson80/bottom-up-attention, caffe/src/
    caffe/layers/embed_layer.cpp, Reshape) they take the place of a last axis of size 1: read so where only that fits.
    """

    num_output: int
    input_dim: int
    bias: bool
    in_place_of_one: bool = False

    blob_ranks: ClassVar[tuple[int, ...]] = (2, 1)

    @classmethod
    def parse(cls, spec: LayerSpec) -> Embed:
        message = spec.message.embed_param
        if not message.num_output or not message.input_dim:
            raise refuse(spec, "num_output and input_dim must be at least 1")
        return cls(message.num_output, message.input_dim, message.bias_term, read_as(spec) == "bottom-up-attention")

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        return ((*bottoms[0][: -1 if self._replaces(bottoms[0]) else None], self.num_output),)

    def _replaces(self, bottom: Sequence[int | None]) -> bool:
        return self.in_place_of_one and len(bottom) > 0 and bottom[-1] == 1

    def blob_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        weight = (self.input_dim, self.num_output)
        return (weight, (self.num_output,)) if self.bias else (weight,)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return EVERYTHING

    def index_limits(self, bottoms: Sequence[Shape]) -> dict[int, int]:
        return {0: self.input_dim}

    def filler_fields(self) -> tuple[str, ...]:
        return "embed_param.weight_filler", "embed_param.bias_filler"

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        from torch.nn.functional import embedding

        x = bottoms[0]
        rows = embedding((x.squeeze(-1) if self._replaces(x.shape) else x).long(), blobs[0])
        return (rows + blobs[1] if self.bias else rows,)

    def to_onnx(self, out: OnnxLayer) -> None:
        x: Operand = out.bottoms[0]
        if self._replaces(out.bottoms[0].shape):
            x = out.reshape(x, kept(out.bottoms[0], -1), part="rows_of_one")
        places = out.node("Cast", [x], part="places", to=INT64)
        if not self.bias:
            out.top("Gather", [out.blob(0), places])
            return
        rows = out.node("Gather", [out.blob(0), places], part="rows")
        out.top("Add", [rows, out.blob(1)])

    def to_python(self, site: Site) -> Form:
        places = f"{site.x}{'.squeeze(-1)' if self._replaces(site.shapes[0]) else ''}.long()"
        plain = call("F.embedding", places, site.blobs[0])
        if self.bias:
            plain = f"{plain} + {site.blobs[1]}"
            return Form((plain,), shared=(plain,))
        return Form((f"{site.module}({places})",), call("nn.Embedding", self.input_dim, self.num_output), (plain,))
