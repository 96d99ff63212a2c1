"""Memory for weights and arenas: few large pages, so that a pass spends no time on finding where they are."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..lru_cache import Lock

Floats = NDArray[np.float32]
PAGE = 2 << 20
"""Bytes of a large page."""
LINE = 64
"""Bytes of a line of the cache: a vector that lies in two of them is read, and written, half as quickly."""
SLAB = 32 * PAGE
"""Bytes that pieces share; pages that nobody has written to are no memory yet, but part of a page is a whole one."""


def empty(floats: int) -> Floats:
    """An array of so many floats, of any values, from the beginning of a line of the cache on.

    In large pages, where the system has them and it fills one.
    """
    size = 4 * floats
    if size < PAGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return _at_a_line(floats)
    try:
        memory = mmap.mmap(-1, size + PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        memory.madvise(mmap.MADV_HUGEPAGE)
    except OSError:  # a kernel without them, or no memory, which NumPy says better
        return _at_a_line(floats)
    skipped = -address(np.frombuffer(memory, np.float32, count=1)) % PAGE
    return np.frombuffer(memory, np.float32, count=floats, offset=skipped)


def _at_a_line(floats: int) -> Floats:
    found = np.empty(floats + LINE // 4, np.float32)
    skipped = -address(found) % LINE // 4
    return found[skipped : skipped + floats]


def address(array: NDArray[Any]) -> int:
    """The place of an array's first number in memory."""
    found: int = array.__array_interface__["data"][0]
    return found


def let_go(array: NDArray[Any]) -> None:
    """Unmap the pages of an array that lies in a file mapped read-only: they are read anew where somebody asks.

    Of any other array nothing: what the system could not read again would be lost.
    """
    base: Any = array
    while isinstance(base, (np.ndarray, memoryview)):
        base = base.obj if isinstance(base, memoryview) else base.base
    if not isinstance(base, mmap.mmap) or not hasattr(mmap, "MADV_DONTNEED") or not memoryview(base).readonly:
        return
    start = address(array) - address(np.frombuffer(base, np.uint8))
    begin = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
    count = (start + array.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE - begin
    if count > 0 and array.flags.c_contiguous:
        base.madvise(mmap.MADV_DONTNEED, begin, count)


class Slabs:
    """Small pieces of memory side by side in large ones; a large one is kept while any piece of it is."""

    def __init__(self) -> None:
        self._rest, self._lock = np.empty(0, np.float32), Lock()

    def take(self, floats: int) -> Floats:
        """An array of so many floats, of any values, at the beginning of a line of the cache."""
        whole = -(-floats // 16) * 16
        with self._lock:
            if whole > len(self._rest):
                try:
                    self._rest = empty(max(whole, SLAB // 4))
                except MemoryError:  # where this process may not have so much, a piece may still fit
                    self._rest = empty(whole)
            taken, self._rest = self._rest[:floats], self._rest[whole:]
        return taken
