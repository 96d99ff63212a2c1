"""Images at other sizes as cv2.resize makes them, with which the projects feed their nets."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An image (h, w, c) uint8 at `size` (h, w): bilinear between pixel centres and without smoothing (INTER_LINEAR).

    Within 1 of cv2's values, which it computes with 11 bits.
    """
    if image.shape[:2] == size:
        return image
    image = np.asarray(image)
    (top, bottom, down), (left, right, across) = (_between(image.shape[i], size[i]) for i in (0, 1))
    down, across = down[:, None, None], across[:, None]
    rows = (image[top], image[bottom])
    upper, lower = (row[:, left] * (1 - across) + row[:, right] * across for row in rows)
    found: np.ndarray = (upper * (1 - down) + lower * down).round().clip(0, 255).astype(np.uint8)
    return found


def _between(length: int, wanted: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """The two pixels of an axis between which each new one lies, and how far it lies on the second one's side."""
    scale = np.float32(length) / np.float32(wanted)
    at = ((np.arange(wanted, dtype=np.float32) + np.float32(0.5)) * scale - np.float32(0.5)).clip(0, length - 1)
    first = at.astype(np.int64)
    return first, np.minimum(first + 1, length - 1), at - first.astype(np.float32)
