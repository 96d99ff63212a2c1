"""Bands of rows of the early layers: the blobs between two that are kept are there for one band at a time."""

from __future__ import annotations

from collections.abc import Container, Iterator

from converters.net import Interval

from .graph import Step
from .plan import Blob, Plan


def is_transient(plan: Plan, step: Step) -> bool:
    """True where a band of a step's top is enough at any time: one other early layer reads it, and nobody else."""
    readers = [each for each in plan.early if step.top in each.bottoms]
    return bool(step.features) and len(readers) == 1 and step.top not in plan.cut


def transient_makers(plan: Plan, step: Step, kept: Container[str]) -> Iterator[tuple[Step, int]]:
    """The steps before one whose tops are not `kept`, and the bytes of their rows that one row of its outputs takes."""
    makers, factor = {each.top: each for each in plan.early}, 1
    while step.slidings is not None:
        factor *= step.slidings[0].stride
        name = step.bottoms[0]
        if name in kept or name not in makers:
            return
        step = makers[name]
        yield step, 4 * factor * plan.blobs[name].needed.cols.size * step.features


def computed_of(blob: Blob, rows: Interval) -> Interval:
    """The rows among some of a blob that are computed; an empty end of these where all of them are constants."""
    found = rows.clip(blob.computed.rows)
    return found if found.size > 0 else Interval(rows.hi, rows.hi)


def bands_of(rows: Interval, heaviest: int, most: int) -> list[Interval]:
    """Rows in bands of about the same height, which fill at most so many bytes where a row takes `heaviest`."""
    height = rows.size if not heaviest else max(1, min(rows.size, most // heaviest))
    height = -(-rows.size // -(-rows.size // height))
    return [Interval(lo, min(lo + height, rows.hi)) for lo in range(rows.lo, rows.hi, height)]
