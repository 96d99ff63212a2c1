"""Factors and constants for each channel (BatchNorm, Scale, Bias, BN, Power) become part of the weights before them.

Needs nothing. Ensures that no such layer follows an operation with weights, or another one, whose result nobody else
reads. What cannot be merged so (a BatchNorm before a convolution) stays, as one operation for a row of such layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from converters.layers import arithmetic, batch_norm, convolution, inner_product, scale

from .flow import Flow, FlowLayer, FlowStep

WITH_WEIGHTS = (convolution.Convolution, convolution.Deconvolution, inner_product.InnerProduct)

LARGEST = 1e30
"""Beyond, factors overflow where the layers one after the other would not."""


def merge_affine(flow: Flow) -> Flow:
    """The flow with its affine layers merged into what is before them."""
    made: dict[str, FlowStep] = {}
    for operation in flow.operations:
        part = operation.main
        before = made.get(part.bottoms[0]) if part.bottoms else None
        if is_affine(part) and before is not None and _takes(before) and flow.only_reader(part.bottoms[0]):
            del made[part.bottoms[0]]
            made[part.tops[0]] = replace(before.followed_by(part), affine=(*before.affine, part))
        else:
            made[_key(operation)] = replace(operation, affine=(part,)) if is_affine(part) else operation
    return replace(flow, operations=tuple(made.values()))


def is_affine(part: FlowLayer) -> bool:
    """True for a layer with a factor and a constant for each channel (axis 1), whatever the blob's size."""
    params = part.params
    if len(part.bottoms) != 1 or len(part.tops) != 1:
        return False
    if type(params) is batch_norm.BatchNorm:
        return params.use_global_stats is not False
    if type(params) is batch_norm.BN:
        return params.merged or params.running
    if type(params) in (scale.Scale, scale.Bias):
        assert isinstance(params, scale.Broadcast)
        return not params.two_bottoms and (params.num_axes == 0 or (params.axis == 1 and params.num_axes == 1))
    if type(params) is not arithmetic.Power or params.power != 1:
        return False
    return max(abs(params.scale), abs(params.shift)) < LARGEST


def affine_of(parts: Sequence[FlowLayer], blobs: Sequence[Sequence[Tensor]], channels: int) -> tuple[Tensor, Tensor]:
    """The factor and the constant (c,) of several such layers one after the other, in double precision."""
    zeros, ones = torch.zeros(1, channels, 1, 1).double(), torch.ones(1, channels, 1, 1).double()
    constant, at_one = zeros, ones
    factor = ones
    for part, own in zip(parts, blobs, strict=True):
        own = [blob.detach().double() for blob in own]
        (shift,), (moved,) = part.params.forward([zeros], own), part.params.forward([at_one], own)
        factor, constant = factor * (moved - shift), constant * (moved - shift) + shift
    return factor.flatten(), constant.flatten()


def _takes(operation: FlowStep) -> bool:
    main = operation.main
    if not operation.is_open or len(main.bottoms) != 1 or len(main.tops) != 1:
        return False
    return bool(operation.affine) or type(main.params) in WITH_WEIGHTS


def _key(operation: FlowStep) -> str:
    """A name for an operation that may have no top."""
    return operation.tops[0] if operation.tops else f"{operation.name} "
