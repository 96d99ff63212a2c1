"""B-trees of HDF5 that lead back to themselves: libhdf5 goes through them until the program ends."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from converters import CaffeFormatError, read_caffemodel
from converters.formats.hdf5_data import read_rows
from parity_tests.test_architecture import ROOT

READ = """
import sys
from converters import CaffeFormatError, read_caffemodel
try:
    read_caffemodel(sys.argv[1])
except CaffeFormatError as error:
    print(error)
"""
GROUP, CHUNKS = 0, 1


def two_trees(path: Path) -> Path:
    """A group with names in a tree of two levels, and a dataset with its chunks in another of three."""
    with h5py.File(path, "w", libver="earliest") as file:
        for number in range(600):
            file.create_dataset(f"data/l{number}/0", data=np.float32([number]))
        file.create_dataset("data/chunks/0", data=np.ones(6000, np.float32), chunks=(1,))
    return path


def nodes_of(content: bytes, kind: int) -> list[tuple[int, int, list[int]]]:
    """Level, place, and the places of its children's addresses, of each node of a kind, the highest first."""
    found, at, width = [], -1, 16 if kind == GROUP else 32
    while (at := content.find(b"TREE" + bytes([kind]), at + 1)) >= 0:
        level, used = struct.unpack_from("<BH", content, at + 5)
        found.append((level, at, [at + 24 + width * (entry + 1) - 8 for entry in range(used)]))
    return sorted(found, reverse=True)


@pytest.mark.parametrize("kind", [GROUP, CHUNKS], ids=["group", "chunks"])
@pytest.mark.parametrize("to", ["itself", "one child", "its own level", "the node above"])
def test_a_tree_that_leads_back(kind: int, to: str, tmp_path: Path) -> None:
    """In a process of its own, which a fault of the library would end: it is refused with the place in the file."""
    path = two_trees(tmp_path / "a.h5")
    content = bytearray(path.read_bytes())
    nodes = nodes_of(content, kind)
    level, root, places = nodes[0]
    assert level == (1 if kind == GROUP else 2) and len(places) > 1
    target = {
        "itself": root, "one child": struct.unpack_from("<Q", content, places[0])[0], "its own level": root,
        "the node above": root,
    }[to]  # fmt: skip
    if to == "the node above":
        _, _, places = next(node for node in nodes if node[0] == level - (kind == CHUNKS))
    if to == "its own level":
        places = places[-1:]
    for place in places:
        struct.pack_into("<Q", content, place, target)
    path.write_bytes(content)
    done = subprocess.run([sys.executable, "-c", READ, path], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert f"a tree that leads to the node at {target} again" in done.stdout, done.stdout


@pytest.mark.parametrize("libver", ["earliest", ("earliest", "v108"), "v108", "latest"])
def test_trees_as_they_are_written(libver: str, tmp_path: Path) -> None:
    """Of every version of the format that h5py writes."""
    values = np.arange(6000, dtype=np.float32).reshape(3000, 2)
    with h5py.File(tmp_path / "a.h5", "w", libver=libver) as file:
        for number in range(300):
            file.create_dataset(f"data/l{number}/0", data=np.float32([number]))
        file.create_dataset("data/chunks/0", data=values, chunks=(7, 1), maxshape=(None, 2))
        file["data"].attrs["long"] = "x" * 3000
    blobs = read_caffemodel(tmp_path / "a.h5").blobs
    assert len(blobs) == 301 and np.array_equal(blobs["chunks"][0], values) and blobs["l299"][0] == 299


def test_a_pipe_that_a_list_names_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.h5")
    with pytest.raises(CaffeFormatError, match=r"a\.h5: this is not a regular file; expected a file"):
        read_rows(tmp_path / "a.h5", "data")
