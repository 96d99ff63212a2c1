"""with_something: what is left of two blobs to compare without the windows of a pooling in which nothing lies."""

from __future__ import annotations

import numpy as np

LARGEST = float(np.finfo(np.float32).max)
"""A MAX pooling's window beyond the blob holds -FLT_MAX in Caffe (pooling_layer.cpp, Forward_cpu)."""


def with_something(found: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The two blobs, of one shape, less the places where both hold FLT_MAX or -FLT_MAX; None where one alone does.

    Beside such a number every other difference is nothing. In float64 the lowest number stands for it.
    """
    first, second = (np.where(np.isfinite(x), np.clip(x, -LARGEST, LARGEST), x) for x in (found, right))
    empty = np.abs(second) == LARGEST
    if not empty.any():
        return (first, second) if not (np.abs(first) == LARGEST).any() else None
    if (first[empty] != second[empty]).any() or (np.abs(first[~empty]) == LARGEST).any():
        return None
    return first[~empty], second[~empty]
