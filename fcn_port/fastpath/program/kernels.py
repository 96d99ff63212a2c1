"""The native kernel that computes an operation, for places of certain sizes; and why none does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from converters.layers import convolution, eltwise, inner_product, lrn, pooling

from ..flow import FlowStep
from ..winograd import TILES
from .places import BlobPlace

Pair = tuple[int, int]


@dataclass(frozen=True)
class KernelChoice:
    """A kernel by its name in the C code, with the window that it moves; `why` says what else was possible."""

    name: str
    window: Pair = (1, 1)
    stride: Pair = (1, 1)
    pad: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1


@dataclass(frozen=True)
class Refusal:
    """The reason why an operation is left to its layers' own functions."""

    why: str


Decision = KernelChoice | Refusal


def choose(operation: FlowStep, bottoms: Sequence[BlobPlace], tops: Sequence[BlobPlace], *, winograd: bool) -> Decision:
    """The kernel for an operation; `winograd`: convolutions may go by its filtering."""
    if len(operation.tops) != 1:
        return Refusal(f"{len(operation.tops)} tops")
    if not all(place.is_image for place in (*bottoms, *tops)):
        return Refusal("its blobs are no images")
    if operation.affine and operation.main == operation.affine[0]:
        return KernelChoice("pointwise")
    params = operation.main.params
    if type(params) is convolution.Convolution:
        return _convolution(params, bottoms[0], tops[0], winograd=winograd)
    if type(params) is inner_product.InnerProduct:
        return _inner_product(params, bottoms[0])
    if type(params) is pooling.Pooling:
        return _pooling(params, bottoms[0])
    if type(params) is lrn.LRN:
        return _lrn(params)
    if type(params) is eltwise.Eltwise:
        return KernelChoice("pointwise") if params.operation == "SUM" else Refusal(f"{params.operation} of blobs")
    return Refusal(f"no kernel for layers of type {operation.main.type}")


def _convolution(params: convolution.Convolution, bottom: BlobPlace, top: BlobPlace, *, winograd: bool) -> Decision:
    if len(bottom.shape) != 4 or params.axis % 4 != 1:
        return Refusal("no convolution over height and width")
    window, stride, pad, dilation = params.along(2)
    channels = bottom.shape[1]
    if params.group == channels == params.num_output and params.group > 1:
        return KernelChoice("depthwise", window, stride, pad, dilation)  # type: ignore[arg-type]
    found = KernelChoice("product", window, stride, pad, dilation, params.group)  # type: ignore[arg-type]
    if not winograd or channels > MOST_CHANNELS:
        return found
    if window[0] == window[1] and window[0] in TILES and set(stride) == set(dilation) == {1}:
        quick = _winograd_cycles(window[0], channels // params.group, params.num_output // params.group, top)
        if quick < _product_cycles(found, channels // params.group, params.num_output // params.group, top):
            return KernelChoice(f"winograd_{window[0]}", window, stride, pad, dilation, params.group)  # type: ignore[arg-type]
    return found


def _inner_product(params: inner_product.InnerProduct, bottom: BlobPlace) -> Decision:
    if params.axis % len(bottom.shape) != 1:
        return Refusal(f"a product from axis {params.axis} on")
    _, _, h, w = bottom.size
    return KernelChoice("product", (h, w))


def _pooling(params: pooling.Pooling, bottom: BlobPlace) -> Decision:
    if len(bottom.shape) != 4 or params.mask or params.method == "STOCHASTIC":
        return Refusal("places of maxima are wanted" if params.mask else f"{params.method} pooling")
    name = "pool_max" if params.method == "MAX" else "pool_average"
    if params.global_pooling:
        return KernelChoice(name, bottom.size[2:])
    if not params._as_pytorch:
        return Refusal("windows that may lie outside the blob")
    return KernelChoice(name, params.kernel, params.stride, params.pad, params.dilation)


def _lrn(params: lrn.LRN) -> Decision:
    if params.within_channel or params.beta != 0.75:
        return Refusal("normalization within channels" if params.within_channel else f"a power of {params.beta}")
    if not (params.k > 0 and params.alpha >= 0):
        return Refusal(f"a power of what may be negative (k {params.k}, alpha {params.alpha})")
    return KernelChoice("normalize", (1, params.local_size))


MOST_CHANNELS = 4096
"""As many zeros lie around a blob in winograd.c."""

# What kernels take, in cycles of one thread; only comparisons matter.

LANES = 16
CACHE_BYTES, FROM_CACHE, FROM_MEMORY = 8 << 20, 10, 5
"""PackedWeights of more bytes come from memory; bytes for each cycle."""


def _product_cycles(kernel: KernelChoice, channels: int, features: int, top: BlobPlace) -> float:
    n, _, h, w = top.size
    positions, length = n * h * w, kernel.window[0] * kernel.window[1] * channels
    sums = positions * length * _lanes(features)
    return max(sums, _reading(4 * length * features)) + 3 * positions * length / LANES


def _winograd_cycles(side: int, channels: int, features: int, top: BlobPlace) -> float:
    n, _, h, w = top.size
    tile = TILES[side]
    points = (tile + side - 1) ** 2
    tiles = n * -(-h // tile) * -(-w // tile)
    sums = points * tiles * channels * _lanes(features)
    moving = tiles * (60 + 4 * points * _lanes(channels) + 4 * points * _lanes(features))
    return max(1.15 * sums, _reading(4 * points * channels * features)) + moving


def _lanes(channels: int) -> int:
    return -(-channels // LANES)


def _reading(count: int) -> float:
    return count / (FROM_CACHE if count < CACHE_BYTES else FROM_MEMORY)
