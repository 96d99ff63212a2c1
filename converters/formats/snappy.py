"""Snappy's compression, undone: LevelDB packs blocks by it. Source: format_description.txt of Snappy.

By cramjam where it is installed, which takes a sixtieth of the time. What that finds damaged is unpacked once more by
our own code, which says what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from ..errors import WireError
from .wire import read_varint

_MOST = 64 / 3
"""Bytes that a packed byte may give: the longest copy, 64 bytes, takes three."""
_LITERAL, _SHORT, _MIDDLE = range(3)
"""Kinds of pieces: bytes as they are, copies of what is up to 2 KB and up to 64 KB back; a fourth, from anywhere."""
_DAMAGED = "the file is damaged"


def unpack_snappy(packed: bytes) -> bytes:
    """The bytes that were packed; WireError for what is damaged, before it takes more memory than it may give."""
    size, at = read_varint(packed, 0, len(packed))
    if size > _MOST * len(packed):
        raise WireError(f"{len(packed)} packed bytes say that they are {size}, which is too many", hint=_DAMAGED)
    quick = _package()
    if quick is not None and (known := quick(packed)) is not None:
        return known
    try:
        found = _unpacked(packed, at)
    except IndexError:
        raise WireError(f"{len(packed)} packed bytes end inside a piece", hint=_DAMAGED) from None
    if len(found) != size:
        raise WireError(f"{len(packed)} packed bytes are {len(found)}, and say that they are {size}", hint=_DAMAGED)
    return bytes(found)


@cache
def _package() -> Callable[[bytes], bytes | None] | None:
    """The function of cramjam that unpacks, or gives None for what is damaged; None where it is not installed."""
    try:
        from cramjam import DecompressionError, snappy
    except ImportError:
        return None

    def unpack(packed: bytes) -> bytes | None:
        try:
            return bytes(snappy.decompress_raw(packed))
        except DecompressionError:
            return None

    return unpack


def _unpacked(packed: bytes, at: int) -> bytearray:
    """The bytes that the pieces from `at` on give; IndexError where they end too soon."""
    found = bytearray()
    while at < len(packed):  # many turns, of which each counts
        tag = packed[at]
        kind = tag & 3
        if kind == _MIDDLE:
            length, back = (tag >> 2) + 1, packed[at + 1] | packed[at + 2] << 8
            at += 3
        elif kind == _SHORT:
            length, back = (tag >> 2 & 7) + 4, (tag & 0xE0) << 3 | packed[at + 1]
            at += 2
        elif kind == _LITERAL:
            start, length = at + 1, (tag >> 2) + 1
            if length > 60:  # it stands behind, in so many bytes more
                start += length - 60
                length = int.from_bytes(packed[at + 1 : start], "little") + 1
            at = start + length
            if at > len(packed):
                raise IndexError
            found += packed[start:at]
            continue
        else:
            length, back = (tag >> 2) + 1, int.from_bytes(packed[at + 1 : at + 5], "little")
            at += 5
            if at > len(packed):
                raise IndexError
        start = len(found) - back
        if start < 0 or not back:
            raise WireError(f"a copy of what is {back} bytes back, at byte {len(found)}", hint=_DAMAGED)
        if back >= length:
            found += found[start : start + length]
        else:  # what it copies goes on into what it makes
            found += (found[start:] * (length // back + 1))[:length]
    return found
