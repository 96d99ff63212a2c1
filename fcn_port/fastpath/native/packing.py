"""Weights in the order in which the C code reads them."""

from __future__ import annotations

import ctypes

import numpy as np
from numpy.typing import NDArray

from ..points import FORMS
from . import build
from .division import up
from .memory import Floats, Slabs, address


class NativeWeights(ctypes.Structure):
    """`struct unpacked` of packing.h."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("weights", "factors")),
        *((name, ctypes.c_int64) for name in ("features", "length")),
        ("room", ctypes.c_void_p),
    )


def pack(
    weight: Floats, kernel: str, slabs: Slabs, *, threads: int, factors: NDArray[np.float64] | None = None
) -> Floats:
    """(features, channels, h, w) as a kernel of the C code wants them, in memory of `slabs`.

    `factors`: one for each feature, in double precision; what they make of the weights is rounded once.
    """
    library = build.library()
    (features, channels), length = weight.shape[:2], weight[0].size
    levels = int(kernel[-1]) if kernel.startswith("strassen") else 0
    wide = 2**levels * library.panel()
    if kernel in FORMS:
        floats = build.POINTS_OF[kernel] ** 2 * up(features, wide) * channels
    else:
        floats = 7**levels * up(features, wide) * length // 4**levels
    packed, room = slabs.take(floats), np.empty(threads * wide * length, np.float32)
    weight = np.ascontiguousarray(weight)
    numbers = None if factors is None else address(factors := np.ascontiguousarray(factors))
    unpacked = NativeWeights(address(weight), numbers, features, length, address(room))
    getattr(library, f"pack_{kernel}")(ctypes.byref(unpacked), channels, threads, address(packed))
    return packed
