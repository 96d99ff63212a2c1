"""Images at other sizes as cv2.resize makes them, with which Caffe's data layers and the projects feed their nets."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_BITS = 11
"""Of the weights of interpolation."""


def resize(image: np.ndarray, size: tuple[int, int], *, factor: float | None = None) -> np.ndarray:
    """An image (h, w, c) at `size` (h, w): bilinear between pixel centres and without smoothing (INTER_LINEAR).

    Bytes are those of cv2, which computes them with weights of 11 bits (opencv/opencv, modules/imgproc/src/resize.cpp:
    INTER_RESIZE_COEF_BITS, HResizeLinear, VResizeLinear); other numbers become float32. `factor` is the enlargement
    where it is not exactly the ratio of the sizes.
    """
    if image.shape[:2] == size:
        return image
    image = np.asarray(image)
    if image.dtype != np.uint8:
        return _between_floats(image.astype(np.float32), size, factor)
    height, width = image.shape[:2]
    if (height, width) == (2 * size[0], 2 * size[1]):  # halving takes the mean of four pixels
        total = image.reshape(size[0], 2, size[1], 2, -1).astype(np.int32).sum((1, 3))
        return np.asarray((total + 2) >> 2, np.uint8)
    found = np.full((*size, image.shape[2]), 2, np.int32)  # first: what there is no memory for ends here, at once
    columns, across = _weights(width, size[1], factor)
    outside = (columns[:, 0] < 0) | (columns[:, 1] >= width)
    # One pixel alone; of rows two are mixed, even where they are one.
    across[outside] = (1 << _BITS, 0)
    left, right = columns.clip(0, width - 1).T
    rows, down = _weights(height, size[0], factor)
    for places, shares in zip(rows.clip(0, height - 1).T, down.T, strict=True):
        row = image[places]
        wide = row[:, left] * across[:, :1]
        wide += row[:, right] * across[:, 1:]
        wide >>= 4
        wide *= shares[:, None, None]
        wide >>= 16
        found += wide
    found >>= 2
    return found.clip(0, 255, out=found).astype(np.uint8)


def _weights(old: int, new: int, factor: float | None) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """For each new place the two old ones between which it lies (new, 2), also outside, and their shares in 2^-11."""
    first, share = _places(old, new, factor)
    both = np.stack([1 - share, share], 1) * np.float32(1 << _BITS)
    return np.stack([first, first + 1], 1), np.rint(both).astype(np.int32)


def _places(old: int, new: int, factor: float | None) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """For each new place the old one before it, also outside, and how far it lies on the next one's side."""
    scale = old / new if factor is None else 1 / factor
    exact = ((np.arange(new) + 0.5) * scale - 0.5).astype(np.float32)
    first = np.floor(exact).astype(np.int64)
    return first, exact - first.astype(np.float32)


def _between_floats(image: np.ndarray, size: tuple[int, int], factor: float | None) -> np.ndarray:
    for axis in (0, 1):
        first, share = _places(image.shape[axis], size[axis], factor)
        before, after = (image.take(each.clip(0, image.shape[axis] - 1), axis) for each in (first, first + 1))
        share = share.reshape(-1, *[1] * (image.ndim - 1 - axis))
        image = before * (1 - share) + after * share
    return image
