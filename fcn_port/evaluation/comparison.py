"""Our numbers beside the published ones, and whether they are the same."""

from __future__ import annotations

from dataclasses import dataclass

from weights.catalogue import bundled, releases
from weights.records import METRICS, Score

from .metrics import Scores
from .results import Evaluation
from .tasks import ScoringTask

TOLERANCE = 0.1
"""Points (of a hundred) that mean IU may be off and still be called reproduced: the authors print one decimal."""


@dataclass(frozen=True)
class MetricRow:
    """One metric in percent: ours, and each published value with its source."""

    metric: str
    ours: float
    published: tuple[tuple[float, str], ...]

    @property
    def difference(self) -> float | None:
        """Ours less the most precise published value, in points; None where nobody published one."""
        return self.ours - self.published[-1][0] if self.published else None


@dataclass(frozen=True)
class Verdict:
    """A verdict on whether the published mean IU was reproduced, and a sentence that says so."""

    ok: bool
    text: str


def published_scores(evaluation: Evaluation, task: ScoringTask) -> tuple[Score, ...]:
    """The scores published for this net, split and output, the most precise last."""
    release = {**releases(), **bundled()}.get(evaluation.release or "")
    if release is None or release.dataset.name != evaluation.dataset or task != evaluation.tasks[0]:
        return ()
    split = [each for each in release.scores if each.split == evaluation.split and each.head in (None, task.head)]
    return tuple(sorted(split, key=lambda each: sum(getattr(each, metric) is not None for metric in METRICS)))


def compare(evaluation: Evaluation, task: ScoringTask) -> tuple[MetricRow, ...]:
    """A row for each of the four metrics."""
    known, ours = published_scores(evaluation, task), evaluation.scores(task)
    return tuple(_row(metric, ours, known) for metric in METRICS)


def verdict(evaluation: Evaluation) -> Verdict | None:
    """The verdict: is mean IU within TOLERANCE of the published value? None where there is nothing to say.

    That is so for a part of the split, for other images than the published ones, and for weights that are no release.
    """
    if not evaluation.complete or not evaluation.tasks:
        return None
    task = evaluation.tasks[0]
    known = [score.mean_iu for score in published_scores(evaluation, task) if score.mean_iu is not None]
    if not known:
        return None
    ours = 100 * evaluation.scores(task).mean_iu
    off = ours - known[-1]
    ok = abs(off) <= TOLERANCE
    said = "reproduced" if ok else "NOT reproduced"
    return Verdict(
        ok,
        f"{said}: mean IU {ours:.2f} on all {len(evaluation.images)} images of {evaluation.split}, published "
        f"{known[-1]:.2f}, {off:+.2f} points (it may be off by {TOLERANCE})",
    )


def _row(metric: str, ours: Scores, known: tuple[Score, ...]) -> MetricRow:
    values = ((getattr(score, metric), score.source) for score in known)
    published = tuple((value, source) for value, source in values if value is not None)
    return MetricRow(metric, 100 * getattr(ours, metric), published)
