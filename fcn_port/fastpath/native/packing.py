"""Weights in the order in which the C code reads them."""

from __future__ import annotations

import ctypes

import numpy as np
from numpy.typing import NDArray

from ..points import FORMS
from . import build
from .division import AMX_END, AMX_STEP, PARTS, SPARSE_END, sparse_outputs, up
from .memory import Floats, Slabs, address


class NativeWeights(ctypes.Structure):
    """`struct unpacked` of packing.h."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("weights", "factors")),
        *((name, ctypes.c_int64) for name in ("features", "length", "wide")),
        ("room", ctypes.c_void_p),
    )


def pack(
    weight: Floats, kernel: str, slabs: Slabs, *, threads: int, factors: NDArray[np.float64] | None = None
) -> Floats:
    """(features, channels, h, w) as a kernel of the C code wants them, in memory of `slabs`.

    `factors`: one for each feature, in double precision; what they make of the weights is rounded once.
    """
    (features, channels), length = weight.shape[:2], weight[0].size
    packed = slabs.take(packed_floats(kernel, features, channels, length))
    wide = _wide(kernel, features)
    room = np.empty(threads * wide * length, np.float32)
    weight = np.ascontiguousarray(weight)
    numbers = None if factors is None else address(factors := np.ascontiguousarray(factors))
    unpacked = NativeWeights(address(weight), numbers, features, length, wide, address(room))
    getattr(build.library(), f"pack_{kernel}")(ctypes.byref(unpacked), channels, threads, address(packed))
    return packed


def packed_floats(kernel: str, features: int, channels: int, length: int) -> int:
    """The floats that `pack` gives; `length` is how many weights a feature has, for all of its channels."""
    levels, wide = _levels(kernel), _wide(kernel, features)
    columns = up(features, wide)
    if kernel == "sparse":
        return columns * length + columns // wide * SPARSE_END
    if kernel == "amx":
        return columns // wide * (PARTS * wide * up(length, AMX_STEP) // 2 + AMX_END)
    if kernel in FORMS and not FORMS[kernel].lean:
        return FORMS[kernel].products * columns * channels
    return int(7**levels * columns * length // 4**levels)


def _levels(kernel: str) -> int:
    """The number of times over that Strassen's algorithm divides."""
    return int(kernel[-1]) if kernel.startswith("strassen") else 0


def _wide(kernel: str, features: int) -> int:
    """The features that are packed together."""
    if kernel == "sparse":
        return sparse_outputs(features)
    return int(2 ** _levels(kernel) * build.library().panel())
