"""The .caffemodel.h5 against h5py's own reading of it, and the writer against files that Caffe wrote."""

from __future__ import annotations

import errno
import io
import mmap
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from converters import CaffeFormatError, MismatchError, read_caffemodel, write_caffemodel, write_hdf5
from converters.formats.hdf5 import read_hdf5
from converters.formats.model import CaffeModel, is_left_out
from converters.formats.prototxt import parse_prototxt
from converters.net.parameter_sharing import borrowed_blobs
from parity_tests.goldens import GOLDEN, formats
from parity_tests.oracle.client import CaffeAborted, Oracle
from parity_tests.small_files import PROTOTXT, small_blobs, small_h5
from parity_tests.test_architecture import ROOT

GOLDENS = sorted(path.name for path in (GOLDEN / "formats").glob("*.h5"))
A = np.arange(6, dtype=np.float32).reshape(2, 3)


def tree(path: Path) -> dict[str, Any]:
    """Every group and dataset of a file by its path: None, or (shape, type, values)."""
    found: dict[str, Any] = {}

    def visit(name: str, item: Any) -> None:
        is_group = isinstance(item, h5py.Group)
        found[name] = None if is_group else (item.shape, item.id.get_type().encode(), item[()].tobytes())

    with h5py.File(path) as file:
        file.visititems(visit)
    return found


def h5(path: Path, make: Callable[[h5py.Group], object]) -> Path:
    with h5py.File(path, "w") as file:
        make(file.create_group("data"))
    return path


@pytest.mark.parametrize("name", GOLDENS)
def test_blobs_are_what_h5py_finds(name: str) -> None:
    model = read_caffemodel(formats(name))
    assert model.spec is None
    found = {
        f"data/{layer}/{position}": (blob.shape, blob.tobytes())
        for layer, blobs in model.blobs.items()
        for position, blob in enumerate(blobs)
    }
    assert {path: blob for path, blob in found.items() if blob[0] != (0,)} == {
        path: (v[0], v[2]) for path, v in tree(formats(name)).items() if v is not None
    }


@pytest.mark.parametrize("name", GOLDENS)
def test_blobs_are_the_ones_of_the_caffemodel(name: str) -> None:
    """All but those that layers share with an earlier one, which Caffe writes again in the binary form only."""
    h5, binary = read_caffemodel(formats(name)), read_caffemodel(formats(name.removesuffix(".h5")))
    borrowed = borrowed_blobs(binary.spec)
    for layer, blobs in binary.blobs.items():
        for position, blob in enumerate(blobs):
            own = h5.blobs.get(layer, ())[position : position + 1]
            if (layer, position) in borrowed:
                assert not own or is_left_out(own[0])
            else:
                assert (own[0].shape, own[0].tobytes()) == (blob.shape, blob.tobytes())
    assert h5.blobs.keys() <= binary.blobs.keys()


def test_a_blob_that_another_layer_owns_keeps_its_position() -> None:
    """shared_ip has a bias of its own, and the weight of shared_a, which Caffe does not write again."""
    model = read_caffemodel(formats("layer-zoo-1.caffemodel.h5"))
    binary = read_caffemodel(formats("layer-zoo-1.caffemodel"))
    weight, bias = model.blobs["shared_ip"]
    assert is_left_out(weight) and bias.tobytes() == binary.blobs["shared_ip"][1].tobytes()
    assert "shared_b" not in model.blobs and "shared_b" in binary.blobs
    assert "layer 'shared_ip': blob 0 is not in the file" in model.notes[0]
    with pytest.raises(MismatchError, match="shared blobs of shared_ip are not in this"):
        write_caffemodel(replace(model, spec=binary.spec), Path("never-written"))


def test_values_are_read_only_views_of_the_mapped_file() -> None:
    for blobs in read_caffemodel(formats("fcn8s-mini.caffemodel.h5")).blobs.values():
        for blob in blobs:
            assert not blob.flags.writeable and not blob.flags.owndata
            base: Any = blob
            while isinstance(base, np.ndarray) and base.base is not None:
                base = base.base
            assert isinstance(getattr(base, "obj", base), mmap.mmap)


@pytest.mark.parametrize("name", GOLDENS)
def test_the_writer_makes_the_groups_types_shapes_and_values_that_caffe_makes(tmp_path: Path, name: str) -> None:
    out = tmp_path / "out.h5"
    write_hdf5(read_caffemodel(formats(name.removesuffix(".h5"))), out)
    assert tree(out) == tree(formats(name))


