"""LevelDB's tables: keys in order, in blocks with an index. Source: its doc/table_format.md, block.cc and format.cc."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from ..errors import WireError, place
from ..safety.opening import open_file
from .leveldb_logs import DAMAGED, PUT, StoredEntry, check_sum
from .snappy import unpack_snappy
from .wire import read_varint

_FOOTER, _MAGIC = 48, bytes.fromhex("57fb808b247547db")
"""Bytes at the end of a table, and the last of them."""
_TRAILER = struct.Struct("<BI")  # how the block is packed, checksum
_NOT_PACKED, _SNAPPY, _ZSTANDARD = range(3)
_MARK = struct.Struct("<Q")
_KEPT = 1 << 20
"""Bytes of a block in the file up to which it is kept: it has many records, mostly read one after the other."""


@dataclass(frozen=True)
class TableFile:
    """A table of `size` bytes, as the manifest says; `written` tells whether it is the same file later."""

    path: Path
    size: int
    written: int

    def entries(self) -> Iterator[StoredEntry]:
        """The puts and deletes, in the order of their keys."""
        with open_file(self.path) as file:
            for offset, length in _blocks(file, self.size):
                with place(f"block at {offset}"):
                    yield from _puts(_unpacked(file, offset, length), offset, length)

    def value(self, offset: int, length: int, start: int, size: int) -> bytes:
        """The value of a put."""
        block = _kept_block(self, offset, length) if length <= _KEPT else _block(self, offset, length)
        return block[start : start + size]


def _block(table: TableFile, offset: int, length: int) -> bytes:
    with open_file(table.path) as file, place(f"block at {offset}"):
        return _unpacked(file, offset, length)


@lru_cache(maxsize=16)
def _kept_block(table: TableFile, offset: int, length: int) -> bytes:
    return _block(table, offset, length)


def _blocks(file: BinaryIO, size: int) -> Iterator[tuple[int, int]]:
    """Offset and length of each block with records, which follow each other in the file."""
    if size < _FOOTER:
        raise WireError(f"a table of {size} bytes", hint=DAMAGED)
    file.seek(size - _FOOTER)
    footer = file.read(_FOOTER)
    if not footer.endswith(_MAGIC):
        raise WireError("no table of LevelDB: it does not end as one", hint=DAMAGED)
    _, _, at = _handle(footer, 0)
    offset, length, _ = _handle(footer, at)
    if offset + length + _TRAILER.size > size:
        raise WireError(f"an index of {length} bytes at offset {offset}, in a table of {size}", hint=DAMAGED)
    free = 0
    with place(f"index at {offset}"):
        index = _unpacked(file, offset, length)
        for _, _, start, stop in _entries(index):
            offset, length, _ = _handle(index[start:stop], 0)
            if offset < free:  # one block for many entries would be there many times
                problem = f"a block of {length} bytes at offset {offset}, where {free} bytes are taken"
                raise WireError(problem, hint=DAMAGED)
            free = offset + length + _TRAILER.size
            if free > size:
                raise WireError(f"a block of {length} bytes at offset {offset}, in a table of {size}", hint=DAMAGED)
            yield offset, length


def _handle(data: bytes, at: int) -> tuple[int, int, int]:
    """Offset and length of a block, and where the bytes end that say so."""
    offset, at = read_varint(data, at, len(data))
    length, at = read_varint(data, at, len(data))
    return offset, length, at


def _unpacked(file: BinaryIO, offset: int, length: int) -> bytes:
    """A block, of which the checksum is right."""
    file.seek(offset)
    stored = file.read(length + _TRAILER.size)
    if len(stored) != length + _TRAILER.size:
        raise WireError("the file ends inside a block", hint=DAMAGED)
    packing, checksum = _TRAILER.unpack_from(stored, length)
    check_sum(stored[: length + 1], checksum)
    if packing == _NOT_PACKED:
        return stored[:length]
    if packing == _SNAPPY:
        return unpack_snappy(stored[:length])
    problem = "packed by Zstandard" if packing == _ZSTANDARD else f"packed in a way of number {packing}"
    hint = "Caffe packs by Snappy or not at all: write the database again by its tools"
    raise WireError(f"a block that is {problem}", hint=hint)


def _puts(block: bytes, offset: int, length: int) -> Iterator[StoredEntry]:
    """The puts and deletes of a block that was read from an offset and length."""
    key = b""
    for shared, start, end, stop in _entries(block):
        if shared > len(key) or shared + end - start < _MARK.size:
            raise WireError("a key that is too short", hint=DAMAGED)
        key = key[:shared] + block[start:end]
        mark = _MARK.unpack_from(key, len(key) - _MARK.size)[0]
        if mark & 0xFF > PUT:
            raise WireError(f"a key of kind {mark & 0xFF}", hint=DAMAGED)
        yield StoredEntry(key[: -_MARK.size], mark, offset, length, end, stop - end)


def _entries(block: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Of each entry the bytes shared with the key before, where its own begin and end, and where its value ends."""
    restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 * (restarts + 1)
    if not restarts or end < 0:
        raise WireError(f"{len(block)} bytes for {restarts} restarts", hint=DAMAGED)
    if any(block[end : end + 4]):  # LevelDB begins there, and would pass over what stands before
        raise WireError("entries before its first restart", hint=DAMAGED)
    at = 0
    while at < end:
        shared, at = read_varint(block, at, end)
        own, at = read_varint(block, at, end)
        size, start = read_varint(block, at, end)
        at = start + own + size
        if at > end:
            raise WireError(f"an entry of {own + size} bytes runs past its block", hint=DAMAGED)
        yield shared, start, start + own, at
