"""ADE20K as the scene parsing challenge of 2016 publishes it: 150 classes from 1 on, and 0 for what does not count."""

from __future__ import annotations

from pathlib import Path

from weights.catalogue import datasets

from ..errors import DataError
from ..finding import FoundFiles, files_by_stem
from ..images import photographs, read_color
from ..masks import MaskReader
from ..places import find_inside
from ..records import DataSet
from .kind import DatasetKind

_SPLITS = {"train": "training", "val": "validation"}
_PLACES = ("ADEChallengeData2016", "ade20k", "ADE20K", "ade20k/ADEChallengeData2016")


def find_ade20k(root: Path) -> Path | None:
    """The folder with `annotations/validation` or `annotations/training` in or below `root`."""
    found = (find_inside(root, _PLACES, markers=(f"annotations/{part}", "images")) for part in _SPLITS.values())
    return next((place for place in found if place is not None), None)


def open_ade20k(root: Path, *, split: str | None = None) -> DataSet:
    """A split of ADE20K, by default validation: every image of `images/<split>`; labels are 0 to 149, void is 255."""
    folder = find_ade20k(root)
    if folder is None:
        raise FileNotFoundError(f"{root}: no ADE20K here: folders images and annotations/validation are expected")
    name = _SPLITS.get(split or "val", split or "val")
    if name not in _SPLITS.values() or not (folder / "annotations" / name).is_dir():
        raise FileNotFoundError(f"{folder / 'annotations'}: there is no split '{name}'; there are training, validation")
    images = folder / "images" / name
    ids = tuple(files_by_stem(images))
    if not ids:
        raise DataError("there is no image in it", path=images)
    return DataSet(
        name="ade20k",
        kind="ade20k",
        title="ADE20K, scene parsing",
        root=folder,
        split=name,
        ids=ids,
        images=photographs(FoundFiles(images, "{}", read_color)),
        labels={"score": FoundFiles(folder / "annotations" / name, "{}", MaskReader(void=(0,), first_id=1), ".png")},
        classes=datasets()["ade20k"].heads,
        listed=False,
    )


KINDS = (DatasetKind("ade20k", "ade20k", "ADE20K", "images and annotations/validation", find_ade20k, open_ade20k),)
