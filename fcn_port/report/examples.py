"""The pictures of the report: the chosen images are read and predicted once more."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import nn

from converters.errors import MismatchError

from ..data.inputs import input_kinds, net_inputs
from ..data.records import DataSet
from ..evaluation.predicting import Refinement, predicted_labels, refined_labels
from ..evaluation.results import Evaluation
from ..evaluation.running import device_of, preprocessing_of
from ..predict.images import rgb_of
from ..predict.meaning import outputs_of
from .gallery import Example, ranked


def best_and_worst(
    net: nn.Module,
    data: DataSet,
    evaluation: Evaluation,
    *,
    count: int,
    threshold: float | None = None,
    refinement: Refinement = Refinement(),  # noqa: B008 - frozen
) -> tuple[list[Example], list[Example]]:
    """Up to `count` of the best images and of the worst, none in both; for the evaluation's first task.

    Raises DataError for a file that is gone since, MismatchError where the evaluation is of another data set.
    """
    if not evaluation.tasks:
        return [], []
    task = evaluation.tasks[0]
    order = _of_data(ranked(evaluation, task), evaluation, data)
    best = order[: min(count, -(-len(order) // 2))]
    worst = order[len(best) :][::-1][:count]
    made = [
        [_example(net, data, id_, score, task.head, threshold, refinement) for id_, score in part]
        for part in (best, worst)
    ]
    return made[0], made[1]


def _of_data(order: Sequence[tuple[str, float]], evaluation: Evaluation, data: DataSet) -> list[tuple[str, float]]:
    """The images that the data set has; MismatchError where it has none, or other classes."""
    scored, labelled = ({head: len(names) for head, names in each.classes.items()} for each in (evaluation, data))
    hint = f"the results are of {evaluation.title}, {evaluation.split}"
    if scored != labelled:
        said = " and ".join(f"{count} classes of {head}" for head, count in scored.items())
        found = " and ".join(f"{count} of {head}" for head, count in labelled.items())
        raise MismatchError(f"the results are of {said}; {data.title} has {found}", path=data.root, hint=hint)
    known = set(data.ids)
    here = [each for each in order if each[0] in known]
    if order and not here:
        problem = f"none of the {len(order)} images of the results is in {data.title}, {data.split}"
        raise MismatchError(problem, path=data.root, hint=hint)
    return here


def _example(
    net: nn.Module, data: DataSet, id_: str, score: float, head: str, threshold: float | None, refinement: Refinement
) -> Example:
    preprocessing, outputs = preprocessing_of(net, data), outputs_of(net)
    sample = data.read(id_, kinds=input_kinds(preprocessing))
    if refinement.wanted:
        found = refined_labels(net, outputs, sample, data, preprocessing, refinement, threshold=threshold)
    else:
        inputs = {name: x.to(device_of(net)) for name, x in net_inputs(data, sample, preprocessing).items()}
        found = predicted_labels(net, outputs, inputs, data, threshold=threshold)
    predictions = found[head].cpu().numpy()
    return Example(id_, score, _shown(next(iter(sample.images.values()))), sample.labels[head], predictions)


def _shown(image: np.ndarray) -> np.ndarray:
    """An image of any kind as (h, w, 3) uint8: depth as greys."""
    if image.dtype == np.uint8 and image.shape[2] > 2:
        return rgb_of(image)
    grey = image[:, :, 0].astype(np.float64)
    span = float(np.ptp(grey)) or 1.0
    return np.repeat(((grey - grey.min()) / span * 255).astype(np.uint8)[:, :, None], 3, axis=2)
