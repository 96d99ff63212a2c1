"""Detections compared as sets: programs order what scores alike in their own ways, and fill up what is left over."""

from __future__ import annotations

import numpy as np

WIDTHS = (7, 10)
"""The columns of DetectionOutput's rows, and of DetectionOutputExtended's."""

SAME = 1e-6
"""Of the largest number: rows that are so near in the order in which they come are partners."""

NEAR = 1e-3
"""Of the largest number: rows that are further apart are other rows."""

FLIPS = 3
"""Times as many boxes may be others in another program as rounding makes others by itself."""


def are_detections(blob: np.ndarray) -> bool:
    """True for rows (1, 1, n, 7) as DetectionOutput makes them: image and class, the first two, are whole numbers."""
    if blob.ndim != 4 or blob.shape[:2] != (1, 1) or blob.shape[3] not in WIDTHS:
        return False
    whole = blob[0, 0, :, :2]
    return bool((whole == np.round(whole)).all() and (whole >= -1).all())


def detections_apart(found: np.ndarray, right: np.ndarray) -> float:
    """The largest difference of a row's numbers from its partner's, of the largest number of the rows.

    Infinite where a row has no partner, of the same image and class. Rows of nothing but zeros, and those of image -1,
    are what OpenCV and OpenVINO fill up to keep_top_k with; class -1 is Caffe's word for nothing found.
    """
    left, rows = _real(found), _real(right)
    if len(left) != len(rows):
        return float("inf")
    largest = float(np.abs(rows[np.isfinite(rows)]).max(initial=0.0)) or 1.0
    in_order = float(_apart(left, rows).max(initial=0.0)) / largest
    if np.array_equal(left[:, :2], rows[:, :2]) and in_order <= SAME:  # thousands of rows take seconds otherwise
        return in_order
    worst = 0.0
    free = np.ones(len(left), dtype=bool)
    for row in rows:
        distance = _apart(left, row).max(axis=1)
        distance[~free | (left[:, :2] != row[:2]).any(axis=1)] = np.inf
        partner = int(np.argmin(distance))
        worst = max(worst, float(distance[partner]))
        free[partner] = False
    return worst / largest


def detections_differ(found: np.ndarray, right: np.ndarray) -> float:
    """`detections_apart` where that is near; else 1 and the share of all rows, of both, that have no partner near.

    Rounding may decide about a box, and then how far the sets are apart says nothing of the others.
    """
    apart = detections_apart(found, right)
    if apart <= NEAR:
        return apart
    left, rows = _real(found), _real(right)
    largest = float(np.abs(rows[np.isfinite(rows)]).max(initial=0.0)) or 1.0
    free = np.ones(len(left), dtype=bool)
    for row in rows:
        near = free & (left[:, :2] == row[:2]).all(axis=1)
        near[near] = _apart(left[near], row).max(axis=1) <= NEAR * largest
        free[np.flatnonzero(near)[:1]] = False
    paired = len(left) - int(free.sum())
    return 1 + (len(left) + len(rows) - 2 * paired) / (len(left) + len(rows))


def detections_allowed(own: float, *, times: float) -> float:
    """The difference that is allowed of detections of another program where rounding makes one of `own`.

    Of boxes that rounding takes away or adds, `FLIPS` times as many; of the others `times` the distance.
    """
    return times * own if own <= NEAR else 1 + FLIPS * (own - 1)


def _apart(found: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The difference of each number, none between two that are NaN; infinite where one alone is."""
    same = (found == right) | (np.isnan(found) & np.isnan(right))
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(np.where(same, 0.0, np.abs(found - right)), nan=np.inf, posinf=np.inf)


def _real(blob: np.ndarray) -> np.ndarray:
    rows = blob.reshape(-1, blob.shape[-1]).astype(np.float64)
    return rows[(rows[:, 0] >= 0) & (rows[:, 1] >= 0) & rows.any(axis=1)]
