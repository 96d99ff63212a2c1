"""The fields of forks that a layer's class has looked at: what is left over is in net/unread.py's hands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_reads: ContextVar[set[str] | None] = ContextVar("reads", default=None)


@contextmanager
def watch_reads() -> Iterator[set[str]]:
    """The paths of the fields that are looked at inside the block ("bn_param.eps"), "bn_param.*" for all of them."""
    reads: set[str] = set()
    token = _reads.set(reads)
    try:
        yield reads
    finally:
        _reads.reset(token)


def note_read(path: str) -> None:
    """Say that the field at `path` has been looked at."""
    reads = _reads.get()
    if reads is not None:
        reads.add(path)


class WatchedFields(dict[str, list[Any]]):
    """The fields of one message by name, which notes those that are looked at."""

    def __init__(self, fields: dict[str, list[Any]], path: str) -> None:
        super().__init__(fields)
        self._path = path

    def __contains__(self, name: object) -> bool:
        note_read(f"{self._path}.{name}")
        return super().__contains__(name)

    def __getitem__(self, name: str) -> list[Any]:
        note_read(f"{self._path}.{name}")
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        note_read(f"{self._path}.{name}")
        return super().get(name, default)

    def __iter__(self) -> Iterator[str]:
        note_read(f"{self._path}.*")
        return super().__iter__()

    def items(self) -> Any:
        note_read(f"{self._path}.*")
        return super().items()

    def values(self) -> Any:
        note_read(f"{self._path}.*")
        return super().values()
