"""Factors and constants for each channel (BatchNorm, Scale, Bias, BN, Power) become part of the weights before them.

Needs nothing. Ensures that no such layer follows an operation with weights, or another one, whose result nobody else
reads. What cannot be merged so (a BatchNorm before a convolution) stays, as one operation for a row of such layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from converters.layers import arithmetic, batch_norm, dropout, normalize
from converters.layers import scale as scale_layers
from converters.net import Layer, Shape

from .flow import Flow, FlowLayer, FlowStep

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

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
            made[operation.tops[0]] = replace(operation, affine=(part,)) if is_affine(part) else operation
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
    if type(params) in (scale_layers.Scale, scale_layers.Bias):
        assert isinstance(params, scale_layers.Broadcast)
        return not params.two_bottoms and (params.num_axes == 0 or (params.axis == 1 and params.num_axes == 1))
    if type(params) is dropout.Dropout:  # py-faster-rcnn's, which multiplies at test
        return not (params.draws or params.idle)
    if type(params) is not arithmetic.Power or params.power != 1 or not params.scale:  # which makes no NaN of infinity
        return False
    return max(abs(params.scale), abs(params.shift)) < LARGEST


@dataclass(frozen=True)
class OwnStatistics:
    """A layer whose factors and constants the numbers themselves say: their mean and variance in each channel.

    They are those of all images, or of each one by itself (`by_image`); `after_root`: eps is added to the root.
    """

    eps: float
    after_root: bool
    by_image: bool


def own_statistics(params: Layer) -> OwnStatistics | None:
    """The manner in which a layer divides by a standard deviation of its own bottom; None for any other layer."""
    if type(params) is batch_norm.BatchNorm and params.use_global_stats is False and not params.scale_bias:
        return OwnStatistics(params.eps, params.eps_after_root, by_image=False)
    if type(params) is batch_norm.BN and not (params.merged or params.running or params.statistic_tops):
        return OwnStatistics(params.eps, after_root=False, by_image=False)
    if type(params) is normalize.MVN and params.normalize_variance and not params.across_channels:
        return OwnStatistics(params.eps, after_root=True, by_image=True)
    return None


def along_last_axis(params: Layer, shape: Shape) -> bool:
    """True for a layer with a factor or a constant for each place of the last axis, not said to be the second one."""
    if type(params) not in (scale_layers.Scale, scale_layers.Bias):
        return False
    assert isinstance(params, scale_layers.Broadcast)
    is_last = params.axis != 1 and len(shape) > 1 and params.axis % len(shape) == len(shape) - 1
    return is_last and not params.two_bottoms and params.num_axes in (1, -1)


def constant_parts(operation: FlowStep) -> tuple[FlowLayer, ...]:
    """The parts of an operation without weights that have a factor and a constant for each channel."""
    main = operation.main
    if type(main.params) is batch_norm.BN:
        has_own = own_statistics(main.params) is not None
    else:
        has_own = isinstance(main.params, scale_layers.Broadcast) and not main.params.two_bottoms
    return (main, *operation.affine) if has_own and main not in operation.affine else operation.affine


def affine_of(parts: Sequence[FlowLayer], blobs: Sequence[Sequence[Floats]], channels: int) -> tuple[Doubles, Doubles]:
    """The factor and the constant (c,) of several such layers one after the other, in double precision."""
    factor, constant = np.ones(channels), np.zeros(channels)
    with np.errstate(all="ignore"):  # a net may have no variance, and what is no number then, as the layers themselves
        for part, own in zip(parts, blobs, strict=True):
            scale, shift = _of_layer(part.params, [blob.reshape(-1).astype(np.float64) for blob in own])
            factor, constant = factor * scale, constant * scale + shift
    return factor, constant


def in_single(factor: Doubles, constant: Doubles) -> tuple[Floats, Floats]:
    """Both in single precision, with the result 0 where it was.

    Around a mean far from 0 results are small, and the factor's rounding would be that of numbers as large as the mean.
    """
    with np.errstate(all="ignore"):
        rounded = factor.astype(np.float32)
        size = np.abs(rounded)
        is_usual = (size >= np.finfo(np.float32).tiny) & (size < np.inf)
        return rounded, (constant * np.where(is_usual, rounded / factor, 1)).astype(np.float32)


def _of_layer(params: Layer, blobs: Sequence[Doubles]) -> tuple[Doubles | float, Doubles | float]:
    """The factor and the constant of one layer that `is_affine`; each for all channels where it is a single number."""
    if isinstance(params, batch_norm.BatchNorm):
        mean, variance, count = blobs[:3]
        if not params.scale_bias:
            mean, variance = (np.where(count == 0, 0, each / count) for each in (mean, variance))
        scale, shift = blobs[3:] if params.scale_bias else (np.ones(1), np.zeros(1))
        root = np.sqrt(variance) + params.eps if params.eps_after_root else np.sqrt(variance + params.eps)
        return scale / root, shift - mean * (scale / root)
    if isinstance(params, batch_norm.BN):
        if not params.running:
            return blobs[0], blobs[1]
        scale, shift, mean, variance = blobs
        factor = scale / np.sqrt(variance + params.eps)
        return factor, shift - mean * factor
    if isinstance(params, scale_layers.Scale):
        return np.clip(blobs[0], params.least, params.most), blobs[1] if params.bias else 0.0
    if isinstance(params, scale_layers.Bias):
        return 1.0, blobs[0]
    if isinstance(params, dropout.Dropout):
        return 1 - params.ratio, 0.0
    assert isinstance(params, arithmetic.Power)
    return params.scale, params.shift


def _takes(operation: FlowStep) -> bool:
    main = operation.main
    if not operation.is_open or len(main.bottoms) != 1 or len(main.tops) != 1:
        return False
    return bool(operation.affine) or operation.weighted is not None or own_statistics(main.params) is not None
