"""Weights as steps want them: factors and constants merged in, in the order in which they are read; made once.

Merging is done in double precision and rounded once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from converters.layers import convolution, inner_product, neuron

from ..flow import FlowLayer, FlowStep
from ..flow.affine import affine_of
from ..lru_cache import LRUCache
from ..native import build
from ..native.memory import Slabs
from ..native.packing import pack

MOST_KEPT = 1 << 20


@dataclass(frozen=True)
class Packed:
    """The weights that a step reads beside blobs; None where it does not."""

    kernels: Tensor | None = None
    bias: Tensor | None = None
    slopes: Tensor | None = None


class PackedWeights:
    """The learnable blobs of a net as they are now, and what was made of them."""

    def __init__(self, state: Mapping[str, Tensor], keys: Mapping[tuple[str, int], str]) -> None:
        self._state, self._keys = state, keys
        self._packed: LRUCache[Packed] = LRUCache(MOST_KEPT)
        self._slabs = Slabs()

    def of(self, part: FlowLayer) -> list[Tensor]:
        """The learnable blobs of a layer."""
        return [self._state[self._keys[key]].reshape(shape) for key, shape in part.blobs]

    def packed(self, operation: FlowStep, kernel: str, window: tuple[int, int, int], part: int = 0) -> Packed:
        """The weights of an operation for a kernel; `window` is (input channels, height, width) of one group."""
        key = operation.name, operation.parts[-1].name, kernel, window, part
        return self._packed.get(key, lambda: self._pack(operation, kernel, window, part))

    def constants(self, operation: FlowStep, channels: int) -> Packed:
        """Factor, constant and slopes of an operation without products."""
        key = operation.name, operation.parts[-1].name, "pointwise"

        def make() -> Packed:
            factor = constant = None
            if operation.affine:
                parts = operation.affine
                both = affine_of(parts, [self.of(part) for part in parts], channels)
                factor, constant = (_padded(each.float()) for each in both)
            return Packed(factor, constant, self._slopes(operation, channels))

        return self._packed.get(key, make)

    def coefficient(self, value: float, channels: int) -> Tensor | None:
        """One factor for all channels; None for 1."""
        if value == 1:
            return None
        key = "coefficient", value, channels
        return self._packed.get(key, lambda: Packed(_padded(torch.full((channels,), value)))).kernels

    def _pack(self, operation: FlowStep, kernel: str, window: tuple[int, int, int], part: int) -> Packed:
        weight, factors, bias = self._merged(operation, window)
        slopes = self._slopes(operation, len(weight))
        if kernel == "depthwise":
            if factors is not None:
                weight = (weight.double() * factors[:, None, None, None]).float()
            spread = weight.flatten(1).t()
            return Packed(_padded(spread).contiguous(), bias, slopes)
        params = operation.main.params
        groups = params.group if isinstance(params, convolution.Convolution) else 1
        count = len(weight) // groups
        mine = slice(part * count, (part + 1) * count)
        kernels = pack(weight[mine], kernel, self._slabs, factors=None if factors is None else factors[mine])
        bias, slopes = (None if each is None else _padded(each[mine]) for each in (bias, slopes))
        return Packed(kernels, bias, slopes)

    def _merged(self, operation: FlowStep, window: tuple[int, int, int]) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Weight (outputs, channels, h, w), the factors of outputs that what follows makes of it, and the bias."""
        main = operation.main
        blobs = [blob.detach() for blob in self.of(main)]
        params = main.params
        assert isinstance(params, (convolution.Convolution, inner_product.InnerProduct))
        weight = blobs[0].t() if isinstance(params, inner_product.InnerProduct) and params.transpose else blobs[0]
        weight, bias = weight.reshape(params.num_output, *window), blobs[1] if params.bias else None
        factors = None
        if operation.affine:
            parts = operation.affine
            factors, constant = affine_of(parts, [self.of(part) for part in parts], len(weight))
            bias = (constant if bias is None else bias.double() * factors + constant).float()
        return weight, factors, None if bias is None else _padded(bias)

    def _slopes(self, operation: FlowStep, channels: int) -> Tensor | None:
        part = operation.activation or operation.main
        if part is None or type(part.params) is not neuron.PReLU:
            return None
        (slope,) = self.of(part)
        return _padded(slope.detach().reshape(-1).expand(channels))


def _padded(values: Tensor) -> Tensor:
    """The last axis continued with zeros, as far as a vector may read."""
    panel = build.library().panel()
    missing = -values.shape[-1] % panel
    return torch.nn.functional.pad(values, (0, missing)).contiguous()
