"""MAT files: our reading against scipy's, and files that are damaged or made to harm."""

from __future__ import annotations

import io
import random
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import loadmat, savemat
from scipy.sparse import csc_matrix

from converters.errors import CaffeFormatError
from converters.safety.limits import VARIABLE
from fcn_port.data import DataError
from fcn_port.data.files import read_mat
from fcn_port.data.matlab import parse_matrix
from parity_tests.formats.test_bad_files import mutate

LABELS = np.random.default_rng(0).integers(0, 21, (7, 5), np.uint8)
KEYS = ("GTcls", "Segmentation")


def saved(*, packed: bool = False, **variables: object) -> bytes:
    """A MAT file as scipy writes it."""
    out = io.BytesIO()
    savemat(out, variables, do_compression=packed)
    return out.getvalue()


def sbd(labels: np.ndarray = LABELS, *, packed: bool = False) -> bytes:
    """SBD's: a struct of sparse boundaries in a cell, labels and categories, with other variables about."""
    boundaries = np.empty((2, 1), object)
    boundaries[:, 0] = [csc_matrix(np.eye(4)), csc_matrix((3, 3))]
    own = {"Boundaries": boundaries, "Segmentation": labels, "CategoriesPresent": np.uint8([[1], [2]]), "Note": "x"}
    return saved(packed=packed, before="text", GTcls=own, after=np.zeros((3, 3)))


# A writer of our own, for what scipy does not write


def element(type_: int, body: bytes, *, order: str = "<") -> bytes:
    return struct.pack(f"{order}II", type_, len(body)) + body + bytes(-len(body) % 8)


def packed_element(body: bytes) -> bytes:
    """A compressed element, which is not padded."""
    squeezed = zlib.compress(body, 9)
    return struct.pack("<II", 15, len(squeezed)) + squeezed


def matrix(
    name: bytes, values: np.ndarray, *, order: str = "<", kind: int = 9, type_: int = 2, flags: int = 0
) -> bytes:
    """An array element; `kind` is the class that MATLAB gives it, `type_` what is stored."""
    head = element(6, struct.pack(f"{order}II", kind | flags, 0), order=order)
    dims = element(5, struct.pack(f"{order}{values.ndim}i", *values.shape), order=order)
    return element(
        14, head + dims + element(1, name, order=order) + element(type_, values.tobytes("F"), order=order), order=order
    )


def file(*elements: bytes, order: str = "<", version: int = 0x0100) -> bytes:
    return (
        b"MATLAB 5.0".ljust(124)
        + struct.pack(f"{order}H", version)
        + {"<": b"IM", ">": b"MI"}[order]
        + b"".join(elements)
    )


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8", "?"])
def test_matrices_are_what_scipy_reads(dtype: str, packed: bool) -> None:
    values = (LABELS % 2 if dtype == "?" else LABELS).astype(dtype)
    raw = saved(packed=packed, names="x", S=values, empty=np.zeros((0, 0)), t=values[:, :1])
    expected = loadmat(io.BytesIO(raw))
    for name in ("S", "empty", "t"):
        found = parse_matrix(raw, name)
        assert found.dtype == expected[name].dtype and found.dtype.isnative
        np.testing.assert_array_equal(found, expected[name])


@pytest.mark.parametrize("packed", [False, True])
def test_fields_of_structs_are_what_scipy_reads(packed: bool) -> None:
    raw = sbd(packed=packed)
    np.testing.assert_array_equal(parse_matrix(raw, *KEYS), loadmat(io.BytesIO(raw))["GTcls"][0]["Segmentation"][0])
    several = saved(packed=packed, s=np.array([(1, {"b": 2}), (3, {"b": 4})], [("a", object), ("in", object)]))
    assert (parse_matrix(several, "s", "a").item(), parse_matrix(several, "s", "in", "b").item()) == (1, 2)


def test_the_other_order_of_bytes_and_values_stored_small() -> None:
    """MATLAB stores doubles that are small whole numbers as bytes."""
    wide = np.int16([[1, -2, 3], [4, 5, 600]])
    raw = file(matrix(b"x", wide.astype(">i2"), order=">", kind=6, type_=3), order=">")
    found = parse_matrix(raw, "x")
    assert found.dtype == np.int16
    np.testing.assert_array_equal(found, loadmat(io.BytesIO(raw))["x"])
    np.testing.assert_array_equal(found, wide)


