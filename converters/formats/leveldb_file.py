"""The records of a LevelDB, Caffe's older kind of database, by plyvel."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..errors import CaffeFormatError, LimitError, WireError
from ..safety.limits import check_memory
from ..safety.opening import open_file
from .wire import read_varint

_KEY = 64
"""Bytes of a key beside its own."""
_FOOTER, _MAGIC = 48, bytes.fromhex("57fb808b247547db")
"""Bytes at the end of a table, and the last of them."""
_EXPANSION = 4
"""Bytes of keys for each byte of the folder; Caffe's are shorter than their records."""


@dataclass(frozen=True)
class LevelDbFolder:
    """The records of a LevelDB in the order of their keys; it is open for as long as the program runs."""

    path: Path
    keys: tuple[bytes, ...]
    database: Any

    def value(self, number: int) -> bytes:
        """The bytes of a record; WireError where they are damaged."""
        try:
            found = self.database.get(self.keys[number], verify_checksums=True)
        except Exception as error:
            raise WireError(f"record {number} cannot be read: {_said(error)}", path=self.path) from None
        if found is None:
            raise WireError(f"record {number} is not there any more", path=self.path)
        return bytes(found)


def is_leveldb(place: Path) -> bool:
    """True for the folder of a LevelDB."""
    return (place / "CURRENT").is_file() and any(place.glob("MANIFEST-*"))


def read_leveldb(place: str | os.PathLike[str]) -> LevelDbFolder:
    """The records of a LevelDB; CaffeFormatError where plyvel is not installed, or the database cannot be opened.

    LevelDB has no way to read alone: it locks the folder against other programs, and may tidy its files.
    """
    return _opened(Path(place).resolve())


@lru_cache(maxsize=16)
def _opened(path: Path) -> LevelDbFolder:
    try:
        import plyvel
    except ImportError:
        raise CaffeFormatError(
            "a LevelDB is read by plyvel, which is not installed",
            path=path,
            hint="pip install 'fcn-port[leveldb]'; or make an LMDB of it with Caffe's tools",
        ) from None
    for table in sorted((*path.glob("*.ldb"), *path.glob("*.sst"))):
        _check_footer(table, path)
    try:
        database = plyvel.DB(os.fsencode(path), create_if_missing=False, paranoid_checks=True)
        with database.iterator(include_value=False, verify_checksums=True) as keys:
            found = tuple(_counted(keys, path))
            _check_end(keys, found)
    except LimitError as error:
        raise error.in_file(path) from None
    except Exception as error:
        said = _said(error)
        hint = (
            "another program has it open"
            if said.startswith("IO error: lock ")
            else "the database is damaged, or was cut"
        )
        raise WireError(f"a LevelDB that cannot be opened: {said}", path=path, hint=hint) from None
    if not found:
        raise WireError("the database has no records", path=path)
    return LevelDbFolder(path, found, database)


def _check_footer(table: Path, path: Path) -> None:
    """WireError where the index of a table is beyond its end: LevelDB takes memory first, and ends the program."""
    with open_file(table) as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - _FOOTER))
        footer = file.read(_FOOTER)
    if not footer.endswith(_MAGIC):
        return  # LevelDB says what it is, if it is to read it at all
    numbers, at = [], 0
    try:
        for _ in range(4):  # where two things are, and how long: filters, and the index
            number, at = read_varint(footer, at, len(footer))
            numbers.append(number)
    except WireError:
        return
    if sum(numbers[2:]) > size:
        problem = f"an index of {numbers[3]} bytes at offset {numbers[2]}, in a table of {size}"
        raise WireError(problem, path=path, where=table.name, hint="the database is damaged, or was cut")


def _counted(keys: Iterable[bytes], path: Path) -> Iterator[bytes]:
    """The keys, while they take no more than a folder of this size may ask for: packed, a long one is a few bytes."""
    size = sum(file.stat().st_size for file in path.iterdir() if file.is_file())
    taken = 0
    for key in keys:
        taken += len(key) + _KEY
        check_memory(taken, file_size=size, expansion=_EXPANSION, what="its keys would take")
        yield key


def _check_end(keys: Any, found: tuple[bytes, ...]) -> None:
    """An error where the keys ended for damage: plyvel asks LevelDB why only when it comes to another one."""
    if found and keys.prev() != found[-1]:
        raise WireError("its last records cannot be read")


def _said(error: Exception) -> str:
    text = error.args[0] if error.args else str(error)
    return (text.decode(errors="replace") if isinstance(text, bytes) else str(text))[:160]
