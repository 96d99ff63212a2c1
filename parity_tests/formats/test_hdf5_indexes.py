"""The newer indexes of HDF5 with numbers that libhdf5 believes: it divides by them, allocates them, or never ends."""

from __future__ import annotations

import re
import struct
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from converters import read_caffemodel
from converters.formats.hdf5_indexes import _pointers
from parity_tests.formats.test_hdf5_trees import READ
from parity_tests.lookup3 import checksum
from parity_tests.test_architecture import ROOT

VALUES = np.arange(6000, dtype=np.float32).reshape(3000, 2)
NODE, RECORD, DEPTH, ROOT_NODE, TOTAL = 6, 10, 12, 16, 26
"""The places of a tree's numbers in its header."""


def newer(path: Path, *, names: int = 40) -> Path:
    """A group with its names in a heap, and a dataset with its chunks in each of the newer indexes."""
    with h5py.File(path, "w", libver="latest") as file:
        for number in range(names):
            file.create_group(f"data/layer{number}")
        file.create_dataset("data/fixed/0", data=VALUES, chunks=(7, 1))
        file.create_dataset("data/grows/0", data=VALUES, chunks=(7, 1), maxshape=(None, 2))
        file.create_dataset("data/tree/0", data=VALUES, chunks=(7, 1), maxshape=(None, None))
    return path


def changed(path: Path, signature: bytes, size: int, *fields: tuple[int, str, int], kind: int | None = None) -> int:
    """Put numbers into the structure of a signature, the only one or that of a kind, and its checksum; its place."""
    content = bytearray(path.read_bytes())
    at = next(
        found.start() for found in re.finditer(signature, content) if kind is None or content[found.start() + 5] == kind
    )
    assert content[at + size : at + size + 4] == checksum(content[at : at + size])
    for place, form, number in fields:
        struct.pack_into(form, content, at + place, number)
    content[at + size : at + size + 4] = checksum(content[at : at + size])
    path.write_bytes(content)
    return at


def said(path: Path) -> str:
    """What a process of its own says of a file, which a fault of the library would end."""
    done = subprocess.run([sys.executable, "-c", READ, path], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, (done.returncode, done.stderr)
    return done.stdout


NAMES, CHUNKS = 5, 10
"""The kinds of trees: links by name, and chunks that no filter packed."""


@pytest.mark.parametrize("kind", [NAMES, CHUNKS], ids=["names", "chunks"])
@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ([(5, "<B", 1)], "a tree of kind 1; expected"),
        ([(RECORD, "<H", 0)], "records of 0"),
        ([(RECORD, "<H", 9)], "records of 9"),
        ([(RECORD, "<H", 0), (NODE, "<I", 0)], "nodes of 0 bytes"),
        ([(NODE, "<I", 1 << 31)], "nodes of 2147483648 bytes"),
        ([(DEPTH, "<H", 60000)], "60001 levels"),
        ([(TOTAL, "<Q", 1)], "records in a tree of 1"),
        ([(TOTAL, "<Q", 1 << 40)], f"records in a tree of {1 << 40}"),
    ],
)
def test_the_numbers_of_a_tree(kind: int, fields: list[tuple[int, str, int]], problem: str, tmp_path: Path) -> None:
    path = newer(tmp_path / "a.h5")
    at = changed(path, b"BTHD", 34, *fields, kind=kind)
    text = said(path)
    assert problem in text and f"offset {at}" in text, text


@pytest.mark.parametrize("signature, place", [(b"EAHD", 44), (b"FAHD", 8)])
def test_an_array_that_goes_on_and_on(signature: bytes, place: int, tmp_path: Path) -> None:
    path = newer(tmp_path / "a.h5")
    changed(path, signature, 68 if signature == b"EAHD" else 24, (place, "<Q", 1 << 50))
    assert f"its index has {1 << 50} chunks, and the limit is" in said(path)


