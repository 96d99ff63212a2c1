"""Dropout (dropout_layer.cpp) and ENet's SpatialDropout, which is a Python layer there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..net.reach import PIXEL, Reach
from .base import Layer, Neuron, find_layer, refuse, register_layer

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec
    from ..net.onnx_form import OnnxLayer


@register_layer("Dropout")
@dataclass(frozen=True)
class Dropout(Neuron):
    """In training, elements set to 0 with probability `ratio` and the others divided by 1 - ratio; else the bottom."""

    ratio: float

    @classmethod
    def parse(cls, spec: LayerSpec) -> Dropout:
        ratio = spec.message.dropout_param.dropout_ratio
        if not 0 <= ratio < 1:  # dropout_layer.cpp refuses 0 in debug builds only
            raise refuse(spec, f"dropout_ratio is {ratio}; it must be between 0 and 1, and may be 0")
        return cls(ratio)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return PIXEL

    @property
    def idle(self) -> bool:
        return True

    @property
    def moves(self) -> bool:
        return True

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        from torch.nn.functional import dropout

        return (dropout(bottoms[0], self.ratio) if training else bottoms[0],)

    def to_onnx(self, out: OnnxLayer) -> None:
        out.top("Identity", out.bottoms)


@register_layer("SpatialDropout", "Python:SpatialDropoutLayer")
@dataclass(frozen=True)
class SpatialDropout(Dropout):
    """Dropout of whole channels. The ratio is dropout_param's, or the first number of a Python layer's param_str."""

    @classmethod
    def parse(cls, spec: LayerSpec) -> SpatialDropout:
        number = re.search(r"\d*\.\d+", spec.message.python_param.param_str)
        if number is None:
            return cls(Dropout.parse(spec).ratio)
        return cls(min(float(number.group()), 1.0))

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        from torch.nn.functional import dropout2d

        return (dropout2d(bottoms[0], self.ratio) if training else bottoms[0],)


@register_layer("Python")
class Python(Layer):
    """A layer whose code is not in the net; `register_layer("Python:Name")` supplies the one of class `Name`."""

    @classmethod
    def parse(cls, spec: LayerSpec) -> Layer | None:
        layer_class = find_layer(f"Python:{spec.message.python_param.layer}")
        return None if layer_class is None else layer_class.parse(spec)
