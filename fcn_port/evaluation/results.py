"""What an evaluation found: a histogram for each image and output, from which everything else follows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from converters.errors import CaffeFormatError
from converters.safety import read_json

from .metrics import Scores
from .tasks import Task, tasks_of

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
        """What `to_json` wrote; ValueError if it is anything else."""
        if not isinstance(data, dict) or not isinstance(data.get("id"), str):
            raise ValueError("not the result of an image")
        stored = data.get("histograms")
        if not isinstance(stored, dict) or not set(stored) <= set(classes):
            raise ValueError("not the result of an image for these outputs")
        return cls(
            data["id"], _Histograms({head: _checked(stored[head], len(classes[head])) for head in stored}, classes)
        )


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
    def tasks(self) -> tuple[Task, ...]:
        """What was scored."""
        return tasks_of(self.dataset, self.classes) if any(image.histograms for image in self.images) else ()

    def histogram(self, head: str = "score") -> np.ndarray:
        """All images together, (classes, classes) int64."""
        total = np.zeros((len(self.classes[head]),) * 2, np.int64)
        for image in self.images:
            if head in image.histograms:
                total += image.histograms[head]
        return total

    def scores(self, task: Task | None = None) -> Scores:
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
    def from_json(cls, data: Mapping[str, Any]) -> Evaluation:
        """What `to_json` wrote; ValueError, KeyError or TypeError if it is anything else."""
        classes = {_text(head): tuple(map(_text, names)) for head, names in data["classes"].items()}
        if any(len(names) > MOST_CLASSES for names in classes.values()):
            raise ValueError(f"more than {MOST_CLASSES} classes, the limit (fcn_port.evaluation.results.MOST_CLASSES)")
        if type(data["complete"]) is not bool or type(data["computed"]) is not int:
            raise ValueError("complete is true or false and computed a count")
        if not isinstance(data["images"], list):
            raise ValueError("images is a list")
        return cls(
            weights=_text(data["weights"]),
            release=None if data["release"] is None else _text(data["release"]),
            dataset=_text(data["dataset"]),
            title=_text(data["title"]),
            split=_text(data["split"]),
            complete=data["complete"],
            classes=classes,
            images=tuple(ImageResult.from_json(each, classes) for each in data["images"]),
            skipped={_text(key): _text(reason) for key, reason in data["skipped"].items()},
            seconds=float(data["seconds"]),
            computed=data["computed"],
            settings={_text(key): _text(value) for key, value in data["settings"].items()},
        )


def read_evaluation(path: Path) -> Evaluation:
    """The evaluation that `fcn-port evaluate --json` wrote; CaffeFormatError if the file is none."""
    try:
        found = read_json(path, most_bytes=MOST_BYTES)
        return Evaluation.from_json(found)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        problem = error.problem if isinstance(error, CaffeFormatError) else f"{error!s:.200}"
        hint = "write one with `fcn-port evaluate ... --json > FILE`"
        raise CaffeFormatError(f"not an evaluation: {problem}", path=path, hint=hint) from None


def _task_json(task: Task, found: Scores) -> dict[str, Any]:
    return {
        "task": task.title,
        "head": task.head,
        "overall_accuracy": _number(found.overall_accuracy),
        "mean_accuracy": _number(found.mean_accuracy),
        "mean_iu": _number(found.mean_iu),
        "fwavacc": _number(found.fwavacc),
        "iu": {name: _number(value) for name, value in zip(task.classes, found.iu, strict=True)},
        "accuracy": {name: _number(value) for name, value in zip(task.classes, found.accuracy, strict=True)},
        "pixels": found.pixels,
    }


def _number(value: float) -> float | None:
    return None if value != value else value


def _sparse(counts: np.ndarray) -> list[int]:
    rows, columns = np.nonzero(counts)
    return np.stack([rows, columns, counts[rows, columns]], axis=1).ravel().tolist()


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r:.80} is not text")
    return value


def _checked(values: Any, classes: int) -> np.ndarray:
    """What `_sparse` wrote, as rows of label, prediction, pixels."""
    if not isinstance(values, list) or len(values) % 3 or not all(type(value) is int for value in values):
        raise ValueError("not a histogram")
    if not all(0 <= value < _MOST_PIXELS for value in values) or sum(values[2::3]) >= _MOST_PIXELS:
        raise ValueError("a histogram with counts that no image has")
    rows = np.array(values, np.int64).reshape(-1, 3)
    if rows.size and rows[:, :2].max() >= classes:
        raise ValueError("a histogram of other classes")
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
