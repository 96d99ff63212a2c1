"""Coarsely: PyTorch with the functions that other programs compute less exactly moved by as much as they may be wrong.

onnxruntime's Sigmoid is exact to a part of 1 and not of its value, and 0 below -18 (MlasComputeLogistic), as is its
Elu; what lies below float32's normal numbers, as a class's share of a softmax may, some programs have as 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

_OF_ONE = 2.0**-22
"""2.4e-7, where onnxruntime's Sigmoid is wrong by 1.7e-7 at most and its Elu by 7e-8."""
_OF_NOTHING = torch.finfo(torch.float32).tiny

COARSE: Mapping[Callable[..., Any], float] = MappingProxyType(
    {
        **dict.fromkeys((torch.sigmoid, torch.Tensor.sigmoid, F.elu), _OF_ONE),
        **dict.fromkeys((torch.exp, torch.Tensor.exp, torch.softmax, torch.Tensor.softmax, F.softmax), _OF_NOTHING),
    }
)
"""The error of other programs in all values of a function."""


class Coarsely(TorchFunctionMode):
    """A block in which values of the functions in `COARSE` are larger, each by half of what is said there to all of it.

    They are moved by amounts that differ, drawn with a seed, as what all have in common is lost in a layer that takes
    their mean away.
    """

    def __init__(self) -> None:
        super().__init__()
        self._generator = torch.Generator().manual_seed(0)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        wrong_by = COARSE.get(func)
        if wrong_by is None:
            return found
        return found + (torch.rand(found.shape, generator=self._generator) + 1).to(found) * (wrong_by / 2)