@pytest.mark.parametrize("name", GOLDENS)
def test_a_file_that_caffe_wrote_comes_out_with_the_same_tree(tmp_path: Path, name: str) -> None:
    """Groups, types, shapes and values, though there is no net: also the empty groups of layers without blobs."""
    model = read_caffemodel(formats(name))
    assert model.bare and not set(model.bare) & set(model.blobs)
    write_hdf5(model, tmp_path / "out.h5")
    assert tree(tmp_path / "out.h5") == tree(formats(name))


def test_groups_inside_groups_come_out_with_the_same_tree(tmp_path: Path) -> None:
    """Layers without blobs at, above and below others; a file without any layer is no layer called ''."""
    names = ["a/b/c", "a", "relu/x", "d/e/f", "d/e"]

    def make(data: h5py.Group) -> None:
        for name in names:
            data.require_group(name)
        data.create_dataset("d/0", data=A)

    model = read_caffemodel(h5(tmp_path / "a.h5", make))
    assert model.bare == ("a/b/c", "d/e/f", "relu/x") and list(model.blobs) == ["d"]
    write_hdf5(model, tmp_path / "b.h5")
    assert tree(tmp_path / "b.h5") == tree(tmp_path / "a.h5")
    assert read_hdf5(h5(tmp_path / "c.h5", lambda data: None)).bare == ()


def test_doubles_stay_doubles_and_halves_become_floats(tmp_path: Path) -> None:
    blobs = {"conv": (np.array([0.1, np.nan]), np.array([1.5], np.float16), np.empty((0, 2), np.float32))}
    write_hdf5(CaffeModel(None, blobs), tmp_path / "a.h5")
    found = read_hdf5(tmp_path / "a.h5").blobs["conv"]
    assert [blob.dtype for blob in found] == [np.float64, np.float32, np.float32]
    for blob, expected in zip(found, blobs["conv"], strict=True):
        np.testing.assert_array_equal(blob, expected)


def test_a_layer_whose_name_has_slashes(tmp_path: Path) -> None:
    """GoogLeNet's: the group of one layer may be inside that of another one."""
    blobs = {"a": (A,), "a/b": (A + 1, A + 2), "a/b/c": (A + 3,), "d/e": (A + 4,)}
    write_hdf5(CaffeModel(None, blobs), tmp_path / "a.h5")
    found = read_hdf5(tmp_path / "a.h5").blobs
    assert found.keys() == blobs.keys()
    for layer, own in blobs.items():
        np.testing.assert_array_equal(found[layer], own)


def test_ten_blobs_and_more_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    """By name, 10 comes before 2."""
    h5(tmp_path / "a.h5", lambda data: [data.create_dataset(f"lstm/{i}", data=np.float32([i])) for i in range(12)])
    assert [blob.item() for blob in read_hdf5(tmp_path / "a.h5").blobs["lstm"]] == list(range(12))


@pytest.mark.parametrize(
    "options",
    [
        {"dtype": ">f4"},
        {"dtype": "<f2"},
        {"dtype": ">f8"},
        {"chunks": (1, 3)},
        {"chunks": (2, 2), "compression": "gzip", "shuffle": True},
        {"fletcher32": True},
    ],
    ids=str,
)
def test_other_ways_to_store_floats(tmp_path: Path, options: dict[str, Any]) -> None:
    h5(tmp_path / "a.h5", lambda data: data.create_dataset("conv/0", data=A, **options))
    (found,) = read_hdf5(tmp_path / "a.h5").blobs["conv"]
    assert found.dtype == np.dtype(options.get("dtype", "<f4")).newbyteorder("<")
    np.testing.assert_array_equal(found, A)
    assert not found.flags.writeable


def test_a_float_of_another_layout_is_read_by_its_meaning(tmp_path: Path) -> None:
    """bfloat16 is as wide as float16: a view of the bytes would be nonsense."""

    def make(data: h5py.Group) -> None:
        bfloat16 = h5py.h5t.IEEE_F32LE.copy()
        bfloat16.set_fields(15, 7, 8, 0, 7)
        bfloat16.set_size(2)
        bfloat16.set_ebias(127)
        space = h5py.h5s.create_simple((2, 3))
        dataset = h5py.h5d.create(data.create_group("conv").id, b"0", bfloat16, space)
        dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, A)

    h5(tmp_path / "a.h5", make)
    np.testing.assert_array_equal(read_hdf5(tmp_path / "a.h5").blobs["conv"][0], A)


