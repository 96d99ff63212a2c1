"""The scoring tasks: each output of a net in each way that its data set defines, each under a name of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .metrics import Over, Scores, scores


@dataclass(frozen=True)
class ScoringTask:
    """One way to score one output: `title` for people, and what `metrics.scores` is given."""

    title: str
    head: str
    classes: tuple[str, ...]
    over: Over = "present"
    without: tuple[int, ...] = ()

    def scores(self, counts: np.ndarray) -> Scores:
        """The metrics of the head's histogram."""
        return scores(counts, over=self.over, without=self.without)


def tasks_of(dataset: str, classes: Mapping[str, tuple[str, ...]]) -> tuple[ScoringTask, ...]:
    """The tasks of a data set of the catalogue.

    PASCAL-Context is scored with its background, as the release does, and as the 59 classes of its authors, where
    background pixels do not count. SIFT Flow's mean IU is over the classes that the test set has (its classes.txt):
    cow, desert and moon are not in it.
    """
    if dataset == "pascalcontext":
        names = classes["score"]
        return (
            ScoringTask(f"{len(names)} classes, with background", "score", names),
            ScoringTask(f"{len(names) - 1} classes, background not counted", "score", names, without=(0,)),
        )
    over: Over = "labelled" if dataset == "siftflow" else "present"
    named = {"score_sem": "semantic, ", "score_geo": "geometric, "}
    titles = {head: f"{named.get(head, '')}{len(names)} classes" for head, names in classes.items()}
    return tuple(ScoringTask(titles[head], head, names, over) for head, names in classes.items())
