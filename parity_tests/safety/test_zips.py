"""Zip archives whose entries lie upon each other, in each of the readers of zip archives."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import fcn_port
from converters.errors import CaffeFormatError
from fcn_port.data.errors import DataError
from fcn_port.data.unpacking import unpack
from fcn_port.recording import read_recording

BLOCKS, ENTRIES = 20_000, 4_000
"""Deflate's blocks of nothing, 5 bytes each, which every entry goes through: 0.4 GB of a file of 0.4 MB."""


def upon_each_other(body: bytes, *, names: list[bytes], blocks: int = BLOCKS) -> bytes:
    """An archive of one entry, which its directory has under several names; they may be the same."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = b"\0\0\0\xff\xff" * blocks + packer.compress(body) + packer.flush()
    sizes = zlib.crc32(body), len(packed), len(body)
    local = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 8, 0, 0, *sizes, len(names[0]), 0) + names[0]
    directory = b"".join(
        struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 8, 0, 0, *sizes, len(name), 0, 0, 0, 0, 0, 0) + name
        for name in names
    )
    count, begin = len(names), len(local) + len(packed)
    return local + packed + directory + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count, count, len(directory), begin, 0)


def numbers() -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, np.zeros(1, np.float32))
    return file.getvalue()


READERS: dict[str, tuple[Callable[[Path], object], list[bytes]]] = {
    "a recording": (read_recording, [b"a.npy"] * ENTRIES),
    "weights": (fcn_port.load, [b"archive/data.pkl", *(b"archive/data/%d" % i for i in range(ENTRIES))]),
    "a data set": (
        lambda path: unpack(path, path.parent / "data", marker="*.txt", largest=1 << 30),
        [b"%d.txt" % i for i in range(ENTRIES)],
    ),
}


@pytest.mark.parametrize(("read", "names"), READERS.values(), ids=READERS)
def test_entries_that_lie_upon_each_other(read: Callable[[Path], object], names: list[bytes], tmp_path: Path) -> None:
    path = tmp_path / ("net.pth" if names[0].startswith(b"archive") else "archive.zip")
    path.write_bytes(upon_each_other(numbers(), names=names))
    with pytest.raises((CaffeFormatError, DataError), match="share bytes"):
        read(path)


def test_an_entry_of_its_own_is_read(tmp_path: Path) -> None:
    path = tmp_path / "golden.npz"
    path.write_bytes(upon_each_other(numbers(), names=[b"a.npy"], blocks=100))
    assert read_recording(path)["a"] == 0
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["a.npy"]
