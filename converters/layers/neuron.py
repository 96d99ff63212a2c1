"""Activations: each element of the top depends on the same element of the bottom (Caffe's neuron layers)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, prod
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..net.onnx_form import FLOAT, OPENCV
from ..net.python_form import Form, call, number, times
from ..net.reach import PIXEL, Reach
from .base import Layer, Neuron, refuse, register_layer
from .fork import fork_fields
from .opencv_onnx import softplus_of_any_size

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec, Shape
    from ..net.onnx_form import OnnxLayer
    from ..net.python_form import Site


class Elementwise(Neuron):
    """A neuron layer without blobs: `compute` is its function, and `onnx_operator` ONNX's where one operator does."""

    onnx_operator: ClassVar[str | None] = None

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return PIXEL

    def compute(self, x: Tensor) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} cannot be computed")

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        return (self.compute(bottoms[0]),)

    def to_onnx(self, out: OnnxLayer) -> None:
        if self.onnx_operator is None:
            super().to_onnx(out)
        else:
            out.top(self.onnx_operator, out.bottoms)


@register_layer("ReLU")
@dataclass(frozen=True)
class ReLU(Elementwise):
    """max(x, 0) + negative_slope * min(x, 0)."""

    negative_slope: float

    @classmethod
    def parse(cls, spec: LayerSpec) -> Layer:
        return BoundedReLU.bounds(spec) or cls(spec.message.relu_param.negative_slope)

    def compute(self, x: Tensor) -> Tensor:
        from torch.nn.functional import leaky_relu

        from .slopes import relu

        return leaky_relu(x, self.negative_slope) if self.negative_slope else relu(x)

    def to_onnx(self, out: OnnxLayer) -> None:
        if self.negative_slope:
            out.top("LeakyRelu", out.bottoms, alpha=self.negative_slope)
        else:
            out.top("Relu", out.bottoms)

    def to_python(self, site: Site) -> Form:
        slope = self.negative_slope
        return Form((f"F.leaky_relu({site.x}, {number(slope)})" if slope else f"F.relu({site.x})",))


@register_layer("ReLU1", "ReLU3", "ReLU6")
@dataclass(frozen=True)
class BoundedReLU(Elementwise):
    """min(max(x, 0) + negative_slope * min(x, 0), high), and at least `low` where there is one.

    ReLU6 is that of MobileNet-YOLO (relu6_layer.cpp); the fields relu6, maximum and minimum of a ReLU are Synopsys'
    (synopsys-caffe, relu_layer.cpp), where a maximum of 0 and a minimum of 0 are none.
    """

    negative_slope: float
    high: float
    low: float = -inf

    @classmethod
    def parse(cls, spec: LayerSpec) -> BoundedReLU:
        return cls(spec.message.relu_param.negative_slope, float(spec.type.removeprefix("ReLU")))

    @classmethod
    def bounds(cls, spec: LayerSpec) -> BoundedReLU | None:
        """The bounds that a ReLU of Synopsys' fork has in its fields; None where it has none."""
        fork = fork_fields(spec, "relu_param")
        high, low = fork.number("maximum", 0), fork.number("minimum", 0)
        high = high if high > 0 else inf
        high = min(high, 6.0) if fork.flag("relu6", default=False) else high
        if high == inf and not low:
            return None
        return cls(spec.message.relu_param.negative_slope, high, low or -inf)

    def compute(self, x: Tensor) -> Tensor:
        from torch.nn.functional import leaky_relu, relu

        top = leaky_relu(x, self.negative_slope) if self.negative_slope else relu(x)
        return top.clamp(max=self.high) if self.low == -inf else top.clamp(max=self.high).clamp(min=self.low)

    def to_onnx(self, out: OnnxLayer) -> None:
        """A Clip with both bounds, which every runtime fuses, where nothing below 0 is left."""
        low = None if self.low == -inf else out.constant("min", np.float32(self.low))
        high = None if self.high == inf else out.constant("max", np.float32(self.high))
        if not self.negative_slope:
            low = low if self.low > 0 else out.constant("min", np.float32(0))
            out.top("Clip", [out.bottoms[0], low, high])
            return
        leaky = out.node("LeakyRelu", out.bottoms, part="leaky", alpha=self.negative_slope)
        out.top("Clip", [leaky, low, high])

    def to_python(self, site: Site) -> Form:
        slope = self.negative_slope
        top = f"F.leaky_relu({site.x}, {number(slope)})" if slope else f"F.relu({site.x})"
        top += f".clamp(max={number(self.high)})"
        return Form((top if self.low == -inf else f"{top}.clamp(min={number(self.low)})",))