def _cycle(data: h5py.Group) -> None:
    data.create_dataset("conv/0", data=A)
    for i in range(100):
        data["conv"][f"again{i}"] = data


def _deep(data: h5py.Group) -> None:
    data.create_dataset("/".join("abcdefghijklmnopqrst") + "/0", data=A)


def _elsewhere(data: h5py.Group) -> None:
    data.create_dataset("conv/0", (4,), "f4", external=[("/etc/passwd", 0, 16)])


def _virtual(data: h5py.Group) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (4,))
    data.create_group("conv").create_virtual_dataset("0", layout)


def _bomb(data: h5py.Group) -> None:
    data.create_dataset("conv/0", (1 << 30,), "f4", chunks=(1 << 20,), compression="gzip")


def _bombs(data: h5py.Group) -> None:
    for i in range(25):  # none of them is too large by itself
        data.create_dataset(f"conv/{i}", (1_000_000,), "f4", chunks=(1_000_000,), compression="gzip")


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda data: data.create_dataset("conv/weight", data=A), "layer 'conv': a dataset named 'weight'"),
        (lambda data: data.create_dataset("conv/00", data=A), "a dataset named '00'; expected 0, 1 and so on"),
        (lambda data: data.create_dataset("conv/999999999", data=A), "a dataset named '999999999'"),
        (lambda data: data.create_dataset("conv/0", data=[1, 2]), "layer 'conv', blob 0: .* floats; found int64"),
        (lambda data: data.create_dataset("conv/0", data=b"x"), "expected a dataset of floats"),
        (lambda data: data.create_dataset("conv/0", data=np.longdouble(1)), "expected a dataset of floats"),
        (lambda data: data.create_dataset("conv/0", data=h5py.Empty("f4")), "a dataset without a shape"),
        (lambda data: data.__setitem__("conv", h5py.SoftLink("/data")), "'/data/conv': a link to another place"),
        (lambda data: data.__setitem__("conv", h5py.ExternalLink("other.h5", "/data")), "a link to another place"),
        (lambda data: data.__setitem__("conv/0", np.dtype("f4")), "'/data/conv/0': a named type"),
        (_cycle, "the same group or dataset under two names"),
        (_deep, "groups nest deeper than 16 levels"),
        (_elsewhere, "its values are in another file"),
        (_virtual, "its values are in another file"),
        (_bomb, "the values would need 4[0-9]{9} bytes, and the limit is"),
        (_bombs, "the values would need [0-9]{8} bytes, and the limit is"),
    ],
)
def test_what_caffe_does_not_write_is_refused(
    tmp_path: Path, make: Callable[[h5py.Group], object], problem: str
) -> None:
    with pytest.raises(CaffeFormatError, match=problem) as caught:
        read_caffemodel(h5(tmp_path / "a.h5", make))
    assert str(tmp_path / "a.h5") in str(caught.value)


def test_values_that_were_never_written_are_zeros(tmp_path: Path) -> None:
    h5(tmp_path / "a.h5", lambda data: data.create_dataset("conv/0", (2, 3), "f4"))
    np.testing.assert_array_equal(read_hdf5(tmp_path / "a.h5").blobs["conv"][0], np.zeros((2, 3)))


def test_an_hdf5_file_of_another_program(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["model_weights"] = A
    with pytest.raises(CaffeFormatError, match=r"no group '/data'; found 'model_weights'"):
        read_caffemodel(tmp_path / "a.h5")


@pytest.mark.parametrize("name", [".", "a/./b", "/a", "a//b", "a/", "", "a\0b"])
def test_a_name_that_hdf5_would_change_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(MismatchError, match="HDF5 cannot hold a layer named"):
        write_hdf5(CaffeModel(None, {name: (A,)}), tmp_path / "a.h5")
    assert list(tmp_path.iterdir()) == []


def test_a_layer_at_the_path_of_another_ones_blob_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MismatchError, match="beside the others"):
        write_hdf5(CaffeModel(None, {"a": (A,), "a/0": (A,)}), tmp_path / "a.h5")
    assert list(tmp_path.iterdir()) == []


