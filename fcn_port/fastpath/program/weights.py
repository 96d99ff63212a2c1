"""Weights as steps want them: factors and constants merged in, in the order in which they are read; made once.

Merging is done in double precision and rounded once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.layers import convolution, inner_product, neuron
from converters.net import Layer

from ..copies import CopiedAtOnce
from ..flow import FlowLayer, FlowStep, state_key, weighted
from ..flow.affine import affine_of, constant_parts, in_single
from ..lru_cache import LRUCache
from ..native import build
from ..native.division import up
from ..native.memory import Floats, Slabs, address, let_go
from ..native.packing import pack, packed_floats
from .choice import KernelChoice
from .kept_weights import KeptWeights
from .phases import taps_of
from .volumes import of_plane

MOST_KEPT = 1 << 20


@dataclass(frozen=True)
class Packed(CopiedAtOnce):
    """The weights that a step reads beside blobs; None where it does not."""

    kernels: Floats | None = None
    bias: Floats | None = None
    slopes: Floats | None = None

    @property
    def is_empty(self) -> bool:
        return self.kernels is None and self.bias is None and self.slopes is None

    @cached_property
    def addresses(self) -> tuple[int, int, int]:
        """The places of kernels, bias and slopes in memory, 0 for what there is not."""
        kernels, bias, slopes = (
            0 if each is None else address(each) for each in (self.kernels, self.bias, self.slopes)
        )
        return kernels, bias, slopes

    def __getstate__(self) -> dict[str, Any]:
        """Those of a copy are others."""
        found = super().__getstate__()
        found.pop("addresses", None)
        return found


NO_GROUPS: tuple[None, tuple[Packed, ...]] = None, ()
"""The answer for an operation that nobody has asked for yet."""


class PackedWeights:
    """The learnable blobs of a net as they are now, by state dict key, and what was made of them."""

    def __init__(self, state: Mapping[str, NDArray[Any]], kept: KeptWeights | None = None) -> None:
        """`kept`: what earlier processes packed, to which `keep` adds."""
        self._state, self._kept = state, kept
        self._new: dict[str, Packed] = {}
        self._packed: LRUCache[Packed] = LRUCache(MOST_KEPT)
        self._sized: dict[tuple[Any, ...], tuple[int, Packed]] = {}
        self._groups: dict[tuple[Any, ...], tuple[KernelChoice | None, tuple[Packed, ...]]] = {}
        self._slabs = Slabs()

    def of(self, part: FlowLayer) -> list[Floats]:
        """The learnable blobs of a layer."""
        blobs = ((self._state[state_key(key)], shape) for key, shape in part.blobs)
        return [blob.astype(np.float32, copy=False).reshape(shape) for blob, shape in blobs]

    def packed(
        self, operation: FlowStep, kernel: str, window: tuple[int, int, int], part: int = 0, *, threads: int = 1,
        at: tuple[int, ...] = (0, 0),
    ) -> Packed:  # fmt: skip
        """The weights of an operation for a kernel; `window` is (input channels, height, width) of one group.

        `threads` pack them, where nobody has yet. `at` is the phase of a deconvolution (`phases.py`), and the
        plane of its kernel where that has three axes; of a convolution's kernel with three axes the plane and 0.
        """
        key = operation.tops, kernel, window, part, at  # layers may be called alike, values not

        def make() -> Packed:
            found = self._from_kept(str(key), operation, kernel, window)
            if found is None:
                found = self._pack(operation, kernel, window, part, threads, at)
                self._let_go(operation.main)
                if self._kept is not None:
                    self._new[str(key)] = found
            return found

        return self._packed.get(key, make)

    def of_groups(
        self, operation: FlowStep, kernel: KernelChoice, channels: int, *, threads: int, at: tuple[int, ...] = (0, 0)
    ) -> tuple[Packed, ...]:
        """The weights of each of a kernel's groups for an operation of so many input channels; `at` as `packed` has it.

        Those that were asked for last are at hand: to look up each took a sixteenth of a plan's time.
        """
        key = operation.tops, channels, at
        known, found = self._groups.get(key, NO_GROUPS)
        if known is not kernel and known != kernel:
            each = 1 if kernel.name == "depthwise" else channels // kernel.groups
            window = each, *kernel.window
            found = tuple([
                self.packed(operation, kernel.name, window, group, threads=threads, at=at)
                for group in range(kernel.groups)
            ])  # fmt: skip
            self._groups[key] = kernel, found
        return found

    def _let_go(self, part: FlowLayer) -> None:
        """Leave the learnable blobs of a layer, which lie packed in memory now, to their file."""
        for key, _ in part.blobs:
            let_go(self._state[state_key(key)])

    def keep(self) -> None:
        """Put what has been packed since the last call with what is kept for other processes."""
        if self._kept is not None and self._new:
            new: dict[str, Packed] = {}
            with suppress(KeyError):  # one by one: other threads put more into it meanwhile
                while True:
                    new.update([self._new.popitem()])
            self._kept.add({name: (each.kernels, each.bias, each.slopes) for name, each in new.items()})

    def __getstate__(self) -> dict[str, Any]:
        """A copy packs its weights itself."""
        return {**vars(self), "_new": {}, "_sized": {}, "_groups": {}, "_slabs": Slabs()}

    def _from_kept(self, name: str, operation: FlowStep, kernel: str, window: tuple[int, int, int]) -> Packed | None:
        """The kept weights of that name; None where there are none, or others than the C code will read."""
        found = None if self._kept is None else self._kept.get(name)
        if found is None:
            return None
        sizes = _sizes(operation, kernel, window)
        return Packed(*found) if sizes == tuple(0 if each is None else each.size for each in found) else None

    def constants(self, operation: FlowStep, channels: int) -> Packed:
        """Factor, constant and slopes of an operation without products, whose channels may follow from the size."""

        def make() -> Packed:
            factor = constant = None
            parts = constant_parts(operation)
            if parts:
                factor, constant = map(
                    _padded, in_single(*affine_of(parts, [self.of(part) for part in parts], channels))
                )
            return Packed(factor, constant, self._slopes(operation, channels))

        return self._for_channels((operation.tops, "pointwise"), channels, make)

    def _for_channels(self, key: tuple[Any, ...], channels: int, make: Callable[[], Packed]) -> Packed:
        """The weights of that name for so many channels, which may follow from the size: only the last are kept here.

        Plans hold those that they read, and there are so many sizes as there are plans.
        """
        count, found = self._sized.get(key, (-1, Packed()))
        if count != channels:
            found = make()
            self._sized[key] = channels, found
        return found

    def factors(self, operation: FlowStep, channels: int) -> Packed:
        """A layer's own blob as the factor of each channel, one for all or one for each."""
        return self._for_channels(
            (operation.tops, "factors"), channels,
            lambda: Packed(_padded(np.broadcast_to(self.of(operation.main)[0].reshape(-1), channels))),
        )  # fmt: skip

    def matrix(self, operation: FlowStep, position: int, *, bias: NDArray[Any] | None, threads: int) -> Packed:
        """A learnable blob (outputs, inputs) of an operation as the weights of a product, with a bias (outputs,)."""

        def make() -> Packed:
            weight = self.of(operation.main)[position]
            kernels = pack(weight.reshape(*weight.shape, 1, 1), "product", self._slabs, threads=threads)
            return Packed(kernels, None if bias is None else _padded(bias))

        return self._packed.get((operation.tops, "matrix", position), make)

    def of_units(self, operation: FlowStep, position: int, gates: int) -> Packed:
        """A blob (gates * units, units): for a vector of units, and each that they read, a vector for each gate."""

        def make() -> Packed:
            weight = self.of(operation.main)[position]
            lanes, units = build.library().lanes(), weight.shape[1]
            padded = np.zeros((gates, -(-units // lanes) * lanes, units), np.float32)
            padded[:, :units] = weight.reshape(gates, units, units)
            blocks = padded.reshape(gates, -1, lanes, units).transpose(1, 3, 0, 2)
            return Packed(np.ascontiguousarray(blocks))

        return self._packed.get((operation.tops, "units", position, gates), make)

    def coefficient(self, operation: FlowStep, value: float, channels: int) -> Floats | None:
        """One factor for all channels of a bottom of an operation; None for 1."""
        if value == 1:
            return None
        key = operation.tops, "coefficient", value
        return self._for_channels(key, channels, lambda: Packed(_padded(np.full(channels, value)))).kernels

    def _pack(
        self,
        operation: FlowStep,
        kernel: str,
        window: tuple[int, int, int],
        part: int,
        threads: int,
        at: tuple[int, ...],
    ) -> Packed:
        weight, factors, bias = self._merged(operation, window, at)
        slopes = self._slopes(operation, len(weight))
        if kernel == "depthwise":
            if factors is not None:
                weight = (weight * factors[:, None, None, None]).astype(np.float32)
            return Packed(_padded(weight.reshape(len(weight), -1).T), bias, slopes)
        count = len(weight) // _groups(operation, window[0])
        mine = slice(part * count, (part + 1) * count)
        own = None if factors is None else factors[mine]
        kernels = pack(weight[mine], kernel, self._slabs, threads=threads, factors=own)
        bias, slopes = (None if each is None else _padded(each[mine]) for each in (bias, slopes))
        return Packed(kernels, bias, slopes)

    def _merged(
        self, operation: FlowStep, window: tuple[int, int, int], at: tuple[int, ...]
    ) -> tuple[Floats, NDArray[np.float64] | None, Floats | None]:
        """Weight (outputs, channels, h, w), the factors of outputs that what follows makes of it, and the bias."""
        main = operation.main
        blobs = self.of(main)
        params = weighted(main.params)
        assert params is not None
        weight = blobs[0].T if isinstance(params, inner_product.InnerProduct) and params.transpose else blobs[0]
        if isinstance(params, convolution.Deconvolution):
            if weight.ndim == 5:
                params, weight = of_plane(params), weight[:, :, at[2]]
            weight = taps_of(params, weight, at[:2])
        elif weight.ndim == 5:
            weight = weight[:, :, at[0]]
        weight = _spread(weight.reshape(params.num_output, -1, *window[1:]), params, window[0])
        bias: NDArray[np.floating] | None = blobs[1] if params.bias else None
        factors = None
        if operation.affine:
            parts = operation.affine
            factors, constant = affine_of(parts, [self.of(part) for part in parts], len(weight))
            bias = constant if bias is None else bias * factors + constant
        return weight, factors, None if bias is None else _padded(bias)

    def _slopes(self, operation: FlowStep, channels: int) -> Floats | None:
        part = operation.activation or operation.main
        if type(part.params) is not neuron.PReLU:
            return None
        (slope,) = self.of(part)
        return _padded(np.broadcast_to(slope.reshape(-1), channels))


def _sizes(operation: FlowStep, kernel: str, window: tuple[int, int, int]) -> tuple[int, int, int]:
    """The floats of kernels, bias and slopes of an operation, 0 for what it has not."""
    params = operation.weighted
    assert params is not None
    groups = 1 if kernel == "depthwise" else _groups(operation, window[0])
    count, length = params.num_output // groups, window[0] * window[1] * window[2]
    padded = up(count, build.library().panel())
    kernels = packed_floats(kernel, count, window[0], length)
    has_bias, last = params.bias or bool(operation.affine), operation.activation
    return kernels, padded * has_bias, padded * (last is not None and type(last.params) is neuron.PReLU)


def _groups(operation: FlowStep, channels: int) -> int:
    """The groups of an operation whose products go over so many input channels each."""
    params = operation.weighted
    if not isinstance(params, convolution.Convolution):
        return 1
    (_, (outer, inner, *_)), *_ = operation.main.blobs
    return (outer if isinstance(params, convolution.Deconvolution) else inner * params.group) // channels


def _spread(weight: Floats, params: Layer, channels: int) -> Floats:
    """Kernels (outputs, channels of a group, h, w) for so many channels, those of several groups: 0 for the others'."""
    own = weight.shape[1]
    if own == channels or not isinstance(params, convolution.Convolution):
        return weight
    spread = np.zeros((len(weight), channels // own, *weight.shape[1:]), np.float32)
    outputs = np.arange(len(weight))
    spread[outputs, outputs // (len(weight) // params.group) % (channels // own)] = weight
    return spread.reshape(len(weight), channels, *weight.shape[2:])


def _padded(values: NDArray[np.floating]) -> Floats:
    """The last axis in single precision, continued with zeros as far as a vector may read."""
    panel = build.library().panel()
    padded = np.zeros((*values.shape[:-1], -(-values.shape[-1] // panel) * panel), np.float32)
    padded[..., : values.shape[-1]] = values
    return padded
