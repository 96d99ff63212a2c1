"""Non-maximum suppression by the C code, for layers that choose among boxes."""

from __future__ import annotations

import ctypes

import numpy as np
from numpy.typing import NDArray

from . import build
from .division import up
from .memory import Floats, address


class NativeBoxes(ctypes.Structure):
    """`struct boxes` of suppression.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("left", "top", "right", "bottom", "area")),
        ("count", ctypes.c_int64),
        ("pixels", ctypes.c_double),
        ("of_smaller", ctypes.c_int64),
    )


def suppress(
    boxes: Floats, areas: Floats, *, threshold: float, eta: float, pixels: float, keep_equal: bool, of_smaller: bool
) -> NDArray[np.int64]:
    """The positions (k,) of the boxes (n, 4) of these areas (n,) that stay, as converters.layers.boxes.nms has them."""
    count, lanes = len(areas), build.library().lanes()
    columns = np.zeros((5, up(count, lanes)), np.float32)
    columns[:4, :count], columns[4, :count] = boxes.T, areas
    largest, stays = np.empty_like(columns[0]), np.empty(count, np.uint8)
    sides = (address(column) for column in columns)
    given = NativeBoxes(*sides, count, pixels, of_smaller)
    build.library().suppress(ctypes.byref(given), threshold, eta, keep_equal, address(largest), address(stays))
    return np.flatnonzero(stays)
