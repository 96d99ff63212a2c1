"""Caffe's SoftmaxWithLoss, with its ways of normalising (softmax_loss_layer.cpp, loss_layer.cpp)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from converters.errors import NetError
from converters.net import LayerSpec, NetSpec

from .choices import Normalization

LARGEST_LOSS = -math.log(torch.finfo(torch.float32).tiny)
"""The most that one pixel adds to a loss, 87.3: Caffe takes the log of at least FLT_MIN. Its gradient knows no end."""


@dataclass(frozen=True)
class SoftmaxWithLoss:
    """One loss layer: which blobs it compares, and how it counts.

    `score` (n, classes, h, w) and `label` (n, h, w) or (n, 1, h, w) are names of blobs, `weight` is the loss_weight.
    Pixels labelled `ignore_label` count for nothing. The sum over pixels is divided by `normalization`: VALID the
    pixels that are not ignored, FULL all pixels, BATCH_SIZE the images, NONE 1; never by less than 1. The release's
    `normalize: false` is BATCH_SIZE, which with one image is the plain sum.

    `class_weights` multiply each pixel's loss by the weight of its label, and do not change the divisor: SegNet's
    `weight_by_label_freqs` with `class_weighting`. Without weights that field divides a pixel's loss by the pixels of
    its label in the batch, `by_label_counts` (caffe-segnet, src/caffe/layers/softmax_loss_layer.cpp).
    """

    name: str = "loss"
    score: str = "score"
    label: str = "label"
    weight: float = 1.0
    ignore_label: int | None = None
    normalization: Normalization = "VALID"
    axis: int = 1
    class_weights: tuple[float, ...] = ()
    by_label_counts: bool = False

    @classmethod
    def of_layer(cls, layer: LayerSpec) -> SoftmaxWithLoss:
        """The loss that a SoftmaxWithLoss layer defines. Raises NetError for the probabilities as a second top."""
        message = layer.to_message()
        if len(layer.bottoms) != 2 or len(layer.tops) > 1:
            raise NetError(
                f"{len(layer.bottoms)} bottoms and {len(layer.tops)} tops; expected scores and labels in, a loss out",
                where=layer.place,
            )
        param = message.loss_param
        mode: Normalization = param.NormalizationMode.Name(param.normalization)
        if param.HasField("normalize") and not param.HasField("normalization"):
            mode = "VALID" if param.normalize else "BATCH_SIZE"
        weights, by_counts = _label_weights(layer)
        return cls(
            class_weights=weights,
            by_label_counts=by_counts,
            name=layer.name,
            score=layer.bottoms[0],
            label=layer.bottoms[1],
            weight=message.loss_weight[0] if message.loss_weight else 1.0,
            ignore_label=param.ignore_label if param.HasField("ignore_label") else None,
            normalization=mode,
            axis=message.softmax_param.axis,
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
    if not any(field.name == "loss_param.weight_by_label_freqs" and str(field.value) in ("true", "1", "True")
               for field in said):  # fmt: skip
        return (), False
    weights = [field.value for field in said if field.name == "loss_param.class_weighting"]
    if not all(isinstance(value, int | float) and value >= 0 for value in weights):
        raise NetError("class_weighting: expected a number of at least 0 for each class", where=layer.place)
    return tuple(float(value) for value in weights), not weights  # type: ignore[arg-type]


def losses_of(spec: NetSpec) -> tuple[SoftmaxWithLoss, ...]:
    """The losses of a net to train. Raises NetError where it has none, or one of another type than SoftmaxWithLoss."""
    found = []
    for layer in spec.layers:
        if layer.type == "SoftmaxWithLoss":
            found.append(SoftmaxWithLoss.of_layer(layer))
        elif "Loss" in layer.type or any(layer.to_message().loss_weight):
            raise NetError("only SoftmaxWithLoss can be trained", path=spec.path, where=layer.place)
    if not found:
        raise NetError("the net has no loss", path=spec.path, hint="give the prototxt for training")
    return tuple(found)


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
    `class_weights` and `by_label_counts` as in `SoftmaxWithLoss`; NetError unless there is a weight for each class.
    """
    axis = axis % scores.ndim
    target = labels.reshape(scores.shape[:axis] + scores.shape[axis + 1 :]).long()
    ignored = -100 if ignore_label is None else ignore_label
    losses = cross_entropy(scores.movedim(axis, 1), target, ignore_index=ignored, reduction="none")
    if counts is None:
        counts = count(labels, ignore_label=ignore_label, images=math.prod(scores.shape[:axis]))
    if by_label_counts:
        present = target[target != ignored]
        losses = losses / torch.bincount(present, minlength=scores.shape[axis]).clamp(min=1)[_known(target, ignored)]
    elif class_weights:
        if len(class_weights) != scores.shape[axis]:
            raise NetError(f"{len(class_weights)} weights of classes; the net scores {scores.shape[axis]}")
        losses = losses * losses.new_tensor(class_weights)[_known(target, ignored)]
    clamped: Tensor = _ClampValue.apply(losses, LARGEST_LOSS)  # type: ignore[no-untyped-call]
    return clamped.sum() / max(1.0, counts[normalization])


def _known(target: Tensor, ignored: int) -> Tensor:
    """The labels with 0 for the ignored ones, whose loss is 0 anyway."""
    return target.masked_fill(target == ignored, 0)


def count(labels: Tensor, *, ignore_label: int | None, images: int | None = None) -> dict[str, float]:
    """The divisor of each normalisation, for these labels of `images` (by default, their first axis)."""
    ignored = 0 if ignore_label is None else int((labels == ignore_label).sum())
    return {
        "VALID": labels.numel() - ignored,
        "FULL": labels.numel(),
        "BATCH_SIZE": labels.shape[0] if images is None else images,
        "NONE": 1,
    }


class _ClampValue(torch.autograd.Function):
    """min(x, largest), with the gradient of x itself."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, largest: float) -> Tensor:
        return x.clamp(max=largest)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None
