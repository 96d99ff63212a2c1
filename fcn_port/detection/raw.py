"""`Raw`: detections as a net gives them, before they get names."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Raw:
    """Class, score, box (xmin, ymin, xmax, ymax) in pixels of the image, and points (x, y) if there are any."""

    label: int
    score: float
    box: tuple[float, ...]
    points: tuple[tuple[float, float], ...] = ()


def clipped(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Boxes (n, 4) with every corner moved into the image of `size` (h, w)."""
    h, w = size
    return boxes.clip(0, [w, h, w, h])
