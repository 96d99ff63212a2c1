"""Losses that Caffe does not have, for classes of few pixels: focal and dice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from .base import Loss, divisor, target_of
from .softmax import known_labels, weights_of


@dataclass(frozen=True)
class FocalLoss(Loss):
    """-w (1 - p)^gamma log p of each pixel, where p is the softmax of its label (Lin et al., 2017, equation 5).

    gamma 0 is SoftmaxWithLoss; `class_weights` w are the paper's alpha, and 1 where none are given.
    """

    class_weights: tuple[float, ...] = ()
    gamma: float = 2.0

    def __call__(self, blobs: Mapping[str, Tensor], counts: Mapping[str, float] | None = None) -> Tensor:
        scores, labels = blobs[self.score], blobs[self.label]
        target, ignored = target_of(labels, scores).long(), _ignored(self)
        known = known_labels(target, self.ignore_label, scores.shape[1])
        log_p = torch.log_softmax(scores, 1).gather(1, known[:, None])[:, 0]
        losses = -((1 - log_p.exp()).clamp(min=1e-7) ** self.gamma) * log_p
        if self.class_weights:
            losses = losses * weights_of(self.class_weights, scores)[known]
        counts = self.counts(blobs) if counts is None else counts
        return torch.where(target == ignored, 0, losses).sum() / divisor(counts, self.normalization)


@dataclass(frozen=True)
class DiceLoss(Loss):
    """1 less the mean, over the classes that are labelled in the batch, of 2 sum(p g) / (sum(p) + sum(g)).

    p are softmax probabilities and g is 1 on pixels of the class, both without ignored pixels (Milletari et al., 2016,
    with sums for squares). `class_weights` weigh the mean. It is a number from 0 to 1 of any size of batch, whatever
    the normalisation; of several processes the mean is taken.
    """

    class_weights: tuple[float, ...] = ()

    def counts(self, blobs: Mapping[str, Tensor]) -> dict[str, float]:
        return {**super().counts(blobs), "processes": 1.0}

    def __call__(self, blobs: Mapping[str, Tensor], counts: Mapping[str, float] | None = None) -> Tensor:
        scores, labels = blobs[self.score], blobs[self.label]
        classes = scores.shape[1]
        target, ignored = target_of(labels, scores).long(), _ignored(self)
        counted = (target != ignored)[:, None]
        truth = one_hot(known_labels(target, self.ignore_label, classes), classes).movedim(-1, 1) * counted
        p = torch.softmax(scores, 1) * counted
        places = (0, *range(2, scores.ndim))
        labelled = truth.sum(places)
        dice = 2 * (p * truth).sum(places) / (p.sum(places) + labelled).clamp(min=1e-12)
        weights = weights_of(self.class_weights, scores) if self.class_weights else torch.ones_like(dice)
        weights = weights * (labelled > 0)
        # Without a labelled pixel this is 0, with a gradient of 0.
        loss = (weights * (1 - dice)).sum() / weights.sum().clamp(min=1e-12)
        return loss / (1.0 if counts is None else counts["processes"])


def _ignored(loss: Loss) -> int:
    return -100 if loss.ignore_label is None else loss.ignore_label
