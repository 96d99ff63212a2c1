"""PASCAL VOC, and SBD, which labels more of its images."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from weights.catalogue import datasets

from ..errors import DataError
from ..files import read_label_png, read_mat, read_rgb
from ..finding import FoundFiles, ids_of_files, names_files, own_images
from ..images import photographs, read_color
from ..lists import digest, read_lines, read_list, split_file, split_name
from ..masks import read_mask
from ..places import find_beside, find_inside
from ..records import DataSet, Files
from ..shapes import HELD_OUT_IDS
from .kind import DatasetKind

SEG11VALID_COUNT = 736
SEG11VALID_DIGEST = "4ca991bd72c251fd2485eaa9e29536502ea3800d1b1c17c151fd6a04bcfbc2cc"
"""The split that the release is scored on: VOC2011's segmentation val without what SBD's train also holds."""

_TEST_SETS = {"seg11test": "test", "seg12test": "test"}
_SBD_PLACES = (
    *("benchmark_RELEASE/dataset", "sbd/dataset", "SBD/dataset", "sbdd/dataset"),
    *("sbd", "SBD", "sbdd", "dataset"),
)


def find_voc(root: Path, *, split: str = "") -> Path | None:
    """The folder with JPEGImages in or below `root`; where there are several years, the one that the split is of."""
    years = (2011, 2012, 2010) if "11" in split else (2012, 2011, 2010)
    places = [f"{folder}VOC{year}" for year in years for folder in ("", "VOCdevkit/", "TrainVal/VOCdevkit/")]
    return find_inside(root, places, markers=("JPEGImages",))


def voc_year(root: Path) -> int | None:
    """The year of a folder called VOC<year>, else None."""
    found = re.fullmatch(r"VOC(20\d\d)", root.resolve().name)
    return int(found[1]) if found else None


def open_voc(root: Path, *, split: str | None = None, sbd: Path | None = None) -> DataSet:
    """A split of PASCAL VOC, or of any folder that is laid out like it.

    A file `classes.txt` in it, one name a line, replaces VOC's 21 classes. `seg11valid`, where the release is scored,
    is read from its list, or derived as VOC2011's val less SBD's train (in `sbd`, or beside) and checked; a data set of
    somebody's own is scored on its val. Test sets have no labels.
    """
    folder = find_voc(root, split=split or "seg11valid")
    if folder is None:
        raise FileNotFoundError(f"{root}: no PASCAL VOC here: there is no folder JPEGImages")
    own = _own_classes(folder / "classes.txt")
    split = split or _usual_split(folder, own)
    ids, complete = _voc_ids(folder, split, sbd)
    has_labels = split_name(split) not in ("test", *_TEST_SETS) and (folder / "SegmentationClass").is_dir()
    return DataSet(
        name="shapes" if own == datasets()["shapes"].heads["score"] else "voc",
        kind="voc",
        title=folder.resolve().name if own else f"PASCAL VOC {voc_year(folder) or ''}".strip(),
        root=folder,
        split=split_name(split),
        ids=ids,
        images=own_images(FoundFiles(folder / "JPEGImages", "{}", read_color)),
        labels={"score": FoundFiles(folder / "SegmentationClass", "{}", read_label_file, ".png")} if has_labels else {},
        classes={"score": own} if own else datasets()["voc"].heads,
        complete=complete,
    )


def open_sbd(root: Path, *, split: str | None = None) -> DataSet:
    """A split of the Semantic Boundaries Dataset: `cls/<id>.png` where it was converted, else `cls/<id>.mat`."""
    folder = find_sbd(root)
    if folder is None:
        raise FileNotFoundError(f"{root}: no SBD here: there are no folders img and cls")
    split = split or "val"
    ids = read_list(split_file(split, (folder,)))
    converted = (folder / "cls" / f"{ids[0]}.png").exists()
    labels = Files(folder / "cls", "{}.png", read_label_png) if converted else Files(folder / "cls", "{}.mat", _sbd_mat)
    return DataSet(
        name="voc",
        kind="sbd",
        title="SBD",
        root=folder,
        split=split_name(split),
        ids=ids,
        images=photographs(Files(folder / "img", "{}.jpg", read_rgb)),
        labels={"score": labels},
        classes=datasets()["voc"].heads,
    )


def find_sbd(root: Path) -> Path | None:
    """The folder with SBD's `img` and `cls`, in or below `root`."""
    return find_inside(root, _SBD_PLACES, markers=("img", "cls"))


