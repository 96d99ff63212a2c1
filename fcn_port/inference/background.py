"""The response of a net's head to an empty image: constants, and what the outer edge makes of them.

A blob of that response is constant for each channel but near its edge, and what is near its edge depends only on where
the last windows end, that is on the size modulo the strides. So a canvas as small as can be stands for all sizes with
its remainder: `at` takes it apart into edges and middle and puts these where they belong in a blob of the right size.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .geometry import Span
from .graph import Step
from .kernels import Kernel
from .plan import Plan

KEPT = 64
"""Remainders kept: 200 kB each for FCN-8s."""


@dataclass(frozen=True)
class Background:
    """The empty response in the head's blobs: constants (1, c, 1, 1) of all of them, and canvases of the cut ones."""

    constants: Mapping[str, Tensor]
    canvases: Mapping[str, Tensor]

    def at(self, name: str, rows: Span, cols: Span) -> Tensor:
        """The whole blob (1, c, h, w) of an empty image of the size that gives these Spans."""
        canvas = self.canvases[name]
        for axis, span in ((2, rows), (3, cols)):
            canvas = canvas.index_select(axis, _sources(span, canvas.shape[axis]).to(canvas.device))
        return canvas


def _sources(span: Span, length: int) -> Tensor:
    """For each position of `span`, the one of a canvas of `length` that holds the same."""
    at = torch.arange(span.length)
    low, high = span.edge
    return torch.where(at < low, at, torch.where(at >= span.length - high, at - span.length + length, low))


class Backgrounds:
    """Backgrounds by remainder, made when first asked for."""

    def __init__(self, kernels: Mapping[str, Kernel]) -> None:
        self._kernels = kernels
        self._kept: OrderedDict[tuple[int, int], Background] = OrderedDict()

    def of(self, plan: Plan, like: Tensor) -> Background:
        """The background for a plan's size, on the device and in the type of `like`."""
        size = canvas_size(plan)
        if size not in self._kept:
            self._kept[size] = self._make(plan, size, like)
        self._kept.move_to_end(size)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return self._kept[size]

    def _make(self, plan: Plan, size: tuple[int, int], like: Tensor) -> Background:
        canvases: dict[str, Tensor] = {}
        for step in plan.head:
            bottom = step.bottoms[0]
            if plan.blobs[bottom].zero:
                canvases[step.top] = self._kernels[step.name](_zeros(step, size, like), padding=(0, 0))
            else:
                canvases[step.top] = self._kernels[step.name](canvases[bottom])
        constants = {}
        for name, canvas in canvases.items():
            blob = plan.blobs[name]
            constants[name] = canvas[:, :, blob.rows.edge[0], blob.cols.edge[0]][:, :, None, None].clone()
        return Background(constants, {name: canvases[name] for name in plan.cut})


def _zeros(step: Step, size: tuple[int, int], like: Tensor) -> Tensor:
    """What a convolution of the image reads of an empty one of `size`, its padding made part of it."""
    assert isinstance(step.module, nn.Conv2d) and step.slidings is not None
    h, w = (length + 2 * sliding.pad for length, sliding in zip(size, step.slidings, strict=True))
    zeros = torch.zeros(1, step.module.in_channels, h, w, dtype=like.dtype, device=like.device)
    return zeros.contiguous(memory_format=torch.channels_last)


def canvas_size(plan: Plan) -> tuple[int, int]:
    """The smallest input with the plan's remainders whose response has a middle everywhere.

    Its padding is part of it, so it may be negative: an image of -60 with a padding of 100 is a canvas of 140.
    """
    heads = [plan.blobs[step.top] for step in plan.head]
    return _shrunk(plan.size[0], [blob.rows for blob in heads]), _shrunk(plan.size[1], [blob.cols for blob in heads])


def _shrunk(length: int, spans: list[Span]) -> int:
    period = math.lcm(*(span.stride for span in spans))
    spare = min((span.inner.size - 1) * span.stride for span in spans)
    return length - spare // period * period
