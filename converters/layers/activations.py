"""Activations that forks of Caffe added; what a fork calls otherwise is told by its fields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log, prod
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..escaping import python_literal
from ..net.python_form import Form, call, number, plus, spread, times
from ..net.reach import EVERYTHING, PIXEL, Reach
from .base import LARGEST, Layer, Neuron, kept, refuse, register_layer
from .fork import fork_message
from .neuron import Elementwise

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec, Shape
    from ..net.onnx_form import OnnxLayer
    from ..net.python_form import Site


@register_layer("HardSwish")
@dataclass(frozen=True)
class HardSwish(Elementwise):
    """x * min(max(x + 3, 0), 6) / 6. Source: synopsys-caffe, hard_swish_layer.cpp."""

    def compute(self, x: Tensor) -> Tensor:
        return x * (x + 3).clamp(0, 6) / 6

    def to_onnx(self, out: OnnxLayer) -> None:
        x, six = out.bottoms[0], out.constant("six", np.float32(6))
        shifted = out.node("Add", [x, out.constant("three", np.float32(3))], part="shifted")
        gate = out.node("Clip", [shifted, out.constant("zero", np.float32(0)), six], part="gate")
        out.top("Div", [out.node("Mul", [x, gate], part="gated"), six])

    def to_python(self, site: Site) -> Form:
        return Form((f"{site.x} * ({site.x} + 3).clamp(0, 6) / 6",))


@register_layer("HardSigmoid")
@dataclass(frozen=True)
class HardSigmoid(Elementwise):
    """alpha * x + beta, but at least 0 and at most 1. Source: synopsys-caffe, hard_sigmoid_layer.cpp."""

    alpha: float
    beta: float

    @classmethod
    def parse(cls, spec: LayerSpec) -> HardSigmoid:
        message = fork_message(spec, "hard_sigmoid_param")
        return cls(message.number("alpha", 0.2), message.number("beta", 0.5))

    def compute(self, x: Tensor) -> Tensor:
        return (self.alpha * x + self.beta).clamp(0, 1)

    def to_onnx(self, out: OnnxLayer) -> None:
        out.top("HardSigmoid", out.bottoms, alpha=self.alpha, beta=self.beta)

    def to_python(self, site: Site) -> Form:
        text = plus(times(site.x, self.alpha), self.beta)
        return Form((f"({text}).clamp(0, 1)",))


@register_layer("HardTanH")
@dataclass(frozen=True)
class HardTanH(Elementwise):
    """x, but at least -1 and at most 1. Source: synopsys-caffe, hard_tanh_layer.cpp."""

    def compute(self, x: Tensor) -> Tensor:
        return x.clamp(-1, 1)

    def to_onnx(self, out: OnnxLayer) -> None:
        limits = out.constant("min", np.float32(-1)), out.constant("max", np.float32(1))
        out.top("Clip", [out.bottoms[0], *limits])

    def to_python(self, site: Site) -> Form:
        return Form((f"{site.x}.clamp(-1, 1)",))


@register_layer("Mish")
@dataclass(frozen=True)
class Mish(Elementwise):
    """x * tanh(log(1 + e^x)). Source: synopsys-caffe and YOLO v4's forks, mish_layer.cpp."""

    def compute(self, x: Tensor) -> Tensor:
        from torch.nn.functional import mish

        return mish(x)

    def to_onnx(self, out: OnnxLayer) -> None:
        x = out.bottoms[0]
        gate = out.node("Tanh", [out.node("Softplus", [x], part="softplus")], part="gate")
        out.top("Mul", [x, gate])

    def to_python(self, site: Site) -> Form:
        return Form((f"F.mish({site.x})",))


@register_layer("Atan")
@dataclass(frozen=True)
class Atan(Elementwise):
    """The arc tangent. Source: synopsys-caffe, atan_layer.cpp."""

    onnx_operator: ClassVar[str | None] = "Atan"

    def compute(self, x: Tensor) -> Tensor:
        return x.atan()

    def to_python(self, site: Site) -> Form:
        return Form((f"{site.x}.atan()",))


@register_layer("Sin")
@dataclass(frozen=True)
class Sin(Elementwise):
    """The sine. Source: NVCaffe's and Synopsys' forks, sin_layer.cpp."""

    onnx_operator: ClassVar[str | None] = "Sin"

    def compute(self, x: Tensor) -> Tensor:
        return x.sin()

    def to_python(self, site: Site) -> Form:
        return Form((f"{site.x}.sin()",))


@register_layer("Softsign")
@dataclass(frozen=True)
class Softsign(Elementwise):
    """x / (1 + |x|). Source: synopsys-caffe, softsign_layer.cpp."""

    onnx_operator: ClassVar[str | None] = "Softsign"

    def compute(self, x: Tensor) -> Tensor:
        return x / (1 + x.abs())

    def to_python(self, site: Site) -> Form:
        return Form((f"{site.x} / (1 + {site.x}.abs())",))


