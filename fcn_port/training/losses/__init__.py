"""Losses: Caffe's, with its ways of normalising, and two that it does not have."""

from __future__ import annotations

from .base import Loss, count
from .choosing import LossChoice, chosen
from .infogain import InfogainLoss
from .reading import losses_of
from .region import DiceLoss, FocalLoss
from .sigmoid import SigmoidCrossEntropyLoss
from .softmax import LARGEST_LOSS, SoftmaxWithLoss, softmax_with_loss

__all__ = [
    "LARGEST_LOSS",
    "DiceLoss",
    "FocalLoss",
    "InfogainLoss",
    "Loss",
    "LossChoice",
    "SigmoidCrossEntropyLoss",
    "SoftmaxWithLoss",
    "chosen",
    "count",
    "losses_of",
    "softmax_with_loss",
]
