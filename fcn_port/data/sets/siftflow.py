"""SIFT Flow: outdoor scenes with two labellings, semantic and geometric."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from weights.catalogue import datasets

from ..files import from_one, read_mat, read_rgb
from ..images import photographs
from ..lists import read_list, split_file, split_name
from ..places import find_inside
from ..records import DataSet, Files
from .kind import DatasetKind

_SCENES = "spatial_envelope_256x256_static_8outdoorcategories"
_PLACES = ("SiftFlowDataset", "siftflow", "sift-flow", "SIFTFlow")


def find_siftflow(root: Path) -> Path | None:
    """The folder with SemanticLabels and GeoLabels, in or below `root`."""
    return find_inside(root, _PLACES, markers=("SemanticLabels", "GeoLabels"))


def open_siftflow(root: Path, *, split: str | None = None) -> DataSet:
    """A split of SIFT Flow, both labellings; void is 255 in both."""
    folder = find_siftflow(root)
    if folder is None:
        raise FileNotFoundError(f"{root}: no SIFT Flow here: folders SemanticLabels and GeoLabels are expected")
    published = "the release's lists leave out two images without labels: fcn-port data siftflow --fetch"
    ids = read_list(split_file(split or "test", (folder,), published=published))
    return DataSet(
        name="siftflow",
        kind="siftflow",
        title="SIFT Flow",
        root=folder,
        split=split_name(split or "test"),
        ids=ids,
        images=photographs(Files(folder / "Images" / _SCENES, "{}.jpg", read_rgb)),
        labels={
            "score_sem": Files(folder / "SemanticLabels" / _SCENES, "{}.mat", read_labels),
            "score_geo": Files(folder / "GeoLabels" / _SCENES, "{}.mat", read_labels),
        },
        classes=datasets()["siftflow"].heads,
        single_precision_mean=True,
    )


def read_labels(path: Path) -> np.ndarray:
    """A label map (h, w), classes from 0: the file counts from 1, and void, 0 or -1 there, becomes 255."""
    return from_one(read_mat(path, "S"), 0, -1)


KINDS = (
    DatasetKind("siftflow", "siftflow", "SIFT Flow", "SemanticLabels and GeoLabels", find_siftflow, open_siftflow),
)
