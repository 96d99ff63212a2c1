"""The part that all losses have in common: which blobs they compare, what they weigh, and what they divide by."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from converters.errors import NetError
from converters.net import LayerSpec

from ..choices import Normalization

SMALLEST = 1e-20
"""The least probability of which a logarithm is taken (kLOG_THRESHOLD in loss_layer.hpp)."""


@dataclass(frozen=True)
class Loss:
    """One loss layer: which blobs it compares, and how it counts.

    `score` (n, classes, h, w) and `label` (n, h, w) or (n, 1, h, w) are names of blobs, `weight` is the loss_weight.
    Where it is not `labelled`, `label` is an image that the net reads or a blob that it computes, and no labels.
    Pixels labelled `ignore_label` count for nothing. The sum over pixels is divided by `normalization`: VALID the
    pixels that are not ignored, FULL all pixels, BATCH_SIZE the images, NONE 1; never by less than 1. The release's
    `normalize: false` is BATCH_SIZE, which with one image is the plain sum. One that does not `propagate` is told, and
    nothing learns from it (propagate_down).
    """

    name: str = "loss"
    score: str = "score"
    label: str = "label"
    weight: float = 1.0
    ignore_label: int | None = None
    normalization: Normalization = "VALID"
    propagate: bool = field(default=True, kw_only=True)
    labelled: bool = field(default=True, kw_only=True)

    by_images: ClassVar[bool] = False
    """True for a loss that Caffe divides by the images in any case: its `normalization` is not for choosing."""
    scores_classes: ClassVar[bool] = True
    """True where the classes of pixels can be read off the scores."""

    @property
    def computed(self) -> tuple[str, ...]:
        """The blobs that the net computes for it."""
        return (self.score,)

    @property
    def given(self) -> tuple[str, ...]:
        """The blobs beside `label` that it takes from a data layer; no data set here has any."""
        return ()

    def places(self, shape: Sequence[int]) -> int:
        """The number of labels that scores of a shape are compared with."""
        return math.prod(shape) // max(1, shape[axis_of(getattr(self, "axis", 1), shape)])

    def __call__(self, blobs: Mapping[str, Tensor], counts: Mapping[str, float] | None = None) -> Tensor:
        """The loss of these blobs, without its weight; `counts` as in `softmax_with_loss`."""
        raise NotImplementedError

    def counts(self, blobs: Mapping[str, Tensor]) -> dict[str, float]:
        """The divisors of these labels; those of several processes are added up."""
        return count(blobs[self.label], ignore_label=self.ignore_label)

    def channels(self, classes: int) -> int:
        """The channels that the scores have for so many classes."""
        return classes


def fields_of(layer: LayerSpec, *, unsaid: Normalization, count: int = 2) -> dict[str, object]:
    """The fields of a `Loss` as a loss layer gives them; a layer that names no normalisation has `unsaid`.

    Raises NetError for another `count` of bottoms, scores and labels first, a second top, or a second loss_weight.
    """
    weight = weight_of(layer, "scores and labels", count)
    param = layer.message.loss_param
    mode: Normalization = unsaid
    if param.HasField("normalization"):
        mode = param.NormalizationMode.Name(param.normalization)
    elif param.HasField("normalize"):
        mode = "VALID" if param.normalize else "BATCH_SIZE"
    return {
        "name": layer.name,
        "score": layer.bottoms[0],
        "label": layer.bottoms[1],
        "weight": weight,
        "ignore_label": param.ignore_label if param.HasField("ignore_label") else None,
        "normalization": mode,
    }


def weight_of(layer: LayerSpec, bottoms: str, count: int) -> float:
    """The loss_weight of a loss layer; NetError for another `count` of bottoms, a second top, or a second weight."""
    given = layer.message.loss_weight
    if len(layer.bottoms) != count or len(layer.tops) > 1:
        raise NetError(
            f"{len(layer.bottoms)} bottoms and {len(layer.tops)} tops; expected {bottoms} in, a loss out",
            where=layer.place,
        )
    if len(given) > 1:  # layer.hpp, SetLossWeights
        raise NetError(f"loss_weight is given {len(given)} times; expected 0 or 1", where=layer.place)
    return float(given[0]) if given else 1.0


def count(labels: Tensor, *, ignore_label: int | None, images: int | None = None) -> dict[str, float]:
    """The divisor of each normalisation, for these labels of `images` (by default, their first axis)."""
    ignored = 0 if ignore_label is None else int((labels.long() == ignore_label).sum())
    return {
        "VALID": labels.numel() - ignored,
        "FULL": labels.numel(),
        "BATCH_SIZE": labels.shape[0] if images is None else images,
        "NONE": 1,
    }


def divisor(counts: Mapping[str, float], normalization: Normalization) -> float:
    """The number that a sum is divided by, never less than 1 (softmax_loss_layer.cpp, get_normalizer); NONE is 1."""
    if normalization not in ("NONE", *counts):
        raise NetError(f"there is no normalization '{normalization}'; expected {', '.join(counts)}")
    return 1.0 if normalization == "NONE" else max(1.0, counts[normalization])


def target_of(labels: Tensor, scores: Tensor, axis: int = 1) -> Tensor:
    """The labels of each place of the scores, in the shape of the scores without their axis of classes.

    NetError where there is not one for each (softmax_loss_layer.cpp, Reshape).
    """
    places = scores.shape[:axis] + scores.shape[axis + 1 :]
    if labels.numel() != math.prod(places):
        raise NetError(
            f"labels of {tuple(labels.shape)} for scores of {tuple(scores.shape)} with classes on axis {axis}"
        )
    return labels.reshape(places)


def axis_of(axis: int, shape: Sequence[int]) -> int:
    """The axis of the classes counted from the first; NetError where the scores have none (CanonicalAxisIndex)."""
    if not -len(shape) <= axis < len(shape):
        raise NetError(f"the classes are on axis {axis}; the scores have {len(shape)} axes")
    return axis % len(shape)


def clamp_value(x: Tensor, *, smallest: float | None = None, largest: float | None = None) -> Tensor:
    """Values of x within these bounds, with the gradient of x itself, as Caffe's losses bound values, not slopes."""
    clamped: Tensor = _ClampValue.apply(x, smallest, largest)  # type: ignore[no-untyped-call]
    return clamped


class _ClampValue(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, smallest: float | None, largest: float | None) -> Tensor:
        return x.clamp(min=smallest, max=largest)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient, None, None
