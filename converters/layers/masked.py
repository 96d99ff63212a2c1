"""CConvolution and CInnerProduct of pruned nets: a mask of zeros and ones multiplies the weight.

Source: NHZlX/Auto_pruning, compress_conv_layer.cpp and compress_inner_product_layer.cpp (dynamic network surgery).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..net.reach import Reach
from .base import Layer, refuse, register_layer
from .convolution import Convolution
from .inner_product import InnerProduct

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec, Shape


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
