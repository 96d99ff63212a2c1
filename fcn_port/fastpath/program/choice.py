"""Decisions on how an operation is computed: a kernel of the C code with its window, or why there is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from ..copies import CopiedAtOnce
from .volumes import Depth

Pair = tuple[int, int]


@dataclass(frozen=True)
class KernelChoice(CopiedAtOnce):
    """A kernel by its name in the C code, with the window that it moves; `why` says what else was possible."""

    name: str
    window: Pair = (1, 1)
    stride: Pair = (1, 1)
    pad: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    depth: Depth | None = None
    """Kernel, stride, pad and dilation along the first of three axes; the rest is of each plane then."""

    @cached_property
    def settings(self) -> Mapping[str, int]:
        """The window as step.h has it."""
        return {
            "kernel_h": self.window[0], "kernel_w": self.window[1],
            "stride_h": self.stride[0], "stride_w": self.stride[1],
            "dilation_h": self.dilation[0], "dilation_w": self.dilation[1],
            "top": self.pad[0], "left": self.pad[1],
        }  # fmt: skip


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
