"""FCN-score: a segmentation net's scores on generated images, as pix2pix and CycleGAN report them for Cityscapes.

The better the generated street scene, the better a net that was trained on real ones finds what its label map says.
Rules and quirks: phillipi/pix2pix, scripts/eval_cityscapes/{evaluate,util,cityscapes}.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..data.errors import DataError
from ..data.generated import generated_images
from .results import Evaluation

if TYPE_CHECKING:
    from ..data.records import DataSet
    from ..nets import Net
    from .running import EvaluationPlan, ProgressCallback

EPSILON = 1e-12
"""Added to each denominator, so that a class that is nowhere counts as 0 in the means (util.py, get_scores)."""


@dataclass(frozen=True, eq=False)
class Means:
    """The three numbers as fractions of 1, with the accuracy and IOU of each class, and the histogram they are of."""

    pixel_accuracy: float
    class_accuracy: float
    class_iou: float
    accuracy: tuple[float, ...]
    iou: tuple[float, ...]
    histogram: np.ndarray


@dataclass(frozen=True, eq=False)
class FCNScore:
    """The scores of generated images: as the published script counts them, and without its two quirks.

    `dropped` are the ids of frames that the script leaves out, `spilled` the pixels that it counts for another class.
    """

    classes: tuple[str, ...]
    images: int
    as_published: Means
    plain: Means
    dropped: tuple[str, ...]
    spilled: int


def fcn_score(
    net: Net,
    *,
    generated: str | os.PathLike[str],
    data: DataSet,
    plan: EvaluationPlan | None = None,
    progress: ProgressCallback | None = None,
) -> FCNScore:
    """The FCN-score of the images in a folder, for the labels of a data set (`open_dataset(DIR, kind="cityscapes")`).

    Every image of the split counts; one that is missing is a DataError, unless the plan skips bad files.
    """
    from .running import EvaluationPlan, evaluate

    images = generated_images(data, Path(generated), outputs=outputs_of(net, data))
    found = evaluate(net, images, plan=plan or EvaluationPlan(cache=None), progress=progress)
    return score_of(found, classes=data.classes[head_of(data)])


def head_of(data: DataSet) -> str:
    """The one labelling of a data set; DataError where it has several."""
    if len(data.labels) != 1:
        raise DataError(f"{data.title}, {data.split}, has {len(data.labels)} labellings; one is scored", path=data.root)
    return next(iter(data.labels))


def outputs_of(net: Net, data: DataSet) -> int:
    """The number of classes that a net scores; DataError where it is fewer than are labelled."""
    from ..inspection import trace

    shape = trace(net, (256, 256))[next(iter(net.outputs))]
    labelled = len(data.classes[head_of(data)])
    if len(shape) != 4 or shape[1] < labelled:
        problem = f"the net's output is {shape}; {data.title} has {labelled} classes"
        raise DataError(
            problem, path=data.root, hint="the net must score the classes that are labelled, in their order"
        )
    return shape[1]


def score_of(evaluation: Evaluation, *, classes: tuple[str, ...]) -> FCNScore:
    """Both ways to count the images of an evaluation that have a label for each of `classes`."""
    n, head = len(classes), next(iter(evaluation.classes))
    plain, published = np.zeros((n, len(evaluation.classes[head])), np.int64), np.zeros((n, n), np.int64)
    dropped, spilled = [], 0
    for image in evaluation.images:
        counts = image.histograms[head][:n]
        plain += counts
        frame = as_published(counts)
        if frame is None:
            dropped.append(image.id)
            continue
        published += frame
        spilled += int(counts[:, n:].sum())
    return FCNScore(
        classes=classes,
        images=len(evaluation.images),
        as_published=means(published),
        plain=means(plain),
        dropped=tuple(dropped),
        spilled=spilled,
    )


def as_published(counts: np.ndarray) -> np.ndarray | None:
    """A frame's histogram as the script makes it, (n, n), or None where it drops the frame.

    `counts` are (n labels, m predictions), m at least n. The script numbers the pairs n * label + prediction; so a
    prediction of n falls on class 0 of the next label, and where that is beyond the last label, the frame's bins are
    not n * n, and nothing of it is counted (util.py, fast_hist).
    """
    n, m = counts.shape
    labels, predictions = np.indices((n, m))
    place = n * labels + predictions
    if counts[place >= n * n].any():
        return None
    folded = np.zeros(n * n, np.int64)
    inside = place < n * n
    np.add.at(folded, place[inside], counts[inside])
    return folded.reshape(n, n)


def means(counts: np.ndarray) -> Means:
    """The three numbers of a histogram of n labels and m predictions; predictions beyond the n classes are wrong."""
    n = len(counts)
    right, labelled, predicted = np.diag(counts[:, :n]), counts.sum(axis=1), counts[:, :n].sum(axis=0)
    accuracy = right / (labelled + EPSILON)
    iou = right / (labelled + predicted - right + EPSILON)
    return Means(
        pixel_accuracy=float(right.sum() / (counts.sum() + EPSILON)),
        class_accuracy=float(accuracy.mean()),
        class_iou=float(iou.mean()),
        accuracy=tuple(accuracy.tolist()),
        iou=tuple(iou.tolist()),
        histogram=counts,
    )


def rows(score: FCNScore, *, plain_only: bool = False) -> list[tuple[str, ...]]:
    """The three numbers and each class's, a column for each way to count, as fractions of 1 with four decimals."""
    columns: Iterable[Means] = (score.plain,) if plain_only else (score.as_published, score.plain)
    columns = tuple(columns)
    found = [
        ("per-pixel accuracy", *(f"{each.pixel_accuracy:.4f}" for each in columns)),
        ("per-class accuracy", *(f"{each.class_accuracy:.4f}" for each in columns)),
        ("class IOU", *(f"{each.class_iou:.4f}" for each in columns)),
    ]
    for number, name in enumerate(score.classes):
        found.append((f"IOU {name}", *(f"{each.iou[number]:.4f}" for each in columns)))
    return found
