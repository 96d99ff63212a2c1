"""The result of an evaluation: a histogram for each image and output, from which everything else follows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from converters.errors import CaffeFormatError, place
from converters.safety import read_json, to_record
from weights.records import METRICS

from .metrics import Scores
from .tasks import ScoringTask, tasks_of

MOST_BYTES = 256 << 20
"""The longest file of an evaluation that is read."""
MOST_CLASSES = 1024
"""Of one output; a histogram has a place for each pair."""
_MOST_PIXELS = 1 << 40
"""Of one image; so the sums over all images fit int64."""


@dataclass(frozen=True, eq=False)
class ImageResult:
    """One image: its histogram (labels x predictions, int64) by output blob; none for an image without labels."""

    id: str
    histograms: Mapping[str, np.ndarray]

    def to_json(self) -> dict[str, Any]:
        """In JSON's types; histograms are nearly empty and are written as [label, prediction, pixels, ...]."""
        return {"id": self.id, "histograms": {head: _sparse(counts) for head, counts in self.histograms.items()}}

    @classmethod
    def from_json(cls, data: Any, classes: Mapping[str, tuple[str, ...]]) -> ImageResult:
        """The record that `to_json` wrote; CaffeFormatError (a ValueError) if it is anything else."""
        return _image(to_record(data, _StoredImage, ignore_unknown=True), classes)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A net on a split of a data set.

    `weights` is what was asked for and `release` the published net that it is, if known; `dataset` is the catalogue's
    name; `complete` says that these are all images of the published split. `skipped` gives the reason by id. `seconds`
    is the time that this run took, for `computed` images; the others were kept from an earlier one.
    """

    weights: str
    release: str | None
    dataset: str
    title: str
    split: str
    complete: bool
    classes: Mapping[str, tuple[str, ...]]
    images: tuple[ImageResult, ...]
    skipped: Mapping[str, str]
    seconds: float
    computed: int
    settings: Mapping[str, str]

    @property
    def tasks(self) -> tuple[ScoringTask, ...]:
        """The tasks that were scored."""
        return tasks_of(self.dataset, self.classes) if any(image.histograms for image in self.images) else ()

    def histogram(self, head: str = "score") -> np.ndarray:
        """All images together, (classes, classes) int64."""
        total = np.zeros((len(self.classes[head]),) * 2, np.int64)
        for image in self.images:
            if head in image.histograms:
                total += image.histograms[head]
        return total

    def scores(self, task: ScoringTask | None = None) -> Scores:
        """The metrics of a task, by default of the first."""
        chosen = task or self.tasks[0]
        return chosen.scores(self.histogram(chosen.head))

    def to_json(self) -> dict[str, Any]:
        """Everything, in JSON's types; metrics are fractions of 1, and null where there is nothing to count."""
        return {
            "weights": self.weights,
            "release": self.release,
            "dataset": self.dataset,
            "title": self.title,
            "split": self.split,
            "complete": self.complete,
            "settings": dict(self.settings),
            "seconds": round(self.seconds, 3),
            "computed": self.computed,
            "tasks": [_task_json(task, self.scores(task)) for task in self.tasks],
            "classes": {head: list(names) for head, names in self.classes.items()},
            "histograms": {head: self.histogram(head).tolist() for head in self.classes} if self.tasks else {},
            "skipped": dict(self.skipped),
            "images": [image.to_json() for image in self.images],
        }

    @classmethod
    def from_json(cls, data: Any) -> Evaluation:
        """The record that `to_json` wrote; CaffeFormatError (a ValueError) if it is anything else."""
        found = to_record(data, _StoredEvaluation, ignore_unknown=True)
        _check(found)
        images = []
        for index, image in enumerate(found.images):
            with place(f"images[{index}]"):
                images.append(_image(image, found.classes))
        return cls(**{**vars(found), "images": tuple(images)})


def read_evaluation(path: Path) -> Evaluation:
    """The evaluation that `fcn-port evaluate --json` wrote; CaffeFormatError if the file is none."""
    try:
        return Evaluation.from_json(read_json(path, most_bytes=MOST_BYTES))
    except CaffeFormatError as error:
        hint = "write one with `fcn-port evaluate ... --json > FILE`"
        problem = ": ".join(filter(None, ("not an evaluation", error.where, error.problem)))
        raise CaffeFormatError(problem, path=path, hint=hint) from None


