"""People's own images, of any format and mode: as three channels of colour, or with every channel that is stored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ..predict.greys import beside, grey_of_picture
from ..predict.pictures import bands_of_picture, color_of_picture
from .errors import DataError
from .files import opened
from .masks import read_array
from .records import Files


def photographs(color: Files) -> dict[str, Files]:
    """The kinds of input that photographs give: their colours, and those with the grey of their files beside."""
    return {"color": color, "grey": replace(color, read=read_grey)}


def read_color(path: Path) -> np.ndarray:
    """An image (h, w, 3) uint8 RGB; a grey one has three equal channels, transparency is dropped, 16 bits and fractions
    become 8.

    An .npy is (h, w), (h, w, 1), (h, w, 3) or (h, w, 4) bytes, RGB. Nothing is turned by EXIF: labels lie on the pixels
    as they are stored.
    """
    if path.suffix.lower() == ".npy":
        values = read_array(path)
        fits = values.ndim >= 2 and values.size and values.shape[2:] in ((), (1,), (3,), (4,))
        if values.dtype != np.uint8 or not fits:
            raise DataError(f"{values.dtype} {values.shape}; expected bytes (h, w, 3)", path=path)
        plane = values.reshape(*values.shape[:2], -1)[:, :, :3]
        return np.ascontiguousarray(np.broadcast_to(plane, (*plane.shape[:2], 3)))
    with opened(path) as image:
        return color_of_picture(image)


def read_grey(path: Path) -> np.ndarray:
    """An image as `read_color` gives it and, as a fourth channel, the grey that OpenCV reads (`predict/greys.py`)."""
    colours = read_color(path)
    if path.suffix.lower() == ".npy":
        return colours
    with opened(path, grey=True) as image:
        return beside(colours, grey_of_picture(image))


def read_bands(path: Path) -> np.ndarray:
    """An image (h, w, c) uint8 with every channel as stored: RGBA and CMYK have four, an .npy any number of bytes.

    A palette picture gives its colours, 1 bit 0 and 255, 16 bits become 8.
    """
    if path.suffix.lower() == ".npy":
        values = read_array(path)
        if values.dtype != np.uint8 or values.ndim not in (2, 3) or not values.size:
            raise DataError(f"{values.dtype} {values.shape}; expected bytes (h, w, channels)", path=path)
        return np.ascontiguousarray(values.reshape(*values.shape[:2], -1))
    with opened(path) as image:
        return bands_of_picture(image)
