"""BatchNorm (batch_norm_layer.cpp), and the BN of SegNet's, ENet's and PSPNet's forks (bn_layer.cpp)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..net.onnx_form import OPENCV
from ..net.python_form import Form, NoFormError, call, decimal, number, spread, unless
from ..net.reach import ALIGNED, EVERYTHING, PIXEL, Reach
from .base import Layer, Neuron, kept, legacy_shape, refuse, register_layer
from .fork import fork_fields, fork_message

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec, Shape
    from ..net.onnx_form import OnnxLayer, Operand
    from ..net.python_form import Site


def _epsilon(spec: LayerSpec, eps: float) -> float:
    """The epsilon of a layer; a negative one, of which PyTorch makes an error when it runs, is refused here."""
    if not eps >= 0:
        raise refuse(spec, f"eps is {eps}; it must be at least 0")
    return eps


@register_layer("BatchNorm")
@dataclass(frozen=True)
class BatchNorm(Neuron):
    """(x - mean) / sqrt(var + eps) for each channel; blobs mean (c,), variance (c,) and factor (1,).

    The first two are running sums: both are divided by the factor, or taken as 0 where it is 0. With
    `use_global_stats: false`, and in training unless it is true, the batch's own mean and variance count instead;
    training adds them to the sums, which first shrink by `fraction`.

    With NVCaffe's `scale_bias` (or a filler for one of the two) a scale and a bias (c,) follow, the first two blobs are
    mean and variance themselves whatever the factor, at test always, and eps is 1e-5 at least (NVIDIA/caffe,
    batch_norm_layer.cpp). With Synopsys' `add_eps_before_sqrt: false` the divisor is sqrt(var) + eps (synopsys-caffe,
    batch_norm_layer.cpp).
    """

    use_global_stats: bool | None
    fraction: float
    eps: float
    scale_bias: bool = False
    eps_after_root: bool = False

    @classmethod
    def parse(cls, spec: LayerSpec) -> BatchNorm:
        message = spec.message.batch_norm_param
        given = message.use_global_stats if message.HasField("use_global_stats") else None
        fork = fork_fields(spec, "batch_norm_param")
        scaled = fork.flag("scale_bias", default=False) or "scale_filler" in fork or "bias_filler" in fork
        eps = _epsilon(spec, message.eps)
        after = not fork.flag("add_eps_before_sqrt", default=True)
        if scaled and after:
            raise refuse(spec, "scale_bias with add_eps_before_sqrt: false; no fork has both")
        return cls(given, message.moving_average_fraction, max(eps, 1e-5) if scaled else eps, scaled, after)

    @property
    def blob_ranks(self) -> tuple[int, ...]:  # type: ignore[override]
        return (1,) * (5 if self.scale_bias else 3)

    def blob_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        if not bottoms[0]:
            raise ValueError("a bottom without axes; expected (n, c, ...)")
        channels = bottoms[0][1] if len(bottoms[0]) > 1 else 1
        affine = ((channels,), (channels,)) if self.scale_bias else ()
        return (channels,), (channels,), (1,), *affine

    def blob_fills(self) -> tuple[float, ...]:
        return 0.0, 1.0, 1.0, 1.0, 0.0

    def statistics(self) -> tuple[int, ...]:
        return 0, 1, 2

    @property
    def gathers(self) -> bool:  # batch_norm_layer.cpp, Forward_cpu
        return self.use_global_stats is False and not self.scale_bias

    def first_statistics(self) -> tuple[float, ...]:
        return 0.0, 0.0, 0.0

    def filler_fields(self) -> tuple[str, ...]:
        affine = ("batch_norm_param.scale_filler", "batch_norm_param.bias_filler")
        return ("", "", "", *affine) if self.scale_bias else ()

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return prod(tops[0])

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return PIXEL if self._uses_stored(False) else ALIGNED

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        import torch

        x, (mean, variance, factor), affine = bottoms[0], blobs[:3], tuple(blobs[3:])
        grouped = x if x.ndim > 1 else x[:, None]
        if self._uses_stored(training):
            inverse = 1 if self.scale_bias else torch.where(factor == 0, 0, 1 / factor)
            top = self._normalized(grouped, mean * inverse, variance * inverse, *affine)
            return (top.reshape(x.shape),)
        if training:
            with torch.no_grad():
                self._gather(grouped, mean, variance, factor)
        return (self._normalized(grouped, None, None, *affine).reshape(x.shape),)

    def _uses_stored(self, training: bool) -> bool:
        """True where the stored statistics count, and not the batch's own."""
        return not training if self.scale_bias or self.use_global_stats is None else self.use_global_stats

    def _normalized(
        self,
        x: Tensor,
        mean: Tensor | None,
        variance: Tensor | None,
        scale: Tensor | None = None,
        shift: Tensor | None = None,
    ) -> Tensor:
        from .functions import batch_normalize

        if not self.eps_after_root:
            return batch_normalize(x, mean, variance, scale, shift, eps=self.eps)
        if mean is None or variance is None:
            dims = [0, *range(2, x.ndim)]
            mean, variance = x.mean(dims), x.var(dims, correction=0)
        rest = [1] * (x.ndim - 2)
        return (x - mean.reshape(-1, *rest)) / (variance.sqrt() + self.eps).reshape(-1, *rest)

    def _gather(self, x: Tensor, mean: Tensor, variance: Tensor, factor: Tensor) -> None:
        """Add the batch to the running sums, its variance without bias."""
        dims = [0, *range(2, x.ndim)]
        places = x.numel() // x.shape[1]
        if self.scale_bias:  # NVCaffe keeps averages, not sums, with the variance as it is
            mean.lerp_(x.mean(dims), 1 - self.fraction)
            variance.lerp_(x.var(dims, correction=0), 1 - self.fraction)
            return
        mean.mul_(self.fraction).add_(x.mean(dims))
        variance.mul_(self.fraction).add_(x.var(dims, correction=1 if places > 1 else 0))
        factor.mul_(self.fraction).add_(1)

    def to_onnx(self, out: OnnxLayer) -> None:
        x, axes = out.bottoms[0], len(out.bottoms[0].shape)
        grouped: Operand = x if axes > 1 else out.reshape(x, [*kept(x), 1], part="grouped")
        part = None if axes > 1 else "normalized"
        if not self._uses_stored(False):
            if self.eps_after_root:
                raise out.refuse("add_eps_before_sqrt: false on the batch's own statistics has no ONNX form here")
            top = batch_normalized(out, grouped, axes=max(axes, 2), eps=self.eps, part=part)
        else:
            inputs = [grouped, *(out.constant(name, values) for name, values in self._stored(out).items())]
            top = out.make("BatchNormalization", inputs, part=part, epsilon=0.0 if self.eps_after_root else self.eps)
        if axes < 2:
            out.reshape(top, [-1])

    def _stored(self, out: OnnxLayer) -> dict[str, np.ndarray]:
        """The operands of ONNX's BatchNormalization."""
        blobs = [out.blob_value(position).astype(np.float32) for position in range(len(self.blob_ranks))]
        mean, variance, factor = blobs[:3]
        scale, shift = blobs[3:] if self.scale_bias else (np.ones_like(mean), np.zeros_like(mean))
        inverse = np.where(factor == 0, 0, 1 / np.where(factor == 0, 1, factor)).astype(np.float32)
        mean, variance = (mean, variance) if self.scale_bias else (mean * inverse, variance * inverse)
        if self.eps_after_root:  # ONNX adds its eps under the root
            variance = (np.sqrt(variance) + np.float32(self.eps)) ** 2
        return {"scale": scale, "shift": shift, "mean": mean, "variance": variance}

    def to_python(self, site: Site) -> Form:
        if self.eps_after_root:
            raise NoFormError("BatchNorm with add_eps_before_sqrt: false")
        if self.scale_bias:
            plain = call("F.batch_norm", site.x, *site.blobs[:2], *site.blobs[3:], eps=number(self.eps))
            return Form((plain,), shared=(plain,))
        made = call(
            "CaffeBatchNorm",
            site.blob_shapes[0][0],
            eps=unless(1e-5, decimal(self.eps)),
            fraction=unless(0.999, decimal(self.fraction)),
            use_global_stats=unless(None, self.use_global_stats),
        )
        x, after = (site.x, "") if site.rank > 1 else (f"{site.x}[:, None]", ".squeeze(1)")
        return Form((f"{site.module}({x}){after}",), made)


