"""Caffe's SoftmaxWithLoss, with its ways of normalising (softmax_loss_layer.cpp, loss_layer.cpp)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from converters.errors import NetError
from converters.net import LayerSpec

from ..choices import Normalization
from .base import Loss, axis_of, clamp_value, count, divisor, fields_of, target_of

LARGEST_LOSS = -math.log(torch.finfo(torch.float32).tiny)
"""The most that one pixel adds to a loss, 87.3: Caffe takes the log of at least FLT_MIN. Its gradient knows no end."""
FORK_FIELDS = ("loss_param.weight_by_label_freqs", "loss_param.class_weighting")
"""The fields of SegNet's fork that are read here."""


@dataclass(frozen=True)
class SoftmaxWithLoss(Loss):
    """-log of the softmax of a pixel's label.

    `class_weights` multiply each pixel's loss by the weight of its label, and do not change the divisor: SegNet's
    `weight_by_label_freqs` with `class_weighting`. Without weights that field divides a pixel's loss by the pixels of
    its label in the batch, `by_label_counts` (caffe-segnet, src/caffe/layers/softmax_loss_layer.cpp).
    """

    axis: int = 1
    class_weights: tuple[float, ...] = ()
    by_label_counts: bool = False

    @classmethod
    def of_layer(cls, layer: LayerSpec) -> SoftmaxWithLoss:
        """The loss that a SoftmaxWithLoss layer defines. Raises NetError for the probabilities as a second top."""
        weights, by_counts = _label_weights(layer)
        return cls(
            **fields_of(layer, unsaid="VALID"),  # type: ignore[arg-type]
            axis=layer.message.softmax_param.axis,
            class_weights=weights,
            by_label_counts=by_counts,
        )

    def __call__(self, blobs: Mapping[str, Tensor], counts: Mapping[str, float] | None = None) -> Tensor:
        """The loss of these blobs, without its weight; `counts` as in `softmax_with_loss`."""
        return softmax_with_loss(
            blobs[self.score],
            blobs[self.label],
            ignore_label=self.ignore_label,
            normalization=self.normalization,
            axis=self.axis,
            counts=counts,
            class_weights=self.class_weights,
            by_label_counts=self.by_label_counts,
        )


def _label_weights(layer: LayerSpec) -> tuple[tuple[float, ...], bool]:
    """The weights of the labels by SegNet's fork, and whether they are worked out from a batch's labels."""
    said = [field for field in layer.extra if field.name.startswith("loss_param.")]
    if not any(field.name == FORK_FIELDS[0] and str(field.value) in ("true", "1", "True") for field in said):
        return (), False
    weights = [field.value for field in said if field.name == FORK_FIELDS[1]]
    if not all(isinstance(value, int | float) and value >= 0 for value in weights):
        raise NetError("class_weighting: expected a number of at least 0 for each class", where=layer.place)
    return tuple(float(value) for value in weights), not weights  # type: ignore[arg-type]


def softmax_with_loss(
    scores: Tensor,
    labels: Tensor,
    *,
    ignore_label: int | None = None,
    normalization: Normalization = "VALID",
    axis: int = 1,
    counts: Mapping[str, float] | None = None,
    class_weights: Sequence[float] = (),
    by_label_counts: bool = False,
) -> Tensor:
    """The scalar loss -log softmax(scores)[label] over all pixels, divided as SoftmaxWithLoss says.

    `scores` (n, classes, h, w) float, `labels` (n, h, w) or (n, 1, h, w) of any number type. A pixel adds at most
    LARGEST_LOSS to the value, as in Caffe, but its gradient is softmax - one-hot however wrong it is. `counts`, as
    `count` gives it, replaces what is counted here by the numbers of a larger batch, of which this is a part.
    `class_weights` and `by_label_counts` as in `SoftmaxWithLoss`; NetError unless there is a weight for each class, a
    label for each place and such an axis.
    """
    axis = axis_of(axis, scores.shape)
    target = target_of(labels, scores, axis).long()
    ignored = -100 if ignore_label is None else ignore_label
    known = known_labels(target, ignore_label, scores.shape[axis])
    losses = cross_entropy(scores.movedim(axis, 1), target, ignore_index=ignored, reduction="none")
    if counts is None:
        counts = count(labels, ignore_label=ignore_label, images=math.prod(scores.shape[:axis]))
    losses = clamp_value(losses, largest=LARGEST_LOSS)
    if by_label_counts:
        present = target[target != ignored]
        losses = losses / torch.bincount(present, minlength=scores.shape[axis]).clamp(min=1)[known]
    elif len(class_weights):
        losses = losses * weights_of(class_weights, scores, axis)[known]
    total: Tensor = losses.sum() / divisor(counts, normalization)
    return total


def weights_of(class_weights: Sequence[float], scores: Tensor, axis: int = 1) -> Tensor:
    """The weights of the classes as a tensor; NetError unless there is one for each class that is scored."""
    if len(class_weights) != scores.shape[axis]:
        raise NetError(f"{len(class_weights)} weights of classes; the net scores {scores.shape[axis]}")
    return torch.as_tensor(class_weights, dtype=scores.dtype, device=scores.device)


def known_labels(target: Tensor, ignored: int | None, classes: int) -> Tensor:
    """The labels with 0 for the ignored ones, whose loss is 0 anyway.

    NetError for one that is no class: Caffe reads past its scores there (softmax_loss_layer.cpp, a DCHECK).
    """
    known = target if ignored is None else target.masked_fill(target == ignored, 0)
    if known.numel() and not 0 <= (least := int(known.min())) <= (most := int(known.max())) < classes:
        raise NetError(
            f"a label of {least if least < 0 else most}; the net scores {classes} classes",
            hint="labels that count for nothing are the ignore_label",
        )
    return known
