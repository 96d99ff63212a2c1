"""Outputs of a pass as arrays of their own, in Caffe's order: blobs in an arena have their channels side by side."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from math import prod

import numpy as np

from converters.net import Shape

from ..native.build import library
from ..native.kept import KeptMemory
from ..native.memory import Floats, address

LEAST = 16 << 10
"""Numbers from which on C writes them, by all threads: NumPy has copied fewer before these begin."""
LEAST_KEPT = 256 << 10
"""Bytes from which on an output's memory is kept for the next pass: the system clears every page that it gives."""


def own_arrays(views: Mapping[str, Floats], memory: KeptMemory, threads: int) -> dict[str, Floats]:
    """Copies of some blobs; large ones in memory that comes back when nobody has any view of it."""
    found = {name: room(view.shape, memory) for name, view in views.items()}
    for name, view in views.items():
        write(view, found[name], threads)
    return found


def room(shape: Shape, memory: KeptMemory) -> Floats:
    """An array for an output."""
    is_large = 4 * prod(shape) >= LEAST_KEPT
    return memory.lend(prod(shape)).reshape(shape) if is_large else np.empty(shape, np.float32)


def write(view: Floats, to: Floats, threads: int) -> None:
    """Write a blob to an array of its shape, whose numbers lie in order."""
    if view.ndim != 4 or view.size < LEAST or view.strides[1] != 4 or view.shape[1] == 1:
        np.copyto(to, view)
        return
    numbers, apart = ctypes.c_int64 * 4, [view.strides[axis] // 4 for axis in (0, 2, 3)]
    library().planes(address(view), numbers(*view.shape), numbers(*apart), threads, address(to))
