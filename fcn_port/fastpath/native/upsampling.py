"""An upsampling's kernel (see ../kernels.py) by the C code, for those of each channel by itself."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..program.enlarging import enlarging_task, enlarging_weights
from ..program.places import BlobPlace
from ..program.task import NativeTask
from .convolution import is_native
from .tape import run_alone

Pair = tuple[int, int]


def is_by_channel(weight: Tensor, stride: Pair) -> bool:
    """True for weights (inputs, outputs, h, w) that are zero but where input and output are the same channel."""
    inputs, outputs, _, width = weight.shape
    if inputs != outputs or width % stride[1] or not is_native(weight):
        return False
    others = ~torch.eye(inputs, dtype=torch.bool, device=weight.device)
    return not bool(weight.detach()[others].any())  # NaN counts


class NativeUpsampling:
    """A deconvolution whose weights are `is_by_channel`, of which callers may take a part."""

    def __init__(self, weight: Tensor, bias: Tensor | None, stride: Pair) -> None:
        own = np.diagonal(weight.detach().numpy()).transpose(2, 0, 1)
        self._packed = enlarging_weights(own, None if bias is None else bias.detach().numpy())
        self._window, self._stride = own.shape[1:], stride

    def __call__(self, *bottoms: Tensor, padding: Pair | None = None) -> Tensor:
        (x,) = bottoms
        h, w = (
            (length - 1) * stride + side
            for length, stride, side in zip(x.shape[2:], self._stride, self._window, strict=True)
        )
        return run_alone(self, x, (x.shape[1], h, w), (0, 0))

    def tasks(self, x: BlobPlace, y: BlobPlace, *, pad: Pair | None = None, threads: int) -> list[NativeTask]:
        """The step that writes y, without the first `pad` rows and columns."""
        return [enlarging_task(x, y, self._packed, self._window, self._stride, pad or (0, 0))]
