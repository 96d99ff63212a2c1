"""Memory for weights and arenas: few large pages, so that a pass spends no time on finding where they are."""

from __future__ import annotations

import mmap

import torch
from torch import Tensor

from ..lru_cache import Lock

PAGE = 2 << 20
"""Bytes of a large page."""


def empty(floats: int) -> Tensor:
    """A tensor of so many floats, of any values, in large pages where the system has them and it fills one."""
    size = 4 * floats
    if size < PAGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.empty(floats)
    try:
        memory = mmap.mmap(-1, size + PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        memory.madvise(mmap.MADV_HUGEPAGE)
    except OSError:  # a kernel without them, or no memory, which PyTorch says better
        return torch.empty(floats)
    skipped = -torch.frombuffer(memory, dtype=torch.float32, count=1).data_ptr() % PAGE
    return torch.frombuffer(memory, dtype=torch.float32, count=floats, offset=skipped)


class Slabs:
    """Small pieces of memory side by side in large ones; a large one is kept while any piece of it is."""

    def __init__(self) -> None:
        self._rest, self._lock = torch.empty(0), Lock()

    def take(self, floats: int) -> Tensor:
        """A tensor of so many floats, of any values, at the beginning of a line of the cache."""
        whole = -(-floats // 16) * 16
        with self._lock:
            if whole > len(self._rest):
                self._rest = empty(max(whole, 2 * PAGE // 4))
            taken, self._rest = self._rest[:floats], self._rest[whole:]
        return taken
