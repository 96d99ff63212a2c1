"""Stores of Caffe's that ask for much more memory than they have bytes; each is refused in a line, by name."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import h5py
import pytest

from converters import CaffeFormatError
from converters.formats import is_leveldb
from fcn_port.data import open_dataset
from fcn_port.data.stored import open_store
from parity_tests.leveldb_files import block, database, internal, table

MOST = 96 << 20


def lmdb_of_one_key(root: Path) -> Path:
    """An LMDB of a page of 64 KiB, all of whose 16,376 records have the same node, and so a key of 32 KB."""
    page, nodes = 1 << 16, (1 << 14) - 8
    lower = 16 + 2 * nodes
    meta = bytearray(page)
    struct.pack_into("<II", meta, 16, 0xBEEFC0DE, 1)
    struct.pack_into("<I", meta, 40, page)
    struct.pack_into("<QQQQ", meta, 120, nodes, 2, 2, 1)
    leaf = bytearray(page)
    struct.pack_into("<QHHHH", leaf, 0, 2, 0, 2, lower, lower)
    struct.pack_into(f"<{nodes}H", leaf, 16, *[lower] * nodes)
    struct.pack_into("<HHHH", leaf, lower, 1, 0, 0, page - lower - 9)
    root.mkdir()
    (root / "data.mdb").write_bytes(meta + meta + leaf)
    return root


def leveldb_of_long_keys(root: Path) -> Path:
    """A LevelDB of 2,000 keys of 60 KB that begin as the one before does, which it says in a few bytes."""
    keys = (internal(bytes(60_000) + b"%08d" % number, 257) for number in range(2000))
    return database(root, tables={5: table([block((key, b"") for key in keys)])})


def hdf5_of_no_rows(root: Path) -> Path:
    """A list of HDF5 files, of which each says that it has 200,000 rows, none of them written."""
    root.mkdir()
    for i in range(9):
        with h5py.File(root / f"{i}.h5", "w") as file:
            for top in ("data", "label"):
                file.create_dataset(top, shape=(200_000, 1, 2, 2), chunks=(1024, 1, 2, 2), dtype="f4")
    (root / "all.txt").write_text("".join(f"{i}.h5\n" for i in range(9)))
    return root / "all.txt"


MADE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "an LMDB of one key": (lmdb_of_one_key, "page 2: nodes that lie over each other"),
    "a LevelDB of long keys": (leveldb_of_long_keys, "its keys would take"),
    "HDF5 of no rows": (hdf5_of_no_rows, r"1\.h5: a list of its rows would take"),
}


@pytest.mark.parametrize("kind", MADE)
def test_a_store_takes_memory_by_its_size(kind: str, tmp_path: Path) -> None:
    make, said = MADE[kind]
    place = make(tmp_path / "store")
    tracemalloc.start()
    try:
        with pytest.raises(CaffeFormatError, match=said):
            open_store(place, top="data")
        assert tracemalloc.get_traced_memory()[1] < MOST
    finally:
        tracemalloc.stop()


def test_a_folder_with_half_of_what_tells_a_leveldb_is_none(tmp_path: Path) -> None:
    for name, is_one in (("CURRENT", False), ("MANIFEST-000002", True)):
        (tmp_path / name).touch()
        assert is_leveldb(tmp_path) is is_one
    (tmp_path / "CURRENT").unlink()
    assert not is_leveldb(tmp_path)


@pytest.mark.parametrize("damaged", [0, 50, 99])
def test_no_record_of_a_damaged_leveldb_is_passed_over(damaged: int, tmp_path: Path) -> None:
    """The last ones, too, behind which there is none that would tell; and the damage is not another program's."""
    puts = [(internal(b"%08d" % number, 257), b"value %d" % number * 10) for number in range(100)]
    whole = table([block(puts[start : start + 5]) for start in range(0, 100, 5)])
    assert len(open_store(database(tmp_path / "a", tables={5: whole}), top="data").keys) == 100
    value = b"value %d" % damaged * 10
    assert whole.count(value) == 1
    (tmp_path / "a" / "000005.ldb").write_bytes(whole.replace(value, b"wrong %d" % damaged * 10))
    with pytest.raises(CaffeFormatError, match=r"000005\.ldb, block at .*checksum mismatch\n.*is damaged, or was cut"):
        open_store(tmp_path / "a", top="data")


def test_many_rows_are_taken(tmp_path: Path) -> None:
    """As many as a file of a few bytes may have, and many more than it has of anything else."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for top in ("data", "label"):
            file.create_dataset(top, shape=(260_000, 1, 1, 1), chunks=(5000, 1, 1, 1), dtype="u1")
    (tmp_path / "dataset.toml").write_text('images = "a.h5"\nlabels = "a.h5"\nclasses = ["a", "b"]\n')
    assert len(open_dataset(tmp_path).ids) == 260_000
