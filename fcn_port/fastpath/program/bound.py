"""BoundPass: a plan's pass over one arena, with nothing left to look up but where its input lies."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping

from ..native.kept import KeptMemory
from ..native.memory import Floats, address
from ..native.steps import NativeSteps
from .outputs import own_arrays


class BoundPass:
    """A pass for one input at a time, whose numbers may lie anywhere; one thread may run it at a time."""

    def __init__(
        self, steps: NativeSteps, arena: Floats, *, counters: int, threads: int, outputs: Mapping[str, Floats],
        goal: Floats | None, memory: KeptMemory,
    ) -> None:  # fmt: skip
        """`steps` read what lies in `goal`, or where that is None, a picture's planes first, where these lie.

        `counters` lie so many floats into the arena; `outputs` and `goal` are views of it; `memory` is for outputs.
        """
        self.arena = arena
        self._steps, self._start, self._threads, self._outputs = steps.moved(()), address(arena), threads, outputs
        self._counters, self._memory = self._start + 4 * counters, memory
        self._goal, self._bytes = (0, 0) if goal is None else (address(goal), goal.nbytes)

    def __call__(self, numbers: int) -> dict[str, Floats]:
        """The outputs, arrays of their own, for the input whose numbers lie at an address, a multiple of 4."""
        if self._bytes:
            ctypes.memmove(self._goal, numbers, self._bytes)
        else:
            self._steps.put(0, "x", (numbers - self._start) // 4)
        self._steps.run(self._start, self._counters, self._threads)
        return own_arrays(self._outputs, self._memory, self._threads)
