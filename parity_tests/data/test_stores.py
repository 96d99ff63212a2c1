"""Data sets in Caffe's own stores: LMDB and LevelDB that Caffe's convert_imageset wrote, and HDF5Data's files."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from converters.errors import CaffeFormatError
from converters.formats import read_lmdb
from fcn_port.cli import run
from fcn_port.data import DataError, net_inputs, open_dataset
from fcn_port.data.inputs import inputs_of
from parity_tests.goldens import GOLDEN

STORES = GOLDEN / "stores"
PICTURES = [np.asarray(Image.open(STORES / "images" / f"{i}.png")) for i in range(3)]
MASKS = [np.asarray(Image.open(STORES / "masks" / f"{i}.png")) for i in range(3)]
NAMES = 'classes = ["ground", "wall", "sky"]\n'


def stored(root: Path, images: str, labels: str, more: str = "") -> Path:
    """A copy of two stores with a description, which is given."""
    for name in {images, labels}:
        shutil.copytree(STORES / name, root / name)
    (root / "dataset.toml").write_text(f'images = "{images}"\nlabels = "{labels}"\n{NAMES}{more}')
    return root / "dataset.toml"


@pytest.mark.parametrize("images", ["raw", "encoded", "leveldb"])
@pytest.mark.parametrize("labels", ["labels", "encoded_labels"])
def test_what_caffes_convert_imageset_wrote(images: str, labels: str, tmp_path: Path) -> None:
    """Raw records are BGR, a picture's file is RGB; both are the picture. Keys differ, so places count."""
    data = open_dataset(stored(tmp_path, images, labels))
    assert len(data.ids) == 3 and data.title == tmp_path.name and len(set(data.ids)) == 3
    for id_, picture, mask in zip(data.ids, PICTURES, MASKS, strict=True):
        found = data.read(id_)
        assert np.array_equal(found.images["color"], picture)
        assert not np.array_equal(found.images["color"], picture[:, :, ::-1])
        assert np.array_equal(found.labels["score"], mask)
        inputs = net_inputs(data, found, inputs_of(data, {"data": (1, 3, 6, 8)}))
        mean = np.array(data.recipes["color"].mean)
        assert np.array_equal(inputs["data"][0], (picture[:, :, ::-1] - mean).astype(np.float32).transpose(2, 0, 1))
    assert all(path.is_file() for path in data.files(data.ids[0]))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
@pytest.mark.parametrize("images", ["raw", "leveldb"])
def test_stores_in_folders_whose_names_are_not_utf8(images: str, tmp_path: Path) -> None:
    place = tmp_path / "caf\udce9"
    place.mkdir()
    data = open_dataset(stored(place, images, "labels"))
    assert np.array_equal(data.read(data.ids[1]).images["color"], PICTURES[1])


@pytest.mark.parametrize("size", [0, 1, 1500, 2040, 9000], ids=str)
def test_any_lmdb_is_read_as_liblmdb_reads_it(size: int, tmp_path: Path) -> None:
    """Values in pages and in pages of their own, trees of several levels, pages freed by later transactions."""
    lmdb = pytest.importorskip("lmdb")
    draw = np.random.default_rng(size)
    with lmdb.open(str(tmp_path / "db"), map_size=1 << 26) as database:
        with database.begin(write=True) as transaction:
            for i in range(700):
                transaction.put(b"%08d_%s" % (i, b"x" * (i % 90)), draw.bytes(size + i % 7))
        with database.begin(write=True) as transaction:
            for i in range(0, 700, 3):
                transaction.delete(b"%08d_%s" % (i, b"x" * (i % 90)))
        with database.begin() as transaction:
            expected = [(bytes(key), bytes(value)) for key, value in transaction.cursor()]
    found = read_lmdb(tmp_path / "db")
    assert [(key, found.value(i)) for i, key in enumerate(found.keys)] == expected and len(expected) == 466


