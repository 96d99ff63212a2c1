"""The records of an LMDB, as Caffe's tools write them: read from the pages themselves, and only read.

liblmdb maps the file and trusts it: a database that was cut, or a page with a changed byte, ends the program with a
bus error (docs/log.md). Here every page, node and length is checked before it is used, nothing is locked, and a value
is read when it is asked for. Source: LMDB's lib/mdb.c (MDB_meta, MDB_page, MDB_node), data version 1, 64 bits.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ..errors import WireError
from ..safety.limits import check_limit
from ..safety.opening import open_file

LMDB_FILE = "data.mdb"
"""The file of an LMDB in its folder."""

_NODE = struct.Struct("<HHHH")  # of the value's size or the page's number two parts, flags, length of the key
_HEADER = struct.Struct("<QHHHH")  # page number, padding, flags, lower, upper
_MAGIC, _VERSION = 0xBEEFC0DE, 1
_BRANCH, _LEAF = 1, 2
_BIG, _SUB, _DUPLICATES = 1, 2, 4
_PAGE_SIZES = tuple(1 << bits for bits in range(8, 17))
_DEEPEST = 32


@dataclass(frozen=True)
class LmdbFile:
    """The records of an LMDB in the order of their keys: record i is `sizes[i]` bytes at `offsets[i]` of `path`."""

    path: Path
    keys: tuple[bytes, ...]
    offsets: tuple[int, ...]
    sizes: tuple[int, ...]

    def value(self, number: int) -> bytes:
        """The bytes of a record; WireError where the file has become shorter."""
        with open_file(self.path) as file:
            file.seek(self.offsets[number])
            found = file.read(self.sizes[number])
        if len(found) != self.sizes[number]:
            raise WireError(f"the file ends inside record {number}", path=self.path, hint=_CUT)
        return found


def is_lmdb(place: Path) -> bool:
    """True for the folder of an LMDB, or its file."""
    return (place / LMDB_FILE).is_file() or (place.suffix == ".mdb" and place.is_file())


def read_lmdb(place: str | os.PathLike[str]) -> LmdbFile:
    """The records of an LMDB, its folder or its file; WireError for one that is damaged, cut, empty or of tables.

    Keys, and where values lie, are read here; the values are not.
    """
    path = Path(place)
    path = path / LMDB_FILE if path.is_dir() else path
    try:
        with open_file(path) as file:
            pages = _Pages.of(file)
            found = pages.records()
    except WireError as error:
        raise error.in_file(path) from None
    if not found:
        raise WireError("the database has no records", path=path)
    keys, offsets, sizes = zip(*found, strict=True)
    return LmdbFile(path, keys, offsets, sizes)


_CUT = "the database was cut, or is still being written: copy it again"


@dataclass(frozen=True)
class _Pages:
    """The pages of a database that is open: `count` of `size` bytes each, the tree of which begins at `root`."""

    file: BinaryIO
    size: int
    count: int
    root: int
    entries: int

    @classmethod
    def of(cls, file: BinaryIO) -> _Pages:
        """The pages as the newer one of the two meta pages says."""
        first = file.read(_PAGE_SIZES[-1] + 512)
        metas = [_read_meta(first, 0)]
        metas += [_read_meta(first, metas[0][1])]
        _, size, pages, root, entries = max(metas)
        length = file.seek(0, os.SEEK_END)
        if pages * size > length:
            raise WireError(f"{pages} pages of {size} bytes, and the file has {length} bytes", hint=_CUT)
        return cls(file, size, pages, root, entries)

    def records(self) -> list[tuple[bytes, int, int]]:
        """The key, offset and size of each record, in order; each page is seen once."""
        found: list[tuple[bytes, int, int]] = []
        if self.root != _NONE:
            self._add(self.root, 0, set(), found)
        if len(found) != self.entries:
            raise WireError(f"{len(found)} records, and the database says {self.entries}", hint=_CUT)
        return found

    def _add(self, number: int, depth: int, seen: set[int], found: list[tuple[bytes, int, int]]) -> None:
        """Add the records below a page."""
        check_limit(depth, _DEEPEST, what="the tree is deeper than", unit="levels")
        if number in seen:
            raise WireError("two branches of the tree have one page", where=f"page {number}")
        seen.add(number)
        page, flags = self._page(number)
        taken = 0
        for place in self._nodes(page, number):
            low, high, marks, length = _NODE.unpack_from(page, place)
            value = place + 8 + length
            if value > self.size:
                raise WireError("a key runs past the end of its page", where=f"page {number}")
            taken += value - place
            if taken > self.size:  # one key for thousands of records would be there a thousand times
                raise WireError(
                    "nodes that lie over each other", where=f"page {number}", hint="the database is damaged"
                )
            if flags & _BRANCH:
                self._add(low | high << 16 | marks << 32, depth + 1, seen, found)
            else:
                offset, size = self._value(page, number, value, low | high << 16, marks)
                found.append((page[place + 8 : value], offset, size))

    def _page(self, number: int) -> tuple[bytes, int]:
        """A page of the tree, and its flags."""
        if not 2 <= number < self.count:
            raise WireError(f"page {number} is asked for; there are {self.count}", hint=_CUT)
        self.file.seek(number * self.size)
        page = self.file.read(self.size)
        own, _, flags, _, _ = _HEADER.unpack_from(page)
        if own != number or flags & ~0x10 not in (_BRANCH, _LEAF):
            raise WireError("no page of a tree of records", where=f"page {number}", hint="the database is damaged")
        return page, flags

    def _nodes(self, page: bytes, number: int) -> tuple[int, ...]:
        """The places at which the nodes of a page begin."""
        lower = struct.unpack_from("<H", page, 12)[0]
        if not 16 <= lower <= self.size or lower % 2:
            raise WireError("a page that holds more than it can", where=f"page {number}")
        places = struct.unpack_from(f"<{(lower - 16) // 2}H", page, 16)
        if places and not lower <= min(places) <= max(places) <= self.size - 8:
            raise WireError("a node outside its page", where=f"page {number}")
        return places

    def _value(self, page: bytes, number: int, place: int, size: int, marks: int) -> tuple[int, int]:
        """The offset and size of a record's value: in its page, or in pages of its own."""
        if marks & (_SUB | _DUPLICATES):
            raise WireError("a database of tables or of several values for a key; Caffe's have none of these")
        if not marks & _BIG:
            if place + size > self.size:
                raise WireError("a value runs past the end of its page", where=f"page {number}")
            return number * self.size + place, size
        if place + 8 > self.size:
            raise WireError("a node runs past the end of its page", where=f"page {number}")
        first = int(struct.unpack_from("<Q", page, place)[0])
        if first < 2 or first * self.size + 16 + size > self.count * self.size:
            raise WireError(f"a value of {size} bytes at page {first} of {self.count}", where=f"page {number}")
        return first * self.size + 16, size


_NONE = (1 << 64) - 1


def _read_meta(first: bytes, offset: int) -> tuple[int, int, int, int, int]:
    """Transaction, size and count of pages, root and number of records, of the meta page at an offset."""
    if len(first) < offset + 16 + 136:
        raise WireError("too short for an LMDB", hint=_CUT)
    magic, version = struct.unpack_from("<II", first, offset + 16)
    if magic != _MAGIC:
        raise WireError(
            "not an LMDB, or one of another machine: 32 bits, or another order of bytes",
            hint="`mdb_dump` there and `mdb_load` here bring it over",
        )
    if version != _VERSION:
        raise WireError(f"version {version} of LMDB; {_VERSION} is read")
    size = struct.unpack_from("<I", first, offset + 16 + 24)[0]
    entries, root, last, transaction = struct.unpack_from("<QQQQ", first, offset + 16 + 104)
    if size not in _PAGE_SIZES:
        raise WireError(f"pages of {size} bytes")
    return transaction, size, last + 1, root, entries
