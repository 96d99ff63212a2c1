"""NYUDv2: indoor scenes with colour, depth and HHA, in the 40 classes of Gupta et al. (CVPR 2013)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from weights.catalogue import datasets

from ..files import from_one, read_depth, read_mat, read_rgb
from ..images import photographs
from ..lists import read_list, split_file, split_name
from ..places import find_inside
from ..records import DataSet, Files
from .kind import DatasetKind


def find_nyud(root: Path) -> Path | None:
    """The folder with `data/images` and `segmentation`, in or below `root`."""
    return find_inside(root, ("nyud", "nyudv2", "NYUDv2"), markers=("segmentation", "data/images"))


def open_nyud(root: Path, *, split: str | None = None) -> DataSet:
    """A split of NYUDv2 in the release's layout; the catalogue's recipe takes the logarithm of the depth."""
    folder = find_nyud(root)
    if folder is None:
        raise FileNotFoundError(f"{root}: no NYUDv2 here: folders data/images and segmentation are expected")
    return DataSet(
        name="nyud",
        kind="nyud",
        title="NYUDv2",
        root=folder,
        split=split_name(split or "test"),
        ids=read_list(split_file(split or "test", (folder,))),
        images={
            **photographs(Files(folder / "data" / "images", "img_{}.png", read_rgb)),
            "hha": Files(folder / "data" / "hha", "img_{}.png", read_rgb),
            "depth": Files(folder / "data" / "depth", "img_{}.png", read_depth),
        },
        labels={"score": Files(folder / "segmentation", "img_{}.mat", read_labels)},
        classes=datasets()["nyud"].heads,
        single_precision_mean=True,
    )


def read_labels(path: Path) -> np.ndarray:
    """A label map (h, w), classes from 0: the file counts from 1, and void, 0 there, becomes 255."""
    return from_one(read_mat(path, "segmentation"), 0)


KINDS = (DatasetKind("nyud", "nyud", "NYUDv2", "data/images and segmentation", find_nyud, open_nyud),)
