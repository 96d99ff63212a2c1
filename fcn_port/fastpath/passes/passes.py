"""NativePasses: what a net with packed weights runs for images of any size, each pass recorded when first asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..background import Backgrounds
from ..graph import StepGraph
from ..kernels import Kernel
from ..lru_cache import LRUCache
from ..native.kept import KeptMemory
from ..native.tape import RecordedPass, Tape
from ..plan import Plan
from ..program.places import BlobPlace
from .early import EarlyTape
from .late import LateTape
from .layers import Fills, record

SIZES = 16
"""Sizes whose passes are kept: 5 MB each of what is known without the image, for FCN-8s at 500x500."""
BAND_BYTES = 4 << 20
"""The most bytes of a processor's cache that a band of rows may fill."""


@dataclass(frozen=True)
class PlacedPass:
    """A recorded pass with the places of inputs and outputs."""

    steps: RecordedPass
    inputs: Mapping[str, BlobPlace]
    outputs: Mapping[str, BlobPlace]


class NativePasses:
    """Passes over a net whose weights are `is_native`; threads may share it."""

    def __init__(self, graph: StepGraph, kernels: Mapping[str, Kernel], backgrounds: Backgrounds) -> None:
        self._graph, self._kernels, self._backgrounds = graph, kernels, backgrounds
        self._passes: LRUCache[PlacedPass] = LRUCache(SIZES)
        self._memory = KeptMemory()

    def run(self, plan: Plan, inputs: Mapping[str, Tensor]) -> Tensor | dict[str, Tensor]:
        """One pass by a plan; a tensor, or {name: tensor} for several outputs, in memory that no other pass has."""
        first = next(iter(inputs.values()))
        key = plan.size, len(first), torch.get_num_threads()
        placed = self._passes.get(key, lambda: self._recorded(plan, first, *key[1:]))
        arena = self._memory.take(placed.steps.floats)
        lent = {name: self._memory.lend(_floats(place)) for name, place in placed.outputs.items()}
        for name, place in placed.inputs.items():
            placed.steps.put(inputs[name].detach().numpy(), place, arena)
        placed.steps(arena, {placed.outputs[name].buffer: memory for name, memory in lent.items()})
        self._memory.give_back(arena)
        found = {name: torch.from_numpy(lent[name]).view(place.shape) for name, place in placed.outputs.items()}
        return next(iter(found.values())) if len(found) == 1 else found

    def _recorded(self, plan: Plan, like: Tensor, images: int, threads: int) -> PlacedPass:
        tape, graph, kernels = Tape(), self._graph, self._kernels
        shapes = {name: (images, *shape[1:]) for name, shape in graph.shapes_at(plan.size).items()}
        inputs = {name: tape.new(shapes[name]) for name in graph.inputs}
        for place in inputs.values():
            tape.given(place)
        blobs = dict(inputs)
        for step in plan.front:
            blobs[step.top] = tape.new(shapes[step.top])
            record(tape, kernels[step.name], [blobs[name] for name in step.bottoms], blobs[step.top], threads=threads)
        fills = Fills(self._backgrounds.of(plan, like), images=images)
        early = EarlyTape(tape, plan, kernels, fills, blobs, band_bytes=BAND_BYTES, threads=threads)
        blobs |= early.record()
        late = LateTape(tape, plan.late, graph.outputs, kernels, shapes, blobs, threads=threads)
        outputs = late.record()
        return PlacedPass(tape.done(threads=threads), inputs, outputs)


def _floats(place: BlobPlace) -> int:
    return place.shape[0] * place.strides[0]
