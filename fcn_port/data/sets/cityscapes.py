"""Cityscapes: street scenes of 50 cities, whose label ids are not the classes that nets are trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from weights.catalogue import datasets
from weights.records import IGNORE_LABEL

from ..errors import DataError
from ..files import read_label_png, read_rgb
from ..images import photographs
from ..places import find_inside
from ..records import DataSet, Files
from .kind import DatasetKind

TRAIN_IDS = {
    7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12, 26: 13, 27: 14,
    28: 15, 31: 16, 32: 17, 33: 18,
}  # fmt: skip
"""The class of each label id that is scored; every other id is void (cityscapesscripts/helpers/labels.py)."""

_PLACES = ("cityscapes", "Cityscapes", "CityScapes")


@dataclass(frozen=True)
class CityFiles(Files):
    """Files in a folder for each city, with which the id of a frame begins: aachen_000000_000019."""

    def path(self, id_: str) -> Path:
        return self.folder / id_.partition("_")[0] / self.name.format(id_)


def find_cityscapes(root: Path) -> Path | None:
    """The folder with gtFine in or below `root`."""
    return find_inside(root, _PLACES, markers=("gtFine",))


def open_cityscapes(root: Path, *, split: str | None = None) -> DataSet:
    """A split of Cityscapes, by default val: every frame that has `gtFine/<split>/<city>/<frame>_gtFine_labelIds.png`.

    Labels are the 19 classes that are scored; everything else is 255.
    """
    folder = find_cityscapes(root)
    if folder is None:
        raise FileNotFoundError(f"{root}: no Cityscapes here: there is no folder gtFine")
    split = split or "val"
    return DataSet(
        name="cityscapes",
        kind="cityscapes",
        title="Cityscapes",
        root=folder,
        split=split,
        ids=_frames(folder / "gtFine", split),
        images=photographs(CityFiles(folder / "leftImg8bit" / split, "{}_leftImg8bit.png", read_rgb)),
        labels={"score": CityFiles(folder / "gtFine" / split, "{}_gtFine_labelIds.png", read_label_ids)},
        classes=datasets()["cityscapes"].heads,
        single_precision_mean=True,
    )


def read_label_ids(path: Path) -> np.ndarray:
    """A label map (h, w) uint8 of the 19 classes, of a PNG of label ids."""
    stored = read_label_png(path)
    if stored.dtype != np.uint8:
        raise DataError(f"a label map of {stored.dtype}; label ids are bytes", path=path)
    classes = np.full(256, IGNORE_LABEL, np.uint8)
    classes[list(TRAIN_IDS)] = list(TRAIN_IDS.values())
    found: np.ndarray = classes[stored]
    return found


def _frames(folder: Path, split: str) -> tuple[str, ...]:
    """The ids of the labelled frames of a split, city by city."""
    if "/" in split or "\\" in split or not (folder / split).is_dir():
        known = ", ".join(sorted(each.name for each in folder.iterdir() if each.is_dir()))
        raise FileNotFoundError(f"{folder}: there is no split {split!r}; here are {known or 'none'}")
    ending = "_gtFine_labelIds.png"
    files = sorted((folder / split).glob(f"*/*{ending}"))
    ids = tuple(each.name.removesuffix(ending) for each in files)
    if not ids:
        raise DataError(f"there are no files CITY/*{ending}", path=folder / split)
    for id_, file in zip(ids, files, strict=True):
        if id_.partition("_")[0] != file.parent.name:
            raise DataError(f"its name does not begin with its folder's, {file.parent.name}", path=file)
    return ids


KINDS = (DatasetKind("cityscapes", "cityscapes", "Cityscapes", "gtFine", find_cityscapes, open_cityscapes),)
