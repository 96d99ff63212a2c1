"""Bob Jenkins' lookup3, the checksum behind each structure of HDF5's newer format, as its specification has it."""

from __future__ import annotations

import struct


def checksum(raw: bytes | bytearray) -> bytes:
    """Four bytes, as they stand behind a structure."""
    mask = (1 << 32) - 1
    state = [(0xDEADBEEF + len(raw)) & mask] * 3

    def turned(value: int, by: int) -> int:
        return (value << by | value >> 32 - by) & mask

    at = 0
    while True:
        part = raw[at : at + 12].ljust(12, b"\0")
        at += 12
        state = [(own + more) & mask for own, more in zip(state, struct.unpack("<3I", part), strict=True)]
        a, b, c = state
        if at >= len(raw):
            break
        for by in (4, 6, 8, 16, 19, 4):
            a, c = ((a - c) & mask) ^ turned(c, by), (c + b) & mask
            a, b, c = b, c, a
        state = [a, b, c]
    for by in (14, 11, 25, 16, 4, 14, 24):
        c = ((c ^ b) - turned(b, by)) & mask
        a, b, c = b, c, a
    return struct.pack("<I", b)