def test_a_damaged_lmdb_is_an_error_and_never_ends_the_program(tmp_path: Path) -> None:
    """Cut anywhere, or with any byte of its pages' headers changed: liblmdb ends Python with a bus error here."""
    whole = (STORES / "raw" / "data.mdb").read_bytes()
    place = tmp_path / "data.mdb"
    for length in [*range(0, len(whole), 512), len(whole) - 1]:
        place.write_bytes(whole[:length])
        with pytest.raises(CaffeFormatError, match=r"data\.mdb"):
            read_lmdb(tmp_path)
    draw = np.random.default_rng(0)
    for _ in range(120):
        damaged = bytearray(whole)
        for _ in range(2):
            damaged[4096 * draw.integers(3) + draw.integers(150)] = draw.integers(256)
        place.write_bytes(damaged)
        try:
            found = read_lmdb(tmp_path)
            assert sum(len(found.value(i)) for i in range(len(found.keys))) <= len(whole)
        except CaffeFormatError:
            continue


def hdf5(root: Path, *, name: str = "a.h5", rows: int = 2, images: object = None, labels: object = None) -> Path:
    """A file as an HDF5Data layer reads it: data (n, 3, 4, 5) and label (n, 1, 4, 5), or what is given."""
    draw = np.random.default_rng(len(name))
    root.mkdir(exist_ok=True)
    with h5py.File(root / name, "w") as file:
        file["data"] = draw.normal(size=(rows, 3, 4, 5)).astype(np.float32) if images is None else images
        file["label"] = draw.integers(0, 3, (rows, 1, 4, 5)).astype(np.float32) if labels is None else labels
    return root / name


def test_hdf5_data_is_what_is_stored(tmp_path: Path) -> None:
    """A list of files, each with rows: no mean is subtracted, no channel moved, as HDF5Data transforms nothing."""
    files = [hdf5(tmp_path / "h5", name="a.h5"), hdf5(tmp_path / "h5", name="bb.h5", rows=3)]
    (tmp_path / "train.txt").write_bytes(b"\xef\xbb\xbfh5/a.h5\r\nh5/bb.h5\r\n")
    (tmp_path / "dataset.toml").write_text(f'images = "train.txt"\nlabels = "train.txt"\n{NAMES}')
    data = open_dataset(tmp_path)
    assert data.ids == ("a-000000", "a-000001", "bb-000000", "bb-000001", "bb-000002")
    with h5py.File(files[1]) as file:
        stored_image, stored_labels = file["data"][2], file["label"][2, 0]
    found = data.read("bb-000002")
    assert np.array_equal(net_inputs(data, found, inputs_of(data, {"data": (1, 3, 4, 5)}))["data"][0], stored_image)
    assert np.array_equal(found.labels["score"], stored_labels)


def test_hdf5_of_other_channels_and_types(tmp_path: Path) -> None:
    """Five channels as whole numbers, packed by gzip, labels (n, h, w) of bytes, tops of other names."""
    values = np.random.default_rng(0).integers(-9, 9, (2, 5, 4, 5))
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("bands", data=values, compression="gzip")
        file["truth"] = np.full((2, 4, 5), 2, np.uint8)
    text = 'images = "x.h5"\nlabels = "x.h5"\nimage_top = "bands"\nlabel_top = "truth"\nchannels = "all"\n'
    (tmp_path / "dataset.toml").write_text(text + NAMES)
    data = open_dataset(tmp_path)
    found = data.read("x-000001", kinds=["bands"])
    assert np.array_equal(net_inputs(data, found, inputs_of(data, {"data": (1, 5, 4, 5)}))["data"][0], values[1])
    assert (found.labels["score"] == 2).all()


def _cut(root: Path) -> None:
    path = root / "raw" / "data.mdb"
    path.write_bytes(path.read_bytes()[:9000])


def _same_keys_but_one(root: Path) -> None:
    shutil.rmtree(root / "labels")
    shutil.copytree(root / "raw", root / "labels")
    path = root / "labels" / "data.mdb"
    path.write_bytes(path.read_bytes().replace(b"00000001_", b"00000007_"))


def _described(root: Path, text: str) -> None:
    (root / "dataset.toml").write_text(text)


