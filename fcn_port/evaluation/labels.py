"""Predicted label maps as files: indexed PNGs in VOC's palette."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

from converters.escaping import file_name
from converters.safety import whole_file

from ..data.errors import DataError
from ..data.records import DataSet
from ..predict.palettes import voc_palette


def saved_path(folder: Path, id_: str, head: str, heads: Sequence[str]) -> Path:
    """The path of an image's label map: `<id>.png`, in a folder for each output where there are several."""
    return (folder / file_name(head) if len(heads) > 1 else folder) / f"{id_}.png"


def refuse_to_replace(folder: Path, data: DataSet, ids: Iterable[str]) -> None:
    """FileExistsError where the label map of one of the images would be written over a file of the data set.

    The folder of a set's own labels, or of its images, holds files of just these names.
    """
    heads, wanted = list(data.classes), list(ids)
    there = {
        _identity(path) for id_ in wanted for head in heads if (path := saved_path(folder, id_, head, heads)).exists()
    }
    for path in _files(data, wanted) if there else ():
        if path.exists() and _identity(path) in there:
            raise FileExistsError(errno.EEXIST, REPLACED, os.fspath(path))


REPLACED = "a label map would be written over this file of the data set; choose another folder"


def _files(data: DataSet, ids: Iterable[str]) -> Iterator[Path]:
    """The files of images; those of which two could be meant are told of when they are read."""
    for id_ in ids:
        with suppress(DataError):
            yield from data.files(id_, kinds=data.images)


def _identity(path: Path) -> tuple[int, int]:
    """The file under a name, whatever links lead to it."""
    found = path.stat()
    return found.st_dev, found.st_ino


def save_labels(folder: Path, id_: str, labels: Mapping[str, np.ndarray]) -> None:
    """Write the label maps (h, w) uint8 of an image by output blob; a file under its name is always whole."""
    for head, each in labels.items():
        path = saved_path(folder, id_, head, list(labels))
        with whole_file(path, durable=False, follow=False) as file:
            indexed_image(each).save(file, format="PNG")


def indexed_image(labels: np.ndarray) -> Image.Image:
    """A label map (h, w) uint8 as an indexed picture: its values are the labels, the palette is VOC's."""
    picture = Image.fromarray(np.ascontiguousarray(labels))
    picture.putpalette(voc_palette().tobytes())
    return picture
