"""LevelDB's files written as they should be, and as nobody should; and checksums put right in what was changed."""

from __future__ import annotations

import struct
from bisect import bisect
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from converters.formats.crc32c import crc32c
from converters.formats.wire import read_varint, write_varint

MAGIC = bytes.fromhex("57fb808b247547db")
BYTEWISE = b"leveldb.BytewiseComparator"
_BLOCK = 1 << 15

Put = tuple[bytes, "bytes | None"]
"""A key and its value, or None where it is deleted."""


def masked(data: bytes) -> bytes:
    """The checksum of some bytes as LevelDB stores it."""
    found = crc32c(data)
    return struct.pack("<I", ((found >> 15 | found << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def sliced(data: bytes) -> bytes:
    """Bytes behind their number."""
    return write_varint(len(data)) + data


def log(records: Iterable[bytes]) -> bytes:
    """A log of records, in fragments."""
    out = bytearray()
    for record in records:
        at, begun = 0, False
        while not begun or at < len(record):
            room = _BLOCK - len(out) % _BLOCK
            if room < 7:
                out += bytes(room)
                room = _BLOCK
            data = record[at : at + room - 7]
            at += len(data)
            out += fragment((1 if at == len(record) else 2) if not begun else (4 if at == len(record) else 3), data)
            begun = True
    return bytes(out)


def fragment(kind: int, data: bytes) -> bytes:
    """A fragment of a log: 1 is a whole record, 2, 3 and 4 its beginning, middle and end."""
    return masked(bytes([kind]) + data) + struct.pack("<HB", len(data), kind) + data


def batch(sequence: int, puts: Sequence[Put], *, count: int | None = None) -> bytes:
    """Puts and deletes as one record of a log."""
    body = b"".join(
        b"\0" + sliced(key) if value is None else b"\1" + sliced(key) + sliced(value) for key, value in puts
    )
    return struct.pack("<QI", sequence, len(puts) if count is None else count) + body


def block(entries: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A block of keys and values; each key says what it has of the one before."""
    body, before = bytearray(), b""
    for key, value in entries:
        shared = bisect(range(1, 1 + min(len(before), len(key))), 0, key=lambda n: before[:n] != key[:n])
        body += write_varint(shared) + write_varint(len(key) - shared) + write_varint(len(value)) + key[shared:] + value
        before = key
    return bytes(body) + struct.pack("<II", 0, 1)


def internal(key: bytes, mark: int) -> bytes:
    """A key as tables have it; `mark` is 256 times the sequence number, and 1 for a put."""
    return key + struct.pack("<Q", mark)


def table(blocks: Sequence[bytes], *, packing: int = 0, handles: Sequence[tuple[int, int]] | None = None) -> bytes:
    """A table of blocks; `handles` are what its index says of their places and lengths in place of what is so."""
    out, places = b"", []
    for each in blocks:
        places.append((len(out), len(each)))
        out += each + bytes([packing]) + masked(each + bytes([packing]))
    pairs = [write_varint(offset) + write_varint(size) for offset, size in handles or places]
    index = block((b"%08d" % number, pair) for number, pair in enumerate(pairs))
    footer = write_varint(0) * 2 + write_varint(len(out)) + write_varint(len(index))
    return out + index + b"\0" + masked(index + b"\0") + footer.ljust(40, b"\0") + MAGIC


def edit(
    *,
    tables: Sequence[tuple[int, int, int]] = (),
    gone: Sequence[tuple[int, int]] = (),
    log_number: int | None = 3,
    sequence: int | None = 1 << 40,
    comparator: bytes | None = BYTEWISE,
) -> bytes:
    """An edit of a manifest: `tables` are level, number and size of new ones, `gone` level and number."""
    out = b"" if comparator is None else b"\1" + sliced(comparator)
    for tag, number in ((2, log_number), (3, 1000), (4, sequence)):
        out += b"" if number is None else bytes([tag]) + write_varint(number)
    out += b"".join(b"\6" + bytes([level]) + write_varint(number) for level, number in gone)
    key = sliced(internal(b"a", 1))
    for level, number, size in tables:
        out += b"\7" + bytes([level]) + write_varint(number) + write_varint(size) + key * 2
    return out


def database(
    folder: Path, *, logs: dict[int, bytes] | None = None, tables: dict[int, bytes] | None = None, **said: object
) -> Path:
    """A folder with a LevelDB of logs and tables, by their numbers; `said` is what the manifest says otherwise."""
    folder.mkdir(exist_ok=True)
    tables = tables or {}
    said = {"tables": [(0, number, len(data)) for number, data in tables.items()], **said}
    (folder / "CURRENT").write_bytes(b"MANIFEST-000002\n")
    (folder / "MANIFEST-000002").write_bytes(log([edit(**said)]))  # type: ignore[arg-type]
    for number, data in (logs or {}).items():
        (folder / f"{number:06d}.log").write_bytes(data)
    for number, data in tables.items():
        (folder / f"{number:06d}.ldb").write_bytes(data)
    return folder


def snappy_packed(data: bytes) -> bytes:
    """Bytes as Snappy may have them: literals of 60, and copies where the last 60 are the same again."""
    out, before = bytearray(write_varint(len(data))), b""
    for at in range(0, len(data), 60):
        here = data[at : at + 60]
        out += (bytes([59 << 2 | 2]) + b"\x3c\0") if here == before else bytes([len(here) - 1 << 2]) + here
        before = here
    return bytes(out)


def around(folder: Path, data: bytes) -> Path:
    """A database in which some bytes are a table, the manifest or a log, whichever they look like."""
    good = log([batch(300, [(b"a", b"x")])])
    if data.endswith(MAGIC):
        return database(folder, logs={3: good}, tables={5: data})
    if BYTEWISE not in data[:64]:
        return database(folder, logs={3: data})
    database(folder, logs={3: good}, tables={5: table([block([(internal(b"b", 257), b"y")])])})
    (folder / "MANIFEST-000002").write_bytes(data)
    return folder


# Checksums put right


def resummed_log(data: bytes) -> bytes:
    """A log or manifest whose fragments have the checksums of what they are now."""
    out = bytearray(data)
    for first in range(0, len(data), _BLOCK):
        at, end = first, min(first + _BLOCK, len(data))
        while at + 7 <= end:
            stop = at + 7 + int.from_bytes(out[at + 4 : at + 6], "little")
            if stop > end:
                break
            out[at : at + 4] = masked(bytes(out[at + 6 : stop]))
            at = stop
    return bytes(out)


def changed_table(data: bytes, number: int, change: Callable[[bytes], bytes]) -> bytes:
    """A table of which a block has been changed, the index being the last one, and has its checksum again.

    A change that makes it shorter or longer leaves what stands behind it where it was.
    """
    places = list(_places(data))
    offset, length = places[number % len(places)]
    old = data[offset : offset + length + 1]  # all of it, unless the table is damaged already
    new = (change(old) + bytes(len(old)))[: len(old)]
    return data[:offset] + new + masked(new) + data[offset + len(old) + 4 :]


def _places(data: bytes) -> Iterator[tuple[int, int]]:
    """Offset and length of each block of a whole table, and of its index."""
    footer, at, numbers = data[-48:], 0, []
    for _ in range(4):
        found, at = read_varint(footer, at, 40)
        numbers.append(found)
    index = data[numbers[2] : numbers[2] + numbers[3]]
    at, end = 0, len(index) - 4 - 4 * int.from_bytes(index[-4:], "little")
    while at < end:
        sizes = []
        for _ in range(3):  # of the key what it shares and its own, and of the value
            size, at = read_varint(index, at, end)
            sizes.append(size)
        at += sizes[1]
        offset, here = read_varint(index, at, end)
        length, _ = read_varint(index, here, end)
        at += sizes[2]
        yield offset, length
    yield numbers[2], numbers[3]
