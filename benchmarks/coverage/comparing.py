"""Numbers of two programs side by side, and double precision as the judge where they are further apart than 1e-5."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

import numpy as np

from converters.export import are_detections, detections_apart

TOLERANCE = 1e-5
"""Of the largest value of a blob, or of a detection's number."""
ROUNDING = 8
"""How many times as far from double precision as ours another program's numbers may be and still be called rounding.

Programs that sum in another order are apart from double precision by 1 to 4 times as much as each other. One that
computes something else is not: an epsilon of 1e-5 in another place is 20 times as much.
"""

Arrays = Mapping[str, np.ndarray]


class NothingToCompareError(Exception):
    """The other program is not installed, does not load this net, or is free to answer otherwise."""


class DiffersError(Exception):
    """The other program computes other numbers."""


def compare(ours: Arrays, theirs: Arrays, *, exact: Callable[[], Arrays]) -> None:
    """Raise DiffersError where an output is not theirs within TOLERANCE; detections are sets of rows of seven.

    Where it is not, `exact`, the net in double precision, says whether both only round: ours has to be at least as near
    to it as theirs, and theirs at most ROUNDING times as far.
    """
    exact = cache(exact)
    for name, expected in theirs.items():
        found = ours[name]
        if are_detections(found) and are_detections(expected):
            if not detections_apart(found, expected) <= TOLERANCE:
                _refuse_ties(name, found, expected)
                raise DiffersError(f"{name}: other detections, {found.size // 7} and {expected.size // 7}")
            continue
        if found.size != expected.size:
            raise DiffersError(f"{name}: shape {found.shape} and {expected.shape}")
        error = relative_error(found, expected.reshape(found.shape))
        if error <= TOLERANCE:
            continue
        truth = exact()[name]
        if truth.size != found.size:
            raise DiffersError(f"{name}: {error:.1e} of the largest value")
        ours_off, theirs_off = (relative_error(x.reshape(truth.shape), truth) for x in (found, expected))
        if not ours_off <= theirs_off <= ROUNDING * ours_off:
            apart = f"ours is {ours_off:.1e} from double precision, theirs {theirs_off:.1e}"
            raise DiffersError(f"{name}: {error:.1e} of the largest value; {apart}")


def _refuse_ties(name: str, *both: np.ndarray) -> None:
    """Raise NothingToCompareError where most detections of both have equal scores: which of those stay is open.

    So it is where noise makes a Softmax 1 to the last bit; Caffe calls std::sort.
    """
    scores = [rows.reshape(-1, 7)[:, 2] for rows in both]
    if all(len(np.unique(each)) <= len(each) // 2 for each in scores):
        raise NothingToCompareError(f"most scores of {name} are equal, so that which boxes stay is open")


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference as a fraction of the largest finite value; NaN and infinity must be in the same places."""
    both = np.isfinite(found) & np.isfinite(expected)
    odd = ~both
    if not np.array_equal(found[odd], expected[odd], equal_nan=True):
        return float("inf")
    largest = float(np.abs(expected[both]).max(initial=0.0)) or 1.0
    return float(np.abs(found[both].astype(np.float64) - expected[both]).max(initial=0.0)) / largest
