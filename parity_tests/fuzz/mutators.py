"""Changes that get past the first check: text by tokens, headers with their lengths, members with their checksums."""

from __future__ import annotations

import gzip
import io
import json
import random
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator

from ..hostile import UTF8_NAMES
from ..leveldb_files import MAGIC, changed_table, resummed_log
from ..lookup3 import checksum
from .judge import Change

NUMBERS = (
    "0", "1", "-1", "2", "3", "7", "33", "255", "256", "65536", "100000", "16777217", "2147483647", "-2147483648",
    "2147483648", "4294967295", "4294967296", "9223372036854775807", "18446744073709551615", "18446744073709551616",
    "0.5", "-0.0", "1e-30", "1e-46", "1e38", "-1e38", "1e39", "1e400", "nan", "inf", "-inf", "0x10", "010", "1e9",
    "true", "9" * 400, "9" * 5000, "0." + "9" * 400,
)  # fmt: skip
"""What a size, a count, an axis or a factor must not be, and now and then what it may be."""

_TOKENS = re.compile(r'"(?:[^"\\\n]|\\.)*"|\'(?:[^\'\\\n]|\\.)*\'|[\w.+-]+|[^\s\w]')
_BLOCK = re.compile(r"[\w.]+\s*:?\s*(\{[^{}]*\})")
_NUMBER = re.compile(r"[-+]?[\d.][\w.+-]*")


def plain(data: bytes, seed: int, change: Change) -> bytes:
    """Bytes as bytes."""
    return change(data)


def text(data: bytes, seed: int, change: Change) -> bytes:
    """A text with its numbers, words, strings or lines changed; one time in ten its bytes."""
    r = random.Random(seed)
    if r.random() < 0.1:
        return change(data)
    found = data.decode("utf-8", "surrogateescape")
    for _ in range(r.choice((1, 1, 1, 2, 3, 6))):
        found = r.choice((_number, _number, _number, _word, _string, _line, _line, _block))(found, r)
    return found.encode("utf-8", "surrogateescape")


def _number(found: str, r: random.Random) -> str:
    return _replaced(found, [m for m in _TOKENS.finditer(found) if _NUMBER.fullmatch(m[0])], r.choice(NUMBERS), r)


def _word(found: str, r: random.Random) -> str:
    words = [m for m in _TOKENS.finditer(found) if m[0][0].isalpha() or m[0][0] in "\"'"]
    if not words:
        return found
    new = r.choice(words)[0]  # a string for a string, mostly, and a word for a word
    return _replaced(found, [m for m in words if (m[0][0] == new[0]) or r.random() < 0.1], new, r)


def _string(found: str, r: random.Random) -> str:
    name = r.choice(UTF8_NAMES)[:300].replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return _replaced(found, [m for m in _TOKENS.finditer(found) if m[0][0] in "\"'"], f'"{name}"', r)


def _line(found: str, r: random.Random) -> str:
    """A line doubled, moved or left out."""
    lines = found.splitlines(keepends=True)
    if not lines:
        return found
    here, there = r.randrange(len(lines)), r.randrange(len(lines))
    kept = lines[here]
    if r.random() < 0.6:
        del lines[here]
    if r.random() < 0.7:
        lines.insert(there, kept)
    return "".join(lines)


def _block(found: str, r: random.Random) -> str:
    """Something in brackets doubled in place, put elsewhere, or emptied."""
    blocks = list(_BLOCK.finditer(found))
    if not blocks:
        return found
    block, other = r.choice(blocks), r.choice(blocks)
    new = r.choice((block[0] * 2, other[0], block[0].replace(block[1], other[1]), block[0].replace(block[1], "{}")))
    return found[: block.start()] + new + found[block.end() :]


def _replaced(found: str, places: list[re.Match[str]], new: str, r: random.Random) -> str:
    if not places:
        return found
    place = r.choice(places)
    return found[: place.start()] + new + found[place.end() :]


# Files with lengths and checksums


_SUMMED = {b"\x89HDF": 44, b"BTHD": 34, b"FRHP": 142, b"FAHD": 24, b"EAHD": 68, b"OHDR": 0}
"""The beginnings of HDF5's newer structures and, where it is always the same, where the checksum of each stands."""
_STRUCTURE = re.compile(b"|".join(map(re.escape, _SUMMED)))