def test_blobs_without_a_layer_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MismatchError, match="does not have: stranger"):
        write_hdf5(CaffeModel(parse_prototxt(PROTOTXT), {"stranger": (A,)}), tmp_path / "a.h5")
    assert list(tmp_path.iterdir()) == []


def test_a_small_file_as_caffe_makes_it(tmp_path: Path) -> None:
    (tmp_path / "caffe.h5").write_bytes(small_h5())
    write_hdf5(CaffeModel(parse_prototxt(PROTOTXT), small_blobs()), tmp_path / "ours.h5")
    assert tree(tmp_path / "ours.h5") == tree(tmp_path / "caffe.h5")


INSIDE = """
layer { name: "i" type: "Input" top: "data" input_param { shape { dim: [1, 2, 4, 4] } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 2 kernel_size: 1 } }
layer { name: "conv/relu" type: "ReLU" bottom: "c" top: "c" }
layer { name: "tail/relu" type: "ReLU" bottom: "c" top: "c" }"""
"""A layer without blobs whose name is that of a place inside the layer before it."""


def inside(folder: Path) -> CaffeModel:
    draw = np.random.default_rng(0)
    conv = tuple(draw.normal(size=shape).astype(np.float32) for shape in ((2, 2, 1, 1), (2,)))
    model = CaffeModel(parse_prototxt(INSIDE), {"conv": conv})
    write_hdf5(model, folder / "net.caffemodel.h5")
    return model


def test_a_layer_without_blobs_takes_no_place_among_anothers(tmp_path: Path) -> None:
    model = inside(tmp_path)
    found = tree(tmp_path / "net.caffemodel.h5")
    assert found.keys() == {"data", "data/i", "data/conv", "data/conv/0", "data/conv/1", "data/tail", "data/tail/relu"}
    assert [blob.tolist() for blob in read_hdf5(tmp_path / "net.caffemodel.h5").blobs["conv"]] == [
        blob.tolist() for blob in model.blobs["conv"]
    ]


@pytest.mark.parametrize("error", [OSError(errno.EIO, "the disk"), KeyboardInterrupt()], ids=["disk", "Ctrl-C"])
@pytest.mark.parametrize(
    ("method", "calls"), [("write", 0), ("write", 3), ("seek", 0), ("seek", 3), ("truncate", 0), ("flush", 0)]
)
def test_what_the_system_says_while_h5py_writes(method: str, calls: int, error: BaseException, tmp_path: Path) -> None:
    """It is what is raised, and the file is left alone from then on: not a SystemError, as of Python 3.13."""
    failed = []

    class Failing(io.FileIO):
        left = calls

    def failing(self: Failing, *given: Any) -> Any:
        self.left -= 1
        if self.left >= 0:
            return getattr(io.FileIO, method)(self, *given)
        failed.append(method)
        raise error

    setattr(Failing, method, failing)
    with Failing(tmp_path / "net.caffemodel.h5", "w+") as file:
        with pytest.raises(type(error)) as found:
            write_hdf5(CaffeModel(parse_prototxt(PROTOTXT), small_blobs()), file)
        delattr(Failing, method)
    assert found.value is error and failed == [method]


PACKED = """
import gzip, io, sys
from converters import read_caffemodel, write_hdf5
try:
    write_hdf5(read_caffemodel(sys.argv[1]), gzip.GzipFile(fileobj=io.BytesIO(), mode="wb"))
except ValueError as error:
    print(error)
"""


def test_a_file_that_cannot_be_sought_in_is_an_error_and_not_the_end_of_the_process(tmp_path: Path) -> None:
    """As the first call of h5py's the error left it a file, for which the library asked when Python had ended."""
    given = [sys.executable, "-c", PACKED, str(formats("fcn8s-mini.caffemodel"))]
    done = subprocess.run(given, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout) == (0, "Seek from end not supported\n")


@pytest.mark.oracle
def test_caffe_reads_what_is_written_and_not_what_it_writes_itself(oracle: Oracle, tmp_path: Path) -> None:
    model = inside(tmp_path)
    loaded = oracle.load(INSIDE, tmp_path / "net.caffemodel.h5")
    assert [blob.tolist() for blob in loaded["conv"]] == [blob.tolist() for blob in model.blobs["conv"]]
    with pytest.raises(CaffeAborted, match="Incompatible number of blobs for layer conv"):
        oracle.load(INSIDE.replace("tail/", "tail_"), oracle.save(INSIDE.replace("tail/", "tail_"), hdf5=True))
