"""People's own data sets: masks of every kind through one description, and what is off is said."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcn_port.cli import run
from fcn_port.data import DataError, open_dataset
from fcn_port.data.checking import check
from fcn_port.data.label_maps import LabelMapEntry, read_label_map
from fcn_port.data.masks import MaskReader, read_mask
from fcn_port.predict.palettes import palette, voc_palette
from parity_tests.datasets import make_voc, noise, save

CLASSES = np.kron(np.array([[0, 1, 2], [2, 1, 0]], np.uint8), np.ones((8, 10), np.uint8))
"""Labels (16, 30) of three classes."""
COLOURS = ((0, 0, 0), (255, 0, 0), (0, 0, 255))


def coloured(labels: np.ndarray, mode: str = "RGB") -> Image.Image:
    return Image.fromarray(np.array(COLOURS, np.uint8)[labels]).convert(mode)


def indexed(labels: np.ndarray) -> Image.Image:
    image = Image.fromarray(labels)
    image.putpalette(voc_palette().tobytes())
    return image


def own(root: Path, text: str, masks: Callable[[Path], object] | None = None, *, count: int = 3) -> Path:
    """A data set of `count` images with a description; `masks` writes a label map at a path without its ending."""
    for number in range(count):
        save(root / "images" / f"i{number}.jpg", noise(number, (16, 30, 3)))
        (root / "labels").mkdir(exist_ok=True)
        if masks is not None:
            masks(root / "labels" / f"i{number}")
    (root / "dataset.toml").write_text(text)
    return root


def saving(image: Image.Image | np.ndarray, ending: str = ".png") -> Callable[[Path], object]:
    return lambda path: save(path.with_suffix(ending), image)


def arrays(values: np.ndarray) -> Callable[[Path], object]:
    return lambda path: np.save(path.with_suffix(".npy"), values)


NAMES = 'classes = ["ground", "wall", "sky"]\n'
WITH_COLOURS = NAMES + 'colours = ["#000000", "#ff0000", "#0000ff"]\n'
FROM_ONE = np.where(CLASSES == 2, 0, CLASSES + 1).astype(np.uint8)
"""Classes 0 and 1 as 1 and 2, and 0 for what does not count."""

KINDS: dict[str, tuple[str, Callable[[Path], object], np.ndarray]] = {
    "palette": (NAMES, saving(indexed(CLASSES)), CLASSES),
    "grey": (NAMES, saving(CLASSES), CLASSES),
    "grey bmp": (NAMES, saving(CLASSES, ".BMP"), CLASSES),
    "grey and alpha": (NAMES, saving(Image.fromarray(CLASSES).convert("LA")), CLASSES),
    "grey in three channels": (NAMES, saving(Image.fromarray(CLASSES).convert("RGB")), CLASSES),
    "16 bit": (NAMES, saving(Image.fromarray(CLASSES.astype(np.uint16))), CLASSES),
    "16 bit, large ids": (
        NAMES + "ids = { 1000 = 0, 2000 = 1, 60000 = 2 }\n",
        saving(Image.fromarray(np.array([1000, 2000, 60000], np.uint16)[CLASSES])),
        CLASSES,
    ),
    "1 bit": ('classes = ["a", "b"]\n', saving(Image.fromarray(CLASSES == 1)), (CLASSES == 1).astype(np.uint8)),
    "0 and 255": (
        'classes = ["a", "b"]\nvoid = []\nids = { 0 = 0, 255 = 1 }\n',
        saving((CLASSES == 1).astype(np.uint8) * 255),
        (CLASSES == 1).astype(np.uint8),
    ),
    "npy": (NAMES, arrays(CLASSES.astype(np.int64)), CLASSES),
    "npy with a channel": (NAMES, arrays(CLASSES[:, :, None]), CLASSES),
    "rgb": (WITH_COLOURS, saving(coloured(CLASSES)), CLASSES),
    "rgba": (WITH_COLOURS, saving(coloured(CLASSES, "RGBA")), CLASSES),
    "rgb npy": (WITH_COLOURS, arrays(np.array(COLOURS, np.uint8)[CLASSES]), CLASSES),
    "palette with own colours": (WITH_COLOURS, saving(coloured(CLASSES).quantize(8)), CLASSES),
    "VOC's colours": (
        NAMES + 'palette = "voc"\n', saving(Image.fromarray(voc_palette()[np.where(CLASSES == 2, 255, CLASSES)])),
        np.where(CLASSES == 2, 255, CLASSES),
    ),
    "void colour": (
        'classes = ["a", "b"]\ncolours = ["#000000", "#ff0000"]\nvoid_colours = ["#0000ff"]\n',
        saving(coloured(CLASSES)),
        np.where(CLASSES == 2, 255, CLASSES),
    ),
    "several void ids": (
        'classes = ["a", "b"]\nvoid = [2, 255]\n', saving(CLASSES), np.where(CLASSES == 2, 255, CLASSES),
    ),
    "classes begin at 1": (
        'classes = ["a", "b"]\nvoid = [0]\nfirst_id = 1\n', saving(FROM_ONE), np.where(CLASSES == 2, 255, CLASSES),
    ),
    "others void": (
        'classes = ["b"]\nids = { 1 = 0 }\nothers = "void"\n', saving(CLASSES), np.where(CLASSES == 1, 0, 255),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_masks_of_every_kind(kind: str, tmp_path: Path) -> None:
    text, masks, expected = KINDS[kind]
    data = open_dataset(own(tmp_path, text, masks))
    assert data.ids == ("i0", "i1", "i2") and data.title == tmp_path.name
    found = data.read("i1")
    assert found.labels["score"].dtype == np.uint8 and np.array_equal(found.labels["score"], expected)
    assert np.array_equal(found.images["color"], np.asarray(Image.open(tmp_path / "images" / "i1.jpg")))
    assert check(data)[0].bad == {}


WRONG: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "a void that is not said": ('classes = ["a", "b"]\n', saving(CLASSES), "label 2"),
    "an id that is not in the map": ('classes = ["a"]\nids = { 0 = 0 }\n', saving(CLASSES), "id 1 is no class"),
    "colours that nobody named": (NAMES, saving(coloured(CLASSES)), "colours instead of labels"),
    "a colour that is none": (
        'classes = ["a", "b"]\ncolours = ["#000000", "#ff0000"]\n', saving(coloured(CLASSES)), "colour #0000ff",
    ),
    "smoothed colours": (
        WITH_COLOURS, saving(coloured(CLASSES).resize((90, 48)).resize((30, 16), Image.Resampling.BICUBIC)
                             .rotate(7, Image.Resampling.BICUBIC)), "smoothing",
    ),
    "a JPEG": (NAMES, saving(CLASSES, ".jpg"), "a JPEG: its losses change labels"),
    "fractions": (NAMES, arrays(CLASSES / 2), "expected whole numbers"),
    "two channels": (NAMES, arrays(np.stack([CLASSES, CLASSES], 2)), "expected whole numbers"),
    "no pixels": (NAMES, arrays(CLASSES[:0]), "expected whole numbers"),
    "text": (NAMES, lambda path: path.with_suffix(".npy").write_bytes(b"not an array"), "not an array"),
    "another size": (NAMES, saving(CLASSES[:8]), "8x30 pixels"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_a_mask_that_is_misread_is_refused_by_name(kind: str, tmp_path: Path) -> None:
    text, masks, expected = WRONG[kind]
    data = open_dataset(own(tmp_path, text, masks))
    with pytest.raises(DataError) as caught:
        data.read("i1")
    assert expected in str(caught.value) and "i1" in str(caught.value)
    found = check(data)[0]
    assert set(found.bad) == set(data.ids) and "cannot be used" in found.doubts[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    {
        'classes = ["a"]\nclases = []\n': "did you mean 'classes'",
        "title = 3\n": "expected text",
        "void = [0]\n": "no classes",
        'like = "vok"\n': "like = 'vok'",
        'classes = ["a", "a"]\n': "each once",
        'classes = ["a"]\ncolours = ["red"]\n': "'red' is no colour",
        'classes = ["a"]\nids = { a = 0 }\n': "'a' is no number",
        'classes = ["a"]\nids = { 1 = 4 }\n': "class 4",
        'classes = ["a"]\nmean = [1, 2]\n': "mean has 2 numbers",
        'classes = ["a"]\nlabel_name = "{}_mask"\n': "the first label map is 'i0'",
        "classes = [\n": "not TOML",
    }.items(),
)
def test_a_description_that_is_wrong_is_refused_in_a_line(text: str, expected: str, tmp_path: Path) -> None:
    own(tmp_path, text, saving(CLASSES))
    with pytest.raises(DataError) as caught:
        open_dataset(tmp_path)
    assert expected in str(caught.value) and "dataset.toml" in str(caught.value)


def test_a_description_as_a_file_elsewhere_with_splits_and_names(tmp_path: Path) -> None:
    for split, count in (("train", 3), ("val", 2)):
        for number in range(count):
            save(tmp_path / split / "in" / f"frame{number}.PNG", noise(number, (16, 30, 3)))
            save(tmp_path / split / "out" / f"frame{number}_L.png", CLASSES)
    path = tmp_path / "mine.toml"
    path.write_text(NAMES + 'images = "{split}/in"\nlabels = "{split}/out"\nlabel_name = "{}_L"\nmean = [1, 2, 3]\n'
                    'scale = 0.5\nchannels = "rgb"\n')  # fmt: skip
    assert [len(open_dataset(path, split=split).ids) for split in ("train", "val")] == [3, 2]
    assert open_dataset(path).split == "val"
    recipe = open_dataset(path).recipes["color"]
    assert (recipe.mean, recipe.scale, recipe.channels) == ((1, 2, 3), 0.5, "file")
    with pytest.raises(FileNotFoundError, match="no such folder of images for 'test'"):
        open_dataset(path, split="test")


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [" ", "\t", ","])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
@pytest.mark.parametrize("place", ["", "/SegNet/CamVid/", "./"])
def test_lists_of_pairs(ending: str, mark: str, bom: str, place: str, tmp_path: Path) -> None:
    own(tmp_path, NAMES + 'list = "{split}.txt"\nsplit = "train"\n', saving(CLASSES))
    lines = [f"{place}images/i{i}.jpg{mark}{place}labels/i{i}.png" for i in (2, 0)]
    (tmp_path / "train.txt").write_bytes((bom + ending.join([*lines, ""])).encode())
    data = open_dataset(tmp_path)
    assert data.ids == ("i2", "i0") and np.array_equal(data.read("i2").labels["score"], CLASSES)
    assert open_dataset(tmp_path, split=str(tmp_path / "train.txt")).ids == data.ids


@pytest.mark.parametrize("line", ["i{}", "i{}.jpg", "images/i{}.jpg"])
def test_lists_of_ids_and_of_images(line: str, tmp_path: Path) -> None:
    own(tmp_path, NAMES + 'list = "lists/{split}.txt"\n', saving(CLASSES))
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "val.txt").write_text("".join(f"{line.format(i)}\n" for i in (1, 2)))
    data = open_dataset(tmp_path)
    assert data.ids == ("i1", "i2") and np.array_equal(data.read("i1").labels["score"], CLASSES)
    with pytest.raises(FileNotFoundError, match="no list of the split 'test'"):
        open_dataset(tmp_path, split="test")


@pytest.mark.parametrize("ending", [".JPG", ".jpeg", ".png", ".bmp", ".tif", ".webp", ".npy"])
def test_images_of_any_ending_in_vocs_layout(ending: str, tmp_path: Path) -> None:
    root = make_voc(tmp_path / "mine")
    image = noise(7, (20, 30, 3))
    (root / "JPEGImages" / "a.jpg").unlink()
    target = root / "JPEGImages" / f"a{ending}"
    if ending == ".npy":
        np.save(target, image)
    elif ending == ".webp":
        Image.fromarray(image).save(target, lossless=True)
    else:
        save(target, image)
    data = open_dataset(root)  # val.txt, for there is no seg11valid
    assert data.split == "val"
    found = data.read("a").images["color"]
    assert np.array_equal(found, image) or "j" in ending.lower()
    save(root / "JPEGImages" / "a.gif", image)
    with pytest.raises(DataError, match="which is the one of a"):
        data.read("a")


LABEL_MAPS = {
    "0 ground\n1 wall\n": [("ground", 0, None), ("wall", 1, None)],
    "ground: 3\nwall: 4\n": [("ground", 3, None), ("wall", 4, None)],
    "0 0 0\tVoid\n64 128 64\tAnimal\n": [("Void", None, (0, 0, 0)), ("Animal", None, (64, 128, 64))],
    "name,r,g,b\nAnimal,64,128,64\n": [("Animal", None, (64, 128, 64))],
    "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:250,50,83::\n": [
        ("background", None, (0, 0, 0)), ("cat", None, (250, 50, 83)),
    ],
    "traffic light\npole\n": [("traffic light", None, None), ("pole", None, None)],
    "road #804080\n": [("road", None, (128, 64, 128))],
}  # fmt: skip


@pytest.mark.parametrize("text", LABEL_MAPS)
def test_label_map_files(text: str, tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text(text)
    assert read_label_map(tmp_path / "classes.txt") == tuple(LabelMapEntry(*each) for each in LABEL_MAPS[text])


def test_a_label_map_file_gives_classes_ids_and_void(tmp_path: Path) -> None:
    own(tmp_path, 'label_map = "map.json"\n', saving(np.array([7, 9, 3], np.uint8)[CLASSES]))
    (tmp_path / "map.json").write_text(json.dumps({"wall": 9, "ground": 7, "unlabelled": 3}))
    data = open_dataset(tmp_path)
    assert data.classes == {"score": ("ground", "wall")}
    assert np.array_equal(data.read("i0").labels["score"], np.where(CLASSES == 2, 255, CLASSES))
    own(tmp_path, 'label_map = "map.txt"\n', saving(coloured(CLASSES)))
    (tmp_path / "map.txt").write_text("ground:0,0,0::\nwall:255,0,0::\nsky:0,0,255::\n")
    data = open_dataset(tmp_path)
    assert np.array_equal(data.read("i0").labels["score"], CLASSES)
    colours = palette(data.colours)
    assert colours is not None and colours[:3].tolist() == [list(each) for each in COLOURS]


# --- what is off is said ---------------------------------------------------------------------------------------------


def test_binary_masks_taken_for_vocs_are_not_silent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_voc(tmp_path / "VOC2012")
    for id_ in "abc":
        size = Image.open(root / "JPEGImages" / f"{id_}.jpg").size
        save(root / "SegmentationClass" / f"{id_}.png", (noise(3, size[::-1]) % 2 * 255))
    assert run(["data", "--check", str(root), "--split", "val"]) == 0
    said = capsys.readouterr().out
    assert "only one class is labelled, 'background'" in said and "ids = { 0 = 0, 255 = 1 }" in said
    assert run(["data", "--check", str(root), "--split", "val", "--strict"]) == 1


DOUBTS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "one class": (NAMES, saving(np.zeros_like(CLASSES)), "only one class is labelled, 'ground'"),
    "no class": (NAMES, saving(np.full_like(CLASSES, 255)), "no pixel is labelled"),
    "ignored": (NAMES + "void = [0, 1]\n", saving(CLASSES), "67% of the pixels are ignored"),
    "never labelled": ('classes = ["a", "b", "c", "d"]\n', saving(CLASSES), "1 class is never labelled: d"),
    "smoothed": (NAMES, saving(noise(0, CLASSES.shape)), "it was resized with smoothing"),
}


@pytest.mark.parametrize("kind", DOUBTS)
def test_what_looks_off_is_said_and_strict_makes_it_an_error(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, masks, expected = DOUBTS[kind]
    own(tmp_path, text, masks)
    assert run(["data", "--check", str(tmp_path)]) == (kind == "smoothed")  # whose maps cannot be used
    assert expected in capsys.readouterr().out
    assert run(["data", "--check", str(tmp_path), "--strict", "--json"]) == 1
    assert expected in " ".join(json.loads(capsys.readouterr().out)["heads"][0]["doubts"])


def test_files_without_partners_and_a_set_that_is_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own(tmp_path, NAMES, saving(CLASSES))
    assert run(["data", "--check", str(tmp_path), "--strict"]) == 0
    said = capsys.readouterr().out
    assert "nothing looks off" in said and "480" in said  # of each class, in three maps of 160
    save(tmp_path / "images" / "alone.png", noise(1, (4, 4, 3)))
    save(tmp_path / "labels" / "lonely.png", CLASSES)
    found = check(open_dataset(tmp_path))[0]
    assert (found.without_label, found.without_image) == (("alone",), ("lonely",))
    assert "1 image has no label map" in " ".join(found.doubts)


def test_a_palette_picture_with_alpha_and_large_ids(tmp_path: Path) -> None:
    save(tmp_path / "p.png", indexed(CLASSES))
    assert np.array_equal(read_mask(tmp_path / "p.png"), CLASSES)
    reader = MaskReader(void=(0,), first_id=1)
    assert reader(tmp_path / "p.png").max() == 255


# --- CamVid and ADE20K -----------------------------------------------------------------------------------------------


def test_camvid_in_segnets_layout(tmp_path: Path) -> None:
    labels = np.where(CLASSES == 2, 11, CLASSES).astype(np.uint8)
    for split in ("train", "test"):
        for number in range(2):
            save(tmp_path / "CamVid" / split / f"{split}{number}.png", noise(number, (16, 30, 3)))
            save(tmp_path / "CamVid" / f"{split}annot" / f"{split}{number}.png", labels)
    line = "/SegNet/CamVid/train/train1.png /SegNet/CamVid/trainannot/train1.png\n"
    (tmp_path / "CamVid" / "train.txt").write_text(line)
    data = open_dataset(tmp_path, split="train")
    assert (data.name, data.ids, len(data.classes["score"])) == ("camvid", ("train1",), 11)
    assert np.array_equal(data.read("train1").labels["score"], np.where(CLASSES == 2, 255, CLASSES))
    assert open_dataset(tmp_path).ids == ("test0", "test1") and data.recipes["color"].mean == (0, 0, 0)
    colours = palette(data.colours)
    assert colours is not None and colours[3].tolist() == [128, 64, 128]


def test_ade20k_counts_from_1(tmp_path: Path) -> None:
    stored = np.array([0, 1, 150], np.uint8)[CLASSES]
    save(tmp_path / "images" / "validation" / "ADE_val_00000001.jpg", noise(0, (16, 30, 3)))
    save(tmp_path / "annotations" / "validation" / "ADE_val_00000001.png", stored)
    data = open_dataset(tmp_path)
    assert (data.name, data.split, data.classes["score"][149]) == ("ade20k", "validation", "flag")
    assert np.array_equal(data.read(data.ids[0]).labels["score"], np.array([255, 0, 149])[CLASSES])
    colours = palette(data.colours)
    assert colours is not None and colours[149].tolist() == [92, 0, 255]
    with pytest.raises(FileNotFoundError, match="no split 'testing'"):
        open_dataset(tmp_path, split="testing")


def test_the_colours_of_ade20k_are_those_of_its_authors() -> None:
    """The digest is of `colors` in CSAILVision/sceneparsing, visualizationCode/color150.mat, row by row."""
    colours = palette("ade20k")
    assert colours is not None
    found = hashlib.sha256(colours[:150].tobytes()).hexdigest()
    assert found == "ce475c9151035eff51f4cf27fd7d906959b1480f6d15b9423ae2417c1b23a0ed"
