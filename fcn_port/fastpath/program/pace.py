"""The pace of kernels: what their cycles depend on that is otherwise with short registers than with long ones."""

from __future__ import annotations

from dataclasses import dataclass

from ..native import build
from .choice import Pair

LANES = 16
"""Floats that are multiplied in a cycle: in one register of AVX-512, or in two of AVX2."""


@dataclass(frozen=True)
class Pace:
    """Bytes of weights that come in a cycle, of few and of many (`first` in a pass, and `again`); cycles for the end
    of a sum of products; for rows without zeros, `stretch` for the end of each (sums that are added, and loops whose
    ends are not foreseen) and `look` for each number of a row, whether it is 0; vectors of outputs up to which two rows
    of sums wait for each other; the ways not to take."""

    first: Pair
    again: Pair
    ending: int
    stretch: int
    look: float
    waiting: int
    without: tuple[str, ...] = ()


PACES = {16: Pace(first=(8, 4), again=(8, 4), ending=0, stretch=60, look=0.5, waiting=1)}
"""By the floats of a register; of 16 on Zen 4."""
OF_SHORT = Pace(first=(6, 6), again=(20, 20), ending=14, stretch=40, look=2, waiting=4, without=("strassen_2",))
"""Of 8 (Zen 3), where Strassen's algorithm twice over gains 2 to 4 percent of few layers for 1.75 times the weights."""


def pace() -> Pace:
    """The pace of the kernels in use."""
    return PACES.get(build.library().lanes(), OF_SHORT)
