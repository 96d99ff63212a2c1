"""Training whose maxima and ReLUs take, where rounding would choose, the side that double precision has.

A pooling gives the gradient to the largest number of its window, and a ReLU passes that of a positive one: where two
are as close as rounding, the order of a sum decides, and with it the processor, the number of threads and the library.
None is wrong. In the wide padding of an FCN, whose blobs are constant along a row, one such pair is a whole row of
windows: in golden/solver's "heavy" two rows of conv4_3 differ by 2e-9 of its largest number, ten windows of pool4 by
the last bit of float32, and from there on conv2_1's bias by 5e-4 of all that it learns. So runs in float32 are given
the sides of double precision, which the recorded runs have; what is left is rounding, and a tolerance bounds it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils._python_dispatch import TorchDispatchMode

from parity_tests.tolerances import tolerance

_RELUS = (torch.ops.aten.relu.default, torch.ops.aten.relu_.default)
_MAXIMUM = torch.ops.aten.max_pool2d_with_indices.default


class _Watched(TorchDispatchMode):
    """Sees each ReLU before and each pooling of 2x2 windows after it is computed."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in _RELUS:
            self.relu(args[0])
        result = func(*args, **(kwargs or {}))
        if func is not _MAXIMUM:
            return result
        assert [list(each) for each in args[1:3]] == [[2, 2], [2, 2]]
        return self.maximum(args[0], *result)

    def relu(self, x: Tensor) -> None:
        raise NotImplementedError

    def maximum(self, x: Tensor, y: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError


class Sides(_Watched):
    """Of a run in double precision: notes what each ReLU passes and which place of each window has the gradient.

    Equal numbers may differ by rounding here, too: of those within 1e-12 of the largest the first is taken.
    """

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[Tensor] = []

    def relu(self, x: Tensor) -> None:
        assert x.dtype == torch.float64
        self.noted.append(x > 0)

    def maximum(self, x: Tensor, y: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        first = _first_place(x, y - 1e-12 * x.abs().max())
        self.noted.append(first)
        return y, first


class SameSides(_Watched):
    """Of a run in float32: takes the sides that were noted, wherever a blob's own tolerance allows them.

    What is further off stays as it is: a wrong net is not put right. `moved` counts the places.
    """

    def __init__(self, noted: Sequence[Tensor]) -> None:
        super().__init__()
        self._noted = iter(noted)
        self.moved = 0

    def relu(self, x: Tensor) -> None:
        positive = next(self._noted)
        other = ((x > 0) != positive) & (x.abs() <= _rounding(x))
        x[other] = torch.where(positive[other], torch.finfo(x.dtype).tiny, 0.0).to(x.dtype)
        self.moved += int(other.sum())

    def maximum(self, x: Tensor, y: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        noted = next(self._noted)
        there = x.flatten(2).gather(2, noted.flatten(2)).view_as(y)
        other = (places != noted) & (y - there <= _rounding(x))
        self.moved += int(other.sum())
        return torch.where(other, there, y), torch.where(other, noted, places)


def _rounding(x: Tensor) -> Tensor:
    """How far an activation of a blob may be from another correct one."""
    return tolerance("fcn-blobs") * x.abs().max()


def _first_place(x: Tensor, least: Tensor) -> Tensor:
    """Of each 2x2 window of (n, c, h, w) the first place with at least this number, as PyTorch counts places."""
    h, w = x.shape[2:]
    places = torch.arange(h * w).view(1, 1, h, w).expand_as(x)
    beyond = (0, w % 2, 0, h % 2)
    enough = pad(x, beyond, value=-torch.inf).unfold(2, 2, 2).unfold(3, 2, 2) >= least[..., None, None]
    theirs = pad(places, beyond).unfold(2, 2, 2).unfold(3, 2, 2)
    return theirs.where(enough, torch.tensor(h * w)).amin((-2, -1))
