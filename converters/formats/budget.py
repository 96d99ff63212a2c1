"""The memory that the records of one file take, counted while they are read, before they are made.

A field of two bytes becomes objects of hundreds, so that a small file of nothing but fields could fill the memory.
Readers of bytes and of text take from one Budget for each file; the numbers here were measured with CPython 3.12 and
upb, at the peak.
"""

from __future__ import annotations

from ..safety.limits import check_limit, memory_limit, scaled

FIELD = 256
"""Bytes for a field that a reader looks at, or a message of the schema, or a string."""
UNKNOWN_FIELD = 512
"""For a field that Caffe's schema does not have."""
VALUE, UNPACKED = 48, 128
"""For one number of many in a field, and for one that is a field of its own, which takes longer to count."""
TEXT_FIELD, TEXT_VALUE = 640, 448
"""For a field of a text with its value, and for each further value of a list."""
LAYER = 2560
"""For a layer, in all the forms that it goes through while it is upgraded."""
V0_LAYER = 6 << 10


class Budget:
    """Counts what the records of a file of `file_size` bytes take, against 64 MiB plus `expansion` times the size."""

    __slots__ = ("_allowed", "_limit", "spent")

    def __init__(self, file_size: int, *, expansion: int = 1) -> None:
        self._limit = memory_limit(file_size, expansion=expansion)
        self._allowed = scaled(self._limit)
        self.spent = 0

    def take(self, size: int, place: object = None) -> None:
        """Count `size` bytes more; LimitError, which names `place` (an int is an offset), where that is too much."""
        self.spent += size
        if self.spent > self._allowed:
            where = f"offset {place}" if isinstance(place, int) else str(place) if place is not None else None
            check_limit(self.spent, self._limit, what="the records of so many fields take", where=where)
