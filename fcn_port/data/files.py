"""One file of a data set at a time: images as stored, label maps as labels. Every error names the file.

Unlike `fcn_port.predict`, nothing is turned by its EXIF orientation and nothing is scaled: a label map lies on the
pixels as they are stored, and the release read them so.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from converters.errors import CaffeFormatError
from converters.safety import open_file
from weights.records import IGNORE_LABEL

from ..errors import ImageError
from ..predict.palettes import voc_palette
from ..predict.pictures import color_of_picture, opened_picture, strips_of, values_of_picture
from .errors import DataError
from .matlab import parse_matrix

GREY_PALETTE_MEAN_IU = 0.046
"""The symptom that users of three projects report of any net, when colours or grey values were read as labels."""

_LARGEST_LABEL = 1 << 31
_LABEL_MODES = ("P", "L", "1", "I")


def read_rgb(path: Path) -> np.ndarray:
    """An image (h, w, 3) uint8 in the order of the file: RGB, or the three channels of HHA; 16 bits become 8."""
    with opened(path) as image:
        return color_of_picture(image)


def read_depth(path: Path) -> np.ndarray:
    """A depth map (h, w, 1) float32, values as stored; DataError where it has no logarithm."""
    with opened(path) as image:
        if len(image.getbands()) != 1:
            raise DataError(f"{image.mode} instead of one channel of depth", path=path)
        depth = np.asarray(image).astype(np.float32)
    if depth.size and not depth.min() > 0:
        raise DataError("a depth of 0 has no logarithm", path=path, hint="use the depth whose holes are filled in")
    return depth[:, :, None]


def read_label_png(path: Path) -> np.ndarray:
    """A label map (h, w), its values as stored: the indices of an indexed PNG, or the grey values of a grey one."""
    with opened(path) as image:
        if image.mode not in _LABEL_MODES and not image.mode.startswith("I;"):
            raise _colours(path, image)
        labels = values_of_picture(image)
    return labels.astype(np.uint8) if labels.dtype == bool else labels


def read_mat(path: Path, *keys: str) -> np.ndarray:
    """The matrix (h, w) of whole numbers under `keys` (a variable, then fields of structs) of a MATLAB file."""
    what = ".".join(keys)
    try:
        with open_file(path) as file:
            content = file.read()
        values = parse_matrix(content, *keys)
    except FileNotFoundError:
        raise DataError("there is no such file", path=path) from None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", path=path) from error
    except KeyError as error:
        raise DataError(f"there is no {what} in it", path=path) from error
    except CaffeFormatError as error:
        raise error.in_file(path) from None
    if values.ndim != 2:
        raise DataError(f"{what} is not a matrix of labels", path=path)
    whole = values.dtype.kind != "f" or (np.isfinite(values).all() and np.array_equal(values, np.rint(values)))
    if not whole or (values.size and max(abs(int(values.min())), abs(int(values.max()))) > _LARGEST_LABEL):
        raise DataError(f"{what} has values that are no labels: expected small whole numbers", path=path)
    return values


def from_one(stored: np.ndarray, *void: int) -> np.ndarray:
    """Labels from 0 of a map that counts from 1; `void` are ids that become IGNORE_LABEL, and nothing else does."""
    counted = stored.astype(np.int64)
    known = counted <= IGNORE_LABEL  # the id above it stays as it is, which is no class
    return np.where(np.isin(counted, void), IGNORE_LABEL, np.where(known, counted - 1, counted))


def check_labels(labels: np.ndarray, *, path: Path, classes: int, ignore_label: int) -> np.ndarray:
    """The map as (h, w) uint8; DataError names values that are neither a class nor `ignore_label`."""
    small = labels
    if labels.dtype != np.uint8:
        small = labels.astype(np.uint8)
        if not np.array_equal(small, labels):
            raise DataError(f"label {labels[small != labels][0]} is none of 0 to {classes - 1}", path=path)
    counts = np.bincount(small.ravel(), minlength=256)
    unknown = [value for value in np.flatnonzero(counts).tolist() if value >= classes and value != ignore_label]
    if unknown:
        raise _unknown(small, unknown, path, classes, ignore_label)
    return small


def check_size(labels: np.ndarray, image: np.ndarray, *, path: Path, image_path: Path) -> None:
    """DataError if a label map is of another size than its image."""
    if labels.shape != image.shape[:2]:
        raise DataError(f"{_size(labels.shape)} pixels, but {image_path} has {_size(image.shape)}", path=path)


@contextmanager
def opened(path: Path, *, grey: bool = False) -> Iterator[Image.Image]:
    """Pillow's image, decoded, or as `opened_picture` has it the `grey` of one; whatever goes wrong names the file."""
    try:
        with opened_picture(path, grey=grey) as image:
            yield image
    except FileNotFoundError:
        raise DataError("there is no such file", path=path) from None
    except ImageError as error:
        raise DataError(str(error).removeprefix(f"{path}: "), path=path) from error


def _colours(path: Path, image: Image.Image) -> DataError:
    known = packed(voc_palette())
    of_voc = all(np.isin(packed(np.asarray(rows.convert("RGB"))), known).all() for _, rows in strips_of(image))
    found = "the colours of VOC's palette" if of_voc else "colours"
    return DataError(
        f"{found} ({image.mode}) instead of labels",
        path=path,
        hint="a label map is an indexed PNG whose pixel values are the labels; one that went through a conversion to\n"
        f"  colours or grey gives a mean IU of about {GREY_PALETTE_MEAN_IU} whatever the net: take the original file,\n"
        '  or say which colour is which class in a dataset.toml: palette = "voc", or colours = ["#000000", ...]',
    )


def packed(colours: np.ndarray) -> np.ndarray:
    """Colours (..., 3) uint8 as one number each."""
    return colours.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)


def _unknown(labels: np.ndarray, unknown: list[int], path: Path, classes: int, ignore_label: int) -> DataError:
    row, column = np.argwhere(labels == unknown[0])[0]
    several = len(unknown) > 1
    named = ", ".join(map(str, unknown[:6])) + (" ..." if len(unknown) > 6 else "")
    used = [*range(classes), ignore_label]
    hint = f"known are 0 to {classes - 1}, and {ignore_label} for pixels that do not count (--void ID adds one)"
    if set(unknown) <= set(_greys(used)):
        hint = (
            f"{'these are' if several else 'this is'} the grey of VOC's colours: the map went through a conversion to "
            "grey, which gives\n  a mean IU of about "
            f"{GREY_PALETTE_MEAN_IU} whatever the net; take the original, indexed file"
        )
    what = f"labels {named} are no classes, the first" if several else f"label {named} is no class, first"
    return DataError(what, path=path, where=f"row {row}, column {column}", hint=hint)


def _greys(labels: list[int]) -> list[int]:
    """The grey values that Pillow makes of VOC's colours."""
    greys: list[int] = np.asarray(Image.fromarray(voc_palette()[labels][None]).convert("L")).ravel().tolist()
    return greys


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[0]}x{shape[1]}"