@register_layer("BN")
@dataclass(frozen=True)
class BN(Layer):
    """scale * (x - mean) / sqrt(var + eps) + shift for each channel; blobs (1, c, 1, 1), the top has four axes.

    SegNet's and ENet's fork has two blobs, scale and shift: with `bn_mode: INFERENCE` mean and variance were merged
    into them, else (LEARN) they are the batch's own, at test too. PSPNet's fork has four: scale (slope), shift
    (bias), running mean and running variance, of which training changes none where it is `frozen`, and which count
    then as at test (hszhao/PSPNet, bn_layer.cpp). A net tells them apart by the fields of bn_param, or by its number
    of `param` entries.
    """

    merged: bool
    running: bool
    eps: float
    statistic_tops: int
    decay: float
    frozen: bool = False
    fillers: tuple[str, str] = ("bn_param.scale_filler", "bn_param.shift_filler")

    bottom_count: ClassVar[tuple[int, float]] = (1, 1)
    top_count: ClassVar[tuple[int, float]] = (1, 3)

    @classmethod
    def parse(cls, spec: LayerSpec) -> BN:
        message = fork_message(spec, "bn_param")
        four = ("slope_filler", "bias_filler", "momentum", "frozen", "eps", "var_eps", "moving_average", "decay")
        running = any(name in message for name in four) or len(spec.param_specs) > 2
        pspnet = "slope_filler" in message or "bias_filler" in message
        mode = message.word("bn_mode", "LEARN")
        if mode not in ("LEARN", "INFERENCE", "0", "1"):
            raise refuse(spec, f"bn_mode is {mode}; expected LEARN or INFERENCE")
        if len(spec.tops) > 1 and (running or mode in ("INFERENCE", "1")):
            raise refuse(spec, f"{len(spec.tops)} tops; only a BN that works out the batch's own statistics has them")
        return cls(
            merged=mode in ("INFERENCE", "1"),
            running=running,
            eps=_epsilon(spec, message.number("eps", message.number("var_eps", 1e-5 if running else 1e-9))),
            statistic_tops=len(spec.tops) - 1,
            decay=message.number("decay", 1 - message.number("momentum", 0.9)),
            frozen=message.flag("frozen", default=False),
            fillers=("bn_param.slope_filler", "bn_param.bias_filler") if pspnet else cls.fillers,
        )

    @property
    def blob_ranks(self) -> tuple[int, ...]:  # type: ignore[override]
        return (4,) * (4 if self.running else 2)

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        n, c, h, w = legacy_shape(bottoms[0])
        return ((n, c, h, w), *[(1, c, 1, 1)] * self.statistic_tops)

    def blob_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        return ((1, legacy_shape(bottoms[0])[1], 1, 1),) * len(self.blob_ranks)

    def blob_fills(self) -> tuple[float, ...]:
        return 1.0, 0.0, 0.0, 1.0

    def statistics(self) -> tuple[int, ...]:
        if not self.running:
            return ()
        return (0, 1, 2, 3) if self.frozen else (2, 3)

    def first_statistics(self) -> tuple[float, ...]:
        return (1.0, 0.0, 0.0, 1.0) if self.frozen else (0.0, 0.0)

    def filler_fields(self) -> tuple[str, ...]:
        return self.fillers

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return prod(tops[0])

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        if top:
            return EVERYTHING
        return PIXEL if self.merged or self.running else ALIGNED

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (bottoms[0],) * (1 + self.statistic_tops)

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        import torch

        from .functions import batch_normalize

        x, scale, shift = bottoms[0].reshape(legacy_shape(tuple(bottoms[0].shape))), blobs[0], blobs[1]
        mean, variance = (blobs[2], blobs[3]) if self.running else (None, None)
        if self.merged and not self.running:
            return (torch.addcmul(shift, x, scale),)
        own = (training and not self.frozen) or not self.running
        weights = scale.flatten(), shift.flatten()
        if not own and mean is not None and variance is not None:
            return (batch_normalize(x, mean.flatten(), variance.flatten(), *weights, eps=self.eps),)
        batch_mean = x.mean((0, 2, 3), keepdim=True)
        batch_variance = x.var((0, 2, 3), correction=0, keepdim=True)
        if mean is not None and variance is not None:
            with torch.no_grad():
                mean.lerp_(batch_mean, self.decay)
                variance.lerp_(batch_variance, self.decay)
        top = batch_normalize(x, None, None, *weights, eps=self.eps)
        return (top, batch_mean, batch_variance)[: 1 + self.statistic_tops]

    def to_onnx(self, out: OnnxLayer) -> None:
        x: Operand = out.bottoms[0]
        if len(out.bottoms[0].shape) < 4:
            x = out.reshape(x, [*kept(out.bottoms[0]), *[1] * (4 - len(out.bottoms[0].shape))], part="image")
        if self.running:
            weights = [out.blob(position, shape=(-1,)) for position in range(4)]
            out.top("BatchNormalization", [x, *weights], epsilon=self.eps)
            return
        if self.merged:
            out.top("Add", [out.node("Mul", [x, out.blob(0)], part="scaled"), out.blob(1)])
            return
        tops = range(1, 1 + self.statistic_tops)
        normal = batch_normalized(out, x, axes=4, eps=self.eps, part="normalized", tops=tops)
        out.top("Add", [out.node("Mul", [normal, out.blob(0)], part="scaled"), out.blob(1)])

    def to_python(self, site: Site) -> Form:
        x, eps = spread(site.x, 4 - site.rank), number(self.eps)
        if self.merged and not self.running:
            return Form((f"{site.module}({x})",), call("CaffeScale", *site.blob_shapes[0], axis=0, bias=True))
        weight, bias, *running = (f"{blob}.flatten()" for blob in site.blobs)
        if self.running:
            function = "F.batch_norm" if self.eps > 0 else "batch_normalize"
            plain: tuple[str, ...] = (call(function, x, *running, weight, bias, eps=eps),)
        else:
            plain = (call("batch_normalize", x, "None", "None", weight, bias, eps=eps),)
        statistics = (f"{x}.mean((0, 2, 3), keepdim=True)", f"{x}.var((0, 2, 3), correction=0, keepdim=True)")
        plain += statistics[: self.statistic_tops]
        return Form(plain, shared=plain)


