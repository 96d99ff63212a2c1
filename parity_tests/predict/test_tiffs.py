"""TIFFs of any number of channels: what is stored comes out, or a line says what of it cannot be read."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest

from fcn_port.errors import ImageError
from fcn_port.predict.images import picture_of


def tiff(values: np.ndarray, *, planes: bool, packed: bool, extra: int = 0) -> bytes:
    """A TIFF of (h, w, channels), by pixels or one channel after the other; its fourth channel is `extra`."""
    height, width, channels = values.shape
    parts = [values[:, :, i] for i in range(channels)] if planes else [values]
    strips = [zlib.compress(part.tobytes()) if packed else part.tobytes() for part in parts]
    bits, body = 8 * values.itemsize, io.BytesIO()
    entries = [
        (256, [width]), (257, [height]), (258, [bits] * channels), (259, [8 if packed else 1]),
        (262, [2 if channels in (3, 4) else 1]), (273, []), (277, [channels]), (278, [height]),
        (279, list(map(len, strips))), (284, [2 if planes else 1]),
    ]  # fmt: skip
    if channels == 4:
        entries.append((338, [extra]))
    places, at = [], 8
    for strip in strips:
        places.append(at)
        at += len(strip) + len(strip) % 2
        body.write(strip + b"\0" * (len(strip) % 2))
    further, table = at + 2 + 12 * len(entries) + 4, b""
    beside = b""
    for tag, given in entries:
        numbers = places if tag == 273 else given
        packed_numbers = struct.pack(f"<{len(numbers)}I", *numbers)
        if len(numbers) > 1:
            beside, packed_numbers = beside + packed_numbers, struct.pack("<I", further + len(beside))
        table += struct.pack("<HHI", tag, 4, len(numbers)) + packed_numbers
    return (
        b"II*\0" + struct.pack("<I", at) + body.getvalue() + struct.pack("<H", len(entries)) + table + bytes(4) + beside
    )


@pytest.mark.parametrize("packed", [False, True], ids=["as it is", "deflated"])
@pytest.mark.parametrize("planes", [False, True], ids=["pixels", "planes"])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_channels_are_those_of_the_file_or_refused(channels: int, bits: int, planes: bool, packed: bool) -> None:
    values = np.random.default_rng(channels).integers(0, 1 << bits, (6, 5, channels)).astype(f"<u{bits // 8}")
    bytes_of = (values >> (bits - 8)).astype(np.uint8)
    colours = bytes_of[:, :, :3] if channels > 2 else np.repeat(bytes_of[:, :, :1], 3, 2)
    for kind, expected in (("color", colours), ("bands", bytes_of)):
        try:
            found = picture_of(tiff(values, planes=planes, packed=packed, extra=2), kind=kind)
        except ImageError as error:
            assert "TIFF" in str(error) and (channels in (2, 5) or (bits == 16 and planes and not packed))
        else:
            assert np.array_equal(found, expected)


def test_a_fourth_channel_that_is_no_transparency_is_told_where_it_counts() -> None:
    values = np.random.default_rng(0).integers(0, 256, (6, 5, 4)).astype(np.uint8)
    file = tiff(values, planes=False, packed=False)
    assert np.array_equal(picture_of(file), values[:, :, :3])
    with pytest.raises(ImageError, match=r"a TIFF of 4 channels, of which 3 can be read; an \.npy"):
        picture_of(file, kind="bands")
