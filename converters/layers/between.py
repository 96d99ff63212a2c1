"""Between: the pixels of a bottom that a layer's pixels lie between, for those that interpolate along h and along w."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import floor
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..net.layer import Layer

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import Shape

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Between:
    """For each place along an axis of a top: two places of the bottom (int64), and the second's share (float32)."""

    first: Array
    second: Array
    share: Array

    @classmethod
    def of_places(cls, places: Array, size: int) -> Between:
        """Those around places (float32) of a bottom of this size, the nearest pixel's for a place outside."""
        below, above = np.floor(places), np.ceil(places)
        first, second = (np.clip(each.astype(np.int64), 0, size - 1) for each in (below, above))
        return cls(first, second, places - below)

    @classmethod
    def of_corners(cls, size: int, top: int) -> Between:
        """Those of so many places in a top, whose first and last are the bottom's (interp_layer.cpp, Forward_cpu).

        As many as in the bottom are the same pixels, whatever lies beside them: infinities make no NaN of each other.
        """
        if size == top:
            same = np.arange(size)
            return cls(same, same, np.zeros(size, np.float32))
        step = np.float32(size - 1) / np.float32(top - 1) if top > 1 else np.float32(0)
        places = np.minimum(np.arange(top, dtype=np.float32) * step, np.float32(size - 1))
        first = places.astype(np.int64)
        return cls(first, np.minimum(first + 1, size - 1), places - first.astype(np.float32))

    def moved(self, by: int) -> Between:
        """The same so many pixels further on."""
        return Between(self.first + by, self.second + by, self.share)


def along_corners(x: Tensor, dim: int, top: int) -> Tensor:
    """`x` interpolated along an axis as by `Between.of_corners`, of sizes that only a run of what is recorded tells."""
    import torch

    last = torch.scalar_tensor(x.shape[dim] - 1, device=x.device)
    step = last / torch.scalar_tensor(torch.sym_max(top - 1, 1), device=x.device)
    places = torch.minimum(torch.arange(top, dtype=torch.float32, device=x.device) * step, last)
    first = places.long()
    pixels = [x.index_select(dim, each) for each in (first, torch.minimum(first + 1, last.long()))]
    share = (places - first).to(x.dtype).reshape(-1, *[1] * (x.ndim - dim - 1))
    return pixels[0] * (1 - share) + pixels[1] * share


def scaled(size: int, factor: float) -> int:
    """A size times a factor, rounded down; by a fraction of whole numbers where a trace may not ask how large it is."""
    ratio = Fraction(factor).limit_denominator(1000)
    if type(size) is int or float(ratio) != factor:
        return floor(size * factor)
    return size * ratio.numerator // ratio.denominator


class Interpolating(Layer):
    """Base of the types whose pixels (y, x) are a mixture of four of the first bottom's, by shares along h and w."""

    nhwc: bool = False
    """True where the axes are (n, h, w, c)."""
    by_difference: ClassVar[bool] = False
    """True where a mixture of a and b by share s is a + (b - a) s, not a (1 - s) + b s; infinities tell them apart."""

    @abstractmethod
    def between(self, bottoms: Sequence[Shape]) -> tuple[Between, Between]:
        """Those along h, and those along w, for bottoms of these shapes."""
