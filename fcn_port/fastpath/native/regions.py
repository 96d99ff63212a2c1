"""Cells of regions by the C code, for layers that cut regions out of a blob."""

from __future__ import annotations

import ctypes

import numpy as np
from numpy.typing import NDArray

from converters.layers import spans

from . import build
from .memory import Floats, address

_POOLED: tuple[spans.Pooled, ...] = ("largest", "mean", "weighted")
"""In the order of regions.c."""


class NativeSpans(ctypes.Structure):
    """`struct spans` of regions.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("first", "last", "weights")),
        *((name, ctypes.c_int64) for name in ("count", "size")),
    )


class NativeRegions(ctypes.Structure):
    """`struct regions` of regions.c."""

    _fields_ = (
        ("images", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("image_step", "channel_step", "row_step", "column_step")),
        ("numbers", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("count", "channels")),
        *((name, NativeSpans) for name in ("rows", "columns")),
        *((name, ctypes.c_int64) for name in ("pooled", "own")),
    )


def pool_regions(
    images: Floats,
    numbers: NDArray[np.int64],
    rows: spans.Spans,
    columns: spans.Spans,
    *,
    pooled: spans.Pooled,
    own: bool,
) -> Floats:
    """The cells (n, c, rows, columns) of n regions as converters.layers.regions has them, channels side by side."""
    grid = rows.first.shape[1], columns.first.shape[1]
    channels = images.shape[1] // (grid[0] * grid[1] if own else 1)
    steps = (step // images.itemsize for step in images.strides)
    axes = [_as_c_has_it(each) for each in (rows, columns)]
    along = (
        NativeSpans(address(each.first), address(each.last), address(each.weights), cells, each.weights.shape[-1])
        for each, cells in zip(axes, grid, strict=True)
    )
    given = NativeRegions(
        address(images), *steps, address(numbers), len(numbers), channels, *along, _POOLED.index(pooled), own
    )
    top: Floats = np.empty((len(numbers), *grid, channels), np.float32)
    build.library().pool_regions(ctypes.byref(given), address(top))
    planes: Floats = top.transpose(0, 3, 1, 2)
    return planes


def _as_c_has_it(given: spans.Spans) -> spans.Spans:
    """Arrays of C's types and in its order."""
    first, last = (np.ascontiguousarray(each, np.int64) for each in (given.first, given.last))
    return spans.Spans(first, last, np.ascontiguousarray(given.weights, np.float32))
