"""The values that nets give, tensors wherever these lie or NumPy arrays: operations in which the two differ."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Values: TypeAlias = Any
"""A tensor or a NumPy array, as the net gave it; what is made of it stays such a one, on its device."""


def to_numpy(values: Values) -> NDArray[Any]:
    """The values in this process's memory; fractions in single precision."""
    if isinstance(values, np.ndarray):
        return values
    found: NDArray[Any] = (values.float() if values.is_floating_point() else values).cpu().numpy()
    return found


def largest(values: Values) -> tuple[Values, Values]:
    """The largest value at each position of (classes, h, w), and the first class that has it."""
    if isinstance(values, np.ndarray):
        return values.max(axis=0), values.argmax(axis=0)
    best, place = values.max(dim=0)  # argmax gives the same and takes five times as long on a CPU
    return best, place


def whole(values: Values) -> Values:
    """Whole numbers of 64 bits."""
    return values.astype(np.int64) if isinstance(values, np.ndarray) else values.long()


def softmax(scores: Values) -> Values:
    """The probabilities of scores (classes, h, w)."""
    if isinstance(scores, np.ndarray):
        exponents = np.exp(scores - scores.max(axis=0))
        return exponents / exponents.sum(axis=0)
    return scores.softmax(0)


def mirrored(values: Values) -> Values:
    """Values (classes, h, w) with their columns from right to left."""
    return values[:, :, ::-1] if isinstance(values, np.ndarray) else values.flip(2)


def taken(values: Values, axis: int, places: NDArray[np.int64]) -> Values:
    """The values at these places of an axis."""
    if isinstance(values, np.ndarray):
        return values.take(places, axis)
    import torch

    return values.index_select(axis, torch.from_numpy(places).to(values.device))


def numbers_like(values: Values, numbers: NDArray[np.float64]) -> Values:
    """Numbers in the type of the values, where these lie."""
    if isinstance(values, np.ndarray):
        return numbers.astype(values.dtype)
    import torch

    return torch.from_numpy(numbers).to(values.dtype).to(values.device)
