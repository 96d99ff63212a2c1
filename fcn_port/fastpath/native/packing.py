"""Weights in the order in which the C code reads them."""

from __future__ import annotations

import torch
from torch import Tensor

from ..winograd import FORMS
from . import build
from .division import up
from .memory import Slabs


def pack(weight: Tensor, kernel: str, slabs: Slabs) -> Tensor:
    """(features, channels, h, w) as a kernel of the C code wants them, in memory of `slabs`."""
    library, threads = build.library(), torch.get_num_threads()
    features, channels = weight.shape[:2]
    panel, places = library.panel(), weight[0, 0].numel()
    function = getattr(library, f"pack_{kernel}")
    if kernel in FORMS:
        turned = _turned(weight, panel)
        packed = slabs.take(build.POINTS_OF[kernel] ** 2 * up(features, panel) * channels)
        function(turned.data_ptr(), channels, features, threads, packed.data_ptr())
        return packed
    levels = 0 if kernel == "product" else int(kernel[-1])
    turned = _turned(weight, 2**levels * panel)
    packed = slabs.take(7**levels * turned.numel() // 4**levels)
    function(turned.data_ptr(), channels, features, places, threads, packed.data_ptr())
    return packed


def _turned(weight: Tensor, multiple: int) -> Tensor:
    """(channels * h * w, features up to a multiple, zeros at the end)."""
    turned = weight.flatten(1).t().contiguous()  # which PyTorch does in blocks
    return torch.nn.functional.pad(turned, (0, -turned.shape[1] % multiple))
