"""The common part of MS-CNN's and Cascade R-CNN's layers: offsets with a mean and a deviation, and their boxes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..net.reach import EVERYTHING, Reach
from .base import Layer, refuse
from .fork import fork_message

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec

Four = tuple[float, ...]


@dataclass(frozen=True)
class BoxLayer(Layer):
    """Base of these types; `mean` and `std` are those of the offsets (bbox_reg_param)."""

    mean: Four
    std: Four

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return EVERYTHING


def offset_statistics(spec: LayerSpec) -> tuple[Four, Four]:
    """The mean and the standard deviation of the four offsets: 0 and 1 where the layer has not both."""
    message = fork_message(spec, "bbox_reg_param")
    mean, std = message.numbers("bbox_mean"), message.numbers("bbox_std")
    if not mean or not std:
        return (0.0,) * 4, (1.0,) * 4
    if len(mean) != 4 or len(std) != 4 or min(std) <= 0:
        raise refuse(spec, f"bbox_mean {mean} and bbox_std {std}: expected four numbers each, the latter above 0")
    return mean, std


def with_prior(offsets: Tensor, boxes: Tensor, mean: Four, std: Four) -> Tensor:
    """The boxes (n, 4 k) that offsets (n, 4 k) say relative to boxes (n, 4): bbox_util.cpp, DecodeBBoxesWithPrior."""
    import torch

    each = offsets.unflatten(1, (-1, 4)) * offsets.new_tensor(std) + offsets.new_tensor(mean)
    size = (boxes[:, 2:] - boxes[:, :2] + 1)[:, None]
    centre = (boxes[:, 2:] + boxes[:, :2])[:, None] / 2
    wide = size * each[..., 2:].exp()
    first = each[..., :2] * size + centre - (wide - 1) / 2
    return torch.cat((first, first + wide - 1), -1).flatten(1)
