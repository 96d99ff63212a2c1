"""The files that a LevelDB is made of now: CURRENT names the manifest, whose edits say which tables and logs count.

Source: LevelDB's doc/impl.md, version_edit.cc and VersionSet::Recover of version_set.cc.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import WireError, place
from ..safety.opening import open_file
from .leveldb_logs import DAMAGED, LogFile, read_records, read_slice
from .leveldb_tables import TableFile
from .wire import read_varint

_COMPARATOR, _LOG, _NEXT, _SEQUENCE, _POINTER, _DELETED, _NEW, _, _PREVIOUS_LOG = range(1, 10)
_LEVELS = 7
_ORDER = b"leveldb.BytewiseComparator"
_LONGEST_NAME = 256


@dataclass(frozen=True)
class LiveFiles:
    """The logs and tables of a database, and the last sequence number that the tables have."""

    logs: tuple[LogFile, ...]
    tables: tuple[TableFile, ...]
    sequence: int


@dataclass
class _Edits:
    """The sum of a manifest's edits: numbers by their tags, and the size of each table by its level and number."""

    numbers: dict[int, int] = field(default_factory=dict)
    tables: dict[tuple[int, int], int] = field(default_factory=dict)


def read_manifest(folder: Path) -> LiveFiles:
    """The logs and tables of a database; WireError where a table is missing, or keys are not in the order of bytes."""
    edits = _edits(folder)
    there = {path.name for path in folder.iterdir()}
    tables = {}
    for (_, number), size in sorted(edits.tables.items()):
        names = [f"{number:06d}.{ending}" for ending in ("ldb", "sst")]
        name = next((name for name in names if name in there), None)
        if name is None:
            raise WireError(f"the manifest names the table {names[0]}, which is not there", hint=DAMAGED)
        seen = (folder / name).stat()
        if seen.st_size < size:
            raise WireError(f"{seen.st_size} bytes, and the manifest says {size}", where=name, hint=DAMAGED)
        tables[number] = TableFile(folder / name, size, seen.st_mtime_ns)
    logs = sorted(int(name[:-4]) for name in there if re.fullmatch("[0-9]{6,20}\\.log", name))
    first, previous = edits.numbers[_LOG], edits.numbers.get(_PREVIOUS_LOG, 0)
    live = [folder / f"{log:06d}.log" for log in logs if log >= first or log == previous]
    return LiveFiles(
        tuple(LogFile(path, path.stat().st_size) for path in live), tuple(tables.values()), edits.numbers[_SEQUENCE]
    )


def _edits(folder: Path) -> _Edits:
    """The edits of the manifest that CURRENT names."""
    with open_file(folder / "CURRENT") as file:
        current = file.read(_LONGEST_NAME)
    if not (name := re.fullmatch(rb"(MANIFEST-[0-9]+)\n", current)):
        raise WireError("expected the name of a manifest, and the end of a line", where="CURRENT", hint=DAMAGED)
    edits = _Edits()
    manifest = folder / name[1].decode()
    if not manifest.exists():
        raise WireError(f"CURRENT names {manifest.name}, which is not there", hint=DAMAGED)
    with place(manifest.name), open_file(manifest) as file:
        for record in read_records(file):
            _add(edits, record.data)
        for tag, what in ((_LOG, "log"), (_NEXT, "next file"), (_SEQUENCE, "last record")):
            if tag not in edits.numbers:
                raise WireError(f"the number of the {what} is not said", hint=DAMAGED)
    return edits


def _add(edits: _Edits, record: memoryview) -> None:
    """Add what a record of the manifest says: files that are gone first, then the new ones."""
    at = 0
    new: dict[tuple[int, int], int] = {}
    while at < len(record):
        tag, at = read_varint(record, at, len(record))
        if tag == _COMPARATOR:
            start, at = read_slice(record, at)
            if record[start:at] != _ORDER:
                name = bytes(record[start:at][:64]).decode(errors="backslashreplace")
                hint = "Caffe's are by bytes: write the records to a new database without a comparator"
                raise WireError(f"keys in the order of {name!r}; expected {_ORDER.decode()!r}", hint=hint)
        elif tag in (_LOG, _NEXT, _SEQUENCE, _PREVIOUS_LOG):
            edits.numbers[tag], at = read_varint(record, at, len(record))
        elif tag in (_POINTER, _DELETED, _NEW):
            level, at = read_varint(record, at, len(record))
            if level >= _LEVELS:
                raise WireError(f"level {level} of {_LEVELS}", hint=DAMAGED)
            if tag == _POINTER:
                _, at = read_slice(record, at)
                continue
            number, at = read_varint(record, at, len(record))
            if tag == _DELETED:
                edits.tables.pop((level, number), None)
                continue
            new[level, number], at = read_varint(record, at, len(record))
            for _ in range(2):  # the first key and the last
                _, at = read_slice(record, at)
        else:
            raise WireError(f"an edit of kind {tag}", hint=DAMAGED)
    edits.tables.update(new)
