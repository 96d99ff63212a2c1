"""Layers that multiply, add or compare blobs, one of which may have one number for all pixels of a channel."""

from __future__ import annotations

from math import inf
from typing import Literal

from converters.layers import activations, tensor
from converters.layers import scale as scale_layers
from converters.net import Layer

Kind = Literal["SUM", "PROD", "MAXIMUM"]

_ARITHMETIC: dict[str, Kind] = {"Add": "SUM", "Sub": "SUM", "Mul": "PROD", "Maximum": "MAXIMUM"}


def operand_kind(params: Layer) -> Kind | None:
    """The operation that the C code does on its bottoms, the last one of several; None where it has none for it."""
    if isinstance(params, tensor.Arithmetic):
        return None if params.blob is not None else _ARITHMETIC.get(params.operation)
    if type(params) is activations.Axpy:
        return "SUM"
    if type(params) is scale_layers.Scale:
        is_plain = params.two_bottoms and not params.bias and (params.least, params.most) == (-inf, inf)
        return "PROD" if is_plain and params.axis == 0 else None
    if type(params) is scale_layers.Bias:
        return "SUM" if params.two_bottoms and params.axis == 0 else None
    return None
