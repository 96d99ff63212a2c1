"""A net over a data set: the paper's metrics, beside what was published.

found = evaluate(load("voc-fcn8s"), open_dataset("VOCdevkit/VOC2011"), release="voc-fcn8s")
found.scores().mean_iu                        # 0.655

score(labels, predictions, num_classes=21)    # the metrics of two label maps
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .metrics import Scores, histogram, score, scores
from .results import Evaluation, ImageResult, read_evaluation
from .tasks import Task, tasks_of

if TYPE_CHECKING:
    from .running import Plan, evaluate

__all__ = [
    "Evaluation",
    "ImageResult",
    "Plan",
    "Scores",
    "Task",
    "evaluate",
    "histogram",
    "read_evaluation",
    "score",
    "scores",
    "tasks_of",
]


def __getattr__(name: str) -> object:
    """Running takes torch; reading and scoring results does not."""
    if name not in ("Plan", "evaluate"):
        raise AttributeError(f"module 'fcn_port.evaluation' has no attribute '{name}'")
    from . import running

    return getattr(running, name)
