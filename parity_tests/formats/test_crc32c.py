"""CRC-32C by NumPy: the numbers of RFC 3720, and those of the sum byte by byte."""

from __future__ import annotations

import numpy as np
import pytest

from converters.formats.crc32c import crc32c

VECTORS = {
    "nothing": (b"", 0),
    "nine digits": (b"123456789", 0xE3069283),
    "zeros": (bytes(32), 0x8A9136AA),
    "ones": (b"\xff" * 32, 0x62A8AB43),
    "rising": (bytes(range(32)), 0x46DD794E),
    "falling": (bytes(range(31, -1, -1)), 0x113FDB5C),
    "a command": (
        bytes.fromhex("01c00000000000000000000000000000140000000000040000000014000000182800000000000000020000")
        + bytes(5),
        0xD9963A56,
    ),
}


@pytest.mark.parametrize("name", VECTORS)
def test_the_numbers_of_the_rfc(name: str) -> None:
    data, expected = VECTORS[name]
    assert crc32c(data) == expected


def bit_by_bit(data: bytes) -> int:
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


@pytest.mark.parametrize("size", [*range(120, 140), 191, 192, 193, 1024, 4096, 16_385, 66_000], ids=str)
def test_any_length_is_summed_as_bit_by_bit(size: int) -> None:
    """Around the length where tables begin, rows of 64 bytes, and pieces."""
    data = np.random.default_rng(size).bytes(size)
    assert crc32c(data) == bit_by_bit(data)
    other = bytearray(data)
    other[size // 2] ^= 1
    assert crc32c(bytes(other)) != crc32c(data)
