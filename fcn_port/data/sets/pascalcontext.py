"""PASCAL-Context: a full labelling of VOC2010, 459 classes of which the nets score the 59 most frequent."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from weights.catalogue import datasets

from ..errors import DataError
from ..files import read_mat, read_rgb
from ..images import photographs
from ..lists import read_lines, read_list, split_file, split_name
from ..places import find_beside, find_inside
from ..records import DataSet, Files
from .kind import DatasetKind

RENAMED = {"diningtable": "table", "bedcloth": "bedclothes", "clothes": "cloth"}
"""Three of the 59 classes are called otherwise in the full list (pascalcontext_layers.py of the release)."""


@dataclass(frozen=True)
class ContextReader:
    """The way from the numbers of the full list to classes: the class of each. Kept results are told apart by it."""

    table: tuple[int, ...]

    def __call__(self, path: Path) -> np.ndarray:
        """The labels (h, w) of a file."""
        return read_labels(path, np.array(self.table, np.uint8))


_PLACES = ("pascal-context", "PASCAL-Context", "pascal_context", "context")
_NAMES = ("labels.txt", "classes-400.txt")


def find_context(root: Path) -> Path | None:
    """The folder with `trainval/*.mat` and the names of all classes, in or below `root`."""
    for names in _NAMES:
        found = find_inside(root, _PLACES, markers=("trainval", names))
        if found is not None:
            return found
    return None


def open_context(root: Path, *, split: str | None = None) -> DataSet:
    """A split of PASCAL-Context. The images and the lists are VOC2010's, in the same folder or beside it."""
    folder = find_context(root)
    if folder is None:
        raise FileNotFoundError(f"{root}: no PASCAL-Context here: folder trainval and file labels.txt are expected")
    voc = find_beside(folder, ("VOC2010", "VOCdevkit/VOC2010"), markers=("JPEGImages", "ImageSets"))
    if voc is None:
        raise FileNotFoundError(
            f"{folder}: the images of PASCAL-Context are VOC2010's, and VOC2010 is not beside it\n"
            "  fcn-port data voc2010 --fetch"
        )
    classes = datasets()["pascalcontext"].heads["score"]
    full = folder / next(name for name in _NAMES if (folder / name).is_file())
    table = label_table(read_names(full), classes, path=full)
    return DataSet(
        name="pascalcontext",
        kind="pascalcontext",
        title="PASCAL-Context",
        root=folder,
        split=split_name(split or "val"),
        ids=read_list(split_file(split or "val", (folder, voc / "ImageSets" / "Main"))),
        images=photographs(Files(voc / "JPEGImages", "{}.jpg", read_rgb)),
        labels={"score": Files(folder / "trainval", "{}.mat", ContextReader(tuple(table.tolist())))},
        classes={"score": classes},
        single_precision_mean=True,
    )


def read_names(path: Path) -> tuple[str, ...]:
    """The names of the full list, `<number>: <name>` a line, numbered from 1; spaces in names do not count."""
    names: list[str] = []
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        found = re.fullmatch(r"(\d{1,9})\s*:\s*(.+)", line.strip())
        if found is None or int(found[1]) != len(names) + 1:
            raise DataError(f"'{len(names) + 1}: name' is expected", path=path, where=f"line {number}")
        names.append(found[2].replace(" ", ""))
    return tuple(names)


def label_table(names: tuple[str, ...], classes: tuple[str, ...], *, path: Path) -> np.ndarray:
    """The class of each number of the full list, uint8 indexed from 0; what is none of the 59 is background, 0."""
    table = np.zeros(len(names) + 1, np.uint8)
    for label, name in enumerate(classes[1:], start=1):
        wanted = RENAMED.get(name, name).replace(" ", "")
        if wanted not in names:
            raise DataError(f"there is no class '{wanted}' in it", path=path)
        table[names.index(wanted) + 1] = label
    return table


def read_labels(path: Path, table: np.ndarray) -> np.ndarray:
    """A label map (h, w) uint8 in the 60 classes."""
    full = read_mat(path, "LabelMap").astype(np.int64)
    if full.size and not (full.min() >= 0 and full.max() < len(table)):
        wrong = full.min() if full.min() < 0 else full.max()
        raise DataError(f"LabelMap has a class {wrong}; the list is of 1 to {len(table) - 1}", path=path)
    return table[full]


KINDS = (
    DatasetKind(
        "pascalcontext", "pascalcontext", "PASCAL-Context", "trainval and labels.txt", find_context, open_context
    ),
)
