"""A net over a data set: the paper's metrics, beside what was published.

found = evaluate(load("voc-fcn8s"), open_dataset("VOCdevkit/VOC2011"), release="voc-fcn8s")
found.scores().mean_iu                        # 0.655

score(labels, predictions, num_classes=21)    # the metrics of two label maps
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from converters.lazy import lazy_attributes

from .metrics import Scores, histogram, score, scores
from .results import Evaluation, ImageResult, read_evaluation
from .tasks import ScoringTask, tasks_of

if TYPE_CHECKING:
    from .generated import FCNScore, fcn_score
    from .running import EvaluationPlan, evaluate

__all__ = [
    "Evaluation",
    "EvaluationPlan",
    "FCNScore",
    "ImageResult",
    "Scores",
    "ScoringTask",
    "evaluate",
    "fcn_score",
    "histogram",
    "read_evaluation",
    "score",
    "scores",
    "tasks_of",
]


# Running takes torch; reading and scoring results does not.
__getattr__, __dir__ = lazy_attributes(
    __name__,
    {"EvaluationPlan": "running", "FCNScore": "generated", "evaluate": "running", "fcn_score": "generated"},
    renamed={"Plan": "EvaluationPlan", "Task": "ScoringTask"},
)
