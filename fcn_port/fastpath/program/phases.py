"""A deconvolution as plain convolutions, one for each place that an output can have between the inputs.

With stride s along an axis, outputs a, a + s, a + 2 s ... read inputs one after the other by the same few taps of the
kernel: t = t0, t0 + s, t0 + 2 s ..., t0 being (a + pad) mod s, the last of them at the first input of the window. So
no zeros between inputs are multiplied, and nothing is added to what another output has already.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from converters.layers import Deconvolution

Pair = tuple[int, int]


@dataclass(frozen=True)
class DeconvolutionPhase:
    """The outputs `at`, `at` + stride ... along both axes: a convolution with this window and pad, and stride 1."""

    at: Pair
    window: Pair
    pad: Pair


def phases(params: Deconvolution, bottom: Pair, top: Pair) -> Iterator[DeconvolutionPhase]:
    """The phases of a deconvolution of blobs of these heights and widths, with dilation 1."""
    kernel, stride, pad, _ = params.along(2)
    for at in product(*(range(min(s, size)) for s, size in zip(stride, top, strict=True))):
        both = [along(*each) for each in zip(at, kernel, stride, pad, bottom, strict=True)]
        yield DeconvolutionPhase((at[0], at[1]), (both[0][0], both[1][0]), (both[0][1], both[1][1]))


def along(at: int, kernel: int, stride: int, pad: int, length: int) -> Pair:
    """Taps and padding of the phase `at` along one axis; a tap beyond the blob where outputs read no input."""
    count = -(-(kernel - (at + pad) % stride) // stride)
    return (count, count - 1 - (at + pad) // stride) if count > 0 else (1, -length)


def taps_of(params: Deconvolution, weight: NDArray[np.float32], at: tuple[int, ...]) -> NDArray[np.float32]:
    """The weight (outputs, inputs of a group, h, w) of the phase `at`, of one (inputs, outputs of a group, kh, kw)."""
    _, stride, pad, _ = params.along(2)
    first = [(a + p) % s for a, p, s in zip(at, pad, stride, strict=True)]
    taps = weight[:, :, first[0] :: stride[0], first[1] :: stride[1]][:, :, ::-1, ::-1]
    if 0 in taps.shape:
        taps = np.zeros((*weight.shape[:2], *(max(size, 1) for size in taps.shape[2:])), np.float32)
    inputs, outputs = weight.shape[:2]
    grouped = taps.reshape(params.group, inputs // params.group, outputs, *taps.shape[2:])
    found: NDArray[np.float32] = grouped.swapaxes(1, 2)
    return found.reshape(params.num_output, inputs // params.group, *taps.shape[2:])
