"""NativePasses: what a net with packed weights runs for images of any size, each pass recorded when first asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..background import Backgrounds
from ..graph import StepGraph
from ..kernels import Kernel
from ..late import crops
from ..lru_cache import LRUCache
from ..native.division import SPARE
from ..native.kept import KeptMemory
from ..native.tape import RecordedPass, Tape
from ..plan import Plan
from ..program.places import BlobPlace, floats_of
from .early import EarlyTape
from .late import LateTape
from .layers import Fills, record

SIZES = 16
"""Sizes whose passes are kept: 5 MB each of what is known without the image, for FCN-8s at 500x500."""
BAND_BYTES = 8 << 20
"""The most bytes of a processor's cache that a band of rows may fill."""


@dataclass(frozen=True)
class PlacedPass:
    """A recorded pass: early and late layers, each over an arena of its own, and the blobs that lie outside of these.

    `between` are read by late layers, and have a place for either tape.
    """

    early: RecordedPass
    late: RecordedPass
    inputs: Mapping[str, BlobPlace]
    between: Mapping[str, tuple[BlobPlace, BlobPlace]]
    outputs: Mapping[str, BlobPlace]

    def run(self, inputs: Mapping[str, Tensor], memory: KeptMemory) -> dict[str, Tensor]:
        """The outputs. What the early layers need is given back before memory is taken for the late ones."""
        between = {name: memory.take(floats_of(place) + SPARE) for name, (place, _) in self.between.items()}
        arena = memory.take(self.early.floats)
        outside = {self.between[name][0].buffer: blob for name, blob in between.items()}
        for name, place in self.inputs.items():
            self.early.put(inputs[name].detach().numpy(), place, arena, outside)
        self.early(arena, outside)
        memory.give_back(arena)
        del arena
        lent = {name: memory.lend(floats_of(place)) for name, place in self.outputs.items()}
        arena = memory.take(self.late.floats)
        outside = {self.between[name][1].buffer: blob for name, blob in between.items()}
        self.late(arena, outside | {self.outputs[name].buffer: blob for name, blob in lent.items()})
        for blob in (arena, *between.values()):
            memory.give_back(blob)
        return {name: torch.from_numpy(blob).view(self.outputs[name].shape) for name, blob in lent.items()}


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
        found = placed.run(inputs, self._memory)
        return next(iter(found.values())) if len(found) == 1 else found

    def _recorded(self, plan: Plan, like: Tensor, images: int, threads: int) -> PlacedPass:
        graph, kernels, early, late = self._graph, self._kernels, Tape(), Tape()
        shapes = {name: (images, *shape[1:]) for name, shape in graph.shapes_at(plan.size).items()}
        made = {*graph.inputs, *(step.top for step in (*plan.front, *plan.early))}
        wanted = {*graph.outputs, *(name for step in plan.late for name in step.bottoms[: 1 if crops(step) else None])}
        between = {name: (early.outside(shapes[name]), late.outside(shapes[name])) for name in sorted(made & wanted)}

        def place(name: str) -> BlobPlace:
            return between[name][0] if name in between else early.new(shapes[name])

        inputs = {name: place(name) for name in graph.inputs}
        early.given(*inputs.values())
        blobs = dict(inputs)
        for step in plan.front:
            blobs[step.top] = place(step.top)
            record(early, kernels[step.top], [blobs[name] for name in step.bottoms], blobs[step.top], threads=threads)
        fills = Fills(self._backgrounds.of(plan, like), images=images)
        cut = {name: place(name) for name in plan.cut}
        EarlyTape(early, plan, kernels, fills, blobs, cut=cut, band_bytes=BAND_BYTES, threads=threads).record()
        blobs = {name: there for name, (_, there) in between.items()}
        outputs = LateTape(late, plan.late, graph.outputs, kernels, shapes, blobs, threads=threads).record()
        return PlacedPass(early.done(threads=threads), late.done(threads=threads), inputs, between, outputs)