H5 = f'images = "a.h5"\nlabels = "a.h5"\n{NAMES}'
BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "a cut mdb": (_cut, "raw/data.mdb: 3 pages of 4096 bytes, and the file has 9000 bytes"),
    "other keys": (_same_keys_but_one, "3 label maps for 3 images, 2 of equal keys"),
    "no store of labels": (
        lambda root: _described(root, f'images = "raw"\nlabels = "gone"\n{NAMES}'), "no LMDB, LevelDB or HDF5",
    ),
    "images as labels": (
        lambda root: _described(root, f'images = "labels"\nlabels = "raw"\n{NAMES}'), "3 channels; expected one",
    ),
    "fractions": (
        lambda root: (hdf5(root, labels=np.full((2, 1, 4, 5), 0.5)), _described(root, H5)), "expected whole numbers",
    ),
    "another size": (
        lambda root: (hdf5(root, labels=np.zeros((2, 1, 4, 6))), _described(root, H5)), "a.h5[a-000000]: 4x6 pixels",
    ),
    "fewer rows": (
        lambda root: (hdf5(root, labels=np.zeros((1, 1, 4, 5))), _described(root, H5)), "1 label maps for 2 images",
    ),
    "labels of whole images": (
        lambda root: (hdf5(root, labels=np.zeros((2,))), _described(root, H5)), "of images as a whole",
    ),
    "a top that is missing": (
        lambda root: (hdf5(root), _described(root, f'label_top = "seg"\n{H5}')),
        "there is no dataset 'seg'; there are 'data', 'label'",
    ),
    "five channels": (
        lambda root: (hdf5(root, images=np.zeros((2, 5, 4, 5))), _described(root, H5)), "5 channels; expected 1 or 3",
    ),
    "a file that is no HDF5": (
        lambda root: ((root / "a.h5").write_bytes(b"no HDF5" * 99), _described(root, H5)), "cannot read it",
    ),
    "a missing file": (
        lambda root: ((root / "l.txt").write_text("gone.h5\n"), _described(root, H5.replace("a.h5", "l.txt"))),
        "gone.h5: there is no such file",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_a_store_that_does_not_fit_is_refused_by_name(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, expected = BAD[kind]
    stored(tmp_path, "raw", "labels")
    change(tmp_path)
    status = run(["data", "--check", str(tmp_path), "--strict"])
    said = "".join(capsys.readouterr())
    assert status in (1, 2, 3) and expected in said and "Traceback" not in said


def test_a_broken_record_is_named_by_its_key(tmp_path: Path) -> None:
    place = stored(tmp_path, "raw", "labels")
    path = tmp_path / "raw" / "data.mdb"
    path.write_bytes(path.read_bytes().replace(b"\x08\x03\x10\x06\x18\x08", b"\x08\x03\x10\x07\x18\x08", 1))
    data = open_dataset(place)
    with pytest.raises(DataError, match=r"raw\[00000002_im.*144 values for 3 x 7 x 8"):
        data.read(data.ids[2])
    assert data.read(data.ids[1]).images["color"].shape == (6, 8, 3)


def test_a_check_of_a_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = stored(tmp_path, "raw", "labels")
    assert run(["data", "--check", str(place), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["heads"]
    counts = np.bincount(np.concatenate(MASKS, axis=None), minlength=256)
    assert found["pixels"] == counts[:3].tolist() and found["ignored"] == counts[255] and not found["bad"]


@pytest.mark.parametrize(
    "line", ["images/0 a.png masks/0.png", "images/0 a.png\tmasks/0.png", "/other/images/0 a.png /other/masks/0.png"]
)
def test_a_list_of_imagedata_with_spaces_in_names(line: str, tmp_path: Path) -> None:
    for name in ("images", "masks"):
        shutil.copytree(STORES / name, tmp_path / name)
    (tmp_path / "images" / "0.png").rename(tmp_path / "images" / "0 a.png")
    (tmp_path / "train.txt").write_text(line)
    (tmp_path / "dataset.toml").write_text(f'list = "train.txt"\n{NAMES}')
    found = open_dataset(tmp_path).read("0 a")
    assert np.array_equal(found.images["color"], PICTURES[0]) and np.array_equal(found.labels["score"], MASKS[0])


def test_a_store_alone_says_what_describes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(STORES / "raw", tmp_path / "raw")
    assert run(["data", "--check", str(tmp_path / "raw")]) == 2
    assert "dataset.toml says which is which" in capsys.readouterr().err