# As they stand in files


@dataclass(frozen=True)
class _StoredImage:
    id: str
    histograms: Mapping[str, Any]


@dataclass(frozen=True)
class _StoredEvaluation:
    weights: str
    release: str | None
    dataset: str
    title: str
    split: str
    complete: bool
    classes: Mapping[str, tuple[str, ...]]
    images: tuple[_StoredImage, ...]
    skipped: Mapping[str, str]
    seconds: float
    computed: int
    settings: Mapping[str, str]


def _check(stored: _StoredEvaluation) -> None:
    """CaffeFormatError for outputs that no data set has, and for an image that would be counted twice."""
    if any(len(names) > MOST_CLASSES for names in stored.classes.values()):
        limit = f"more than {MOST_CLASSES} classes, the limit (fcn_port.evaluation.results.MOST_CLASSES)"
        raise CaffeFormatError(limit, where="classes")
    if not all(stored.classes.values()):
        raise CaffeFormatError("an output without classes", where="classes")
    if stored.dataset == "pascalcontext" and set(stored.classes) != {"score"}:
        raise CaffeFormatError("expected the output score, which PASCAL-Context is labelled for", where="classes")
    twice = next((id_ for id_, count in Counter(image.id for image in stored.images).items() if count > 1), None)
    if twice is not None:
        raise CaffeFormatError(f"the image '{twice[:80]}' is there twice", where="images")


def _image(stored: _StoredImage, classes: Mapping[str, tuple[str, ...]]) -> ImageResult:
    rows = {}
    for head, values in stored.histograms.items():
        with place(f"histograms.{head:.80}"):
            if head not in classes:
                raise CaffeFormatError(f"there is no such output; there are {', '.join(classes)}")
            rows[head] = _rows(values, len(classes[head]))
    return ImageResult(stored.id, _Histograms(rows, classes))


def _task_json(task: ScoringTask, found: Scores) -> dict[str, Any]:
    return {
        "task": task.title,
        "head": task.head,
        **{name: _number(getattr(found, name)) for name in METRICS},
        "iu": {name: _number(value) for name, value in zip(task.classes, found.iu, strict=True)},
        "accuracy": {name: _number(value) for name, value in zip(task.classes, found.accuracy, strict=True)},
        "pixels": found.pixels,
    }


def _number(value: float) -> float | None:
    return None if value != value else value


def _sparse(counts: np.ndarray) -> list[int]:
    rows, columns = np.nonzero(counts)
    found: list[int] = np.stack([rows, columns, counts[rows, columns]], axis=1).ravel().tolist()
    return found


def _rows(values: Any, classes: int) -> np.ndarray:
    """The rows of `_sparse`: label, prediction, pixels. Checked by hand, for there may be millions."""
    if not isinstance(values, list) or len(values) % 3 or not all(type(value) is int for value in values):
        raise CaffeFormatError("expected whole numbers, three for each pair of classes: label, prediction, pixels")
    if not all(0 <= value < _MOST_PIXELS for value in values) or sum(values[2::3]) >= _MOST_PIXELS:
        raise CaffeFormatError("these are counts that no image has")
    rows = np.array(values, np.int64).reshape(-1, 3)
    if rows.size and rows[:, :2].max() >= classes:
        raise CaffeFormatError(f"class {rows[:, :2].max()}; the output has {classes}")
    return rows


class _Histograms(Mapping[str, np.ndarray]):
    """Histograms by output blob, which are nearly empty and made whole one at a time."""

    def __init__(self, rows: Mapping[str, np.ndarray], classes: Mapping[str, tuple[str, ...]]) -> None:
        self._rows, self._classes = rows, classes

    def __getitem__(self, head: str) -> np.ndarray:
        rows, count = self._rows[head], len(self._classes[head])
        counts = np.zeros((count, count), np.int64)
        np.add.at(counts, (rows[:, 0], rows[:, 1]), rows[:, 2])
        return counts

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)
