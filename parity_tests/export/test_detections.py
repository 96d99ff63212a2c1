"""Detections as sets: other orders and other fillings are the same, other rows are not."""

from __future__ import annotations

import numpy as np
import pytest

from converters.export import are_detections, detections_apart

ROWS = np.array(
    [[0, 1, 0.9, 0.1, 0.2, 0.5, 0.6], [0, 1, 0.9, 0.3, 0.2, 0.5, 0.6], [0, 2, 0.4, -0.1, 0.2, np.inf, 0.6]], np.float32
)[None, None]


def test_order_and_filling_do_not_matter() -> None:
    other = ROWS[:, :, [2, 0, 1]].copy()
    other[0, 0, 0, 2] += 2e-6
    filled = np.concatenate([other, np.zeros((1, 1, 4, 7), np.float32)], 2)
    opened = np.concatenate([other, np.full((1, 1, 1, 7), -1, np.float32)], 2)
    for found in (other, filled, opened):
        assert 0 < detections_apart(found, ROWS) < 1e-5
    nothing = np.array([[[[0, *[-1] * 6], [1, *[-1] * 6]]]], np.float32)
    assert detections_apart(np.zeros((1, 1, 9, 7), np.float32), nothing) == 0


@pytest.mark.parametrize(
    ("row", "column", "by"),
    [(0, 0, 1), (0, 1, 1), (0, 2, 0.01), (1, 3, 0.01), (2, 4, -np.inf), (2, 2, np.nan)],
)
def test_another_row_is_another_set(row: int, column: int, by: float) -> None:
    other = ROWS.copy()
    other[0, 0, row, column] += by
    assert not detections_apart(other, ROWS) <= 1e-3


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_numbers_that_are_none_are_the_same_where_both_have_them(number: float) -> None:
    """As of every other output: a net with its own weights unknown was infinitely far from itself."""
    there = ROWS.copy()
    there[0, 0, 1, 2:5] = number
    assert detections_apart(there, there) == 0
    moved = there[:, :, [2, 1, 0]].copy()
    moved[..., 6] += 2e-6
    assert 0 < detections_apart(moved, there) < 1e-5
    assert detections_apart(ROWS, there) == detections_apart(there, ROWS) == np.inf


def test_every_row_has_a_partner_of_its_own() -> None:
    assert detections_apart(ROWS[:, :, [0, 0, 2]], ROWS) > 0.1
    assert detections_apart(ROWS[:, :, :2], ROWS) == np.inf


def test_what_detections_are() -> None:
    assert are_detections(ROWS)
    assert not are_detections(ROWS[..., :6])
    assert not are_detections(np.random.default_rng(0).random((1, 1, 5, 7)))
    assert not are_detections(np.full((1, 1, 2, 7), np.nan))


def test_many_rows_in_order_are_compared_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty thousand of a net that keeps all took minutes, row by row."""
    rows = np.random.default_rng(0).random((1, 1, 20000, 7))
    rows[..., :2] = 1
    monkeypatch.setattr(np, "argmin", lambda *_: pytest.fail("row by row"))
    assert 0 < detections_apart(rows + 1e-9 * (np.arange(7) > 1), rows) < 1e-8
