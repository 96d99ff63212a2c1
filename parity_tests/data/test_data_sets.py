"""Data sets as the release reads them: the same inputs to the last bit, the same labels, and errors that name files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat

from fcn_port.data import DataError, net_inputs, open_dataset
from fcn_port.data.files import read_mat
from fcn_port.data.inputs import input_kinds
from fcn_port.data.lists import digest
from fcn_port.data.sets import KINDS
from fcn_port.data.sets import voc as voc_module
from parity_tests.datasets import (
    VOC_FOLDERS,
    make_context,
    make_nyud,
    make_sbd,
    make_siftflow,
    make_voc,
    noise,
    save,
    save_list,
    save_matlab,
)
from weights import Preprocessing, datasets, release

VOC_MEAN = np.array((104.00698793, 116.66876762, 122.67891434))


# --- what a net is fed, written out as the release's data layers compute it ------------------------------------------


@pytest.mark.parametrize("folder", VOC_FOLDERS)
def test_voc_is_read_as_the_release_reads_it(folder: str, tmp_path: Path) -> None:
    data = open_dataset(make_voc(tmp_path / "VOC2012") if folder == "made" else folder, split=VOC_FOLDERS[folder])
    if folder == "made":
        assert (data.title, data.ids, data.complete) == ("PASCAL VOC 2012", ("a", "b", "c"), False)
    for id_ in data.ids[:20]:
        sample = data.read(id_)
        expected = np.array(Image.open(data.image_path(id_)), dtype=np.float32)[:, :, ::-1]
        expected = (expected - VOC_MEAN).astype(np.float32).transpose(2, 0, 1)[None]
        found = net_inputs(data, sample, release("voc-fcn8s").preprocessing)["data"].numpy()
        assert found.dtype == np.float32 and np.array_equal(found, expected)
        assert not np.array_equal(found, expected[:, ::-1])  # RGB for BGR
        labels = np.asarray(Image.open(data.root / "SegmentationClass" / f"{id_}.png"))
        assert np.array_equal(sample.labels["score"], labels) and 255 in labels


def test_sbd_from_matlab_and_converted(tmp_path: Path) -> None:
    folder = make_sbd(tmp_path)
    data = open_dataset(tmp_path, split="train")
    assert data.kind == "sbd" and data.classes == datasets()["voc"].heads
    expected = loadmat(folder / "cls" / "b.mat")["GTcls"][0]["Segmentation"][0]
    assert np.array_equal(data.read("b").labels["score"], expected)
    for id_ in data.ids:
        save(folder / "cls" / f"{id_}.png", data.read(id_).labels["score"])
    converted = open_dataset(tmp_path, split="train")
    assert converted.labels["score"].name == "{}.png"
    assert np.array_equal(converted.read("b").labels["score"], expected)


def test_pascal_context_maps_459_classes_to_59(tmp_path: Path) -> None:
    """The full list in its own order, with `table`, `bedclothes` and `cloth`; what is none of the 59 is background."""
    classes = datasets()["pascalcontext"].heads["score"]
    renamed = {"diningtable": "table", "bedcloth": "bedclothes", "clothes": "cloth"}
    names = ["accordion", *(renamed.get(name, name) for name in reversed(classes[1:])), "clothes tree"]
    full = np.arange(62).reshape(2, 31).astype(np.uint16)
    make_context(tmp_path, full, names)
    data = open_dataset(tmp_path, dataset="pascalcontext")
    assert (data.split, data.ids) == ("val", ("a",))
    expected = [0, 0, *range(59, 0, -1), 0]
    assert data.read("a").labels["score"].ravel().tolist() == expected


def test_siftflow_has_two_labellings_and_void_is_255(tmp_path: Path) -> None:
    semantic = np.array([[0, 1, 33], [2, 0, 5]], np.uint8)
    geometric = np.array([[-1, 1, 3], [2, 0, 1]], np.int16)
    data = open_dataset(make_siftflow(tmp_path, semantic, geometric))
    labels = data.read("coast_a1").labels
    assert labels["score_sem"].tolist() == [[255, 0, 32], [1, 255, 4]]
    assert labels["score_geo"].tolist() == [[255, 0, 2], [1, 255, 0]]


def test_nyud_inputs_to_the_last_bit(tmp_path: Path) -> None:
    """Colour is BGR, HHA as stored, depth is its logarithm; the release keeps these means in float32."""
    data = open_dataset(make_nyud(tmp_path, np.array([[0, 1, 40], [2, 3, 0]], np.uint8)))
    colour, hha, depth = (
        np.array(Image.open(tmp_path / "data" / kind / "img_5001.png"), dtype=np.float32)
        for kind in ("images", "hha", "depth")
    )
    expected = {
        "color": colour[:, :, ::-1] - np.array((116.190, 97.203, 92.318), np.float32),
        "hha": hha - np.array((132.431, 94.076, 118.477), np.float32),
        "depth": np.log(depth)[:, :, None] - np.array((7.844,), np.float32),
    }
    kinds = datasets()["nyud"].inputs
    for kind, each in kinds.items():
        recipe = Preprocessing((replace(each, name="data"),))
        sample = data.read("5001", kinds=input_kinds(recipe))
        found = net_inputs(data, sample, recipe)["data"].numpy()
        assert np.array_equal(found[0].transpose(1, 2, 0), expected[kind]), kind
    assert data.read("5001").labels["score"].tolist() == [[255, 0, 39], [1, 2, 255]]


# --- which split, which folder ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("below", ["", "VOC2012", "VOCdevkit/VOC2012", "TrainVal/VOCdevkit/VOC2011"])
def test_voc_is_found_below_the_folder(tmp_path: Path, below: str) -> None:
    make_voc(tmp_path / below)
    assert open_dataset(tmp_path, split="val").root == tmp_path / below


def test_the_year_follows_the_split(tmp_path: Path) -> None:
    for year in (2011, 2012):
        make_voc(tmp_path / f"VOC{year}", split="test", labels=False)
    assert open_dataset(tmp_path, split="seg11test").root.name == "VOC2011"
    assert open_dataset(tmp_path, split="seg12test").root.name == "VOC2012"
    assert not open_dataset(tmp_path, split="seg12test").labels


def test_several_data_sets_in_one_folder(tmp_path: Path) -> None:
    make_voc(tmp_path / "VOCdevkit" / "VOC2011")
    make_sbd(tmp_path)
    make_context(tmp_path, np.zeros((4, 5), np.uint8), ["x"])
    make_nyud(tmp_path / "nyud", np.zeros((4, 5), np.uint8))
    assert open_dataset(tmp_path, dataset="nyud").name == "nyud"
    assert open_dataset(tmp_path / "VOCdevkit" / "VOC2011", split="val").kind == "voc"
    assert open_dataset(tmp_path, split="val", kind="sbd").kind == "sbd"


def test_a_list_file_instead_of_a_split(tmp_path: Path) -> None:
    make_voc(tmp_path / "VOC2012")
    chosen = save_list(tmp_path / "mine.txt", ["c", "a"])
    data = open_dataset(tmp_path, split=str(chosen))
    assert (data.ids, data.split) == (("c", "a"), "mine")


def test_classes_of_somebodys_own(tmp_path: Path) -> None:
    make_voc(tmp_path / "mine")
    (tmp_path / "mine" / "classes.txt").write_text("nothing\nthing\n")
    data = open_dataset(tmp_path / "mine")
    assert (data.split, data.classes, data.title) == ("val", {"score": ("nothing", "thing")}, "mine")
    with pytest.raises(DataError, match="known are 0 to 1, and 255"):
        data.read("a")


def test_seg11valid_is_derived_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """VOC2011's val less SBD's train. The real lists are not here: the count and digest of small ones stand in."""
    val, train, left = ("a", "b", "c", "d"), ("c", "x"), ("a", "b", "d")
    make_voc(tmp_path / "VOCdevkit" / "VOC2011", val)
    with pytest.raises(FileNotFoundError, match=r"SBD's train.txt is not beside it\n.*data seg11valid --fetch"):
        open_dataset(tmp_path / "VOCdevkit" / "VOC2011")
    make_sbd(tmp_path, train)
    with pytest.raises(DataError, match="gives 3 images, and seg11valid has 736"):
        open_dataset(tmp_path / "VOCdevkit" / "VOC2011")
    monkeypatch.setattr(voc_module, "SEG11VALID_COUNT", 3)
    with pytest.raises(DataError, match="not the published seg11valid"):
        open_dataset(tmp_path / "VOCdevkit" / "VOC2011")
    monkeypatch.setattr(voc_module, "SEG11VALID_DIGEST", digest(left))
    data = open_dataset(tmp_path / "VOCdevkit" / "VOC2011")
    assert (data.ids, data.split, data.complete) == (left, "seg11valid", True)
    save_list(data.root / "ImageSets" / "Segmentation" / "seg11valid.txt", left[:2])
    assert not open_dataset(data.root).complete  # a part of it, read from a list


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("a\n../../etc/passwd\n", "line 2: '../../etc/passwd' is not the id of an image"),
        ("a\nb\na\n", "line 3: a stands there twice, first in line 1"),
        ("\n\n", "the list is empty"),
    ],
)
def test_bad_lists(tmp_path: Path, lines: str, says: str) -> None:
    make_voc(tmp_path / "VOC2012")
    (tmp_path / "bad.txt").write_text(lines)
    with pytest.raises(DataError, match=r"bad\.txt") as caught:
        open_dataset(tmp_path, split=str(tmp_path / "bad.txt"))
    assert says in str(caught.value)


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no data set here: .*JPEGImages"):
        open_dataset(tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no such folder"):
        open_dataset(tmp_path / "nowhere")
    (tmp_path / "coco.json").touch()
    with pytest.raises(FileNotFoundError, match=r"this is a file; expected a data set's folder, or a dataset\.toml"):
        open_dataset(tmp_path / "coco.json")
    for kind in KINDS:
        with pytest.raises(FileNotFoundError, match=r": no \w.* here: "):
            open_dataset(tmp_path, kind=kind)
    make_voc(tmp_path / "VOC2012")
    with pytest.raises(FileNotFoundError, match=r"no list of the split 'vall'.*there are val"):
        open_dataset(tmp_path, split="vall")


# --- bad files: each names itself ------------------------------------------------------------------------------------


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    return make_voc(tmp_path / "VOC2012")


def _label(voc: Path) -> Path:
    return voc / "SegmentationClass" / "a.png"


def _as_grey(path: Path) -> None:
    labels = Image.fromarray(np.array([[0, 1, 2], [255, 3, 0]], np.uint8))
    labels.putpalette(Image.open(path).getpalette())
    labels.convert("RGB").convert("L").resize((30, 20), Image.Resampling.NEAREST).save(path)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda p: p.unlink(), "there is no such file"),
        (lambda p: p.write_bytes(p.read_bytes()[:200]), "not an image that can be read"),
        (lambda p: p.write_bytes(b"<html>"), "not an image that can be read"),
        (lambda p: p.write_bytes(b""), "not an image that can be read"),
        (lambda p: Image.open(p).convert("RGB").save(p), "the colours of VOC's palette (RGB) instead of labels"),
        (lambda p: save(p, noise(1, (20, 30, 3))), "colours (RGB) instead of labels"),
        (_as_grey, "no classes, the first\n  these are the grey of VOC's colours"),
        (lambda p: save(p, np.full((20, 30), 21, np.uint8)), "row 0, column 0: label 21 is no class"),
        (lambda p: save(p, np.full((20, 30), 500, np.uint16)), "label 500 is none of 0 to 20"),
        (lambda p: save(p, np.zeros((30, 20), np.uint8)), "30x20 pixels, but "),
    ],
)
def test_bad_label_maps(voc: Path, damage: object, says: str) -> None:
    damage(_label(voc))  # type: ignore[operator]
    with pytest.raises(DataError) as caught:
        open_dataset(voc, split="val").read("a")
    message = str(caught.value)
    assert message.startswith(str(_label(voc))) and says in message
    if "colours" in says or "grey" in says:
        assert "mean IU of about 0.046" in message


def test_grey_values_that_are_labels_are_labels(voc: Path) -> None:
    """Converted sets store label maps as grey PNGs: their values are the labels."""
    save(_label(voc), np.arange(600).reshape(20, 30).astype(np.uint8) % 21)
    assert open_dataset(voc, split="val").read("a").labels["score"].max() == 20


@pytest.mark.parametrize("damage", [lambda p: p.unlink(), lambda p: p.write_bytes(p.read_bytes()[:300])])
def test_bad_images(voc: Path, damage: object) -> None:
    path = voc / "JPEGImages" / "b.jpg"
    damage(path)  # type: ignore[operator]
    with pytest.raises(DataError, match=r"b\.jpg: (there is no such file|not an image)"):
        open_dataset(voc, split="val").read("b")


def test_every_truncation_of_an_image_is_an_error_that_names_it(voc: Path) -> None:
    path = voc / "JPEGImages" / "a.jpg"
    whole = path.read_bytes()
    data = open_dataset(voc, split="val")
    for length in range(0, len(whole) - 2, 37):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"a\.jpg"):
            data.read("a")


def test_exif_orientation_is_left_alone(voc: Path) -> None:
    """A label map lies on the pixels as stored; turning the image would part them."""
    path = voc / "JPEGImages" / "a.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise(3, (20, 30, 3))).save(path, exif=exif)
    assert open_dataset(voc, split="val").read("a").images["color"].shape == (20, 30, 3)


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"other": np.zeros((2, 2))}, "there is no GTcls.Segmentation in it"),
        ({"GTcls": np.zeros((2, 2))}, "there is no GTcls.Segmentation in it"),
        ({"GTcls": {"Segmentation": "text"}}, "not a matrix of labels"),
    ],
)
def test_bad_matlab_files(tmp_path: Path, variables: dict[str, object], says: str) -> None:
    path = save_matlab(tmp_path / "x.mat", **variables)
    with pytest.raises(DataError, match=says):
        read_mat(path, "GTcls", "Segmentation")
    path.write_bytes(path.read_bytes()[:140])
    with pytest.raises(DataError, match=r"x\.mat"):
        read_mat(path, "GTcls", "Segmentation")


def test_matlab_values_that_are_no_class(tmp_path: Path) -> None:
    make_nyud(tmp_path, np.array([[0, 41], [1, 2]], np.uint8))
    with pytest.raises(DataError, match=r"img_5001\.mat: row 0, column 1: label 40 is no class"):
        open_dataset(tmp_path).read("5001")


def test_depth_without_a_logarithm(tmp_path: Path) -> None:
    make_nyud(tmp_path, np.ones((2, 2), np.uint8))
    save(tmp_path / "data" / "depth" / "img_5001.png", np.zeros((2, 2), np.uint16))
    with pytest.raises(DataError, match="a depth of 0 has no logarithm"):
        open_dataset(tmp_path).read("5001", kinds=("depth",))
