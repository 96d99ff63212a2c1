"""Decisions on how an operation is computed: a kernel of the C code with its window, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass

from ..native.steps import StepSettings
from .volumes import Depth

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
    depth: Depth | None = None
    """Kernel, stride, pad and dilation along the first of three axes; the rest is of each plane then."""

    def settings(
        self, activation: int, block: int = 0, group: int = 0, shared: int = 0, stretch: int = 0
    ) -> StepSettings:  # fmt: skip
        """Those of a step that moves this window."""
        window = *self.window, *self.stride, *self.pad, *self.dilation
        return StepSettings(*window, activation, block, group, shared, stretch)


@dataclass(frozen=True)
class UsualKernel:
    """The kernel of an operation at the size that its net is mostly run for, and the numbers that it makes there."""

    kernel: KernelChoice
    count: int


@dataclass(frozen=True)
class NoKernel:
    """The reason why an operation is left to its layers' own functions."""

    why: str


Decision = KernelChoice | NoKernel