@pytest.mark.parametrize(
    ("raw", "keys", "problem"),
    [
        (b"", ("x",), "damaged, or not a MATLAB file of level 5"),
        (saved(x=LABELS)[:200], ("x",), "damaged: an element of"),
        (file(matrix(b"x", LABELS), version=0x0200), ("x",), "a MATLAB 7.3 file; save it with -v7"),
        (file(matrix(b"x", LABELS, kind=6, flags=0x0800)), ("x",), "x is not a matrix of labels"),
        (file(matrix(b"x", LABELS, type_=3)), ("x",), "x has 35 bytes; expected 35 of int16"),
        (file(matrix(b"x", LABELS, type_=16)), ("x",), "x has values of type 16"),
        (file(element(15, b"no zlib")), ("x",), "damaged: Error -3"),
        (file(element(15, zlib.compress(matrix(b"x", LABELS))[:-4])), ("x",), "a packed variable ends early"),
        (file(element(14, b"\x06\0\x05\0" + bytes(4))), ("x",), "a small element of 5 bytes"),
        (saved(x="text"), ("x",), "not a matrix of labels"),
        (saved(x=csc_matrix(np.eye(3))), ("x",), "not a matrix of labels"),
        (saved(x={"y": 1}), ("x",), "not a matrix of labels"),
        (saved(x=1j * np.eye(2)), ("x",), "not a matrix of labels"),
        (saved(x=np.zeros((2, 2, 2))), ("x",), "not a matrix of labels"),
        (saved(x=LABELS), ("y",), "there is no y in it"),
        (saved(x=LABELS), ("x", "y"), "there is no x.y in it"),
        (saved(x={"z": 1}), ("x", "y"), "there is no x.y in it"),
        (saved(x=np.float32([[0.5]])), ("x",), "values that are no labels"),
        (saved(x=np.array([[np.nan]])), ("x",), "values that are no labels"),
        (saved(x=np.array([[np.inf]])), ("x",), "values that are no labels"),
        (saved(x=np.uint64([[1 << 63]])), ("x",), "values that are no labels"),
    ],
)
def test_what_is_no_label_map_is_refused(tmp_path: Path, raw: bytes, keys: tuple[str, ...], problem: str) -> None:
    (tmp_path / "a.mat").write_bytes(raw)
    with pytest.raises(DataError, match=problem) as caught:
        read_mat(tmp_path / "a.mat", *keys)
    assert str(caught.value).startswith(f"{tmp_path / 'a.mat'}: ")


def test_what_ends_scipy_with_sigsegv(tmp_path: Path) -> None:
    """A text beside the labels, of a type that is none: 360 bytes. It is stepped over."""
    raw = bytearray(saved(GTcls={"Segmentation": LABELS, "Note": "x"}))
    raw[raw.rindex(b"x\0\0\0") - 3] = 0xA7
    (tmp_path / "a.mat").write_bytes(raw)
    code = "import sys; from pathlib import Path; from fcn_port.data.files import read_mat\n"
    code += "print(read_mat(Path(sys.argv[1]), 'GTcls', 'Segmentation').sum())"
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "a.mat"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, str(LABELS.sum())), done.stderr


def test_a_label_map_is_read_without_scipy() -> None:
    code = "import sys; sys.modules['scipy'] = None; import fcn_port.data.sets.siftflow, fcn_port.data.files"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# Memory


def bomb(count: int, mib: int) -> bytes:
    """Packed variables that have nothing to do with the one that is asked for, each so many MiB of zeros."""
    return file(*[packed_element(matrix(b"z", np.zeros((mib << 20, 1), np.uint8)))] * count)


LIMITED = """
import resource, sys
from pathlib import Path
from fcn_port.data import DataError
from fcn_port.data.files import read_mat
from converters.errors import CaffeFormatError
now = int(next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (now + (150 << 20), now + (150 << 20)))
for path in sys.argv[1:]:
    try:
        read_mat(Path(path), "GTcls", "Segmentation")
    except CaffeFormatError as error:
        print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS and /proc are Linux's")
def test_bombs_take_no_memory(tmp_path: Path) -> None:
    """One variable of 300 MiB, and 20 of 10 MiB, in less than 400 kB."""
    paths = [tmp_path / "one.mat", tmp_path / "many.mat"]
    for path, (count, mib) in zip(paths, [(1, 300), (20, 10)], strict=True):
        path.write_bytes(bomb(count, mib))
        assert path.stat().st_size < 400_000
    done = subprocess.run([sys.executable, "-c", LIMITED, *paths], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for path in paths:
        assert f"{path}: its variables unpack to at least" in done.stdout and VARIABLE in done.stdout


def test_the_limit_can_be_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = file(*[packed_element(matrix(b"z", np.zeros((10 << 20, 1), np.uint8)))] * 7)
    (tmp_path / "a.mat").write_bytes(raw + matrix(b"x", LABELS))
    with pytest.raises(CaffeFormatError, match=f"{VARIABLE}=2"):
        read_mat(tmp_path / "a.mat", "x")
    monkeypatch.setenv(VARIABLE, "2")
    np.testing.assert_array_equal(read_mat(tmp_path / "a.mat", "x"), LABELS)


@pytest.mark.parametrize("packed", [False, True])
def test_damage_is_our_error_or_harmless(tmp_path: Path, packed: bool) -> None:
    r = random.Random(0)
    sound: list[tuple[bytes, Any]] = [
        (sbd(packed=packed), KEYS), (saved(packed=packed, S=LABELS.astype(float), names="x"), ("S",))
    ]  # fmt: skip
    for _ in range(1000):
        raw, keys = r.choice(sound)
        (tmp_path / "x.mat").write_bytes(mutate(r, raw))
        try:
            read_mat(tmp_path / "x.mat", *keys)
        except CaffeFormatError as error:
            assert str(error).startswith(str(tmp_path / "x.mat"))
