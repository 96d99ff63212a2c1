"""The rows of HDF5Data's files against h5py's own reading, and what is unpacked for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from converters.errors import LimitError, WireError
from converters.formats import count_rows, hdf5_file, read_row, read_rows
from fcn_port.data.stored import open_store

LAYOUTS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "h5py's own chunks": {"compression": "gzip"},
    "a row in each chunk": {"chunks": (1, 2, 5, 4), "compression": "gzip", "shuffle": True},
    "rows that chunks do not divide": {"chunks": (4, 1, 3, 3), "fletcher32": True},
    "all rows in a chunk": {"chunks": (11, 2, 5, 4), "compression": "gzip"},
}


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<f2", "i4", "u1"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_are_what_h5py_finds(layout: str, dtype: str, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    values = draw.integers(0, 99, (11, 2, 5, 4)).astype(dtype)
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("data", data=values, **LAYOUTS[layout])
    assert count_rows(path, "data") == 11
    for row in draw.permutation(11):
        found = read_row(path, "data", int(row))
        assert found.dtype == values.dtype.newbyteorder("<") and np.array_equal(found, values[row])
        assert not found.flags.writeable
    assert np.array_equal(read_rows(path, "data"), values)


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("grows", [0, 1, 2])
@pytest.mark.parametrize("count", [3, 30])
def test_chunks_that_grow_along_any_axis(libver: str, grows: int, count: int, tmp_path: Path) -> None:
    """Of the newer format the library says of one chunk where another lies: refused, where there is more than one."""
    values = np.arange(count * 8, dtype=np.float32).reshape(count, 4, 2)
    most = tuple(None if axis == grows else size for axis, size in enumerate(values.shape))
    with h5py.File(tmp_path / "a.h5", "w", libver=libver) as file:
        file.create_dataset("data", data=values, chunks=(3, 4, 1), maxshape=most)
    if libver == "latest" and grows and count == 30:
        with pytest.raises(WireError, match=rf"chunks that grow along axis {grows}, whose places"):
            read_rows(tmp_path / "a.h5", "data")
    else:
        assert np.array_equal(read_rows(tmp_path / "a.h5", "data"), values)


def test_a_dataset_that_is_not_there_or_has_no_rows(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["label"], file["one"] = np.zeros((2, 1)), np.float32(1)
    with pytest.raises(WireError, match="there is no dataset 'data'; there are 'label', 'one'"):
        read_rows(tmp_path / "a.h5", "data")
    with pytest.raises(WireError, match="expected rows"):
        read_rows(tmp_path / "a.h5", "one")


@pytest.fixture
def unpacked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes of each chunk that is unpacked."""
    found: list[int] = []
    real: Callable[..., Any] = hdf5_file._filtered

    def filtered(raw: memoryview, filters: Any, skipped: int, size: int) -> Any:
        found.append(size)
        return real(raw, filters, skipped, size)

    monkeypatch.setattr(hdf5_file, "_filtered", filtered)
    return found


def test_only_the_chunks_of_a_row_are_unpacked(unpacked: list[int], tmp_path: Path) -> None:
    """Whatever the number of files and of rows: a list whose rows come in any order unpacked a whole file for each."""
    for number in range(12):
        with h5py.File(tmp_path / f"{number}.h5", "w") as file:
            values = np.full((40, 1, 6, 6), number, np.float32)
            file.create_dataset("data", data=values, chunks=(4, 1, 6, 6), compression="gzip")
    (tmp_path / "list.txt").write_text("\n".join(f"{number}.h5" for number in range(12)))
    store = open_store(tmp_path / "list.txt", top="data")
    assert len(store.keys) == 480 and not unpacked
    for number in (np.arange(24) * 40) % 479:
        values = store.record(int(number)).values
        assert values is not None and (values == number // 40).all()
    assert len(unpacked) <= 24 and sum(unpacked) == len(unpacked) * 4 * 36 * 4
    unpacked.clear()
    for number in range(40):
        store.record(number)
    assert len(unpacked) == 10


def test_label_maps_that_pack_well_are_read(tmp_path: Path) -> None:
    """A file of 2 GB of label maps is small, and more than 64 MiB and eight times its size is refused at once."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        labels = file.create_dataset("label", (2000, 1, 512, 512), "f4", chunks=(1, 1, 512, 512), compression="gzip")
        labels[1234, 0, 3] = 7
    with pytest.raises(LimitError):
        read_rows(path, "label")
    store = open_store(path, top="label")
    assert len(store.keys) == 2000
    values = store.record(1234).values
    assert values is not None and values.sum() == 7 * 512


def test_a_checksum_below_a_shuffle(tmp_path: Path) -> None:
    """Which is then of eight bytes each, and four of the checksum: they stay where they are."""
    values = np.random.default_rng(0).standard_normal((3, 5))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        creation.set_chunk((2, 5))
        creation.set_fletcher32()
        creation.set_shuffle()
        space = h5py.h5s.create_simple(values.shape)
        h5py.h5d.create(file.id, b"data", h5py.h5t.IEEE_F64LE, space, creation)
        file["data"][()] = values
        assert [creation.get_filter(i)[0] for i in range(2)] == [h5py.h5z.FILTER_FLETCHER32, h5py.h5z.FILTER_SHUFFLE]
    assert np.array_equal(read_rows(tmp_path / "a.h5", "data"), values)
