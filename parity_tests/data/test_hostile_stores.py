"""Stores of Caffe's that ask for much more memory than they have bytes; each is refused in a line, by name."""

from __future__ import annotations

import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import h5py
import pytest

from converters import CaffeFormatError
from converters.formats import is_leveldb
from converters.formats.wire import read_varint, write_varint
from fcn_port.data import open_dataset
from fcn_port.data.stored import open_store
from parity_tests.test_architecture import ROOT

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
    plyvel = pytest.importorskip("plyvel", reason="LevelDB is read by plyvel: pip install fcn-port[leveldb]")
    database = plyvel.DB(str(root), create_if_missing=True, block_size=1 << 28, block_restart_interval=1 << 20)
    for i in range(2000):
        database.put(bytes(60_000) + b"%08d" % i, b"")
    database.compact_range()
    database.close()
    return root


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


READ = """
import sys
from converters import CaffeFormatError
from converters.formats import read_leveldb
try:
    print(len(read_leveldb(sys.argv[1]).keys))
except CaffeFormatError as error:
    print(error)
"""


@pytest.mark.parametrize("ending", ["ldb", "sst"])
@pytest.mark.parametrize("is_whole", [True, False])
def test_a_leveldb_whose_index_is_beyond_its_table(is_whole: bool, ending: str, tmp_path: Path) -> None:
    """In a process of its own, which LevelDB would end; a table that was never finished is LevelDB's to tell of."""
    plyvel = pytest.importorskip("plyvel", reason="LevelDB is read by plyvel: pip install fcn-port[leveldb]")
    database = plyvel.DB(str(tmp_path / "a"), create_if_missing=True)
    database.put(b"0", b"x")
    database.compact_range()
    database.close()
    (table,) = (tmp_path / "a").glob("*.ldb")
    content, at = bytearray(table.read_bytes()), 0
    footer = bytes(content[-48:])
    for _ in range(3):
        _, at = read_varint(footer, at, 40)
    content[-48:-8] = (footer[:at] + write_varint(1 << 60)).ljust(40, b"\0")
    if not is_whole:
        content[-1] ^= 1  # of what tells a table
    table.unlink()
    table.with_suffix(f".{ending}").write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-c", READ, tmp_path / "a"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, (done.returncode, done.stderr)
    expected = (
        f"{table.stem}.{ending}: an index of {1 << 60} bytes at offset" if is_whole else "the database has no records"
    )
    assert expected in done.stdout, done.stdout


def test_a_folder_with_half_of_what_tells_a_leveldb_is_none(tmp_path: Path) -> None:
    for name, is_one in (("CURRENT", False), ("MANIFEST-000002", True)):
        (tmp_path / name).touch()
        assert is_leveldb(tmp_path) is is_one
    (tmp_path / "CURRENT").unlink()
    assert not is_leveldb(tmp_path)


@pytest.mark.parametrize("damaged", [0, 50, 99])
def test_no_record_of_a_damaged_leveldb_is_passed_over(damaged: int, tmp_path: Path) -> None:
    """The last ones, too, behind which there is none that would tell; and the damage is not another program's."""
    plyvel = pytest.importorskip("plyvel", reason="LevelDB is read by plyvel: pip install fcn-port[leveldb]")
    with plyvel.DB(str(tmp_path / "a"), create_if_missing=True, compression=None, block_size=512) as database:
        for number in range(100):
            database.put(b"%08d" % number, b"value %d" % number * 10)
        database.compact_range()
    (table,) = (tmp_path / "a").glob("*.ldb")
    content = table.read_bytes()
    assert content.count(b"value %d" % damaged * 10) == 1
    table.write_bytes(content.replace(b"value %d" % damaged * 10, b"wrong %d" % damaged * 10))
    with pytest.raises(CaffeFormatError, match=r"checksum mismatch\n.*is damaged, or was cut"):
        open_store(tmp_path / "a", top="data")


def test_many_rows_are_taken(tmp_path: Path) -> None:
    """As many as a file of a few bytes may have, and many more than it has of anything else."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for top in ("data", "label"):
            file.create_dataset(top, shape=(260_000, 1, 1, 1), chunks=(5000, 1, 1, 1), dtype="u1")
    (tmp_path / "dataset.toml").write_text('images = "a.h5"\nlabels = "a.h5"\nclasses = ["a", "b"]\n')
    assert len(open_dataset(tmp_path).ids) == 260_000