def addresses(data: bytes, seed: int, change: Change) -> bytes:
    """HDF5's: bytes, addresses and sizes overwritten in place, so that the rest stays where it is.

    Of a file with checksums mostly within one structure, which is summed again: the library looks no further else.
    """
    r = random.Random(seed)
    if len(data) < 16 or r.random() < 0.2:
        return change(data)
    damaged = bytearray(data)
    start, end = 0, len(damaged)
    structures = list(_summed(data))
    if structures and r.random() < 0.8:
        start, end = r.choice(structures)
    for _ in range(r.choice((1, 1, 2, 4, 16))):
        here = r.randrange(start, end - 8)
        damaged[here] = r.choice((0, 1, 127, 128, 255, r.randrange(256), damaged[here] ^ (1 << r.randrange(8))))
        if r.random() < 0.3:
            sizes = ((1 << 64) - 1, 1 << 62, 1 << 40, 1 << 32, 1 << 31, r.randrange(len(damaged)), 0)
            damaged[here : here + 8] = r.choice(sizes).to_bytes(8, "little")
    if end < len(damaged):
        damaged[end : end + 4] = checksum(damaged[start:end])
    return bytes(damaged)


def _summed(data: bytes) -> Iterator[tuple[int, int]]:
    """Begin and end of each structure of HDF5's newer format, which has a checksum behind it."""
    for found in _STRUCTURE.finditer(data):
        start, size = found.start(), _SUMMED[found[0]]
        if found[0] == b"\x89HDF" and data[start + 8 : start + 9] < b"\2":
            continue  # a superblock without
        if found[0] == b"OHDR":
            flags = data[start + 5] if start + 5 < len(data) else 0
            at = start + 6 + 16 * bool(flags & 0x20) + 4 * bool(flags & 0x10)
            width = 1 << (flags & 3)
            size = at + width - start + int.from_bytes(data[at : at + width], "little")
        if 16 <= size <= len(data) - start - 4:
            yield start, start + size


def header(data: bytes, seed: int, change: Change) -> bytes:
    """A safetensors file whose header, or a text within it, is changed as text; it has its true length again."""
    r = random.Random(seed)
    length = int.from_bytes(data[:8], "little")
    if r.random() < 0.15 or not 0 < length <= len(data) - 8:
        return change(data)
    old = data[8 : 8 + length]
    changed = (_inner(old, r, change) if r.random() < 0.7 else None) or text(old, seed, change)
    return len(changed).to_bytes(8, "little") + changed + data[8 + length :]


def card(data: bytes, seed: int, change: Change) -> bytes:
    """JSON changed as text, or JSON in a string of its card."""
    r = random.Random(seed)
    return (_inner(data, r, change, name="card") if r.random() < 0.4 else None) or text(data, seed, change)


def _inner(old: bytes, r: random.Random, change: Change, *, name: str = "__metadata__") -> bytes | None:
    """JSON with one of the texts under `name` changed, the prototxt mostly; None where there is none."""
    try:
        found = json.loads(old)
        metadata = found[name]
        key = "prototxt" if "prototxt" in metadata and r.random() < 0.7 else r.choice(sorted(metadata))
        metadata[key] = text(metadata[key].encode(), r.randrange(1 << 30), change).decode("utf-8", "replace")
        return json.dumps(found).encode()
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        return None


def members(data: bytes, seed: int, change: Change) -> bytes:
    """A zip archive with one member changed and packed again, or its name."""
    r = random.Random(seed)
    if r.random() < 0.2:
        return change(data)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            found = [(info.filename, archive.read(info)) for info in archive.infolist() if info.file_size < 1 << 20]
    except Exception:  # whatever zipfile raises for an archive that is damaged already
        return change(data)
    if not found:
        return change(data)
    here = r.randrange(len(found))
    name, body = found[here]
    if r.random() < 0.1:
        name = r.choice((*UTF8_NAMES, "../up", "/abs", name.upper()))[:200]
    else:
        body = change(body)
    found[here : here + 1] = [(name, body)] * r.choice((1, 1, 1, 1, 2))
    out = io.BytesIO()
    packing = r.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", packing) as archive:
        warnings.simplefilter("ignore")  # names that come twice are what is wanted
        for name, body in found:
            try:
                archive.writestr(zipfile.ZipInfo(name.replace("\0", "0") or "x"), body)
            except ValueError:
                continue
    return out.getvalue()


