"""Shards of a list of images: disjoint, the same on every machine, and all of the list together."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from converters.safety import append, open_part

T = TypeVar("T")


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


@dataclass(frozen=True)
class DoneImages:
    """The images of a part that are done, each with its files, in a file of their names beside the results.

    An image is noted after all its files, whatever these are: what was ended between two of them, or has lost one
    since, is not done.
    """

    out: Path
    shard: Shard

    @property
    def path(self) -> Path:
        return self.out / f".shard.{self.shard.number}-{self.shard.count}.done"

    def add(self, name: Path, files: Iterable[Path]) -> None:
        """Note that the image `name` is done, and has these files below `out`."""
        names = [os.fsencode(each) for each in (name, *(file.relative_to(self.out) for file in files))]
        with open_part(self.path) as notes:
            append(notes, _RECORD + _NAME.join(names))

    def among(self, names: Collection[Path]) -> frozenset[Path]:
        """Those of the names whose images are done, by this part or by another one of the same results."""
        wanted = frozenset(names)
        return frozenset(name for name, files in self._noted() if name in wanted and self._are_there(files))

    def __bool__(self) -> bool:
        """True where there is an image that is done, of any part."""
        return any(self._are_there(files) for _, files in self._noted())

    def _noted(self) -> Iterator[tuple[Path, list[str]]]:
        """Names with their files; of a record that was cut short there is no file of that name, or none at all."""
        for notes in self.out.glob(".shard.*.done"):
            for record in notes.read_bytes().split(_RECORD):
                name, *files = map(os.fsdecode, record.strip(_NAME).split(_NAME))
                yield Path(name), files

    def _are_there(self, files: Sequence[str]) -> bool:
        return bool(files) and all((self.out / file).exists() for file in files)


_RECORD, _NAME = b"\0\0", b"\0"
"""The bytes before a record and between its names, which no name has."""
