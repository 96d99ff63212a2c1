"""BoundPass: a plan's pass over one arena, with nothing left to look up but where its input lies."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..native.memory import Floats, address
from ..native.steps import NativeSteps


class BoundPass:
    """A pass for one picture at a time, whose planes may lie anywhere; one thread may run it at a time."""

    def __init__(
        self, steps: NativeSteps, arena: Floats, *, counters: int, threads: int, outputs: Mapping[str, Floats]
    ) -> None:
        """`steps` read the picture first; `counters` lie so many floats into the arena; `outputs` are views of it."""
        self.arena = arena
        self._steps, self._start, self._threads, self._outputs = steps.moved(()), address(arena), threads, outputs
        self._counters = self._start + 4 * counters

    def __call__(self, planes: int) -> dict[str, Floats]:
        """The outputs, arrays of their own, for the picture whose planes lie at an address, a multiple of 4."""
        self._steps.put(0, "x", (planes - self._start) // 4)
        self._steps.run(self._start, self._counters, self._threads)
        return {name: np.array(view, order="C") for name, view in self._outputs.items()}
