"""Snappy undone: each kind of piece by hand, damage, random changes; what LevelDB packed is in test_leveldb_file.py."""

from __future__ import annotations

import random

import pytest

from converters.errors import CaffeFormatError
from converters.formats import snappy
from converters.formats.snappy import unpack_snappy
from converters.formats.wire import write_varint


@pytest.fixture(params=["by cramjam", "by our own code"], autouse=True)
def _by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways, which give the same bytes and the same words."""
    if request.param == "by our own code":
        monkeypatch.setattr(snappy, "_package", lambda: None)
    else:
        pytest.importorskip("cramjam", reason="what unpacks quickly: pip install fcn-port[leveldb]")


def literal(data: bytes) -> bytes:
    size = len(data) - 1
    if size < 60:
        return bytes([size << 2]) + data
    width = (size.bit_length() + 7) // 8
    return bytes([59 + width << 2]) + size.to_bytes(width, "little") + data


LONG = bytes(range(256)) * 300
PACKED = {
    "nothing": (b"\0", b""),
    "a short literal": (b"\3" + literal(b"abc"), b"abc"),
    "61 bytes": (b"\x3d" + literal(LONG[:61]), LONG[:61]),
    "300 bytes": (write_varint(300) + literal(LONG[:300]), LONG[:300]),
    "76,800 bytes": (write_varint(len(LONG)) + literal(LONG), LONG),
    "a literal's length in four bytes": (b"\2" + b"\xfc\1\0\0\0ab", b"ab"),
    "a copy from near": (b"\x08" + literal(b"abcd") + b"\x01\x04", b"abcdabcd"),
    "a copy from 300 back": (
        write_varint(311) + literal(LONG[:300]) + bytes([7 << 2 | 1 | 1 << 5, 300 - 256]), LONG[:300] + LONG[:11],
    ),
    "a copy from far": (
        write_varint(76_864) + literal(LONG) + b"\xfe" + (60_000).to_bytes(2, "little"), LONG + LONG[16_800:16_864],
    ),
    "a copy from anywhere": (
        write_varint(76_801) + literal(LONG) + b"\x03" + (76_800).to_bytes(4, "little"), LONG + LONG[:1],
    ),
    "a copy of what it makes": (b"\x42" + literal(b"ab") + b"\xfe\2\0", b"ab" * 33),
}  # fmt: skip


@pytest.mark.parametrize("name", PACKED)
def test_each_kind_of_piece(name: str) -> None:
    packed, expected = PACKED[name]
    assert unpack_snappy(packed) == expected


BAD = {
    "nothing at all": (b"", "end inside a varint"),
    "far too many bytes": (write_varint(1 << 30) + literal(b"a"), "which is too many"),
    "fewer than it says": (b"\4" + literal(b"abc"), "are 3, and say that they are 4"),
    "more than it says": (b"\2" + literal(b"abc"), "are 3, and say that they are 2"),
    "a literal cut": (b"\3" + literal(b"abc")[:-1], "end inside a piece"),
    "a length cut": (b"\3\xf4", "end inside a piece"),
    "a short copy cut": (b"\3\0a\1", "end inside a piece"),
    "a copy cut": (b"\3\0a\2\1", "end inside a piece"),
    "a far copy cut": (b"\3\0a\3\1\0\0", "end inside a piece"),
    "before the beginning": (b"\5\0a\1\2", "2 bytes back, at byte 1"),
    "from itself": (b"\5\0a\1\0", "0 bytes back"),
}


@pytest.mark.parametrize("name", BAD)
def test_damage_is_refused(name: str) -> None:
    packed, expected = BAD[name]
    with pytest.raises(CaffeFormatError, match=expected):
        unpack_snappy(packed)


def test_random_changes_give_bytes_or_an_error() -> None:
    """Never more than 64 bytes for three."""
    r = random.Random(0)
    whole = [packed for packed, _ in PACKED.values()]
    unpacked = 0
    for _ in range(3000):
        packed = bytearray(r.choice(whole)[: r.randrange(1, 400)])
        for _ in range(r.choice((1, 2, 8))):
            packed[r.randrange(len(packed))] = r.randrange(256)
        try:
            found = unpack_snappy(bytes(packed))
        except CaffeFormatError:
            continue
        unpacked += 1
        assert 3 * len(found) <= 64 * len(packed)
    assert unpacked > 30