def batch_normalized(
    out: OnnxLayer, x: Operand, *, axes: int, eps: float, part: str | None, tops: Sequence[int] = ()
) -> str:
    """(x - mean) / sqrt(var + eps) in ONNX with the batch's own mean and variance, which become tops if `tops` are."""
    mean_top, variance_top = (*tops, None, None)[:2]
    mean = _batch_mean(out, x, axes, part=None if mean_top else "mean", index=mean_top or 0)
    centred = out.node("Sub", [x, mean], part="centred")
    square = out.node("Mul", [centred, centred], part="square")
    where: dict[str, Any] = {"part": "variance"} if variance_top is None else {"index": variance_top}
    variance = _batch_mean(out, square, axes, **where)
    shifted = out.node("Add", [variance, out.constant("eps", np.float32(eps))], part="variance_and_eps")
    return out.make("Div", [centred, out.node("Sqrt", [shifted], part="deviation")], part=part)


def _batch_mean(out: OnnxLayer, x: Operand, axes: int, *, part: str | None = None, index: int = 0) -> str:
    """The mean of each channel (1, c, 1 ...); OpenCV takes a free number of images in a Reduce for one."""
    shape = out.bottoms[0].shape
    channels = shape[1] if len(shape) > 1 else 1
    if out.target not in OPENCV or axes != 4 or channels is None:
        return out.reduce("ReduceMean", x, [0, *range(2, axes)], part=part, index=index)
    turned = out.node("Transpose", [x], part="by_channel", perm=[1, 0, 2, 3])
    row = out.reshape(turned, [channels, 1, 1, -1], part="row")
    mean = out.node("Pooling", [row], part="row_mean", pool="ave", global_pooling=1)
    return out.reshape(mean, [1, channels, 1, 1], part=part, index=index)
