"""Caffe's SoftmaxWithLoss, with its ways of normalising (softmax_loss_layer.cpp, loss_layer.cpp)."""

from __future__ import annotations

import math
from collections.abc import Mapping
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
    """

    name: str = "loss"
    score: str = "score"
    label: str = "label"
    weight: float = 1.0
    ignore_label: int | None = None
    normalization: Normalization = "VALID"
    axis: int = 1

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
        return cls(
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
        )


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
) -> Tensor:
    """The scalar loss -log softmax(scores)[label] over all pixels, divided as SoftmaxWithLoss says.

    `scores` (n, classes, h, w) float, `labels` (n, h, w) or (n, 1, h, w) of any number type. A pixel adds at most
    LARGEST_LOSS to the value, as in Caffe, but its gradient is softmax - one-hot however wrong it is. `counts`, as
    `count` gives it, replaces what is counted here by the numbers of a larger batch, of which this is a part.
    """
    axis = axis % scores.ndim
    target = labels.reshape(scores.shape[:axis] + scores.shape[axis + 1 :]).long()
    ignored = -100 if ignore_label is None else ignore_label
    losses = cross_entropy(scores.movedim(axis, 1), target, ignore_index=ignored, reduction="none")
    if counts is None:
        counts = count(labels, ignore_label=ignore_label, images=math.prod(scores.shape[:axis]))
    clamped: Tensor = _ClampValue.apply(losses, LARGEST_LOSS)  # type: ignore[no-untyped-call]
    return clamped.sum() / max(1.0, counts[normalization])


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
