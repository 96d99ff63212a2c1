"""Caffe's losses that are divided by the images of a batch, whatever loss_param says, and that ignore no label."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from converters.errors import NetError
from converters.net import LayerSpec

from ..choices import Normalization
from .base import SMALLEST, Loss, clamp_value, weight_of
from .softmax import known_labels

ADDED = 0.0001
"""The addition to a distance that its slope is divided by (contrastive_loss_layer.cpp, Backward_cpu)."""


@dataclass(frozen=True)
class LossByImages(Loss):
    """The part that these losses have in common: the divisor is the first axis of the first bottom.

    Of several processes the mean is taken, as Caffe's own do with several GPUs. Gradients do not flow into the bottoms
    at the places in `stopped` (propagate_down).
    """

    normalization: Normalization = "BATCH_SIZE"
    stopped: tuple[int, ...] = field(default=(), kw_only=True)

    by_images: ClassVar[bool] = True

    @property
    def bottoms(self) -> tuple[str, ...]:
        """The blobs that are compared, in the order of `stopped`."""
        return self.score, self.label

    def counts(self, blobs: Mapping[str, Tensor]) -> dict[str, float]:
        return {"processes": 1.0}

    def places(self, shape: Sequence[int]) -> int:
        return shape[0]

    def __call__(self, blobs: Mapping[str, Tensor], counts: Mapping[str, float] | None = None) -> Tensor:
        bottoms = [_exact(blobs[name]) for name in self.bottoms]
        bottoms = [blob.detach() if place in self.stopped else blob for place, blob in enumerate(bottoms)]
        return self.total(*bottoms) / (bottoms[0].shape[0] * (1.0 if counts is None else counts["processes"]))

    def total(self, *bottoms: Tensor) -> Tensor:
        """The sum over the images; NetError for bottoms of shapes that do not go together."""
        raise NotImplementedError

    def refusal(self, *bottoms: Tensor, expected: str) -> NetError:
        """The error for bottoms whose shapes do not go together."""
        shapes = " and ".join(str(tuple(blob.shape)) for blob in bottoms)
        return NetError(f"{self.name}: a {type(self).__name__} of {shapes}; expected {expected}")


@dataclass(frozen=True)
class EuclideanLoss(LossByImages):
    """Half the sum of squares of score less label (euclidean_loss_layer.cpp), with a gradient for both.

    Where it is not `labelled`, `label` is another blob of the net: its image, another prediction, or what it computes
    of the data layers' blobs `of_data`, which are no images.
    """

    of_data: tuple[str, ...] = field(default=(), kw_only=True)

    scores_classes: ClassVar[bool] = False

    @classmethod
    def of_layer(cls, layer: LayerSpec, *, labels: Sequence[int], stopped: frozenset[int]) -> EuclideanLoss:
        """The loss that a layer defines; the bottoms at the places `labels` are a data layer's maps."""
        fields = fields_by_images(layer, "two blobs", 2)
        score, label = layer.bottoms
        if 0 in labels:  # the sign of their difference does not count
            score, label, stopped = label, score, frozenset(1 - place for place in stopped)
        return cls(
            **{**fields, "score": score, "label": label},  # type: ignore[arg-type]
            propagate=0 not in stopped or (not labels and 1 not in stopped),
            stopped=tuple(sorted(stopped)),
            labelled=bool(labels),
        )

    @property
    def computed(self) -> tuple[str, ...]:
        return (self.score,) if self.labelled else (self.score, self.label)

    @property
    def given(self) -> tuple[str, ...]:
        return self.of_data

    def channels(self, classes: int) -> int:
        """One: the number of a pixel's class is what the net is to say."""
        return 1

    def places(self, shape: Sequence[int]) -> int:
        return math.prod(shape)

    def total(self, *bottoms: Tensor) -> Tensor:
        score, label = bottoms
        if score.numel() != label.numel() or (not self.labelled and score.shape[0] != label.shape[0]):
            raise self.refusal(score, label, expected="as many numbers for each image")
        return (score - label.reshape(score.shape).to(score.dtype)).square().sum() / 2


@dataclass(frozen=True)
class HingeLoss(LossByImages):
    """max(0, 1 - t x) of each score x, with L2 its square; t is 1 for the label's, else -1 (hinge_loss_layer.cpp).

    `label` has one label for each image, that is, for each place of the first axis of `score`.
    """

    norm: Literal["L1", "L2"] = "L1"

    @classmethod
    def of_layer(cls, layer: LayerSpec) -> HingeLoss:
        """The loss that a layer defines."""
        param = layer.message.hinge_loss_param
        return cls(**fields_by_images(layer, "scores and labels", 2), norm=param.Norm.Name(param.norm))  # type: ignore[arg-type]

    def total(self, *bottoms: Tensor) -> Tensor:
        scores, labels = _rows(self, *bottoms)
        signs = torch.ones_like(scores).scatter(1, labels, -1.0)
        hinges = (1 + signs * scores).relu()
        return hinges.sum() if self.norm == "L1" else hinges.square().sum()


