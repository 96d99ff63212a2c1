"""Caffe's SigmoidCrossEntropyLoss, for nets that tell a class from the rest (edges), or several that overlap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from converters.errors import NetError
from converters.net import LayerSpec

from .base import Loss, count, divisor, fields_of


@dataclass(frozen=True)
class SigmoidCrossEntropyLoss(Loss):
    """The cross-entropy of sigmoid(score) with labels from 0 to 1 (sigmoid_cross_entropy_loss_layer.cpp).

    Labels between them are probabilities, as there; one is ignored by its whole part alone. `score` is (n, 1, h, w) for
    label maps; of several channels each has a label of its own, as of an image's attributes (n, c), and where it is not
    `labelled`, an autoencoder is to give the image again. A layer that says nothing divides by BATCH_SIZE. `balanced`
    weighs, image by image, the pixels of 1 by the share of 0, and those of 0 by the share of 1, as HED's fork does
    without being told (s9xie/hed, src/caffe/layers/sigmoid_cross_entropy_loss_layer.cpp). There, pixels of other labels
    have a gradient, though no loss; here ignored ones have none.
    """

    balanced: bool = False

    @classmethod
    def of_layer(cls, layer: LayerSpec, *, balanced: bool = False) -> SigmoidCrossEntropyLoss:
        """The loss that a layer defines; `balanced` is for the caller to say, as no field of the layer's does."""
        return cls(**fields_of(layer, unsaid="BATCH_SIZE"), balanced=balanced)  # type: ignore[arg-type]

    def channels(self, classes: int) -> int:
        """One, for two classes; NetError for others."""
        if classes != 2:
            raise NetError(f"{self.name}: a sigmoid tells 2 classes apart; the data set has {classes}")
        return 1

    def __call__(self, blobs: Mapping[str, Tensor], counts: Mapping[str, float] | None = None) -> Tensor:
        scores, labels = blobs[self.score], blobs[self.label]
        if labels.numel() != scores.numel():
            raise NetError(
                f"{self.name}: labels of {tuple(labels.shape)} for scores of {tuple(scores.shape)}; a label map is for "
                "one channel, and several channels have a label each"
            )
        target = labels.reshape(scores.shape).to(scores.dtype)
        known = torch.ones_like(target, dtype=torch.bool)
        if self.ignore_label is not None:
            known = target.long() != self.ignore_label
        losses = binary_cross_entropy_with_logits(scores, target, reduction="none")
        if self.balanced:
            losses = losses * _balance(target, known).to(scores.dtype)
        if counts is None:
            counts = count(labels, ignore_label=self.ignore_label, images=scores.shape[0])
        return torch.where(known, losses, 0).sum() / divisor(counts, self.normalization)


def _balance(target: Tensor, known: Tensor) -> Tensor:
    """The weight of each pixel: the share, in its image, of the pixels that are not labelled as it is."""
    places = tuple(range(1, target.ndim))
    ones = ((target == 1) & known).sum(places, keepdim=True).double()
    share = ones / known.sum(places, keepdim=True).clamp(min=1)
    return torch.where(target == 1, 1 - share, share)
