"""HDF5 files made to harm: nothing outside the file is read, and memory follows its size."""

from __future__ import annotations

import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from converters import CaffeFormatError, LimitError, read_caffemodel
from converters.formats.hdf5_data import read_rows
from converters.formats.hdf5_file import _places, member, opened_hdf5, read_text, read_values
from converters.formats.solverstate import SolverState, read_solverstate
from converters.safety.limits import VARIABLE
from parity_tests.solverstate_h5 import write_solverstate_hdf5

MIB = 1 << 20
SECRET = np.arange(4, dtype=np.float32)
STATE = SolverState(7, "a.caffemodel", (np.ones(4, np.float32),), 2)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """An HDF5 file of the user that has whatever the hostile one asks for."""
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["data/conv/0"] = file["history/0"] = SECRET
        file["iter"] = file["current_step"] = np.int32([5])
        file["learned_net"] = np.bytes_(b"secret")
    (tmp_path / "secret.bin").write_bytes(bytes(range(64)))
    return tmp_path


def linked(folder: Path, name: str, link: Any) -> Path:
    """Weights and a solver's state in one file, whose `name` is a link."""
    path = folder / "linked.h5"
    write_solverstate_hdf5(STATE, path)
    with h5py.File(path, "a") as file:
        file["data/conv/0"] = SECRET
        if name in file:
            file.move(name, "/moved")
        file[name] = link
    return path


def read_for(name: str) -> Callable[[Path], Any]:
    return read_caffemodel if name.startswith("data") else read_solverstate


NAMES = ("data", "data/conv", "data/conv/0", "history", "history/0", "iter", "current_step", "learned_net")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["soft", "external", "dangling"])
def test_links_are_not_followed(secret: Path, name: str, kind: str) -> None:
    links = {
        "soft": h5py.SoftLink("/moved"),
        "external": h5py.ExternalLink("secret.h5", f"/{name}"),
        "dangling": h5py.ExternalLink("nowhere.h5", "/x"),
    }
    with pytest.raises(CaffeFormatError, match=f"'/{name}'.*: a link to another place"):
        read_for(name)(linked(secret, name, links[kind]))


@pytest.mark.parametrize("name", ["data/conv/0", "history/0", "iter", "current_step", "learned_net"])
@pytest.mark.parametrize("how", ["external", "virtual", "virtual without end"])
def test_values_in_other_files_are_not_read(secret: Path, name: str, how: str) -> None:
    path = linked(secret, name, np.float32(0))
    dtype = {"learned_net": "S8", "iter": "<i4", "current_step": "<i4"}.get(name, "<f4")
    with h5py.File(path, "a") as file:
        del file[name]
        if how == "external":
            file.create_dataset(name, (1,), dtype, external=[(str(secret / "secret.bin"), 0, 8)])
        else:
            ends, end = ((None,), h5py.h5s.UNLIMITED) if how == "virtual without end" else ((1,), 1)
            layout = h5py.VirtualLayout((1,), dtype, maxshape=ends)
            layout[:end] = h5py.VirtualSource("secret.h5", name, (1,), maxshape=ends)[:end]
            file.create_virtual_dataset(name, layout)
    with pytest.raises(CaffeFormatError, match=f"'/{name}'.*: its values are in another file"):
        read_for(name)(path)


def _variable_text(file: h5py.File) -> None:
    file["learned_net"] = "variable"


def _long_text(file: h5py.File) -> None:
    file["learned_net"] = np.bytes_(b"x" * 70_000)


def _named_type(file: h5py.File) -> None:
    file["type"] = np.dtype("<i4")
    file.create_dataset("iter", (1,), file["type"])


