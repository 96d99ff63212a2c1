"""NormFace's additions: InnerProduct and Normalize with lengths of 1 and weights from a bottom, ChannelScale.

Source: happynear/caffe-windows, branch ms (NormFace, AM-Softmax), src/caffe/layers/inner_product_layer.cpp and
normalize_layer.cpp; openvinotoolkit/training_toolbox_caffe has both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..net.python_form import Form, call, spread
from ..net.reach import EVERYTHING, NOTHING, PIXEL, Reach
from .base import Layer, OneToOne, canonical_axis, image_axis, kept, legacy_shape, refuse, register_layer
from .fork import fork_message

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec, Shape
    from ..net.onnx_form import OnnxLayer, Operand
    from ..net.python_form import Site

EPSILON = 1e-6
"""Added to a sum before its root or its inverse is taken, in both layers."""


@dataclass(frozen=True)
class UnitInnerProduct(OneToOne):
    """An InnerProduct with `normalize: true`: each row w of the weight counts as w / sqrt(w . w + 1e-6)."""

    num_output: int
    bias: bool
    axis: int

    blob_ranks: ClassVar[tuple[int, ...]] = (2, 1)

    @classmethod
    def of(cls, spec: LayerSpec) -> UnitInnerProduct:
        """The layer that an InnerProduct with `normalize` is."""
        message = spec.message.inner_product_param
        if message.transpose:
            raise refuse(spec, "normalize with transpose takes rows of the wrong axis in NormFace's fork: not computed")
        return cls(message.num_output, message.bias_term, message.axis)

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        return ((*bottoms[0][: canonical_axis(self.axis, bottoms[0])], self.num_output),)

    def blob_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        weight = (self.num_output, prod(bottoms[0][canonical_axis(self.axis, bottoms[0]) :]))
        return (weight, (self.num_output,)) if self.bias else (weight,)

    def filler_fields(self) -> tuple[str, ...]:
        return "inner_product_param.weight_filler", "inner_product_param.bias_filler"

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return prod(bottoms[0]) * self.num_output

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return EVERYTHING

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (self.num_output,) if image_axis(self.axis) == 1 else None

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        from torch.nn.functional import linear

        weight = blobs[0] * (blobs[0].square().sum(1, keepdim=True) + EPSILON).rsqrt()
        return (linear(bottoms[0].flatten(self.axis), weight, blobs[1] if self.bias else None),)

    def to_onnx(self, out: OnnxLayer) -> None:
        value = out.blob_value(0).astype(np.float32)
        root = np.sqrt((value.astype(np.float64) ** 2).sum(1, keepdims=True) + EPSILON)
        weight = out.constant("unit_weight", np.ascontiguousarray((value / root).astype(np.float32).T))
        _write_product(out, self.axis, weight, out.blob(1) if self.bias else None)

    def to_python(self, site: Site) -> Form:
        weight = site.blobs[0]
        unit = f"{weight} * ({weight}.square().sum(1, keepdim=True) + {EPSILON}).rsqrt()"
        return _linear(site, self.axis, unit, site.blobs[1] if self.bias else None)


@dataclass(frozen=True)
class FedInnerProduct(Layer):
    """An InnerProduct whose weight (O, ...) is its second bottom, and whose bias (O,) is its third, if it has one."""

    axis: int
    transpose: bool

    bottom_count: ClassVar[tuple[int, float]] = (2, 3)
    top_count: ClassVar[tuple[int, float]] = (1, 1)

    @classmethod
    def of(cls, spec: LayerSpec) -> FedInnerProduct:
        """The layer that an InnerProduct of several bottoms is."""
        message = spec.message.inner_product_param
        if message.bias_term != (len(spec.bottoms) == 3):
            problem = f"bias_term is {str(message.bias_term).lower()} with {len(spec.bottoms)} bottoms"
            raise refuse(spec, problem, hint="where the weight is a bottom, the bias is one too, or bias_term is false")
        return cls(message.axis, message.transpose)

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        axis, weight = canonical_axis(self.axis, bottoms[0]), bottoms[1]
        if not weight or prod(weight[1:]) != prod(bottoms[0][axis:]):
            raise ValueError(f"a weight of shape {weight}; expected (O, {prod(bottoms[0][axis:])})")
        if len(bottoms) > 2 and prod(bottoms[2]) != weight[0]:
            raise ValueError(f"a bias of shape {bottoms[2]}; expected ({weight[0]},)")
        return ((*bottoms[0][:axis], weight[0]),)

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return prod(bottoms[0]) * bottoms[1][0]

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return EVERYTHING

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        from torch.nn.functional import linear

        x, weight = bottoms[0].flatten(self.axis), bottoms[1].flatten(1)
        if self.transpose:  # the memory counts, not the shape: K rows of O numbers
            weight = weight.reshape(weight.shape[1], weight.shape[0]).t()
        return (linear(x, weight, bottoms[2].flatten() if len(bottoms) > 2 else None),)

    def to_onnx(self, out: OnnxLayer) -> None:
        bottom = out.bottoms[1]
        weight: Operand = out.node("Flatten", [bottom], part="weight", axis=1)
        if self.transpose:
            numbers = out.size(bottom, range(1, len(bottom.shape))).product()
            weight = out.reshape(weight, [numbers, -1], part="turned")
        else:
            weight = out.node("Transpose", [weight], part="turned", perm=[1, 0])
        bias = out.reshape(out.bottoms[2], [-1], part="bias") if len(out.bottoms) > 2 else None
        _write_product(out, self.axis, weight, bias)

    def to_python(self, site: Site) -> Form:
        weight = f"{site.bottoms[1]}.flatten(1)"
        if self.transpose:
            weight = f"{weight}.reshape(-1, {site.shapes[1][0]}).t()"
        return _linear(site, self.axis, weight, f"{site.bottoms[2]}.flatten()" if site.bottoms[2:] else None)


def _linear(site: Site, axis: int, weight: str, bias: str | None) -> Form:
    plain = call("F.linear", f"{site.x}.flatten({axis})", weight, bias)
    return Form((plain,), shared=(plain,))


def _write_product(out: OnnxLayer, axis: int, weight: Operand, bias: Operand | None) -> None:
    """The first bottom, its axes from `axis` on as one, times a weight (I, O), and the bias."""
    x = out.bottoms[0]
    axis = canonical_axis(axis, x.shape)
    rows = x if axis == len(x.shape) - 1 else out.reshape(x, [*kept(x, axis), -1], part="rows")
    if bias is None:
        out.top("MatMul", [rows, weight])
        return
    out.top("Add", [out.node("MatMul", [rows, weight], part="product"), bias])


@dataclass(frozen=True)
class UnitChannels(Layer):
    """Normalize with normalize_param, or with two tops: x / (norm of its channels), and the norm (n, 1, h, w).

    The norm is sqrt(sum of x^2 + 1e-6), or with `normalize_type: "L1"` sum of |x|, and 1e-6.
    """

    absolute: bool
    norm_top: bool

    bottom_count: ClassVar[tuple[int, float]] = (1, 1)
    top_count: ClassVar[tuple[int, float]] = (1, 2)

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        if len(bottoms[0]) < 2:
            raise ValueError(f"a bottom of shape {bottoms[0]}; expected (n, c, ...)")
        n, c, h, w = legacy_shape(bottoms[0])
        return ((n, c, h, w), (n, 1, h, w)) if self.norm_top else ((n, c, h, w),)

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return 2 * prod(tops[0])

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return PIXEL

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (bottoms[0], 1) if self.norm_top else (bottoms[0],)

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        x = bottoms[0]
        total = (x.abs() if self.absolute else x.square()).sum(1, keepdim=True) + EPSILON
        norm = total if self.absolute else total.sqrt()
        axes = (...,) + (None,) * (4 - x.ndim)
        return ((x / norm)[axes], norm[axes]) if self.norm_top else ((x / norm)[axes],)

    def to_onnx(self, out: OnnxLayer) -> None:
        x: Operand = out.bottoms[0]
        axes = len(out.bottoms[0].shape)
        if axes < 4:
            x = out.reshape(x, [*kept(out.bottoms[0]), *[1] * (4 - axes)], part="image")
        total = out.reduce("ReduceL1" if self.absolute else "ReduceSumSquare", x, (1,), part="total")
        op, inputs = "Add", [total, out.constant("eps", np.float32(EPSILON))]
        if not self.absolute:
            op, inputs = "Sqrt", [out.node("Add", inputs, part="total_and_eps")]
        norm = out.top(op, inputs, index=1) if self.norm_top else out.node(op, inputs, part="norm")
        out.top("Div", [x, norm])

    def to_python(self, site: Site) -> Form:
        total = f"({site.x}.{'abs' if self.absolute else 'square'}().sum(1, keepdim=True) + {EPSILON})"
        norm, axes = total if self.absolute else f"{total}.sqrt()", 4 - site.rank
        unit = f"{site.x} / {norm}"
        tops = (spread(f"({unit})", axes) if axes else unit, spread(norm, axes))
        return Form(tops if self.norm_top else tops[:1])


@register_layer("ChannelScale")
@dataclass(frozen=True)
class NormFaceChannelScale(Layer):
    """The first bottom (n, c, ...) times the second, one number for each place (n, 1, ...), for all channels.

    With `global_scale` its one blob, held between min_global_scale and max_global_scale, in place of the second bottom;
    it is a second top (1,) where there is one. With `do_forward: false` the top is the first bottom. Source:
    happynear/caffe-windows, src/caffe/layers/channel_scale_layer.cpp.
    """

    idles: bool
    one: bool
    limits: tuple[float, float]

    bottom_count: ClassVar[tuple[int, float]] = (2, 2)
    top_count: ClassVar[tuple[int, float]] = (1, 2)

    @classmethod
    def parse(cls, spec: LayerSpec) -> NormFaceChannelScale:
        message = fork_message(spec, "channel_scale_param")
        one = message.flag("global_scale", default=False)
        if len(spec.tops) > 1 and not one:
            raise refuse(spec, "two tops without global_scale; the source leaves the second without a shape")
        limits = message.number("min_global_scale", 0.0), message.number("max_global_scale", 1000.0)
        return cls(not message.flag("do_forward", default=True), one, limits)

    @property
    def blob_ranks(self) -> tuple[int, ...]:  # type: ignore[override]
        return (1,) if self.one else ()

    def blob_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        return ((1,),) if self.one else ()

    def blob_fills(self) -> tuple[float, ...]:
        return (-1.0,) if self.one else ()

    def filler_fields(self) -> tuple[str, ...]:
        return ()

    def statistics(self) -> tuple[int, ...]:
        return (0,) if self.one else ()

    @property
    def learns(self) -> bool:
        return self.one

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        x, scale = bottoms
        if len(x) < 2 or not scale or x[0] != scale[0] or prod(scale) * x[1] != prod(x):
            raise ValueError("expected (n, c, ...) and one number for each of its places")
        return (x, (1,)) if self.one else (x,)

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return 0 if self.idles else prod(tops[0])

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        if top or (bottom and (self.one or self.idles)):
            return NOTHING
        return PIXEL

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (bottoms[0],)

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        x, scale = bottoms
        if self.one:
            scale = blobs[0].clamp(max=self.limits[1]).clamp(min=self.limits[0])
            return (x if self.idles else x * scale, scale)
        return (x if self.idles else x * scale.reshape(x.shape[0], 1, *x.shape[2:]),)

    def to_onnx(self, out: OnnxLayer) -> None:
        x, scale = out.bottoms
        if self.one:
            low, high = (
                out.constant(part, np.float32(value))
                for part, value in zip(("least", "most"), self.limits, strict=True)
            )
            one = out.node("Max", [out.node("Min", [out.blob(0), high], part="below"), low], part="scale")
            if len(out.tops) > 1:
                out.top("Identity", [one], index=1)
            out.top("Identity" if self.idles else "Mul", [x] if self.idles else [x, one])
        elif self.idles:
            out.top("Identity", [x])
        else:
            places = out.reshape(scale, [out.size(x, (0,)), 1, out.size(x, range(2, len(x.shape)))], part="places")
            out.top("Mul", [x, places])
