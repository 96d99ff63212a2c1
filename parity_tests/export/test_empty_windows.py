"""Blobs with -FLT_MAX, where a pooling's window holds nothing: the rest is compared by its own size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from converters.export import difference
from converters.export.checking import _difference

NOTHING = float(np.finfo(np.float32).min)


def in_torch(found: np.ndarray, right: np.ndarray) -> float:
    return _difference(torch.from_numpy(found), torch.from_numpy(right))


@pytest.mark.parametrize("apart", [difference, in_torch])
@pytest.mark.parametrize(
    ("found", "right", "expected"),
    [
        ([NOTHING, 1.5, 4], [NOTHING, 1, 4], 0.125),
        ([NOTHING, NOTHING], [NOTHING, NOTHING], 0),
        ([0, 4], [NOTHING, 4], np.inf),  # as OpenCV has it
        ([NOTHING, 4], [0, 4], np.inf),
        ([np.nan, NOTHING, 2], [np.nan, NOTHING, 2], 0),
        ([1, 2], [1, 4], 0.5),
        ([], [], 0),
    ],
)
def test_a_window_with_nothing_hides_no_difference(apart, found, right, expected) -> None:  # type: ignore[no-untyped-def]
    assert apart(np.array(found, np.float32), np.array(right, np.float32)) == expected


@pytest.mark.parametrize("apart", [difference, in_torch])
def test_the_lowest_number_of_float64_stands_for_it(apart) -> None:  # type: ignore[no-untyped-def]
    """Else a net's own rounding, told by its exact numbers, would be infinite, and all be allowed."""
    exact = np.array([np.finfo(np.float64).min, 1.0])
    assert apart(np.array([NOTHING, 1 + 2**-20], np.float32), exact) == 2**-20
