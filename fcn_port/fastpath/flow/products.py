"""The layers that multiply by weights, by whatever type of layer the definition has them."""

from __future__ import annotations

from converters.layers import convolution, inner_product, padded
from converters.net import Layer

Pair = tuple[int, int]
Weighted = convolution.Convolution | inner_product.InnerProduct
_WEIGHTED_TYPES = frozenset((convolution.Convolution, convolution.Deconvolution, inner_product.InnerProduct))


def weighted(params: Layer) -> Weighted | None:
    """The convolution, deconvolution or product that a layer is, its padding aside; None for any other layer."""
    found = params.inner if type(params) is padded.PaddedConvolution else params
    return found if type(found) in _WEIGHTED_TYPES else None  # type: ignore[return-value]


def pads_before(params: Layer, size: Pair) -> Pair:
    """The zeros above and to the left of a bottom of this size (h, w) that a convolution's first windows read."""
    if isinstance(params, padded.PaddedConvolution):
        return params.pads_before(size)
    assert isinstance(params, convolution.Convolution)
    top, left = params.along(2)[2]
    return top, left
