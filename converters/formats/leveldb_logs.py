"""LevelDB's logs: records in fragments, and the puts and deletes of batches that no table has yet.

A log is read as LevelDB recovers it (its doc/log_format.md, log_reader.cc and write_batch.cc): a record that the end of
the file cuts is what a program leaves that was ended while it wrote, and does not count; damage before is an error.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ..errors import WireError, place
from ..safety.opening import open_file
from .crc32c import crc32c
from .wire import read_varint

DELETE, PUT = range(2)
"""Kinds of entries."""
LAST_SEQUENCE = (1 << 56) - 1

DAMAGED = "the database is damaged, or was cut"
_BLOCK = 1 << 15
_HEAD = struct.Struct("<IHB")  # checksum, length, kind
_NONE, _FULL, _FIRST, _MIDDLE, _LAST = range(5)
_BATCH = struct.Struct("<QI")  # sequence number of its first entry, number of entries


class StoredEntry(NamedTuple):
    """A put or delete: `mark` is its sequence number, and in the lowest byte which it is.

    A put's value is `size` bytes, from `start` on in the block of `length` bytes at `offset` of a table, or in the
    fragment at `offset` of a log and those that follow.
    """

    key: bytes
    mark: int
    offset: int
    length: int
    start: int
    size: int


@dataclass(frozen=True)
class LogFile:
    """A log with puts and deletes, of `size` bytes."""

    path: Path
    size: int

    def entries(self) -> Iterator[StoredEntry]:
        """The puts and deletes, in their order."""
        with open_file(self.path) as file:
            for record in read_records(file):
                with place(f"batch at {record.offsets[0]}"):
                    yield from _entries(record)

    def value(self, offset: int, length: int, start: int, size: int) -> bytes:
        """The value of a put."""
        found = bytearray()
        with open_file(self.path) as file:
            for fragment in _fragments(file, offset):
                found += fragment.data[start : start + size - len(found)]
                start = 0
                if len(found) == size:
                    return bytes(found)
        raise WireError("the file ends inside a value", where=f"offset {offset}", hint=DAMAGED)


class _Fragment(NamedTuple):
    kind: int
    offset: int
    data: bytes


class LogRecord(NamedTuple):
    """A record of a log: fragment i begins at `starts[i]` of the data, and at `offsets[i]` of the file."""

    data: memoryview
    starts: list[int]
    offsets: list[int]


def read_records(file: BinaryIO) -> Iterator[LogRecord]:
    """The records of a log; WireError for damage, and nothing for one that the end of the file cuts."""
    data, starts, offsets = bytearray(), list[int](), list[int]()
    for fragment in _fragments(file):
        goes_on = fragment.kind in (_MIDDLE, _LAST)
        if data and not goes_on:
            raise WireError("a record without its end", where=f"offset {fragment.offset}", hint=DAMAGED)
        if goes_on and not starts:
            raise WireError("a record without its beginning", where=f"offset {fragment.offset}", hint=DAMAGED)
        if not goes_on:  # also behind a beginning without bytes, which old versions wrote at the end of a block
            starts, offsets = [], []
        if fragment.kind == _NONE:
            continue
        starts.append(len(data))
        offsets.append(fragment.offset)
        data += fragment.data
        if fragment.kind in (_FULL, _LAST):
            yield LogRecord(memoryview(data), starts, offsets)
            data, starts, offsets = bytearray(), [], []


def _fragments(file: BinaryIO, offset: int = 0) -> Iterator[_Fragment]:
    """The fragments from an offset on; the last one is left out where the file ends inside it."""
    at = offset % _BLOCK
    first = file.seek(offset - at)
    while block := file.read(_BLOCK):
        while at + _HEAD.size <= len(block):
            where = first + at
            checksum, length, kind = _HEAD.unpack_from(block, at)
            end = at + _HEAD.size + length
            if end > len(block) < _BLOCK:
                return
            if kind == _NONE and not length:  # room that was reserved, and not written
                yield _Fragment(kind, where, b"")
                break
            if end > len(block) or not _FULL <= kind <= _LAST:
                problem = "a fragment that runs past its block" if end > len(block) else f"a fragment of kind {kind}"
                raise WireError(problem, where=f"offset {where}", hint=DAMAGED)
            with place(f"offset {where}"):
                check_sum(block[at + 6 : end], checksum)
            yield _Fragment(kind, where, block[at + _HEAD.size : end])
            at = end
        first, at = first + _BLOCK, 0


def check_sum(data: bytes, masked: int) -> None:
    """WireError where bytes do not have the checksum that is stored for them, turned and moved as LevelDB does."""
    turned = (masked - 0xA282EAD8) & 0xFFFFFFFF
    if crc32c(data) != (turned >> 17 | turned << 15) & 0xFFFFFFFF:
        raise WireError("checksum mismatch", hint=DAMAGED)


def _entries(record: LogRecord) -> Iterator[StoredEntry]:
    """The puts and deletes of a batch."""
    data = record.data
    if len(data) < _BATCH.size:
        raise WireError(f"a batch of {len(data)} bytes", hint=DAMAGED)
    sequence, count = _BATCH.unpack_from(data)
    if sequence + count > LAST_SEQUENCE:
        raise WireError(f"sequence number {sequence}", hint=DAMAGED)
    at, found = _BATCH.size, 0
    while at < len(data) and found < count:
        kind = data[at]
        if kind not in (DELETE, PUT):
            raise WireError(f"an entry of kind {kind} in a batch", hint=DAMAGED)
        start, at = read_slice(data, at + 1)
        key, start = bytes(data[start:at]), at
        if kind == PUT:
            start, at = read_slice(data, at)
        piece = bisect_right(record.starts, start) - 1
        mark = (sequence + found) << 8 | kind
        yield StoredEntry(key, mark, record.offsets[piece], 0, start - record.starts[piece], at - start)
        found += 1
    if at < len(data) or found != count:
        raise WireError(f"a batch of {count} entries that has others", hint=DAMAGED)


def read_slice(data: memoryview, at: int) -> tuple[int, int]:
    """The beginning and end of bytes that stand behind their number."""
    size, start = read_varint(data, at, len(data))
    if start + size > len(data):
        raise WireError(f"{size} bytes at offset {start} of {len(data)}", hint=DAMAGED)
    return start, start + size
