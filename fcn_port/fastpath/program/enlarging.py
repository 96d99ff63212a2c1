"""A deconvolution of each channel by itself as one step, which writes each row of outputs once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from converters.layers import Deconvolution

from ..flow import FlowStep
from ..native.division import SPARE, up
from ..native.memory import Floats
from ..native.steps import NONE, StepSettings
from .places import BlobPlace
from .task import NativeTask
from .weights import Packed, PackedWeights

Pair = tuple[int, int]
LEAST_STRIDE = 4
"""With a smaller one, depthwise convolutions for each phase are quicker: vectors go along channels, not along rows."""
ROWS = 32
"""Rows of outputs of a channel that are a piece of work."""


def enlarging_of(
    operation: FlowStep, params: Deconvolution, x: BlobPlace, y: BlobPlace, weights: PackedWeights, activation: int
) -> NativeTask | None:
    """The step of a deconvolution; None where another way is quicker, or something follows that it cannot do."""
    window, stride, pad, _ = params.along(2)
    if not params.group == x.size[1] == y.size[1] or window[1] % stride[1] or stride[1] < LEAST_STRIDE:
        return None
    if operation.affine or activation != NONE:
        return None
    weight, *bias = weights.of(operation.main)
    return enlarging_task(x, y, enlarging_weights(weight[:, 0], *bias), window, stride, pad)


def enlarging_weights(weight: Floats, bias: Floats | None = None) -> Packed:
    """The weight (channels, h, w) and the bias as the C code reads them."""
    kernels = np.append(weight.ravel(), np.zeros(SPARE, np.float32))
    return Packed(kernels, None if bias is None else np.ascontiguousarray(bias.ravel()))


def enlarging_task(
    x: BlobPlace, y: BlobPlace, packed: Packed, window: Sequence[int], stride: Sequence[int], cut: Sequence[int]
) -> NativeTask:
    """The step that writes y, without the first `cut` rows and columns; planes or pixels, whatever its strides are."""
    settings = StepSettings(window[0], window[1], stride[0], stride[1], cut[0], cut[1], block=ROWS, group=y.strides[1])
    return NativeTask("upsample", x, y, None, packed, settings, up(y.size[3] + 2 * stride[1] + SPARE, 16))
