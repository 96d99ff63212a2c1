"""`Worker`: the class that a cluster makes once in each of its processes; it does blocks of images."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from converters.errors import CaffeFormatError
from converters.escaping import file_name
from converters.safety import write_whole

from ..errors import ImageError
from ..predict.images import picture_of
from ..predict.running import kind_of
from ..predictor import Prediction, Predictor
from .planning import ImageRef
from .results import Results
from .rows import row_of, write_seen

MOST_DEATHS = 3
"""Processes that an image may take with it, as one that fills the memory does; then it is passed over."""


class Worker:
    """A predictor that writes the results of a block below `out`, and then one record for each of its images.

    It can be pickled; the net is loaded in the process where it works. A block is the columns that `as_columns` makes
    of items, as lists or arrays; what comes back are the columns `name` and `problem`, "" for none. A block that is
    done again, as its worker died, writes the same files and the same records again.
    """

    def __init__(self, predictor: Predictor, out: str | os.PathLike[str], *, run: int) -> None:
        self.predictor = predictor
        self.results = Results(Path(out))
        self.run = run

    def __call__(self, block: Mapping[str, Sequence[Any]]) -> dict[str, list[str]]:
        items = [
            ImageRef(str(name), os.fsdecode(path), kind, os.fsdecode(place), int(first), int(second))
            for name, path, kind, place, first, second in zip(
                *(block[column] for column in ("name", "path", "kind", "place", "first", "second")), strict=True
            )
        ]
        key = file_name(items[0].name)
        mark = self.results.folder / f"begun-{self.run}-{key}"
        deaths = _Deaths(mark)
        rows = [self._row(item, deaths) for item in items]
        self.results.write_part(self.run, key, rows)
        mark.unlink(missing_ok=True)
        return {"name": [row["name"] for row in rows], "problem": [row["problem"] or "" for row in rows]}

    def _row(self, item: ImageRef, deaths: _Deaths) -> dict[str, Any]:
        if deaths.of(item.name) >= MOST_DEATHS:
            said = f"{item.image}: passed over: {MOST_DEATHS} processes that were at it were killed"
            return row_of(item, Prediction(item.path, None, said), [])
        deaths.begin(item.name)
        prediction = self._prediction(item)
        try:
            found = [] if prediction.seen is None else write_seen(prediction.seen, self.results.out / item.name)
        except (CaffeFormatError, ImageError) as error:  # labels that a picture cannot hold
            prediction, found = Prediction(item.path, None, f"{item.image}: {str(error).splitlines()[0]}"), []
        return row_of(item, prediction, found)

    def _prediction(self, item: ImageRef) -> Prediction:
        if item.kind == "file":
            return self.predictor([item.path])[0]
        try:
            pixels = picture_of(_bytes_of(item), kind=kind_of(self.predictor.net))
        except (ImageError, OSError) as error:
            return Prediction(item.path, None, f"{item.image}: {_without(str(error).splitlines()[0], item.path)}")
        made = self.predictor([pixels])[0]
        return made if made.problem is None else Prediction(item.path, None, f"{item.image}: {made.problem}")


class _Deaths:
    """The images at which processes died that did this block before: a file holds the one that is being done."""

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        self._before = lines

    def of(self, name: str) -> int:
        return self._before.count(_line(name))

    def begin(self, name: str) -> None:
        write_whole(self._path, "\n".join([*self._before, _line(name)]).encode(), durable=False, follow=False)


def _line(name: str) -> str:
    return re.sub(r"[\r\n\v\f\x1c-\x1e\x85\u2028\u2029]", "?", name)


def _without(text: str, path: str) -> str:
    return text.removeprefix(f"{path}: ")


def _bytes_of(item: ImageRef) -> bytes:
    if item.kind == "table":
        from .tables import image_in

        return image_in(item.path, column=item.place, group=item.first, row=item.second)
    with Path(item.path).open("rb") as file:
        file.seek(item.first)
        found = file.read(item.second)
    if len(found) < item.second:
        raise ImageError(f"{len(found)} of {item.second} bytes are there; the tar has changed")
    return found
