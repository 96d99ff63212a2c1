"""Dropout (dropout_layer.cpp) and ENet's SpatialDropout, which is a Python layer there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..net.python_form import Form, number
from ..net.reach import EVERYTHING, NOTHING, PIXEL, Reach
from .base import Layer, Neuron, find_layer, refuse, register_layer
from .fork import fork_fields, fork_message

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec, Shape
    from ..net.onnx_form import OnnxLayer
    from ..net.python_form import Site


@register_layer("Dropout")
@dataclass(frozen=True)
class Dropout(Neuron):
    """In training, elements set to 0 with probability `ratio` and the others divided by 1 - ratio; else the bottom.

    With py-faster-rcnn's `scale_train: false` the others stay as they are in training, and at test the bottom is
    multiplied by 1 - ratio (rbgirshick/caffe-fast-rcnn, dropout_layer.cpp). With Bayesian SegNet's
    `sample_weights_test: true` elements are drawn at test as in training (alexgkendall/caffe-segnet,
    dropout_layer.cpp), so that no pass is like another.
    """

    ratio: float
    scale_train: bool = True
    sample: bool = False

    @classmethod
    def parse(cls, spec: LayerSpec) -> Dropout:
        ratio = spec.message.dropout_param.dropout_ratio
        if not 0 <= ratio < 1:  # dropout_layer.cpp refuses 0 in debug builds only
            raise refuse(spec, f"dropout_ratio is {ratio}; it must be between 0 and 1, and may be 0")
        fork = fork_fields(spec, "dropout_param")
        sample = fork.flag("sample_weights_test", default=False)
        return cls(ratio, fork.flag("scale_train", default=True), sample and ratio > 0)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return PIXEL

    @property
    def idle(self) -> bool:
        return not self.sample and (self.scale_train or not self.ratio)

    @property
    def draws(self) -> bool:
        """True where elements are drawn at test, too."""
        return self.sample

    @property
    def moves(self) -> bool:
        return self.idle

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        if training or self.sample:
            top = self.drop(bottoms[0])
            return (top if self.scale_train else top * (1 - self.ratio),)
        return (bottoms[0] if self.idle else bottoms[0] * (1 - self.ratio),)

    def drop(self, x: Tensor) -> Tensor:
        from torch.nn.functional import dropout

        return dropout(x, self.ratio)

    def to_onnx(self, out: OnnxLayer) -> None:
        if self.sample:
            raise out.refuse("sample_weights_test draws numbers at test, which ONNX cannot")
        if self.idle:
            out.top("Identity", out.bottoms)
        else:
            out.top("Mul", [out.bottoms[0], out.constant("keep", np.float32(1 - self.ratio))])

    def to_python(self, site: Site) -> Form:
        return _dropped(self, site, "F.dropout")


@register_layer("SpatialDropout", "Python:SpatialDropoutLayer")
@dataclass(frozen=True)
class SpatialDropout(Dropout):
    """Dropout of whole channels. The ratio is dropout_param's, or the first number of a Python layer's param_str."""

    @classmethod
    def parse(cls, spec: LayerSpec) -> SpatialDropout:
        number = re.search(r"\d*\.\d+", spec.message.python_param.param_str)
        if number is None:
            known = Dropout.parse(spec)
            return cls(known.ratio, known.scale_train, known.sample)
        return cls(min(float(number.group()), 1.0))

    def drop(self, x: Tensor) -> Tensor:
        from torch.nn.functional import dropout2d

        return dropout2d(x, self.ratio)

    def to_python(self, site: Site) -> Form:
        return _dropped(self, site, "F.dropout2d")


@register_layer("Pushin")
@dataclass(frozen=True)
class Pushin(Dropout):
    """Dropout under another name, its ratio in pushin_param.

    Source: jwcom79/myproject, src/caffe/layers/pushin_layer.cu. Without a GPU that fork computes something else
    (pushin_layer.cpp): one element more of the batch with each pass.
    """

    @classmethod
    def parse(cls, spec: LayerSpec) -> Pushin:
        ratio = fork_message(spec, "pushin_param").number("pushin_ratio", 0.5)
        if not 0 < ratio < 1:
            raise refuse(spec, f"pushin_ratio is {ratio}; it must be between 0 and 1")
        return cls(ratio)


@register_layer("SeLuDropout")
@dataclass(frozen=True)
class SeLuDropout(Dropout):
    """Alpha dropout, its ratio in selu_dropout_param: at test the bottom.

    soeaver/caffe-model's nets have it, its source is not there; in training it is the one of Klambauer et al. 2017.
    """

    @classmethod
    def parse(cls, spec: LayerSpec) -> SeLuDropout:
        ratio = fork_message(spec, "selu_dropout_param").number("dropout_ratio", 0.5)
        if not 0 <= ratio < 1:
            raise refuse(spec, f"dropout_ratio is {ratio}; it must be between 0 and 1, and may be 0")
        return cls(ratio)

    def drop(self, x: Tensor) -> Tensor:
        from torch.nn.functional import alpha_dropout

        return alpha_dropout(x, self.ratio)

    def to_python(self, site: Site) -> Form:
        return _dropped(self, site, "F.alpha_dropout")


@register_layer("GuidedDropout")
@dataclass(frozen=True)
class GuidedDropout(Layer):
    """Dropout whose second bottom, (n, c), says which channels stay: at test the first bottom as it is.

    `type: "deterministic"` keeps the channels whose guidance is above guidance_threshold, at test too, each c / kept
    times as large. Source: guided_dropout_layer.cpp of Cysu/dgd_person_reid's Caffe.
    """

    threshold: float | None
    steepness: float

    bottom_count: ClassVar[tuple[int, float]] = (2, 2)
    top_count: ClassVar[tuple[int, float]] = (1, 1)

    @classmethod
    def parse(cls, spec: LayerSpec) -> GuidedDropout:
        message = fork_message(spec, "guided_dropout_param")
        kind = message.word("type", "deterministic")
        if kind not in ("deterministic", "stochastic"):
            raise refuse(spec, f"type is {kind}; expected deterministic or stochastic")
        threshold, steepness = message.number("guidance_threshold", 0), message.number("sigmoid_scaler", 1)
        return cls(threshold if kind == "deterministic" else None, steepness)

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        if bottoms[1][:2] != bottoms[0][:2] or any(size != 1 for size in bottoms[1][2:]):
            raise ValueError(f"the guidance must have a number for each channel, {bottoms[0][:2]}")
        return (bottoms[0],)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return PIXEL if bottom == 0 else NOTHING if self.threshold is None else EVERYTHING

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (bottoms[0],)

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        x, guidance = bottoms[0], bottoms[1].flatten(1)
        if self.threshold is not None:
            mask = (guidance > self.threshold).to(x.dtype)
            total = mask.sum(1, keepdim=True)
        elif training:
            likely = (guidance * self.steepness).sigmoid()
            mask, total = likely.bernoulli(), likely.sum(1, keepdim=True)
        else:
            return (x,)
        factor = mask * x.shape[1] / total.where(total > 0, total.new_tensor(float(x.shape[1])))
        return (x * factor.reshape(*factor.shape, *[1] * (x.ndim - 2)),)

    def to_onnx(self, out: OnnxLayer) -> None:
        if self.threshold is not None:
            raise out.refuse("GuidedDropout of type deterministic has no ONNX form")
        out.top("Identity", out.bottoms[:1])


@register_layer("Python")
class Python(Layer):
    """A layer whose code is not in the net; `register_layer("Python:Name")` supplies the one of class `Name`."""

    @classmethod
    def parse(cls, spec: LayerSpec) -> Layer | None:
        layer_class = find_layer(f"Python:{spec.message.python_param.layer}")
        return None if layer_class is None else layer_class.parse(spec)


def _dropped(params: Dropout, site: Site, function: str) -> Form:
    text = f"{function}({site.x}, {number(params.ratio)}, {params.sample or 'self.training'})"
    return Form((text if params.scale_train else f"{text} * {number(1 - params.ratio)}",))