@register_layer("PReLU")
@dataclass(frozen=True)
class PReLU(Neuron):
    """max(x, 0) + slope * min(x, 0); blob (c,), or () where the channels share one slope."""

    channel_shared: bool

    @classmethod
    def parse(cls, spec: LayerSpec) -> PReLU:
        return cls(spec.message.prelu_param.channel_shared)

    def blob_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        if len(bottoms[0]) < 2:
            raise ValueError(f"a bottom of shape {bottoms[0]}; expected (n, c, ...)")
        return ((),) if self.channel_shared else ((bottoms[0][1],),)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return PIXEL

    def blob_fills(self) -> tuple[float, ...]:
        return (0.25,)

    def filler_fields(self) -> tuple[str, ...]:
        return ("prelu_param.filler",)

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return prod(tops[0])

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        from torch.nn.functional import prelu

        return (prelu(bottoms[0], blobs[0].reshape(-1)),)

    def to_onnx(self, out: OnnxLayer) -> None:
        x = out.bottoms[0]
        rest = (1,) * (len(x.shape) - 2)
        out.top("PRelu", [x, out.blob(0, shape=(1,) if self.channel_shared else (-1, *rest))])

    def to_python(self, site: Site) -> Form:
        if self.channel_shared:
            plain = f"F.prelu({site.x}, {site.blobs[0]}.reshape(1))"
            return Form((plain,), shared=(plain,))
        return Form(
            (f"{site.module}({site.x})",),
            f"nn.PReLU({site.blob_shapes[0][0]})",
            (f"F.prelu({site.x}, {site.blobs[0]})",),
        )


@register_layer("ELU")
@dataclass(frozen=True)
class ELU(Elementwise):
    """x where it is positive, else alpha * (e^x - 1)."""

    alpha: float

    @classmethod
    def parse(cls, spec: LayerSpec) -> ELU:
        return cls(spec.message.elu_param.alpha)

    def compute(self, x: Tensor) -> Tensor:
        from torch.nn.functional import elu

        return elu(x, self.alpha)

    def to_onnx(self, out: OnnxLayer) -> None:
        out.top("Elu", out.bottoms, alpha=self.alpha)

    def to_python(self, site: Site) -> Form:
        return Form((call("F.elu", site.x, *([number(self.alpha)] if self.alpha != 1 else [])),))


@register_layer("Sigmoid")
@dataclass(frozen=True)
class Sigmoid(Elementwise):
    """1 / (1 + e^-x)."""

    def compute(self, x: Tensor) -> Tensor:
        return x.sigmoid()

    def to_onnx(self, out: OnnxLayer) -> None:
        out.top("Sigmoid", out.bottoms)

    def to_python(self, site: Site) -> Form:
        return Form((f"torch.sigmoid({site.x})",))


@register_layer("TanH")
@dataclass(frozen=True)
class TanH(Elementwise):
    """The hyperbolic tangent."""

    def compute(self, x: Tensor) -> Tensor:
        return x.tanh()

    def to_onnx(self, out: OnnxLayer) -> None:
        out.top("Tanh", out.bottoms)

    def to_python(self, site: Site) -> Form:
        return Form((f"torch.tanh({site.x})",))


