"""Spans: the places of regions' cells along an axis of a blob, and what a cell is of its pixels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

Array = np.ndarray[Any, Any]

Pooled = Literal["largest", "mean", "weighted"]
"""A cell's value among those of its pixels: the largest, their mean, or a sum of them times weights."""


@dataclass(frozen=True)
class Spans:
    """The places of the cells of n regions along an axis of a blob.

    `first` and `last` (n, cells), of int64, are each cell's first place and the one behind its last; `weights`
    (n, cells, size) are what each place of the axis counts, and of length 0 where all count once.
    """

    first: Array
    last: Array
    weights: Array = field(default_factory=lambda: np.empty(0, np.float32))

    @classmethod
    def of_weights(cls, weights: Array) -> Spans:
        """Each cell from the first place that counts to the last, none where none does."""
        counts = weights != 0
        some = counts.any(2)
        last = weights.shape[2] - counts[..., ::-1].argmax(2)
        return cls(np.where(some, counts.argmax(2), 0), np.where(some, last, 0), weights)

    def of(self, region: int) -> Spans:
        """Those of one region, without the axis of regions."""
        return Spans(self.first[region], self.last[region], self.weights[region] if len(self.weights) else self.weights)

    def pairs(self) -> list[tuple[int, int]]:
        """(first, last) of each cell of one region."""
        return list(zip(self.first.tolist(), self.last.tolist(), strict=True))
