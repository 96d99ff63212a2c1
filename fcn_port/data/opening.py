"""A data set from the folder that somebody has: which one it is shows in what lies in it."""

from __future__ import annotations

import os
from pathlib import Path

from converters.given import path_of, refuse_other_than

from .described import open_described
from .description import DESCRIPTION, description_in
from .records import DataSet
from .sets import KINDS
from .stored import is_store


def open_dataset(
    root: str | os.PathLike[str],
    *,
    split: str | os.PathLike[str] | None = None,
    kind: str | None = None,
    dataset: str | None = None,
) -> DataSet:
    """A split of the data set in a folder; `kind` is a key of KINDS, found out if it is None.

    A folder with a `dataset.toml`, or the path of such a file, is what that describes (fcn_port/data/description.py).
    `split` is the name of a list or the path of one; by default the split that the release is scored on. Where a
    folder holds several data sets, the catalogue's `dataset` is looked for first. Reading is left to `DataSet.read`.
    Raises FileNotFoundError where there is no data set or no list, DataError for a bad list.
    """
    folder = path_of(root, "a data set's folder, or the path of its dataset.toml").expanduser()
    refuse_other_than((str, os.PathLike, type(None)), split, "split as the name of a list, or the path of one")
    split = None if split is None else os.fspath(split)
    described = description_in(folder) if kind is None else None
    if described is not None:
        return open_described(described, split=split)
    if folder.is_file():
        raise FileNotFoundError(f"{folder}: this is a file; expected a data set's folder, or a {DESCRIPTION}")
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
        looked_for = ", ".join(f"{kind.marks} ({kind.title})" for kind in KINDS.values())
        raise FileNotFoundError(
            f"{folder}: no data set here: there is none of {looked_for}\n"
            f"  `fcn-port data` says where each is published; a {DESCRIPTION} or --describe is for your own "
            "(docs/own-data.md)"
        )
    return min(found, key=lambda name: (KINDS[name].dataset != dataset, len(found[name].parts)))
