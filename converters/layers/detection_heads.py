"""The predictions of an SSD's heads, gathered from DetectionOutput's bottoms in each of the layouts that forks have.

Sources: weiliu89/caffe (branch ssd), src/caffe/layers/detection_output_layer.cpp; for RefineDet's five bottoms, and for
heads that are not concatenated, foss-for-synopsys-dwc-arc-processors/synopsys-caffe, the same file; for priors that are
regions in pixels OpenVINO's DetectionOutput-1, which takes over the fields of Intel's fork.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Literal

from .base import legacy_shape

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import Shape

Layout = Literal["interleaved", "ratio_permute", "no_permute"]
"""Order in memory of a head that is not concatenated: [y][x][ratio][class], [class][ratio][y][x] flat, or 4-D."""


@dataclass(frozen=True)
class Suppression:
    """NonMaximumSuppressionParameter of SSD's caffe.proto, and what else chooses detections; -1 means all."""

    threshold: float
    eta: float
    top_k: int
    keep_top_k: int
    score_threshold: float | None


@dataclass(frozen=True)
class Predictions:
    """For each of the p priors of n images.

    `offsets` (n, p, l, 4), l the classes that have boxes of their own; `scores` (n, p, classes); `priors` (p, 4), or
    (n, p, 4) where they were refined for each image; `variances` (p, 4).
    """

    offsets: Tensor
    scores: Tensor
    priors: Tensor
    variances: Tensor | None


@dataclass(frozen=True)
class Heads:
    """The way in which the bottoms of one DetectionOutput are read.

    `separate` is the number of heads where each has bottoms of its own, 0 where they are concatenated: loc, conf,
    priors and, in RefineDet, the conf and loc of the anchors' refinement. `image` (h, w) is the size that priors in
    pixels are parts of, None where they are parts of the image; such a prior has five values, the first its image.
    `variances`: the priors' second channel counts.
    """

    classes: int
    box_classes: int
    separate: int
    layout: Layout
    ratios: tuple[int, ...]
    image: tuple[float, float] | None
    variances: bool

    def count(self, bottoms: Sequence[Shape]) -> int:
        """The number of priors for bottoms of these shapes; raises ValueError where they do not fit."""
        blobs = [legacy_shape(bottoms[index]) for index in self.prior_bottoms(len(bottoms))]
        priors = sum(height for _, _, height, _ in blobs) // (4 if self.image is None else 5)
        if not priors or any(channels < 2 and self.variances for _, channels, _, _ in blobs):
            raise ValueError("the priors must be (1, 2, priors * 4), boxes and their variances")
        loc, conf = self.loc_and_conf()
        for what, indices, each in (("location", loc, 4 * self.box_classes), ("confidence", conf, self.classes)):
            found = sum(prod(bottoms[index][1:]) for index in indices)
            if found != priors * each:
                raise ValueError(f"{priors} priors; expected {priors * each} {what} predictions, found {found}")
        if len({bottoms[index][0] for index in (*loc, *conf)}) != 1:
            raise ValueError("the predictions are for different numbers of images")
        if self.layout == "ratio_permute" and not all(
            prod(bottoms[index][1:]) % (4 * ratio) == 0 for index, ratio in zip(loc, self.ratios, strict=True)
        ):
            raise ValueError(f"the location predictions do not divide into {self.ratios} boxes for a cell")
        return priors

    def gather(self, bottoms: Sequence[Tensor]) -> Predictions:
        """The predictions of bottoms whose shapes `count` accepts."""
        import torch

        loc, conf = self.loc_and_conf()
        offsets = torch.cat([self._offsets(bottoms[index]) for index in loc], 1)
        scores = torch.cat([self._scores(bottoms[index]) for index in conf], 1)
        priors, variances = self._priors(bottoms)
        return Predictions(offsets, scores, priors, variances)

    def loc_and_conf(self) -> tuple[range, range]:
        """The bottoms with the location predictions, and those with the confidences."""
        if not self.separate:
            return range(1), range(1, 2)
        return range(self.separate, 2 * self.separate), range(self.separate)

    def prior_bottoms(self, count: int) -> range:
        """The bottoms with priors, of `count`."""
        if not self.separate:
            return range(2, 3)
        return range(2 * self.separate, 3 * self.separate if count == 3 * self.separate else 2 * self.separate + 1)

    def _offsets(self, bottom: Tensor) -> Tensor:
        n = bottom.shape[0]
        if self.layout == "no_permute":  # (n, ratio * class * 4, y, x)
            heads = bottom.reshape(n, -1, self.box_classes, 4, prod(bottom.shape[2:]))
            return heads.permute(0, 1, 4, 2, 3).flatten(1, 2)
        if self.layout == "ratio_permute":  # (n, 4 * ratio * y * x)
            return bottom.reshape(n, 1, 4, -1).permute(0, 3, 1, 2)
        return bottom.reshape(n, -1, self.box_classes, 4)

    def _scores(self, bottom: Tensor) -> Tensor:
        n = bottom.shape[0]
        if self.layout == "interleaved":
            return bottom.reshape(n, -1, self.classes)
        return bottom.reshape(n, self.classes, -1).transpose(1, 2)

    def _priors(self, bottoms: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
        """Boxes (p, 4) and variances (p, 4); those of the first image count for all, as in Caffe."""
        import torch

        blobs = [bottoms[index] for index in self.prior_bottoms(len(bottoms))]
        if self.image is not None:
            h, w = self.image
            return blobs[0][0, 0].reshape(-1, 5)[:, 1:] / blobs[0].new_tensor([w, h, w, h]), None
        channels = range(2 if self.variances else 1)
        flat = self.layout == "ratio_permute" and len(blobs) > 1  # [4][prior] where else [prior][4]
        priors, *variances = (
            torch.cat([blob[0, c].reshape(4, -1).T if flat else blob[0, c].reshape(-1, 4) for blob in blobs])
            for c in channels
        )
        if self.layout != "interleaved" and len(blobs) == 1:
            priors = torch.cat(self._by_ratio(priors, bottoms))
        return priors, variances[0] if variances else None

    def _by_ratio(self, priors: Tensor, bottoms: Sequence[Tensor]) -> list[Tensor]:
        """The priors [y][x][ratio] of each head as [ratio][y][x]."""
        parts, begin = [], 0
        for head in range(self.separate):
            shape: Any = bottoms[self.separate + head].shape
            count = prod(shape[1:]) // 4 // self.box_classes
            cells = prod(shape[2:]) if self.layout == "no_permute" else count // self.ratios[head]
            parts.append(priors[begin : begin + count].unflatten(0, (cells, -1)).transpose(0, 1).flatten(0, 1))
            begin += count
        return parts
