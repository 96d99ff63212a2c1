"""Shards of a list of images: disjoint, the same on every machine, and all of the list together."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_RESULTS = ((".labels.png", ".overlay.png"), (".map.png",), (".classes.json",), (".detections.png", ".detections.json"))
"""The files that say that an image is done, by what its net tells."""


@dataclass(frozen=True)
class Shard:
    """Part `number` (from 1) of `count`: every count-th item, from the number-th on, so that parts are equally long."""

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            n = self.count
            raise ValueError(f"'{self.number}/{n}' is no part: expected 1/{n} to {n}/{n}")

    @classmethod
    def parse(cls, text: str) -> Shard:
        """The shard that a text such as 3/16 means; ValueError for another text."""
        match = re.fullmatch(r"([0-9]{1,9})/([1-9][0-9]{0,8})", text)
        if match is None:
            raise ValueError(f"'{text}' is no part such as 3/16")
        return cls(int(match[1]), int(match[2]))

    def of(self, items: Sequence[T]) -> tuple[T, ...]:
        """This part of a list, which must be in the same order wherever another part of it is taken."""
        return tuple(items[self.number - 1 :: self.count])


def is_done(base: Path, *, also: Sequence[str] = ()) -> bool:
    """True where the results of an image are there, whole: `base` is their name without an ending.

    `also` has the endings of further files or folders that were asked for. Results get their names when they are whole.
    """

    def there(ending: str) -> bool:
        return base.with_name(base.name + ending).exists()

    return any(all(map(there, endings)) for endings in _RESULTS) and all(map(there, also))