def tar(data: bytes, seed: int, change: Change) -> bytes:
    """A tar archive, perhaps in gzip, with a header changed and summed again, or a zip."""
    if data.startswith(b"PK"):
        return members(data, seed, change)
    r = random.Random(seed)
    packed = data.startswith(b"\x1f\x8b")
    try:
        raw = bytearray(gzip.decompress(data) if packed else data)
    except (OSError, EOFError, zlib.error):
        return change(data)
    blocks = len(raw) // 512
    if not blocks or r.random() < 0.15 or len(raw) > 1 << 20:
        return change(data)
    here = 512 * r.randrange(min(blocks, 16))
    block = raw[here : here + 512]
    if r.random() < 0.5:
        fields = ((0, 100), (100, 8), (108, 8), (124, 12), (136, 12), (156, 1), (157, 100), (257, 8), (345, 155))
        start, size = r.choice(fields)
        block[start : start + size] = (change(bytes(block[start : start + size])) + bytes(size))[:size]
    else:
        block[:] = (change(bytes(block)) + bytes(512))[:512]
    if r.random() < 0.9:
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
    raw[here : here + 512] = block
    return gzip.compress(bytes(raw), 1, mtime=0) if packed and r.random() < 0.9 else bytes(raw)


def leveldb(data: bytes, seed: int, change: Change) -> bytes:
    """A block of a table of LevelDB's or a log changed and summed again."""
    r = random.Random(seed)
    if r.random() < 0.15:
        return change(data)
    if not data.endswith(MAGIC):
        return resummed_log(change(data))
    try:
        return changed_table(data, r.randrange(64), change)
    except ValueError:  # a table that is damaged already
        return change(data)


def png(data: bytes, seed: int, change: Change) -> bytes:
    """A PNG with a chunk changed and summed again; any other picture as bytes."""
    r = random.Random(seed)
    if not data.startswith(b"\x89PNG\r\n\x1a\n") or r.random() < 0.2:
        return change(data)
    chunks, place = [], 8
    while place + 12 <= len(data):
        size = int.from_bytes(data[place : place + 4], "big")
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + size]))
        place += 12 + size
    if not chunks:
        return change(data)
    here = r.randrange(len(chunks))
    kind, body = chunks[here]
    if kind == b"IDAT" and r.random() < 0.5:
        body = _repacked(body, change)
    else:
        body = change(body or b"\0")
    chunks[here : here + 1] = [(kind, body)] * r.choice((0, 1, 1, 1, 1, 1, 2))
    summed = (len(b).to_bytes(4, "big") + k + b + zlib.crc32(k + b).to_bytes(4, "big") for k, b in chunks)
    return data[:8] + b"".join(summed)


def matlab(data: bytes, seed: int, change: Change) -> bytes:
    """A MAT file whose first packed variable is changed within and packed again."""
    r = random.Random(seed)
    if len(data) < 136 or data[128:132] != b"\x0f\0\0\0" or r.random() < 0.2:
        return change(data)
    size = struct.unpack_from("<I", data, 132)[0]
    body = _repacked(data[136 : 136 + size], change)
    return data[:132] + struct.pack("<I", len(body)) + body + data[136 + size :]


def _repacked(body: bytes, change: Change) -> bytes:
    try:
        return zlib.compress(change(zlib.decompress(body)), 1)
    except zlib.error:
        return change(body)


def at_random(r: random.Random) -> Change:
    """A change for where there is no libFuzzer: bytes set, runs lost, doubled or made up."""

    def change(data: bytes) -> bytes:
        for _ in range(r.choice((1, 1, 2, 4))):
            here, run = r.randrange(len(data) + 1), r.choice((1, 2, 4, 16))
            kept, lost, rest = data[:here], data[here : here + run], data[here + run :]
            data = kept + r.choice((r.randbytes(len(lost)), b"", lost * 2, r.randbytes(run) + lost)) + rest
        return data or b"\0"

    return change
