"""CConvolution and CInnerProduct of pruned nets: a mask of zeros and ones multiplies the weight.

Source: NHZlX/Auto_pruning, compress_conv_layer.cpp and compress_inner_product_layer.cpp (dynamic network surgery).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from ..net.reach import Reach
from .base import Layer, refuse, register_layer
from .convolution import Convolution
from .inner_product import InnerProduct

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from ..net.layer import LayerSpec, Shape
    from ..net.onnx_form import OnnxLayer


@register_layer("CConvolution", "CInnerProduct")
@dataclass(frozen=True)
class Masked(Layer):
    """A Convolution or InnerProduct with one blob more, the last: the mask by which its weight is multiplied."""

    inner: Layer

    @classmethod
    def parse(cls, spec: LayerSpec) -> Masked:
        kind = Convolution if spec.type == "CConvolution" else InnerProduct
        inner = kind.parse(replace(spec, type=spec.type[1:]))
        if inner is None:
            raise refuse(spec, "its settings are not those of a plain layer")
        return cls(inner)

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        return self.inner.top_shapes(bottoms)

    def blob_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        blobs = self.inner.blob_shapes(bottoms)
        return (*blobs, blobs[0])

    def blob_fills(self) -> tuple[float, ...]:
        return (0.0, 0.0, 1.0)

    def filler_fields(self) -> tuple[str, ...] | None:
        return self.inner.filler_fields()

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return self.inner.macs(bottoms, tops)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return self.inner.reach(axis=axis, bottom=bottom, top=top)

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return self.inner.channels(bottoms)

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        weight, *rest, mask = blobs
        return self.inner.forward(bottoms, (weight * mask, *rest), training=training)

    def to_onnx(self, out: OnnxLayer) -> None:
        self.inner.to_onnx(cast("OnnxLayer", _MaskedBlobs(out)))


class _MaskedBlobs:
    """An OnnxLayer that gives the masked weight where a form asks for the weight."""

    def __init__(self, out: OnnxLayer) -> None:
        self._out = out
        self._count = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._out, name)

    def blob(self, position: int, *, shape: Sequence[int] | None = None) -> str:
        if position:
            return self._out.blob(position, shape=shape)
        last = next(i for i in (2, 1) if self._has(i))
        self._count += 1
        inputs = [self._out.blob(0, shape=shape), self._out.blob(last, shape=shape or self._out.blob_shape(last))]
        return self._out.node("Mul", inputs, part=f"masked{self._count}")

    def _has(self, position: int) -> bool:
        try:
            self._out.blob_shape(position)
        except IndexError:
            return False
        return True

    def blob_value(self, position: int) -> np.ndarray:
        value = self._out.blob_value(position)
        if position:
            return value
        masked: np.ndarray = value * self._out.blob_value(next(i for i in (2, 1) if self._has(i)))
        return masked
