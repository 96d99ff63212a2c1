"""The places of buffers in one block of memory, so that those which are never needed at once may share it."""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence

import numpy as np

ALIGNED = 16
"""Floats; buffers begin at a multiple of so many."""
APART = 32
"""Floats between buffers: vectors are read, and scratch is written, a little past an end."""


FEW = 400
"""Buffers of which a loop looks at all that have been placed quicker than NumPy does; of 12,000 it took 8 seconds."""


def arrange(sizes: Sequence[int], lives: Sequence[tuple[int, int]]) -> tuple[tuple[int, ...], int]:
    """The offset of each buffer, and the floats of all; `lives` are (first, last) step that needs it.

    The largest are placed first, each as low as those that live at the same time allow.
    """
    offsets, whole = [0] * len(sizes), 0
    placed = _Several() if len(sizes) < FEW else _Many(len(sizes))
    for number in sorted(range(len(sizes)), key=lambda n: -sizes[n]):
        size = -(-(sizes[number] + APART) // ALIGNED) * ALIGNED
        at = offsets[number] = placed.add(size, *lives[number])
        whole = max(whole, at + size)
    return tuple(offsets), whole


class _Several:
    """Buffers that have been placed: (beginning, end, first, last), in the order of beginnings."""

    def __init__(self) -> None:
        self._there: list[tuple[int, int, int, int]] = []

    def add(self, size: int, first: int, last: int) -> int:
        """Place one more, and say where."""
        at = 0
        for begin, end, begins, ends in self._there:
            if begins <= last and ends >= first:
                if at + size <= begin:
                    break
                at = max(at, end)
        insort(self._there, (at, at + size, first, last))
        return at


class _Many:
    """The same by a few calls of NumPy's for each, whose time hardly depends on how many there are."""

    def __init__(self, count: int) -> None:
        self._there, self._count = np.zeros((4, count), np.int64), 0

    def add(self, size: int, first: int, last: int) -> int:
        count = self._count
        begins, ends, firsts, lasts = self._there[:, :count]
        meets = (firsts <= last) & (lasts >= first)
        free_from = np.maximum.accumulate(np.concatenate(([0], ends[meets])))
        fits = np.flatnonzero(free_from[:-1] + size <= begins[meets])
        at = int(free_from[fits[0] if fits.size else -1])
        place = begins.searchsorted(at)
        self._there[:, place + 1 : count + 1] = self._there[:, place:count]
        self._there[:, place] = at, at + size, first, last
        self._count = count + 1
        return at
