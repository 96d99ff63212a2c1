"""Detections as sets: other orders and other fillings are the same, other rows are not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from converters.export import ExportError, are_detections, check, detections_apart, run_module
from converters.export.detections import detections_allowed, detections_differ

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


def many(rows: int) -> np.ndarray:
    """So many rows of one class, one like another in nothing."""
    drawn = np.random.default_rng(0).random((1, 1, rows, 7)).astype(np.float32)
    drawn[..., :2] = 0, 1
    return drawn


def test_a_box_that_rounding_takes_away_allows_some_others_and_no_other_numbers() -> None:
    """float64 found another number of boxes, so that any file was taken for right."""
    right = many(40)
    allowed = detections_allowed(detections_differ(right[:, :, 1:], right), times=10)
    assert detections_differ(right[:, :, [*range(2), *range(3, 40)]], right) <= allowed
    assert detections_differ(np.concatenate([right[:, :, 1:], many(41)[:, :, 40:]], 2), right) <= allowed
    other = right.copy()
    other[..., 5] += 0.2
    for wrong in (other, right[:, :, :20], right[:, :, :0], right[:, :, ::-1] * [1, 1, 0.9, 1, 1, 1, 1]):
        assert not detections_differ(wrong, right) <= allowed


def test_boxes_that_rounding_leaves_are_compared_by_their_numbers() -> None:
    right, moved = many(40), many(40)
    moved[..., 4] += 3e-6
    assert detections_differ(moved, right) == detections_apart(moved, right)
    assert detections_allowed(3e-6, times=10) == pytest.approx(3e-5)
    assert not detections_differ(right[:, :, 1:], right) <= detections_allowed(1e-6, times=10)


class RoundingDecides(nn.Module):
    """Forty boxes, of which float64 does not find the first; `further` moves all, as a wrong file would."""

    def __init__(self, further: float = 0.0) -> None:
        super().__init__()
        self.further = further

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = torch.from_numpy(many(40))[:, :, int(x.dtype == torch.float64) :].to(x.dtype)
        return rows + self.further * torch.tensor([0, 0, 0, 1, 1, 1, 1])


def test_the_check_of_an_export_refuses_other_boxes_where_rounding_decides_of_one() -> None:
    shapes = [{"data": (1, 3, 8, 8)}]

    def checked(further: float) -> float:
        other = RoundingDecides(further)
        return check(RoundingDecides(), lambda given: run_module(other, given, ["it"]), shapes, outputs=["it"]).error

    assert checked(0.0) == 0
    with pytest.raises(ExportError, match="what came out is wrong: it"):
        checked(0.2)
