"""Memory that is kept between passes: the system gives fresh pages for large blobs, and these cost time."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import Any

import numpy as np

from .memory import Floats, address, empty

MOST_IDLE = 128 << 20
"""Bytes that are kept while nobody has them: new large pages cost little beside what large images take."""
MOST_TOO_LARGE = 4
"""Times what is asked for that an array is at most."""


class KeptMemory:
    """Arrays for those who need one for a while; threads may share it.

    There is no lock, which what is given back while memory is collected would wait for: an array is always in one hand.
    """

    def __init__(self) -> None:
        self._idle: deque[Floats] = deque()

    def take(self, floats: int) -> Floats:
        """An array of at least so many floats, of any values, for the caller alone until it is given back."""
        best: Floats | None = None
        with suppress(IndexError):  # where others have taken what was there
            for _ in range(len(self._idle)):
                array = self._idle.pop()
                if floats <= array.size <= MOST_TOO_LARGE * floats and (best is None or array.size < best.size):
                    best, array = array, best
                if array is not None:
                    self._idle.appendleft(array)
        return empty(floats) if best is None else best

    def give_back(self, array: Floats) -> None:
        """Keep an array for the next one who needs it; those that were kept longest go where they are too many."""
        self._idle.append(array)
        size = 0
        with suppress(IndexError):
            for _ in range(len(self._idle)):
                each = self._idle.pop()
                size += each.nbytes
                if size <= MOST_IDLE:
                    self._idle.appendleft(each)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy is empty."""
        return KeptMemory, ()

    def lend(self, floats: int) -> Floats:
        """An array of so many floats that comes back by itself, when neither it nor any view of it is left."""
        array: Floats = np.asarray(_Lent(self.take(floats), floats, self))
        return array


class _Lent:
    """The owner of an array's memory, which all views of it hold on to."""

    def __init__(self, array: Floats, floats: int, home: KeptMemory) -> None:
        self._array, self._home = array, home
        self.__array_interface__: dict[str, Any] = {
            "version": 3, "shape": (floats,), "typestr": np.dtype(np.float32).str, "data": (address(array), False),
        }  # fmt: skip

    def __del__(self) -> None:
        self._home.give_back(self._array)