@register_layer("SeLU", "SeLu")
@dataclass(frozen=True)
class SeLU(Elementwise):
    """lambda * x where it is positive, else lambda * alpha * (e^x - 1). Source: synopsys-caffe, selu_layer.cpp.

    SeLu is soeaver/caffe-model's name for it; its source is not there, and its nets give no other numbers.
    """

    alpha: float
    scale: float

    @classmethod
    def parse(cls, spec: LayerSpec) -> SeLU:
        message = fork_message(spec, "selu_param")
        return cls(message.number("alpha", 1.67326324), message.number("lambda", 1.050700987))

    def compute(self, x: Tensor) -> Tensor:
        return self.scale * x.clamp(min=0) + self.scale * self.alpha * (x.clamp(max=0).exp() - 1)

    def to_onnx(self, out: OnnxLayer) -> None:
        out.top("Selu", out.bottoms, alpha=self.alpha, gamma=self.scale)

    def to_python(self, site: Site) -> Form:
        below = python_literal(self.scale * self.alpha)
        return Form((f"{times(f'{site.x}.clamp(min=0)', self.scale)} + ({site.x}.clamp(max=0).exp() - 1) * {below}",))


@register_layer("NegSquare")
@dataclass(frozen=True)
class NegSquare(Elementwise):
    """-x^2. Source: twhui/LiteFlowNet, negsquare_layer.cu."""

    def compute(self, x: Tensor) -> Tensor:
        return -x.square()

    def to_onnx(self, out: OnnxLayer) -> None:
        x = out.bottoms[0]
        out.top("Neg", [out.node("Mul", [x, x], part="square")])

    def to_python(self, site: Site) -> Form:
        return Form((f"-{site.x}.square()",))


@register_layer("ExpMax")
@dataclass(frozen=True)
class ExpMax(Neuron):
    """base^(shift + scale * (x - the largest of x along the channels)), e^... where no base is given.

    Source: twhui/LiteFlowNet, expmax_layer.cpp and .cu, which looks for the largest in the first image alone.
    """

    factor: float
    outer: float

    @classmethod
    def parse(cls, spec: LayerSpec) -> ExpMax:
        message = fork_message(spec, "expmax_param")
        base, scale, shift = (message.number(n, d) for n, d in (("base", -1), ("scale", 1), ("shift", 0)))
        if base != -1 and not 0 < base <= LARGEST:
            raise refuse(spec, f"base is {base}; it must be positive, or -1 for e")
        power = 1.0 if base == -1 else log(base)
        if abs(power * shift) > 88 or abs(power * scale) > LARGEST:
            raise refuse(spec, f"base {base}, scale {scale} and shift {shift} are more than numbers can be")
        return cls(power * scale, exp(power * shift))

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        if len(bottoms[0]) < 2:
            raise ValueError(f"a bottom of {len(bottoms[0])} axes; expected (n, c, ...)")
        return (bottoms[0],)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return PIXEL

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        x = bottoms[0]
        return (((x - x.amax(1, keepdim=True)) * self.factor).exp() * self.outer,)

    def to_onnx(self, out: OnnxLayer) -> None:
        x = out.bottoms[0]
        apart = out.node("Sub", [x, out.reduce("ReduceMax", x, [1], part="largest")], part="apart")
        scaled = out.node("Mul", [apart, out.constant("factor", np.float32(self.factor))], part="scaled")
        out.top("Mul", [out.node("Exp", [scaled], part="exp"), out.constant("outer", np.float32(self.outer))])

    def to_python(self, site: Site) -> Form:
        apart = times(f"({site.x} - {site.x}.amax(1, keepdim=True))", self.factor)
        return Form((times(f"({apart}).exp()", self.outer),))


@register_layer("ThresholdedReLU")
@dataclass(frozen=True)
class ThresholdedReLU(Elementwise):
    """x where it is above alpha, else 0. Source: synopsys-caffe, thresholded_relu_layer.cpp."""

    alpha: float

    @classmethod
    def parse(cls, spec: LayerSpec) -> ThresholdedReLU:
        return cls(fork_message(spec, "thresholded_relu_param").number("alpha", 1.0))

    def compute(self, x: Tensor) -> Tensor:
        return x * (x > self.alpha)

    def to_onnx(self, out: OnnxLayer) -> None:
        out.top("ThresholdedRelu", out.bottoms, alpha=self.alpha)

    def to_python(self, site: Site) -> Form:
        return Form((f"{site.x} * ({site.x} > {number(self.alpha)})",))


@register_layer("Axpy")
@dataclass(frozen=True)
class Axpy(Layer):
    """a * x + y, where a has one number for each channel of an item. Source: hujie-frank/SENet, axpy_layer.cpp.

    Bottoms a (n, c) or (n, c, 1, 1), x and y (n, c, h, w).
    """

    bottom_count: ClassVar[tuple[int, float]] = (3, 3)
    top_count: ClassVar[tuple[int, float]] = (1, 1)

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        scale, x, y = bottoms
        if x != y or scale[:2] != x[:2] or len(x) < 2 or prod(scale[2:]) != 1:
            raise ValueError("the first bottom has one number for each channel of the second, and the third its shape")
        return (x,)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return PIXEL if bottom else EVERYTHING

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (bottoms[1],)

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return prod(tops[0])

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        import torch

        scale, x, y = bottoms
        return (torch.addcmul(y, scale.reshape(*x.shape[:2], *[1] * (x.ndim - 2)), x),)

    def to_onnx(self, out: OnnxLayer) -> None:
        scale, x, y = out.bottoms
        factor = out.reshape(scale, [*kept(scale, 2), *[1] * (len(x.shape) - 2)], part="factor")
        out.top("Add", [out.node("Mul", [x, factor], part="scaled"), y])

    def to_python(self, site: Site) -> Form:
        a, x, y = site.bottoms
        factor = spread(f"{a}.flatten(1)", len(site.shapes[1]) - 2)
        return Form((call("torch.addcmul", y, factor, x),))
