"""Label maps as people keep them, in pictures of any mode and arrays, and from stored ids or colours to classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from weights.records import IGNORE_LABEL

from ..errors import ImageError
from ..predict.pictures import array_in, deeper_than_shown, values_of_picture
from .errors import DataError
from .files import opened, packed

Colour = tuple[int, int, int]
_LOSSY = ("JPEG", "MPO")
_LARGEST = 1 << 53
"""Whole numbers up to which every one has a double."""


@dataclass(frozen=True)
class MaskReader:
    """The way from a stored label map to labels (h, w): classes 0, 1, ... and IGNORE_LABEL for void.

    `void` are stored ids that do not count. `ids` maps the other stored ids to classes; {} takes `first_id` as class 0,
    the next as 1 and so on. `colours` gives the class of a colour (IGNORE_LABEL for void), for maps in colours. What is
    none of them is refused, by file, place and value, or with `others_void` is void.
    """

    void: tuple[int, ...] = (IGNORE_LABEL,)
    ids: Mapping[int, int] = field(default_factory=dict)
    first_id: int = 0
    colours: Mapping[Colour, int] = field(default_factory=dict)
    others_void: bool = False

    def __call__(self, path: Path) -> np.ndarray:
        """The labels (h, w) of a file, uint8; DataError names it."""
        return self.labels_of(read_mask(path, colours=bool(self.colours)), path)

    def labels_of(self, stored: np.ndarray, path: Path) -> np.ndarray:
        """The labels (h, w), uint8, of what a label map holds, as `read_mask` gives it; `path` is for messages."""
        return self._of_colours(stored, path) if stored.ndim == 3 else self._of_ids(stored, path)

    def _of_ids(self, stored: np.ndarray, path: Path) -> np.ndarray:
        values = np.unique(stored)
        table = np.array([self._class_of(int(value), stored, path) for value in values], np.uint8)
        return _looked_up(stored, values, table)

    def _class_of(self, value: int, stored: np.ndarray, path: Path) -> int:
        if value in self.void:
            return IGNORE_LABEL
        if not self.ids:
            label = value - self.first_id
            known = 0 <= label < IGNORE_LABEL  # what lands on the void label by counting is not said to be void
            return label if known else self._other(value, stored, path)
        return self.ids[value] if value in self.ids else self._other(value, stored, path)

    def _of_colours(self, stored: np.ndarray, path: Path) -> np.ndarray:
        keys = packed(stored)
        values = np.unique(keys)
        classes = {int(packed(np.array(colour))): label for colour, label in self.colours.items()}
        if len(values) > len(classes) + 8 and not self.others_void:
            raise DataError(
                f"{len(values)} colours; the data set has {len(classes)}",
                path=path,
                hint="the map was resized with smoothing, or went through a JPEG: take the original",
            )
        table = [classes[value] if value in classes else self._other(value, keys, path) for value in values.tolist()]
        return _looked_up(keys, values, np.array(table, np.uint8))

    def _other(self, value: int, stored: np.ndarray, path: Path) -> int:
        """The label of an id or a packed colour that is no class; DataError where such have none."""
        if self.others_void:
            return IGNORE_LABEL
        where = stored == value
        row, column = np.argwhere(where)[0]
        what, known = str(value), "void is " + (", ".join(map(str, self.void)) or "none")
        if self.colours:
            what = f"colour #{value:06x} ({value >> 16}, {value >> 8 & 255}, {value & 255})"
            known = f"{len(self.colours)} colours are given"
        elif self.ids:
            what = f"id {value}"
            known = f"ids are {', '.join(map(str, list(self.ids)[:12]))}{' ...' * (len(self.ids) > 12)}, {known}"
        raise DataError(
            f"{what} is no class, {int(where.sum())} pixels",
            path=path,
            where=f"row {row}, column {column}",
            hint=f'{known}; the data set\'s dataset.toml says more (void, ids, colours, others = "void")',
        )


def _looked_up(stored: np.ndarray, values: np.ndarray, table: np.ndarray) -> np.ndarray:
    """The labels of `table`, one for each of `values`, at their places: a byte a pixel, and little on the way."""
    if stored.dtype == np.uint8:
        whole = np.zeros(256, np.uint8)
        whole[values] = table
        return np.asarray(whole[stored])
    return np.asarray(table[np.searchsorted(values, stored)])


def read_mask(path: Path, *, colours: bool = False) -> np.ndarray:
    """A label map as stored: whole numbers (h, w), or colours (h, w, 3) uint8.

    A palette picture gives its indices (with `colours` the colours of its palette), a grey one of 1 to 32 bits its
    values, 1 bit as 0 and 1. Transparency is dropped, and three equal channels are one. An .npy is (h, w) or (h, w, 1)
    of whole numbers, or (h, w, 3) bytes. DataError for JPEG, whose losses change labels, and for colours of 16 bits.
    """
    if path.suffix.lower() == ".npy":
        return checked_mask(read_array(path), path)
    with opened(path) as image:
        return mask_of_picture(image, path, colours=colours)


def mask_of_picture(image: Image.Image, path: Path, *, colours: bool = False) -> np.ndarray:
    """A label map as stored in a picture that is open, as `read_mask` says; `path` is for messages."""
    if image.format in _LOSSY:
        raise DataError("a JPEG: its losses change labels", path=path, hint="label maps are kept as PNG")
    if deeper_than_shown(image):
        hint = "keep label maps as PNGs of one channel, with 8 or 16 bits, or as .npy"
        raise DataError("several channels of 16 bits: only the upper 8 of each can be read", path=path, hint=hint)
    if image.mode in ("P", "PA"):
        return np.asarray(image.convert("RGB") if colours else image.convert("P") if image.mode == "PA" else image)
    if image.mode == "LA":
        return np.asarray(image.getchannel("L"))
    if image.mode in ("1", "L", "I", "F") or image.mode.startswith("I;"):
        return checked_mask(values_of_picture(image), path)
    values = np.asarray(image.convert("RGB"))
    if not colours and (values == values[:, :, :1]).all():
        return (values_of_picture(image) if image.mode == "RGB" else values)[:, :, 0]
    if not colours:
        hint = "say which colour is which class: colours, palette"
        raise DataError("colours instead of labels", path=path, hint=hint)
    return values


def read_array(path: Path) -> np.ndarray:
    """The array of an .npy file, nothing unpickled; DataError names the file."""
    try:
        return array_in(path)
    except FileNotFoundError:
        raise DataError("there is no such file", path=path) from None
    except ImageError as error:
        raise DataError(str(error).removeprefix(f"{path}: "), path=path) from None


def checked_mask(values: np.ndarray, path: Path) -> np.ndarray:
    """An array that can be a label map."""
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    if values.dtype.kind == "f" and (np.abs(values) < _LARGEST).all() and (values == np.rint(values)).all():
        values = values.astype(np.int64)
    in_colours = values.ndim == 3 and values.shape[2] == 3 and values.dtype == np.uint8
    if values.dtype.kind not in "biu" or not (values.ndim == 2 or in_colours) or not values.size:
        raise DataError(f"{values.dtype} {values.shape}; expected whole numbers (h, w)", path=path)
    return values.astype(np.uint8) if values.dtype == bool else values