@register_layer("BNLL", "Softplus")
@dataclass(frozen=True)
class BNLL(Elementwise):
    """log(1 + e^x), the binomial negative log likelihood; Softplus in synopsys-caffe (softplus_layer.cpp)."""

    def compute(self, x: Tensor) -> Tensor:
        from torch.nn.functional import softplus

        return softplus(x)

    def to_onnx(self, out: OnnxLayer) -> None:
        if out.target in OPENCV:
            softplus_of_any_size(out)
        else:
            out.top("Softplus", out.bottoms)

    def to_python(self, site: Site) -> Form:
        return Form((f"F.softplus({site.x})",))


@register_layer("AbsVal")
@dataclass(frozen=True)
class AbsVal(Elementwise):
    """|x|."""

    def compute(self, x: Tensor) -> Tensor:
        return x.abs()

    def to_onnx(self, out: OnnxLayer) -> None:
        out.top("Abs", out.bottoms)

    def to_python(self, site: Site) -> Form:
        return Form((f"{site.x}.abs()",))


@register_layer("Swish")
@dataclass(frozen=True)
class Swish(Elementwise):
    """x / (1 + e^(-beta x)); half of x, of an infinite one too, where beta is 0."""

    beta: float

    @classmethod
    def parse(cls, spec: LayerSpec) -> Swish:
        return cls(spec.message.swish_param.beta)

    def compute(self, x: Tensor) -> Tensor:
        return x * (self.beta * x).sigmoid() if self.beta else x / 2

    def to_onnx(self, out: OnnxLayer) -> None:
        x = out.bottoms[0]
        if not self.beta:
            out.top("Mul", [x, out.constant("half", np.float32(0.5))])
            return
        scaled = (
            x if self.beta == 1 else out.node("Mul", [x, out.constant("beta", np.float32(self.beta))], part="scaled")
        )
        out.top("Mul", [x, out.node("Sigmoid", [scaled], part="gate")])

    def to_python(self, site: Site) -> Form:
        gate = f"torch.sigmoid({times(site.x, self.beta)})" if self.beta else "0.5"
        return Form((f"{site.x} * {gate}",))


@register_layer("Clip")
@dataclass(frozen=True)
class Clip(Elementwise):
    """x, but at most `high` and at least `low`, which counts where it is above `high` (clip_layer.cpp, Forward_cpu)."""

    low: float
    high: float

    @classmethod
    def parse(cls, spec: LayerSpec) -> Clip:
        message = spec.message.clip_param
        if not (message.HasField("min") and message.HasField("max")):
            raise refuse(spec, "min and max are both required")
        return cls(message.min, max(message.min, message.max))

    def compute(self, x: Tensor) -> Tensor:
        from .slopes import clamp

        return clamp(x, self.low, self.high)

    def to_onnx(self, out: OnnxLayer) -> None:
        limits = out.constant("min", np.float32(self.low)), out.constant("max", np.float32(self.high))
        out.top("Clip", [out.bottoms[0], *limits])

    def to_python(self, site: Site) -> Form:
        return Form((f"{site.x}.clamp({number(self.low)}, {number(self.high)})",))


@register_layer("Threshold")
@dataclass(frozen=True)
class Threshold(Elementwise):
    """1 where x is above the threshold, else 0."""

    threshold: float

    @classmethod
    def parse(cls, spec: LayerSpec) -> Threshold:
        return cls(spec.message.threshold_param.threshold)

    def compute(self, x: Tensor) -> Tensor:
        return (x > self.threshold).to(x.dtype)

    def to_onnx(self, out: OnnxLayer) -> None:
        threshold = out.constant("threshold", np.float32(self.threshold))
        above = out.node("Greater", [out.bottoms[0], threshold], part="above")
        out.top("Cast", [above], to=FLOAT)

    def to_python(self, site: Site) -> Form:
        return Form((f"({site.x} > {number(self.threshold)}).to({site.x}.dtype)",))