def derive_seg11valid(voc2011_val: tuple[str, ...], sbd_train: tuple[str, ...]) -> tuple[str, ...]:
    """VOC2011's val without SBD's train (footnote 7 of the paper); DataError if that is not the published set."""
    known = set(sbd_train)
    ids = tuple(id_ for id_ in voc2011_val if id_ not in known)
    if not is_seg11valid(ids):
        raise DataError(
            f"VOC2011 val less SBD train gives {len(ids)} images, and seg11valid has {SEG11VALID_COUNT}"
            if len(ids) != SEG11VALID_COUNT
            else "VOC2011 val less SBD train is not the published seg11valid",
            hint="are val.txt from VOC2011 (not 2012) and train.txt from SBD (8498 images)?",
        )
    return ids


def is_seg11valid(ids: tuple[str, ...]) -> bool:
    """True if these are the 736 images of seg11valid."""
    return len(ids) == SEG11VALID_COUNT and digest(ids) == SEG11VALID_DIGEST


def _voc_ids(folder: Path, split: str, sbd: Path | None) -> tuple[tuple[str, ...], bool]:
    """The ids of a split, and whether they were checked to be the published ones."""
    lists = folder / "ImageSets" / "Segmentation"
    if split == "seg11valid" and not (lists / "seg11valid.txt").is_file():
        return _derived(folder, lists, sbd), True
    path = split_file(_TEST_SETS.get(split, split), (lists, folder))
    images = FoundFiles(folder / "JPEGImages", "{}", read_color)
    roots = (folder, images.folder)
    ids = ids_of_files(path, roots=roots) if names_files(path, roots=roots) else read_list(path, there=images.ids())
    return ids, is_seg11valid(ids) or ids == HELD_OUT_IDS


def _usual_split(folder: Path, own: tuple[str, ...] | None) -> str:
    """The split to score on: the release's, or val where it is somebody's own set or seg11valid cannot be had."""
    lists = folder / "ImageSets" / "Segmentation"
    beside = find_beside(folder, _SBD_PLACES[:-1], markers=("train.txt", "cls"))
    if own or (not (lists / "seg11valid.txt").is_file() and beside is None and voc_year(folder) is None):
        return "val"
    return "seg11valid"


def read_label_file(path: Path) -> np.ndarray:
    """A label map (h, w) in a picture, as stored, or in an .npy."""
    return read_mask(path) if path.suffix.lower() == ".npy" else read_label_png(path)


def _derived(folder: Path, lists: Path, sbd: Path | None) -> tuple[str, ...]:
    train = find_inside(sbd, _SBD_PLACES, markers=("train.txt",)) if sbd else None
    train = train or find_beside(folder, _SBD_PLACES[:-1], markers=("train.txt", "cls"))
    if train is None or not (lists / "val.txt").is_file():
        missing = "SBD's train.txt is not beside it" if train is None else f"{lists / 'val.txt'} is missing"
        raise FileNotFoundError(
            f"{lists / 'seg11valid.txt'}: there is no such list, and it cannot be derived: {missing}\n"
            "  fetch the list with `fcn-port data seg11valid --fetch`, or put SBD beside VOC2011"
        )
    try:
        return derive_seg11valid(read_list(lists / "val.txt"), read_list(train / "train.txt"))
    except DataError as error:
        raise error.in_file(folder) from None


def _own_classes(path: Path) -> tuple[str, ...] | None:
    if not path.is_file():
        return None
    names = tuple(line.strip() for line in read_lines(path) if line.strip())
    if not 2 <= len(names) <= 255 or len(set(names)) != len(names):
        raise DataError("one class a line is expected, each once, background first", path=path)
    return names


def _sbd_mat(path: Path) -> np.ndarray:
    return read_mat(path, "GTcls", "Segmentation")


KINDS = (
    DatasetKind("sbd", "voc", "SBD", "img and cls", find_sbd, open_sbd),
    DatasetKind("voc", "voc", "PASCAL VOC", "JPEGImages", find_voc, open_voc, elsewhere=True),
)
