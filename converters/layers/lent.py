"""LentCode: functions that layers compute by where somebody lends them, to the same numbers; `fcn_port.fast` does.

A converter by itself has none, and no need of a compiler.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from numpy import ndarray
    from torch import Tensor

    from .spans import Pooled, Spans


class Suppress(Protocol):
    """The positions (k,), of int64, of the boxes (n, 4) in order of their scores that stay; boxes.py says which."""

    def __call__(
        self,
        boxes: ndarray,
        areas: ndarray,
        *,
        threshold: float,
        eta: float,
        pixels: float,
        keep_equal: bool,
        of_smaller: bool,
    ) -> ndarray: ...


class PoolRegions(Protocol):
    """The cells (n, c, rows, columns) of n regions, which are of the images (b, c, h, w) of these numbers (n,)."""

    def __call__(
        self, images: ndarray, numbers: ndarray, rows: Spans, columns: Spans, *, pooled: Pooled, own: bool
    ) -> ndarray: ...


@dataclass(frozen=True)
class LentCode:
    """The functions that are lent, each for arrays of float32."""

    suppress: Suppress
    pool_regions: PoolRegions


_lent: ContextVar[LentCode | None] = ContextVar("lent", default=None)


@contextmanager
def computed_by(compiled: LentCode | None) -> Iterator[None]:
    """Within it layers compute by this code; by their own with None."""
    token = _lent.set(compiled)
    try:
        yield
    finally:
        _lent.reset(token)


def lent_for(x: Tensor) -> LentCode | None:
    """The code lent for such numbers as `x` has: none for other than float32 on a processor without a gradient."""
    import torch

    compiled = _lent.get()
    if compiled is None or x.device.type != "cpu" or x.dtype is not torch.float32:
        return None
    return None if x.requires_grad and torch.is_grad_enabled() else compiled
