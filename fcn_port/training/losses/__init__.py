"""Losses: Caffe's, with its ways of dividing, and two that it does not have."""

from __future__ import annotations

from .base import Loss, axis_of, count
from .by_images import ContrastiveLoss, EuclideanLoss, HingeLoss, MultinomialLogisticLoss
from .choosing import LossChoice, chosen
from .infogain import InfogainLoss
from .reading import label_of, labels_in, losses_by_layer, losses_of, without_pairs
from .region import DiceLoss, FocalLoss
from .sigmoid import SigmoidCrossEntropyLoss
from .softmax import LARGEST_LOSS, SoftmaxWithLoss, known_labels, softmax_with_loss

__all__ = [
    "LARGEST_LOSS",
    "ContrastiveLoss",
    "DiceLoss",
    "EuclideanLoss",
    "FocalLoss",
    "HingeLoss",
    "InfogainLoss",
    "Loss",
    "LossChoice",
    "MultinomialLogisticLoss",
    "SigmoidCrossEntropyLoss",
    "SoftmaxWithLoss",
    "axis_of",
    "chosen",
    "count",
    "known_labels",
    "label_of",
    "labels_in",
    "losses_by_layer",
    "losses_of",
    "softmax_with_loss",
    "without_pairs",
]
