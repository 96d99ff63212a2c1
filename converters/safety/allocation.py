"""Memory that the machine does not give: how it is told from other errors, and how it is said.

PyTorch says it with a RuntimeError, its CUDA part with one of its own, NumPy with a MemoryError, each in other words.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import NotEnoughMemoryError

_ASKED = re.compile(r"(?:tried to allocate|unable to allocate) ([\d.]+ ?[a-z]+)", re.IGNORECASE)
_SAID = (
    *("out of memory", "can't allocate memory", "not enough memory", "cannot allocate memory", "bad_alloc"),
    *("storage size calculation overflowed", "integer multiplication overflow", "could not create a memory"),
)


def refused_memory(error: BaseException) -> str | None:
    """The amount that an error says there was no memory for ("4000000000 bytes"); None for an error of another kind."""
    if not isinstance(error, (RuntimeError, MemoryError)):
        return None
    said = str(error)
    asked = _ASKED.search(said)
    if asked:
        return asked[1]
    if isinstance(error, MemoryError) or any(words in said.lower() for words in _SAID):
        return "more bytes than can be counted" if "overflow" in said.lower() else "more than there is"
    return None


_GROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""The files in which Linux says what a container may have."""


def machine_memory() -> int | None:
    """Bytes of memory that this process can have at most: the machine's, or its container's; None where none says."""
    found: list[int] = []
    with suppress(AttributeError, ValueError, OSError):  # of systems that do not tell
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for path in map(Path, _GROUPS):
        with suppress(OSError, ValueError):  # "max" is no number
            found.append(int(path.read_text(encoding="ascii")))
    return min((bytes for bytes in found if bytes > 0), default=None)


@contextmanager
def enough_memory(where: str) -> Iterator[None]:
    """Errors inside the block that say that there was no memory become a NotEnoughMemoryError that names `where`."""
    try:
        yield
    except NotEnoughMemoryError:
        raise
    except (RuntimeError, MemoryError) as error:
        asked = refused_memory(error)
        if asked is None:
            raise
        hint = "a smaller input, or a smaller batch, needs less"
        raise NotEnoughMemoryError(f"not enough memory: {asked} asked for", where=where, hint=hint) from error
