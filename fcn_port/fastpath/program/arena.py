"""The places of buffers in one block of memory, so that those which are never needed at once may share it."""

from __future__ import annotations

from collections.abc import Sequence

ALIGNED = 16
"""Floats; buffers begin at a multiple of so many."""
APART = 32
"""Floats between buffers: vectors are read, and scratch is written, a little past an end."""


def arrange(sizes: Sequence[int], lives: Sequence[tuple[int, int]]) -> tuple[tuple[int, ...], int]:
    """The offset of each buffer, and the floats of all; `lives` are (first, last) step that needs it.

    The largest are placed first, each as low as those that live at the same time allow.
    """
    offsets = [0] * len(sizes)
    placed: list[tuple[int, int, int, int]] = []
    for number in sorted(range(len(sizes)), key=lambda n: -sizes[n]):
        first, last = lives[number]
        size = -(-(sizes[number] + APART) // ALIGNED) * ALIGNED
        at = 0
        for lo, hi, begins, ends in placed:
            if begins <= last and first <= ends:
                if at + size <= lo:
                    break
                at = max(at, hi)
        offsets[number] = at
        placed.append((at, at + size, first, last))
        placed.sort()
    return tuple(offsets), max((hi for _, hi, _, _ in placed), default=0)
