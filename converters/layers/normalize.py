"""MVN (mvn_layer.cpp), and the Normalize of ParseNet's and SSD's forks (normalize_layer.cpp)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from ..net.onnx_form import CLASSIC, OPENCV
from ..net.python_form import Form, call, number, spread, unless
from ..net.reach import ALIGNED, PIXEL, Reach
from .base import Layer, Neuron, OneToOne, kept, legacy_shape, refuse, register_layer
from .fork import fork_message
from .normface import UnitChannels
from .opencv_onnx import sum_over_channels

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec, Shape
    from ..net.onnx_form import OnnxLayer, Operand
    from ..net.python_form import Site


@register_layer("MVN")
@dataclass(frozen=True)
class MVN(OneToOne):
    """(x - mean) / (standard deviation + eps) over each channel's places, or each item's; the top has four axes."""

    normalize_variance: bool
    across_channels: bool
    eps: float

    @classmethod
    def parse(cls, spec: LayerSpec) -> MVN:
        message = spec.message.mvn_param
        return cls(message.normalize_variance, message.across_channels, message.eps)

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        return (legacy_shape(bottoms[0]),)

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return 2 * prod(tops[0]) if self.normalize_variance else 0

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return ALIGNED

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (bottoms[0],)

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        from .functions import mean_variance_normalize

        x = bottoms[0].reshape(legacy_shape(tuple(bottoms[0].shape)))
        axes = (1, 2, 3) if self.across_channels else (2, 3)
        return (mean_variance_normalize(x, axes, self.eps, self.normalize_variance),)

    def to_onnx(self, out: OnnxLayer) -> None:
        x: Operand = out.bottoms[0]
        axes = len(out.bottoms[0].shape)
        if axes < 4:
            x = out.reshape(x, [*kept(out.bottoms[0]), *[1] * (4 - axes)], part="image")
        if out.target in OPENCV and axes == 4 and None in out.bottoms[0].shape:
            self._opencv(out)
            return
        places = (1, 2, 3) if self.across_channels else (2, 3)
        mean = out.reduce("ReduceMean", x, places, part="mean")
        if not self.normalize_variance:
            out.top("Sub", [x, mean])
            return
        centred = out.node("Sub", [x, mean], part="centred")
        square = out.node("Mul", [centred, centred], part="square")
        deviation = out.node("Sqrt", [out.reduce("ReduceMean", square, places, part="variance")], part="deviation")
        divisor = out.node("Add", [deviation, out.constant("eps", np.float32(self.eps))], part="divisor")
        out.top("Div", [centred, divisor])

    def _opencv(self, out: OnnxLayer) -> None:
        """OpenCV's own MVN less the mean alone, as its eps is below the root; the spread by a pooling.

        Its classic engine refuses a ReduceMean of free sizes.
        """
        x = out.bottoms[0]
        across = int(self.across_channels)
        if not self.normalize_variance:
            out.top("MVN", [x], normalize_variance=0, across_channels=across)
            return
        centred = out.node("MVN", [x], part="centred", normalize_variance=0, across_channels=across)
        square: Operand = out.node("Mul", [centred, centred], part="square")
        if self.across_channels:
            square = out.reshape(out.node("Flatten", [square], part="flat", axis=1), [0, 1, 1, -1], part="row")
        variance = out.node("Pooling", [square], part="variance", pool="ave", global_pooling=1)
        deviation = out.node("Sqrt", [variance], part="deviation")
        divisor = out.node("Add", [deviation, out.constant("eps", np.float32(self.eps))], part="divisor")
        out.top("Div", [centred, divisor])

    def to_python(self, site: Site) -> Form:
        x = spread(site.x, 4 - site.rank)
        axes = (1, 2, 3) if self.across_channels else (2, 3)
        variance = unless(True, self.normalize_variance)
        return Form((call("mean_variance_normalize", x, axes, number(self.eps), variance=variance),))


@register_layer("Normalize")
@dataclass(frozen=True)
class Normalize(Neuron):
    """scale * x / sqrt(eps + sum of x^2 over the channels, or over the whole item); blob (c,), or () if shared.

    With normalize_param, or with two tops, it is the Normalize of NormFace's fork (normface.py): without a blob, the
    channels divided by their norm, and the norm.
    """

    across_spatial: bool
    channel_shared: bool
    eps: float

    @classmethod
    def parse(cls, spec: LayerSpec) -> Layer:
        if len(spec.tops) > 1 or any(field.name == "normalize_param" for field in spec.extra):
            kind = fork_message(spec, "normalize_param").word("normalize_type", "L2")
            if kind not in ("L1", "L2"):
                raise refuse(spec, f"normalize_type is {kind}; expected L1 or L2")
            return UnitChannels(kind == "L1", len(spec.tops) > 1)
        message = fork_message(spec, "norm_param")
        return cls(
            across_spatial=message.flag("across_spatial", default=True),
            channel_shared=message.flag("channel_shared", default=True),
            eps=message.number("eps", 1e-10),
        )

    def blob_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        if len(bottoms[0]) < 2:
            raise ValueError(f"a bottom of shape {bottoms[0]}; expected (n, c, ...)")
        return ((),) if self.channel_shared else ((bottoms[0][1],),)

    def blob_fills(self) -> tuple[float, ...]:
        return (1.0,)

    def filler_fields(self) -> tuple[str, ...]:
        return ("norm_param.scale_filler",)

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return 3 * prod(tops[0])  # its square, the norm and the scale

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return ALIGNED if self.across_spatial else PIXEL

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        from .functions import normalize

        x = bottoms[0]
        axes = tuple(range(1, x.ndim)) if self.across_spatial else (1,)
        scale = blobs[0] if self.channel_shared else blobs[0].reshape(-1, *[1] * (x.ndim - 2))
        return (normalize(x, axes, self.eps, scale),)

    def to_onnx(self, out: OnnxLayer) -> None:
        x = out.bottoms[0]
        axes = range(1, len(x.shape)) if self.across_spatial else (1,)
        if out.target == CLASSIC and len(x.shape) == 4 and not self.across_spatial:
            shared = int(self.channel_shared)
            out.top("Normalize", [x, out.blob(0, shape=(-1,))], across_spatial=0, channel_shared=shared, eps=self.eps)
            return
        if out.target in OPENCV and len(x.shape) == 4 and x.shape[1] is not None:
            total = sum_over_channels(out, out.node("Mul", [x, x], part="square"), x.shape[1], part="squares")
            if self.across_spatial:
                total = out.node("Pooling", [total], part="all_squares", pool="sum", global_pooling=1)
        else:
            total = out.reduce("ReduceSumSquare", x, axes, part="squares")
        total = out.node("Add", [total, out.constant("eps", np.float32(self.eps))], part="total")
        unit = out.node("Div", [x, out.node("Sqrt", [total], part="norm")], part="unit")
        shape = () if self.channel_shared else (-1, *[1] * (len(x.shape) - 2))
        out.top("Mul", [unit, out.blob(0, shape=shape)])

    def to_python(self, site: Site) -> Form:
        axes = tuple(range(1, site.rank)) if self.across_spatial else (1,)
        scale = site.blobs[0] if self.channel_shared else spread(site.blobs[0], site.rank - 2)
        plain = call("normalize", site.x, axes, number(self.eps), scale)
        return Form((plain,), shared=(plain,))


@register_layer("Python:Norm2Layer")
@dataclass(frozen=True)
class Norm2(OneToOne):
    """A Python layer: each item (n, c) divided by its Euclidean norm, or left as it is where that is 0.

    Source: luhaofang/tripletloss, tripletloss/norm2layer.py.
    """

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        if len(bottoms[0]) < 2 or prod(bottoms[0][2:]) != 1:
            raise ValueError(f"a bottom of shape {bottoms[0]}; expected (n, c)")
        return (bottoms[0][:2],)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return ALIGNED

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return None

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        x = bottoms[0].flatten(1)
        norm = x.square().sum(1, keepdim=True).sqrt()
        return (x / norm.where(norm != 0, norm.new_ones(())),)

    def to_onnx(self, out: OnnxLayer) -> None:
        flat = out.node("Flatten", [out.bottoms[0]], part="flat", axis=1)
        norm = out.reduce("ReduceL2", flat, (1,), part="norm")
        zero = out.node("Equal", [norm, out.constant("zero", np.float32(0))], part="is_zero")
        safe = out.node("Where", [zero, out.constant("one", np.float32(1)), norm], part="divisor")
        out.top("Div", [flat, safe])