@dataclass(frozen=True)
class MultinomialLogisticLoss(LossByImages):
    """-log of the probability of an image's label, of at least SMALLEST (multinomial_logistic_loss_layer.cpp).

    `score` holds probabilities, as a Softmax makes them; `label` one label for each place of its first axis. The
    gradient is that of the logarithm at SMALLEST where a probability is less, as in Caffe.
    """

    @classmethod
    def of_layer(cls, layer: LayerSpec) -> MultinomialLogisticLoss:
        """The loss that a layer defines."""
        return cls(**fields_by_images(layer, "probabilities and labels", 2))  # type: ignore[arg-type]

    def total(self, *bottoms: Tensor) -> Tensor:
        probabilities, labels = _rows(self, *bottoms)
        return -clamp_value(probabilities.gather(1, labels), smallest=SMALLEST).log().sum()


@dataclass(frozen=True)
class ContrastiveLoss(LossByImages):
    """Half the squared distance d^2 of similar pairs, half max(0, margin - d)^2 of others (contrastive_loss_layer.cpp).

    `score` and `other` (n, channels) are the features of both, `label` is not 0 for a similar pair. With `legacy` other
    pairs have max(0, margin - d^2). The gradient of d is Caffe's: the difference over d + 1e-4.
    """

    other: str = "other"
    margin: float = 1.0
    legacy: bool = False

    scores_classes: ClassVar[bool] = False

    @classmethod
    def of_layer(cls, layer: LayerSpec, *, stopped: frozenset[int]) -> ContrastiveLoss:
        """The loss that a layer defines."""
        param = layer.message.contrastive_loss_param
        fields = fields_by_images(layer, "two features and their similarity", 3)
        return cls(
            **fields,  # type: ignore[arg-type]
            propagate=not {0, 1} <= stopped,
            stopped=tuple(sorted(stopped - {2})),
            other=layer.bottoms[1],
            margin=param.margin,
            legacy=param.legacy_version,
        )

    @property
    def computed(self) -> tuple[str, ...]:
        return self.score, self.other

    @property
    def bottoms(self) -> tuple[str, ...]:
        return self.score, self.other, self.label

    def total(self, *bottoms: Tensor) -> Tensor:
        one, other, similar = bottoms
        n = one.shape[0]
        if one.shape != other.shape or one.ndim < 2 or one[0].numel() != one.shape[1] or similar.numel() != n:
            raise self.refusal(*bottoms, expected="features (n, channels) twice, and n times 0 or 1")
        squares = (one - other).reshape(n, -1).square().sum(1)
        apart = self.margin - squares if self.legacy else self.margin - _distance(squares)
        apart = apart.relu() if self.legacy else apart.relu().square()
        return torch.where(similar.reshape(n).long() != 0, squares, apart).sum() / 2


class _Distance(torch.autograd.Function):
    """The square root, whose slope has 1e-4 added to the root, so that it has an end."""

    @staticmethod
    def forward(ctx: Any, squares: Tensor) -> Tensor:
        root = squares.sqrt()
        ctx.save_for_backward(root)
        return root

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (root,) = ctx.saved_tensors
        slope: Tensor = gradient / (2 * (root + ADDED))
        return slope


def _distance(squares: Tensor) -> Tensor:
    found: Tensor = _Distance.apply(squares)  # type: ignore[no-untyped-call]
    return found


def fields_by_images(layer: LayerSpec, bottoms: str, count: int) -> dict[str, object]:
    """The fields of a loss as its layer gives them, `count` `bottoms`, of which the last are the labels.

    NetError for a loss_param, which Caffe passes over: what it asks for would not be done.
    """
    weight = weight_of(layer, bottoms, count)
    if layer.message.HasField("loss_param"):
        raise NetError(
            f"a {layer.type} has no loss_param: Caffe divides it by the images and ignores no label",
            where=layer.place,
            hint="take it out, as Caffe passes it over",
        )
    return {"name": layer.name, "score": layer.bottoms[0], "label": layer.bottoms[-1], "weight": weight}


def _rows(loss: LossByImages, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Scores (n, classes) and labels (n, 1) by images; NetError unless each has a label, and one of the classes."""
    rows, n = scores.flatten(1) if scores.ndim > 1 else scores[:, None], scores.shape[0]
    if labels.numel() != n:
        raise loss.refusal(scores, labels, expected=f"one label for each image: {n}")
    return rows, known_labels(labels.reshape(n, 1).long(), None, rows.shape[1])


def _exact(blob: Tensor) -> Tensor:
    """A blob as it is, one of half precision in float32: losses are computed in that."""
    return blob.float() if blob.dtype in (torch.bfloat16, torch.float16) else blob
