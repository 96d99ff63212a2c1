"""`im_info`: what a net is told of the size of its image."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

from converters.errors import NetError

if TYPE_CHECKING:
    from torch import Tensor


def image_info(shape: Sequence[int], size: Sequence[int], scales: Sequence[float]) -> Tensor:
    """An input im_info of a shape, for an image that was scaled by `scales` (height's, width's) to `size` (h, w).

    Three numbers end in one scale, py-faster-rcnn's; PVANET's four and the six of Intel's nets in those of height and
    width, once and twice.
    """
    import torch

    length = prod(shape)
    if length not in (3, 4, 6):
        raise NetError(f"im_info has {length} numbers; expected height, width, and one, two or four scales")
    return torch.tensor([*size, *scales, *scales][:length], dtype=torch.float32).reshape(*shape)
