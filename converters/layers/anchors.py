"""Anchors: the boxes around every place of a blob that region proposals start from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .spans import Array

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Anchors:
    """The boxes (x1, y1, x2, y2) of the first place, the last pixel being x2, y2."""

    boxes: tuple[tuple[float, ...], ...]

    def __len__(self) -> int:
        return len(self.boxes)

    def placed(self, size: Sequence[int], stride: float, *, like: Tensor) -> Tensor:
        """The boxes (h * w * anchors, 4) of every place of a blob of (h, w), `stride` pixels apart, places by row."""
        import torch

        rows, columns = (torch.arange(length, dtype=like.dtype, device=like.device) * stride for length in size)
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        shifts = torch.stack((x, y, x, y), -1).reshape(-1, 1, 4)
        return (shifts + like.new_tensor(self.boxes)).reshape(-1, 4)


def generate_anchors(
    base: float, ratios: Sequence[float], scales: Sequence[float], *, rounding: Callable[[Array], Array] = np.round
) -> Anchors:
    """Boxes of each ratio of height to width, of the area of a square of `base` pixels, in each scale.

    Source: py-faster-rcnn, lib/rpn/generate_anchors.py. Width and height are rounded before they are scaled; forks in
    C++ round halves up.
    """
    ratio, scale = np.asarray(ratios, float), np.asarray(scales, float)
    centre = (base - 1) / 2
    with np.errstate(over="ignore"):
        widths = rounding(np.sqrt(base * base / ratio))
        heights = rounding(widths * ratio)
        half = np.stack([np.outer(size, scale).ravel() - 1 for size in (widths, heights)], 1) / 2
    return Anchors(tuple(map(tuple, np.hstack([centre - half, centre + half]).tolist())))
