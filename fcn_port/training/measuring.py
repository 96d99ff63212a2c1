"""Learning rates of new score layers by what goes into them, so that they move and do not run away.

What a step of gradient descent changes in a score is the rate times the sum of squares of the features below it. In
VGG-16 that sum is a thousand times larger below score_pool3 than below score_fr, and other widths and other training
have other sums: one rate for all is too large for one of them or too small for another. A rate of a fixed share of
1 / sum is stable for softmax regression, whose loss bends by at most half of that sum.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from .distributed import DistributedGroup
from .feed import Feed
from .task import TrainingTask

SHARE = 0.2
"""Of the rate of 1 / sum; half of the largest that momentum 0.9 bears on one image after another."""
IMAGES = 8
"""Images over which the sums are measured."""


def measure_scores(task: TrainingTask, feed: Feed, *, group: DistributedGroup) -> dict[str, float]:
    """The rate for each score layer of a hand-written net: SHARE over the mean sum of squares of its input, plus one.

    Weights of classes count, as they multiply the gradient. Nothing of the net is changed. Several processes measure
    on their own images and share the mean: with rates of their own their weights would part.
    """
    layers = {name: layer for name, layer in task.net.named_children() if name.startswith("score") and _learns(layer)}
    sums: dict[str, list[float]] = {name: [] for name in layers}

    def note(name: str) -> Any:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            sums[name].append(float(inputs[0].square().sum(1).mean()))

        return hook

    handles = [layer.register_forward_pre_hook(note(name)) for name, layer in layers.items()]
    training = task.net.training
    task.net.eval()
    batches = feed.batches()
    try:
        with torch.no_grad():
            for batch in islice(batches, max(1, IMAGES // feed.images)):
                task.net(**{name: batch.blobs[name].to(group.device) for name in task.inputs})
    finally:
        batches.close()
        task.net.train(training)
        for handle in handles:
            handle.remove()
    heaviest = max((weight for loss in task.losses for weight in getattr(loss, "class_weights", ())), default=1.0)
    measured = {name: own for name, own in sums.items() if own}
    totals = iter(group.sum([number for own in measured.values() for number in (sum(own), len(own))]))
    means = {name: next(totals) / next(totals) for name in measured}
    return {name: SHARE / ((1 + mean) * max(1.0, heaviest)) for name, mean in means.items()}


def _learns(layer: nn.Module) -> bool:
    return isinstance(getattr(layer, "weight", None), nn.Parameter)
