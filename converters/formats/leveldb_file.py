"""The records of a LevelDB, Caffe's older kind of database: read from its files, and only read.

LevelDB itself locks the folder and changes it when it opens one, and damage that no checksum tells ends the program
(docs/log.md). Here every length is checked before it is used, nothing is locked or written, and a value is read when it
is asked for. Of each key the entry with the highest sequence number counts; where that deletes, there is no record.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from ..errors import CaffeFormatError, WireError, place
from ..safety.limits import check_memory, memory_limit
from .leveldb_logs import LogFile
from .leveldb_manifest import LiveFiles, read_manifest
from .leveldb_tables import TableFile

_ENTRY = 192
"""Bytes that an entry takes beside its key while the newest are looked for."""
_EXPANSION = 24
"""Bytes for each byte of the files: so many does Snappy make of one, and an entry need not have more than eight."""


@dataclass(frozen=True)
class LevelDbFolder:
    """The records of a LevelDB in the order of their keys; `places` says in which of the files each lies, and where."""

    path: Path
    keys: tuple[bytes, ...]
    files: tuple[LogFile | TableFile, ...] = field(repr=False)
    places: np.ndarray = field(repr=False, compare=False)

    def value(self, number: int) -> bytes:
        """The bytes of a record; WireError where they are damaged."""
        of_file, *where = self.places[number].tolist()
        file = self.files[int(of_file)]
        with _errors_of(self.path), place(file.path.name):
            return file.value(*where)


def is_leveldb(place: Path) -> bool:
    """True for the folder of a LevelDB."""
    return (place / "CURRENT").is_file() and any(place.glob("MANIFEST-*"))


def read_leveldb(place: str | os.PathLike[str]) -> LevelDbFolder:
    """The records of a LevelDB; WireError for one that is damaged, cut or empty, or has keys in an order of its own.

    Keys, and where values lie, are read here, and all checksums compared; values are read when they are asked for. What
    is cut at the end of a log, as by a crash, does not count, as for LevelDB.
    """
    path = Path(place).resolve()
    with _errors_of(path):
        found = _records(path, read_manifest(path))
    if not found.keys:
        raise WireError("the database has no records", path=path)
    return found


@contextmanager
def _errors_of(path: Path) -> Iterator[None]:
    try:
        yield
    except CaffeFormatError as error:
        raise error.in_file(path) from None
    except FileNotFoundError as error:
        problem = f"{Path(str(error.filename)).name} is not there"
        raise WireError(problem, path=path, hint="this is no LevelDB, or another program changes it just now") from None
    except OSError as error:
        raise WireError(f"it cannot be read: {error.strerror}", path=path) from None


def _records(path: Path, live: LiveFiles) -> LevelDbFolder:
    files: tuple[LogFile | TableFile, ...] = (*live.logs, *live.tables)
    size = sum(file.size for file in files)
    allowed = memory_limit(size, expansion=_EXPANSION)
    keys: list[bytes] = []
    marks, places = array("Q"), array("q")
    last, taken = live.sequence, 0
    for number, file in enumerate(files):
        with place(file.path.name):
            for key, mark, *where in file.entries():
                if number < len(live.logs):
                    last = max(last, mark >> 8)
                elif mark >> 8 > last:  # what LevelDB does not show
                    continue
                taken += len(key) + _ENTRY
                if taken > allowed:
                    check_memory(taken, file_size=size, expansion=_EXPANSION, what="its keys would take")
                keys.append(key)
                marks.append(mark)
                places.extend((number, *where))
    newest = list(_newest(keys, marks))
    found = np.frombuffer(places, np.int64).reshape(-1, 5)[newest]
    found.flags.writeable = False
    return LevelDbFolder(path, tuple(keys[i] for i in newest), files, found)


def _newest(keys: list[bytes], marks: array[int]) -> Iterator[int]:
    """The numbers of the entries that count, in the order of their keys."""
    order: Iterable[int] = range(len(keys))
    if any(first >= second for first, second in pairwise(keys)):
        newest_first = np.argsort(np.frombuffer(marks, np.uint64), kind="stable")[::-1].tolist()
        order = sorted(newest_first, key=keys.__getitem__)  # entries of one key stay as they were
    previous = None
    for i in order:
        if keys[i] != previous and marks[i] & 1:
            yield i
        previous = keys[i]