@pytest.mark.parametrize("signature", [b"EAHD", b"FAHD"])
@pytest.mark.parametrize("place, number", [(5, 1), (6, 7)], ids=["kind", "size"])
def test_an_array_of_other_elements(signature: bytes, place: int, number: int, tmp_path: Path) -> None:
    """The library puts down an element where it has room for one of another kind."""
    path = newer(tmp_path / "a.h5")
    changed(path, signature, 68 if signature == b"EAHD" else 24, (place, "<B", number))
    assert "an index of elements of kind" in said(path)


def test_a_tree_of_few_nodes_that_are_named_often(tmp_path: Path) -> None:
    """Eleven nodes, each of which has the next one as each of its children: a billion names."""
    path, depth, children = newer(tmp_path / "a.h5"), 10, 8
    content = bytearray(path.read_bytes())
    header = next(found.start() for found in re.finditer(b"BTHD\0\5", content))
    leaf, count = struct.unpack_from("<QH", content, header + ROOT_NODE)
    records = bytes(content[leaf + 6 : leaf + 6 + (children - 1) * 11])
    below, total = leaf, count
    for level, (width, size) in enumerate(_pointers(512, 11, depth, 8)[1:], 1):
        own = count if level == 1 else children - 1
        pointer = below.to_bytes(8, "little") + own.to_bytes(width, "little")
        pointer += total.to_bytes(size - len(pointer), "little") if level > 1 else b""
        node = b"BTIN\0\5" + records + children * pointer
        below, total = len(content), children * total + children - 1
        content += (node + checksum(node)).ljust(512, b"\0")
    struct.pack_into("<QHQ", content, header + ROOT_NODE, below, children - 1, total)
    struct.pack_into("<H", content, header + DEPTH, depth)
    content[header + 34 : header + 38] = checksum(bytes(content[header : header + 34]))
    end = 28  # of the file, in the superblock
    struct.pack_into("<Q", content, end, len(content))
    content[44:48] = checksum(bytes(content[:44]))
    path.write_bytes(content)
    assert "the nodes of a tree share bytes" in said(path)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ([(7, "<H", 16)], "a group whose names are packed"),
        ([(110, "<H", 0), (112, "<Q", 0)], "rows of 0 blocks, of 0 to"),  # divided by 0
        ([(110, "<H", 3)], "of 3 blocks"),
        ([(112, "<Q", 1 << 20)], "of 1048576 to"),
        ([(128, "<H", 65)], "in all of 2^65"),
        ([(128, "<H", 3)], "in all of 2^3"),
        ([(140, "<H", 60000)], "a heap of 60000 rows"),
        ([(120, "<Q", 1 << 31)], "a block of names would take 2147483648 bytes"),
    ],
)
def test_the_numbers_of_a_heap(fields: list[tuple[int, str, int]], problem: str, tmp_path: Path) -> None:
    path = newer(tmp_path / "a.h5")
    assert path.read_bytes().count(b"FRHP") == 1
    changed(path, b"FRHP", 142, *fields)
    assert problem in said(path)


@pytest.mark.parametrize("order", [False, True])
def test_trees_of_many_levels_are_read(order: bool, tmp_path: Path) -> None:
    """By name and by order of creation; names so long that they lie outside the heap, in a tree of its own."""
    long = [letter * 5000 for letter in "abc"]
    with h5py.File(tmp_path / "a.h5", "w", libver="latest") as file:
        group = file.create_group("data", track_order=order)
        for name in (*map(str, range(3000)), *long):
            group.create_group(name)
        group.create_dataset("tree/0", data=VALUES, chunks=(1, 1), maxshape=(None, None))
        group.create_dataset("packed/0", data=VALUES, chunks=(1, 2), maxshape=(None, None), compression="gzip")
    content = (tmp_path / "a.h5").read_bytes()
    deep = [content[found.start() + DEPTH] for found in re.finditer(b"BTHD", content)]
    assert max(deep) > 1, deep
    model = read_caffemodel(tmp_path / "a.h5")
    assert set(model.bare) == {*map(str, range(3000)), *long}
    for name in ("tree", "packed"):
        assert np.array_equal(model.blobs[name][0], VALUES)
