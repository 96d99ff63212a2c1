"""Repeat: a pass like the last one, in which nothing is looked up that is known from there."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from converters.net import Shape

from ..native.kept import KeptMemory
from .bound import BoundPass
from .program import ArenaPlan
from .runner import Arenas


class Repeat:
    """Passes of a net over one contiguous input of one shape; threads may share it.

    Behind a pass nothing of Python's and PyTorch's is in a cache, and a function of theirs takes 5 to 60 us then, half
    a millisecond in all of the six that MobileNet takes. So this calls few of them.
    """

    def __init__(
        self, plan: ArenaPlan, arenas: Arenas, memory: KeptMemory, shape: Shape, *, threads: int,
        is_same: Callable[[], bool],
    ) -> None:  # fmt: skip
        """For a plan that `takes_one_block`, as long as `is_same` says that the weights are those of the plan.

        Outputs lie in this memory.
        """
        self._plan, self._arenas, self._memory, self._shape = plan, arenas, memory, torch.Size(shape)
        self._threads, self._is_same = threads, is_same
        self._bound: BoundPass | None = None
        (self.name,) = plan.flow.inputs

    def __call__(self, x: Tensor) -> dict[str, Tensor] | None:
        """The outputs; None for an input, weights or a number of threads for which a pass must be made out anew."""
        if torch.get_num_threads() != self._threads or not self.takes(x) or not self._is_same():
            return None
        return self.outputs(x)

    def takes(self, x: Tensor) -> bool:
        """True for an input whose numbers lie in memory as the plan reads them."""
        if type(x) is not Tensor or x.shape != self._shape or x.dtype is not torch.float32 or not x.is_cpu:
            return False
        if not x.is_contiguous() or x.is_neg():
            return False
        numbers = x.data_ptr()  # RuntimeError for a tensor of a function transform, as its caller knows
        return numbers != 0 and numbers % 4 == 0  # 0: zeros that PyTorch never wrote

    def outputs(self, x: Tensor) -> dict[str, Tensor]:
        """Those for an input that this `takes`, by weights that are the plan's."""
        arena, bound = self._arenas.take(self._plan.floats), self._bound  # nobody else has it, nor what is bound to it
        if bound is None or bound.arena is not arena:
            bound = self._bound = self._plan.bind(arena, self._memory)
        found = bound(x.data_ptr())
        self._arenas.give_back(arena)
        return {name: torch.from_numpy(value) for name, value in found.items()}
