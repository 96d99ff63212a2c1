"""A data set from the folder that somebody has: which one it is shows in what lies in it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .ade20k import find_ade20k, open_ade20k
from .camvid import find_camvid, open_camvid
from .cityscapes import find_cityscapes, open_cityscapes
from .context import find_context, open_context
from .described import open_described
from .description import DESCRIPTION, description_in
from .nyud import find_nyud, open_nyud
from .records import DataSet
from .siftflow import find_siftflow, open_siftflow
from .stored import is_store
from .voc import find_sbd, find_voc, open_sbd, open_voc


@dataclass(frozen=True)
class DatasetKind:
    """A kind: its data set in the catalogue, how it is found in a folder and opened."""

    title: str
    dataset: str
    find: Callable[[Path], Path | None]
    open: Callable[..., DataSet]


KINDS: Mapping[str, DatasetKind] = {
    "cityscapes": DatasetKind("Cityscapes", "cityscapes", find_cityscapes, open_cityscapes),
    "camvid": DatasetKind("CamVid", "camvid", find_camvid, open_camvid),
    "ade20k": DatasetKind("ADE20K", "ade20k", find_ade20k, open_ade20k),
    "pascalcontext": DatasetKind("PASCAL-Context", "pascalcontext", find_context, open_context),
    "siftflow": DatasetKind("SIFT Flow", "siftflow", find_siftflow, open_siftflow),
    "nyud": DatasetKind("NYUDv2", "nyud", find_nyud, open_nyud),
    "sbd": DatasetKind("SBD", "voc", find_sbd, open_sbd),
    "voc": DatasetKind("PASCAL VOC", "voc", find_voc, open_voc),
}
"""In the order in which a folder is looked at: VOC's images lie in folders of other data sets too."""


def open_dataset(
    root: str | os.PathLike[str], *, split: str | None = None, kind: str | None = None, dataset: str | None = None
) -> DataSet:
    """A split of the data set in a folder; `kind` is a key of KINDS, found out if it is None.

    A folder with a `dataset.toml`, or the path of such a file, is what that describes (fcn_port/data/description.py).
    `split` is the name of a list or the path of one; by default the split that the release is scored on. Where a
    folder holds several data sets, the catalogue's `dataset` is looked for first. Reading is left to `DataSet.read`.
    Raises FileNotFoundError where there is no data set or no list, DataError for a bad list.
    """
    folder = Path(root).expanduser()
    described = description_in(folder) if kind is None else None
    if described is not None:
        return open_described(described, split=split)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: there is no such folder")
    if kind is None:
        kind = _kind_of(folder, dataset)
    if kind not in KINDS:
        raise ValueError(f"there is no kind of data set '{kind}'; known: {', '.join(KINDS)}")
    return KINDS[kind].open(folder, split=split)


def _kind_of(folder: Path, dataset: str | None) -> str:
    """The wanted one if it is there, else what lies least deep."""
    found = {name: place for name, kind in KINDS.items() if (place := kind.find(folder)) is not None}
    if not found and is_store(folder):
        raise FileNotFoundError(
            f"{folder}: a store of Caffe's, of images or of labels; a {DESCRIPTION} says which is which\n"
            '  images = "train_lmdb", labels = "train_labels_lmdb", classes = ["background", ...] (docs/own-data.md)'
        )
    if not found:
        looked_for = "JPEGImages (VOC), img and cls (SBD), SemanticLabels (SIFT Flow), segmentation (NYUDv2)"
        raise FileNotFoundError(
            f"{folder}: no data set here: there is none of {looked_for}\n"
            f"  `fcn-port data` says where each is published; a {DESCRIPTION} describes your own (docs/own-data.md)"
        )
    return min(found, key=lambda name: (KINDS[name].dataset != dataset, len(found[name].parts)))
