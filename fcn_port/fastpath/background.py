"""The response of a net's early layers to an empty image: constants, and what the outer edge makes of them.

A blob of that response is constant for each channel but near its edge, and what is near its edge depends only on where
the last windows end, that is on the size modulo the strides. So a canvas as small as can be stands for all sizes with
its remainder: `at` takes it apart, and puts edges and middle where they belong in a blob of the right size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .geometry import Span
from .graph import Step
from .kernels import Kernel
from .lru_cache import LRUCache
from .plan import Plan

KEPT_CANVASES = 64
"""Remainders kept: 200 kB each for FCN-8s."""
KEPT_SIZES = 4
"""Sizes whose blobs at the cut are kept whole: 5 MB each for FCN-8s at 500x500."""


@dataclass(frozen=True)
class Background:
    """The early blobs of an empty image: the constants (1, c, 1, 1) of all, and the cut ones whole (1, c, h, w)."""

    constants: Mapping[str, Tensor]
    cut: Mapping[str, Tensor]


@dataclass(frozen=True)
class Canvas:
    """The empty response for one remainder: constants, and the cut blobs as small as they can be."""

    constants: Mapping[str, Tensor]
    blobs: Mapping[str, Tensor]

    def at(self, plan: Plan) -> Background:
        """The response to an empty image of the plan's size."""
        cut = {}
        for name, blob in self.blobs.items():
            for axis, span in ((2, plan.blobs[name].rows), (3, plan.blobs[name].cols)):
                blob = blob.index_select(axis, _sources(span, blob.shape[axis], blob.device))
            cut[name] = blob
        return Background(self.constants, cut)


def _sources(span: Span, length: int, device: torch.device) -> Tensor:
    """For each position of `span`, the one of a canvas of `length` that holds the same."""
    at = torch.arange(span.length, device=device)
    low, high = span.edge
    return torch.where(at < low, at, torch.where(at >= span.length - high, at - span.length + length, low))


class Backgrounds:
    """Backgrounds by size, put together from canvases by remainder; made when first asked for."""

    def __init__(self, kernels: Mapping[str, Kernel]) -> None:
        self._kernels = kernels
        self._canvases: LRUCache[Canvas] = LRUCache(KEPT_CANVASES)
        self._sizes: LRUCache[Background] = LRUCache(KEPT_SIZES)

    def of(self, plan: Plan, like: Tensor) -> Background:
        """The background for a plan's size, on the device and in the type of `like`."""

        def make() -> Background:
            size = canvas_size(plan)
            with torch.autocast(like.device.type, enabled=False):  # it is kept for passes that are in full
                key = size, tuple(step.top for step in plan.early)  # fewer, where strides pass over a small image
                return self._canvases.get(key, lambda: self._make(plan, size, like)).at(plan)

        return self._sizes.get(plan.size, make)

    def _make(self, plan: Plan, size: tuple[int, int], like: Tensor) -> Canvas:
        canvases: dict[str, Tensor] = {}
        for step in plan.early:
            bottom = step.bottoms[0]
            if plan.blobs[bottom].zero:
                canvases[step.top] = self._kernels[step.top](_zeros(step, size, like), padding=(0, 0))
            else:
                canvases[step.top] = self._kernels[step.top](canvases[bottom])
        constants = {}
        for name, canvas in canvases.items():
            blob = plan.blobs[name]
            constants[name] = canvas[:, :, blob.rows.edge[0], blob.cols.edge[0]][:, :, None, None].clone()
        return Canvas(constants, {name: canvases[name] for name in plan.cut})


def _zeros(step: Step, size: tuple[int, int], like: Tensor) -> Tensor:
    """The part of an empty image of `size` that a convolution of the image reads, its padding made part of it."""
    assert step.slidings is not None
    h, w = (length + 2 * sliding.pad for length, sliding in zip(size, step.slidings, strict=True))
    zeros = torch.zeros(1, step.channels, h, w, dtype=like.dtype, device=like.device)
    return zeros.contiguous(memory_format=torch.channels_last)


def canvas_size(plan: Plan) -> tuple[int, int]:
    """The smallest input with the plan's remainders whose response has a middle everywhere.

    Its padding is part of it, so it may be negative: an image of -60 with a padding of 100 is a canvas of 140.
    """
    blobs = [plan.blobs[step.top] for step in plan.early]
    return _shrunk(plan.size[0], [blob.rows for blob in blobs]), _shrunk(plan.size[1], [blob.cols for blob in blobs])


def _shrunk(length: int, spans: list[Span]) -> int:
    period = math.lcm(*(span.stride for span in spans))
    spare = min((span.inner.size - 1) * span.stride for span in spans)
    return length - spare // period * period
