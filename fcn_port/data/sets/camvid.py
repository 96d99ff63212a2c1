"""CamVid as SegNet's tutorial publishes it: street scenes of 360x480 in 11 classes, and 11 for what is none of them."""

from __future__ import annotations

from pathlib import Path

from weights.catalogue import datasets
from weights.records import IGNORE_LABEL

from ..finding import FoundFiles, files_by_stem, ids_of_files
from ..images import photographs, read_color
from ..lists import split_name
from ..masks import MaskReader
from ..places import find_inside
from ..records import DataSet
from .kind import DatasetKind

UNLABELLED = 11
"""The id of SegNet's label maps for pixels that do not count (ignore_label of its train prototxts)."""
_SPLITS = ("train", "val", "test")
_PLACES = ("CamVid", "camvid", "SegNet/CamVid")


def find_camvid(root: Path) -> Path | None:
    """The folder with `trainannot` or `testannot` in or below `root`."""
    found = (find_inside(root, _PLACES, markers=(split, f"{split}annot")) for split in _SPLITS)
    return next((place for place in found if place is not None), None)


def open_camvid(root: Path, *, split: str | None = None) -> DataSet:
    """A split of CamVid, by default test: the images that `<split>.txt` lists, or all in the folder `<split>`."""
    folder = find_camvid(root)
    if folder is None:
        raise FileNotFoundError(f"{root}: no CamVid here: folders test and testannot are expected")
    given = split or "test"
    name = split_name(given)
    listed = Path(given) if Path(given).suffix and Path(given).is_file() else folder / f"{name}.txt"
    images, labels = folder / name, folder / f"{name}annot"
    if not labels.is_dir():
        raise FileNotFoundError(f"{labels}: there is no such folder; splits are {', '.join(_SPLITS)}")
    return DataSet(
        name="camvid",
        kind="camvid",
        title="CamVid",
        root=folder,
        split=name,
        ids=ids_of_files(listed, roots=(folder, images)) if listed.is_file() else tuple(files_by_stem(images)),
        images=photographs(FoundFiles(images, "{}", read_color, ".png")),
        labels={"score": FoundFiles(labels, "{}", MaskReader(void=(UNLABELLED, IGNORE_LABEL)), ".png")},
        classes=datasets()["camvid"].heads,
        listed=listed.is_file(),
    )


KINDS = (DatasetKind("camvid", "camvid", "CamVid", "test and testannot", find_camvid, open_camvid),)