@pytest.mark.parametrize(
    ("name", "make", "problem"),
    [
        ("learned_net", _variable_text, "'/learned_net': expected a text of fixed length"),
        ("learned_net", _long_text, "'/learned_net': the text has 70000 bytes, and the limit is 65536"),
        ("learned_net", lambda f: f.create_dataset("learned_net", data=np.bytes_([b"a"])), "a text of fixed length"),
        ("iter", _named_type, "'/iter': its type is one with a name"),
        ("iter", lambda f: f.create_dataset("iter", data=np.float32([1])), "'/iter': .* whole numbers; found float32"),
        ("iter", lambda f: f.create_dataset("iter", (1 << 40,), "<i4", chunks=(9,)), "expected a whole number"),
        ("iter", lambda f: f.create_dataset("iter", data=np.uint32([1])), "whole numbers; found uint32"),
        ("iter", lambda f: f.create_dataset("iter", data=np.zeros(1, [("a", "i4")])), "dataset of whole numbers"),
        ("history/0", lambda f: f.create_dataset("history/0", (2,), h5py.vlen_dtype("f4")), "a dataset of floats"),
    ],
)  # fmt: skip
def test_odd_types_are_refused(tmp_path: Path, name: str, make: Callable[[h5py.File], None], problem: str) -> None:
    write_solverstate_hdf5(STATE, tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        del file[name]
        make(file)
    with pytest.raises(CaffeFormatError, match=problem):
        read_solverstate(tmp_path / "a.h5")


def test_types_in_types_are_refused_before_the_library_keeps_each_for_all_above_it(tmp_path: Path) -> None:
    """64 KB of them took it 3 GB; names for whole numbers are as many as they are."""
    nested = np.dtype("f4")
    for _ in range(100):
        nested = np.dtype([("a", nested)])
    labels = h5py.enum_dtype({f"class {number}": number for number in range(200)}, basetype="u1")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("data/conv/0", (1,), nested)
        file.create_dataset("label", data=np.arange(9, dtype="u1"), dtype=labels)
    with pytest.raises(CaffeFormatError, match=r"'/data/conv/0': a type of \d+ bytes of other types"):
        read_caffemodel(tmp_path / "a.h5")
    assert np.array_equal(read_rows(tmp_path / "a.h5", "label"), np.arange(9))


# Memory


def test_datasets_are_not_open_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes 20 KB in the library: 30,000 in a file of 13 MB took 690 MB."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for number in range(40):
            file[f"data/layer{number}/0"] = np.float32([number])
    opened = []

    def watched(dataset: h5py.Dataset, file: Any) -> np.ndarray:
        opened.append(h5py.h5f.get_obj_count(dataset.file.id, h5py.h5f.OBJ_DATASET))
        return read_values(dataset, file)

    monkeypatch.setattr("converters.formats.hdf5.read_values", watched)
    assert len(read_caffemodel(tmp_path / "a.h5").blobs) == 40
    assert len(opened) == 40 and max(opened) <= 2


def test_blobs_that_are_not_there_take_little(tmp_path: Path) -> None:
    """A note for each was 500 MB of a file of 1.3 MB."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["data/conv/999"] = np.float32([1])
    model = read_caffemodel(tmp_path / "a.h5")
    assert len(model.blobs["conv"]) == 1000 and len(model.notes) == 1
    assert "blobs 0, 1, 2, 3, 4, 5, 6, 7 ... are not in the file" in model.notes[0]


def dtype_of(name: str) -> str:
    """The type that a reader expects there, or it would look no further."""
    return "<i4" if name == "iter" else "<f4"


@cache
def packed_zeros(mib: int) -> bytes:
    """So many MiB of zeros as gzip packs them."""
    return zlib.compress(bytes(mib * MIB), 9)


def _large_chunk(file: h5py.File, name: str) -> None:
    """320 MiB of room for one value."""
    dataset = file.create_dataset(name, (1,), dtype_of(name), maxshape=(None,), chunks=(80 * MIB,), compression="gzip")
    dataset.id.write_direct_chunk((0,), packed_zeros(320))


def _unwritten(file: h5py.File, name: str) -> None:
    file.create_dataset(name, (1 << 28,), dtype_of(name), chunks=(1 << 20,))


def _unwritten_in_one_piece(file: h5py.File, name: str) -> None:
    file.create_dataset(name, (1 << 28,), dtype_of(name))


def _swelling(file: h5py.File, name: str) -> None:
    """A chunk of 4 kB that unpacks to 320 MiB: the library would unpack it before it looks."""
    dataset = file.create_dataset(name, (1024,), dtype_of(name), chunks=(1024,), compression="gzip")
    dataset.id.write_direct_chunk((0,), packed_zeros(320))


def _many_chunks(file: h5py.File, name: str) -> None:
    file.create_dataset(name, (4_000_000,), dtype_of(name), chunks=(1,))


BOMBS = (_large_chunk, _unwritten, _unwritten_in_one_piece, _swelling, _many_chunks)

LIMITED = """
import resource, sys, time
from converters import CaffeFormatError, read_caffemodel
from converters.solverstate import read_solverstate
now = int(next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (now + (200 << 20), now + (200 << 20)))
for path in sys.argv[1:]:
    started = time.process_time()
    for read in (read_caffemodel, read_solverstate):
        try:
            read(path)
        except CaffeFormatError as error:
            assert not isinstance(error.__cause__, MemoryError), repr(error)
            print(str(error).replace(chr(10), " "))
    assert time.process_time() - started < 20
"""


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS and /proc are Linux's")
@pytest.mark.parametrize("name", ["data/conv/0", "history/0", "iter"])
def test_bombs_take_no_memory(tmp_path: Path, name: str) -> None:
    """In a process that may take 200 MB more: every bomb is refused with its limit, or as no state at all."""
    paths = []
    for make in BOMBS:
        paths.append(tmp_path / f"{make.__name__}.h5")
        write_solverstate_hdf5(STATE, paths[-1])
        with h5py.File(paths[-1], "a") as file:
            if name in file:
                del file[name]
            make(file, name)
    done = subprocess.run([sys.executable, "-c", LIMITED, *paths], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert "cannot read it" not in done.stdout  # which the library says when it has no more memory
    for path in paths:
        said = [line for line in done.stdout.splitlines() if line.startswith(f"{path}: ")]
        assert any("limit" in line or "expected" in line for line in said), said


def test_the_limit_is_named_and_can_be_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("data/conv/0", (18 * MIB,), "<f4", chunks=(MIB,))
    with pytest.raises(LimitError, match=rf"layer 'conv', blob 0: the values would need .*\n.*{VARIABLE}=2"):
        read_caffemodel(tmp_path / "a.h5")
    monkeypatch.setenv(VARIABLE, "2")
    assert read_caffemodel(tmp_path / "a.h5").blobs["conv"][0].shape == (18 * MIB,)


@pytest.mark.parametrize("chunks", [None, (2,)])
def test_values_that_were_never_written(tmp_path: Path, chunks: tuple[int] | None) -> None:
    """Zeros; libhdf5 2.0 crashes when it is asked for the fill value of some damaged files."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("zeros", (4,), "<f4", chunks=chunks)
        file.create_dataset("threes", (4,), "<f4", chunks=chunks, fillvalue=3)
    with opened_hdf5(tmp_path / "a.h5") as found:
        np.testing.assert_array_equal(read_values(member(found.root, "zeros", found), found), np.zeros(4))
        with pytest.raises(CaffeFormatError, match="never written, with a fill value of their own"):
            read_values(member(found.root, "threes", found), found)


def test_datasets_that_share_bytes_are_refused(tmp_path: Path) -> None:
    """A view costs nothing; whatever makes a copy of each would pay for all."""
    write_solverstate_hdf5(SolverState(1, "", (np.ones(2000, np.float32),)), tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        for i in range(1, 9):
            file[f"history/{i}"] = file["history/0"]
    with pytest.raises(CaffeFormatError, match=r"history blob \d: datasets or chunks share bytes"):
        read_solverstate(tmp_path / "a.h5")


def _chunk_keys(content: bytearray) -> Iterator[int]:
    """Where the keys of chunks with one axis are in the trees of a file: bytes, filter mask, two offsets, address."""
    at = -1
    while (at := content.find(b"TREE\1", at + 1)) >= 0:
        yield from (at + 24 + 32 * i for i in range(int.from_bytes(content[at + 6 : at + 8], "little")))


def test_chunks_that_share_bytes_are_refused(tmp_path: Path) -> None:
    """Packed, a chunk may be long beside what it unpacks to: one of a MB, a thousand times, was a GB to unpack."""
    path, count = tmp_path / "a.h5", 50
    value = np.float32(1).tobytes()
    packed = b"\x78\1" + b"\0\0\0\xff\xff" * 2000 + b"\1\4\0\xfb\xff" + value + zlib.adler32(value).to_bytes(4, "big")
    with h5py.File(path, "w", libver="earliest") as file:
        dataset = file.create_dataset("data/conv/0", (count,), "<f4", chunks=(1,), compression="gzip")
        for i in range(count):
            dataset.id.write_direct_chunk((i,), b"x" if i else packed)
        place = dataset.id.get_chunk_info_by_coord((0,)).byte_offset
    content = bytearray(path.read_bytes())
    for at in _chunk_keys(content):
        content[at : at + 4] = len(packed).to_bytes(4, "little")
        content[at + 24 : at + 32] = place.to_bytes(8, "little")
    path.write_bytes(content)
    with pytest.raises(CaffeFormatError, match="layer 'conv', blob 0: datasets or chunks share bytes"):
        read_caffemodel(path)


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_many_chunks_take_time_in_proportion(libver: str, tmp_path: Path) -> None:
    """The library goes through all of them for each that it is asked for: 60,000 in a file of 0.7 MB took a minute."""
    ends = (None,) if libver == "earliest" else None
    values = np.arange(20_000, dtype=np.float32)
    with h5py.File(tmp_path / "a.h5", "w", libver=libver) as file:
        file.create_dataset("data/conv/0", data=values, chunks=(1,), maxshape=ends)
    started = time.process_time()
    assert np.array_equal(read_caffemodel(tmp_path / "a.h5").blobs["conv"][0], values)
    assert time.process_time() - started < 1.5


def test_more_chunks_than_a_shape_has(tmp_path: Path) -> None:
    """As by an index that has some again and again: it is left."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=np.ones(101, np.float32), chunks=(1,))
    with opened_hdf5(tmp_path / "a.h5") as found:
        dataset = member(found.root, "x", found)
        assert len(list(_places(dataset, [(0,), (101,)], few=False, most=101))) == 2
        with pytest.raises(CaffeFormatError, match="more than the 100 chunks"):
            list(_places(dataset, [(0,)], few=False, most=100))


# Values in chunks are what h5py reads


FILTERS: tuple[dict[str, Any], ...] = (
    {},
    {"compression": "gzip"},
    {"shuffle": True},
    {"fletcher32": True},
    {"shuffle": True, "fletcher32": True, "compression": 9},
)


@pytest.mark.parametrize("filters", FILTERS, ids=lambda filters: "-".join(filters) or "none")
@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f4", "<f8", ">f8"])
@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_chunks_are_what_h5py_reads(tmp_path: Path, filters: dict[str, Any], dtype: str, libver: str) -> None:
    values = np.random.default_rng(0).standard_normal((7, 10, 3)).astype(dtype)
    made = {**filters, "dtype": dtype}
    with h5py.File(tmp_path / "a.h5", "w", libver=libver) as file:
        file.create_dataset("whole", data=values, chunks=(3, 4, 3), **made)
        file.create_dataset("partly", (7, 10, 3), chunks=(2, 10, 2), **made)[2:5, :, :1] = values[2:5, :, :1]
        file.create_dataset("growing", data=values, chunks=(3, 4, 3), maxshape=(None, 10, None), **made)
        file.create_dataset("none", (0, 10, 3), chunks=(2, 2, 2), maxshape=(None, 10, 3), **made)
    with h5py.File(tmp_path / "a.h5") as file:
        expected = {name: file[name][()] for name in file}
    with opened_hdf5(tmp_path / "a.h5") as found:
        for name, each in expected.items():
            read = read_values(member(found.root, name, found), found)
            assert (read.dtype, read.shape) == (each.dtype.newbyteorder("<"), each.shape)
            np.testing.assert_array_equal(read, each)


def test_a_filter_may_be_left_out_for_a_chunk(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("x", (4,), "<f4", chunks=(4,), compression="gzip", shuffle=True)
        dataset.id.write_direct_chunk((0,), SECRET.tobytes(), filter_mask=3)
    with opened_hdf5(tmp_path / "a.h5") as found:
        np.testing.assert_array_equal(read_values(member(found.root, "x", found), found), SECRET)


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda body: bytes([body[0] ^ 1]) + body[1:], "the checksum of a chunk is wrong"),
        (lambda body: body[:-5], "checksum|a chunk of"),
    ],
)
def test_a_damaged_chunk(tmp_path: Path, damage: Callable[[bytes], bytes], problem: str) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("x", data=SECRET, chunks=(4,), fletcher32=True)
        dataset.id.write_direct_chunk((0,), damage(dataset.id.read_direct_chunk((0,))[1]))
    with pytest.raises(CaffeFormatError, match=problem), opened_hdf5(tmp_path / "a.h5") as found:
        read_values(member(found.root, "x", found), found)


def test_other_filters_are_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("data/conv/0", data=SECRET, chunks=(4,), compression="lzf")
    with pytest.raises(CaffeFormatError, match=r"filter 32000 \(lzf\); read are gzip.*\n.*h5repack -f NONE"):
        read_caffemodel(tmp_path / "a.h5")


def test_h5py_is_asked_in_one_place() -> None:
    """Every reader goes through `opened_hdf5` and `member`."""
    root = Path(__file__).parents[2]
    for path in [each for package in ("converters", "weights", "fcn_port") for each in (root / package).rglob("*.py")]:
        lines = [line for line in path.read_text().splitlines() if "h5py.File(" in line and '"w"' not in line]
        assert not lines or path.name == "hdf5_file.py", path


def test_a_text_of_fixed_length(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.bytes_(b"abc\0\0")
    with opened_hdf5(tmp_path / "a.h5") as found:
        assert read_text(member(found.root, "x", found)) == b"abc"
