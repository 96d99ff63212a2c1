"""The results of a run below a folder: labels beside each other, parts while it runs, and one Parquet table at the end.

`results.parquet` has a row for each image. While a run goes on, what is done lies in `.parts/`: a file of rows for each
block, which appears whole. So a run that ends at any moment, and each worker that does, loses the blocks that were
being done, and the next run goes on from there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import filelock

from converters.escaping import json_text
from converters.safety import make_folder, whole_file, write_whole

from ..errors import ImageError
from ..predictor.kept_settings import keep_settings

RESULTS = "results.parquet"
PARTS = ".parts"
_AT_A_TIME = 10_000
"""Rows of a row group of the table."""


@dataclass(frozen=True)
class Settings:
    """The settings that results depend on: a folder takes those of one net, run one way."""

    weights: str
    net: str
    threshold: float | None
    tile: int | None


@dataclass(frozen=True)
class Results:
    """The folder of a run's results."""

    out: Path

    @property
    def folder(self) -> Path:
        return self.out / PARTS

    @property
    def table(self) -> Path:
        return self.out / RESULTS

    @contextmanager
    def alone(self, settings: Settings) -> Iterator[None]:
        """The folder, for one run at a time and for results of one kind; ValueError where it is another's."""
        make_folder(self.folder)
        lock = filelock.FileLock(self.folder / "lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            raise ValueError(f"{self.out}: another run is writing there; wait for it, or give another folder") from None
        try:
            keep_settings(self.folder / "settings.json", asdict(settings), out=self.out)
            yield
        finally:
            lock.release()

    def next_run(self) -> int:
        """The number of a run that begins now: later ones count where an image was done twice."""
        return 1 + max((_run_of(part) for part in self._parts()), default=0)

    def write_part(self, run: int, key: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keep the rows of a block, whole or not at all; written again they are the same file."""
        text = "".join(json_text(row, compact=True) + "\n" for row in rows)
        write_whole(self.folder / f"{run:06d}-{key}.jsonl", text.encode(), follow=False)

    def done(self) -> frozenset[str]:
        """The names of the images that were done; those that could not be are tried again."""
        names = {row["name"]: row["problem"] for row in self._old_rows(("name", "problem"))}
        for part in sorted(self._parts()):
            names.update((row["name"], row["problem"]) for row in _rows(part))
        return frozenset(name for name, problem in names.items() if problem is None)

    def gather(self) -> int:
        """Write the table of all that was done, a row for each image; the number of rows.

        An image that was done more than once has the row of the last time. Parts go when the table is there.
        """
        from .schema import as_table, writer

        parts = sorted(self._parts(), key=lambda part: (-_run_of(part), part.name))
        if not parts and self.table.is_file():
            return sum(1 for _ in self._old_rows(("name",)))
        seen: set[str] = set()
        rows: list[dict[str, Any]] = []
        with whole_file(self.table) as file, writer(file) as out:
            for row in chain(chain.from_iterable(map(_rows, parts)), self._old_rows(None)):
                if row["name"] in seen:
                    continue
                seen.add(row["name"])
                rows.append(row)
                if len(rows) == _AT_A_TIME:
                    out.write_table(as_table(rows))
                    rows = []
            out.write_table(as_table(rows))
        for part in (*parts, *self.folder.glob("begun-*")):
            part.unlink(missing_ok=True)
        return len(seen)

    def _parts(self) -> list[Path]:
        return list(self.folder.glob("[0-9]*-*.jsonl"))

    def _old_rows(self, columns: Sequence[str] | None) -> Iterator[dict[str, Any]]:
        if self.table.is_file():
            from .schema import read_rows

            yield from read_rows(self.table, columns)


def _run_of(part: Path) -> int:
    return int(part.name.partition("-")[0])


def _rows(part: Path) -> list[dict[str, Any]]:
    try:
        rows = [json.loads(line) for line in part.read_text(encoding="utf-8").splitlines()]
        if not all(isinstance(row, dict) and isinstance(row.get("name"), str) and "problem" in row for row in rows):
            raise ValueError("a row is not that of an image")
        return rows
    except (ValueError, RecursionError) as error:
        raise ImageError(f"{part}: damaged: {error}; take it away, and its images are done again") from error
