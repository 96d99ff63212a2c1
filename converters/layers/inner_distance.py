"""InnerDistance of NormFace's fork (happynear/caffe-windows, src/caffe/layers/inner_distance_layer.cpp)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..net.onnx_form import OPENCV
from ..net.reach import EVERYTHING, Reach
from .base import Layer, canonical_axis, image_axis, refuse, register_layer
from .fork import fork_message
from .normface import EPSILON

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec, Shape
    from ..net.onnx_form import OnnxLayer, Operand


@register_layer("InnerDistance")
@dataclass(frozen=True)
class InnerDistance(Layer):
    """The distance of each vector from each row of the weight: the sum of squares ("L2"), or of magnitudes ("L1").

    The weight (O, K) is a blob, with `unit` each row as w / sqrt(w . w + 1e-6), or the second bottom, as it is.
    """

    num_output: int
    axis: int
    magnitudes: bool
    unit: bool
    fed: bool

    bottom_count: ClassVar[tuple[int, float]] = (1, 3)
    top_count: ClassVar[tuple[int, float]] = (1, 1)

    @classmethod
    def parse(cls, spec: LayerSpec) -> InnerDistance:
        message = fork_message(spec, "inner_distance_param")
        kind, fed = message.word("distance_type", "L2"), len(spec.bottoms) > 1
        if kind not in ("L1", "L2"):
            raise refuse(spec, f"distance_type is {kind}; expected L1 or L2")
        if message.flag("transpose", default=False):
            raise refuse(spec, "transpose takes rows of the wrong axis in NormFace's fork: not computed")
        if fed and len(spec.bottoms) == 2 and message.flag("update_center_only", default=False):
            raise refuse(spec, "update_center_only with two bottoms takes the label for the weight in NormFace's fork")
        count = message.integer("num_output", 0)
        if not fed and count < 1:
            raise refuse(spec, "num_output is missing or 0")
        unit = message.flag("normalize", default=False)
        return cls(count, message.integer("axis", 1), kind == "L1", unit and not fed, fed)

    @property
    def blob_ranks(self) -> tuple[int, ...]:  # type: ignore[override]
        return () if self.fed else (2,)

    @property
    def learns(self) -> bool:
        return not self.fed

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        axis = canonical_axis(self.axis, bottoms[0])
        if self.fed and (not bottoms[1] or prod(bottoms[1][1:]) != prod(bottoms[0][axis:])):
            raise ValueError(f"a weight of shape {bottoms[1]}; expected (O, {prod(bottoms[0][axis:])})")
        return ((*bottoms[0][:axis], bottoms[1][0] if self.fed else self.num_output),)

    def blob_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        return () if self.fed else ((self.num_output, prod(bottoms[0][canonical_axis(self.axis, bottoms[0]) :])),)

    def filler_fields(self) -> tuple[str, ...]:
        return () if self.fed else ("inner_distance_param.weight_filler",)

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return prod(bottoms[0]) * tops[0][-1]

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return EVERYTHING

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (self.num_output,) if image_axis(self.axis) == 1 and not self.fed else None

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        import torch

        weight = bottoms[1].flatten(1) if self.fed else blobs[0]
        if self.unit:
            weight = weight * (weight.square().sum(1, keepdim=True) + EPSILON).rsqrt()
        x = bottoms[0].flatten(self.axis)
        rows = []
        for row in x.reshape(-1, x.shape[-1]):  # one by one: all differences at once can be more than memory holds
            apart = row - weight
            rows.append((apart.abs() if self.magnitudes else apart.square()).sum(1))
        return (torch.stack(rows).reshape(*x.shape[:-1], len(weight)),)

    def to_onnx(self, out: OnnxLayer) -> None:
        x = out.bottoms[0]
        axis = canonical_axis(self.axis, x.shape)
        if out.target in OPENCV and None in x.shape[:axis]:
            raise out.refuse("OpenCV gives distances of another number of items another shape", hint="give --batch N")
        weight: Operand = out.node("Flatten", [out.bottoms[1]], part="rows", axis=1) if self.fed else out.blob(0)
        if self.unit:
            value = out.blob_value(0).astype(np.float64)
            root = np.sqrt((value**2).sum(1, keepdims=True) + EPSILON)
            weight = out.constant("unit_weight", (value / root).astype(np.float32))
        numbers = out.size(x, range(axis, len(x.shape))).product()
        vectors = out.reshape(x, [out.size(x, range(axis)), 1, numbers], part="vectors")
        apart = out.node("Sub", [vectors, weight], part="apart")
        apart = (
            out.node("Abs", [apart], part="size") if self.magnitudes else out.node("Mul", [apart, apart], part="size")
        )
        out.reduce("ReduceSum", apart, [axis + 1], keepdims=False)
