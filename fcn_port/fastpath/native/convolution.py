"""A convolution's kernel (see ../kernels.py) by the C code."""

from __future__ import annotations

import threading
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from ..program.choice import KernelChoice
from ..program.convolution_steps import of_group
from ..program.convolutions import MOST_CHANNELS
from ..program.pace import LANES
from ..program.places import BlobPlace
from ..program.self_check import why_not_any
from ..program.task import NativeTask
from ..program.weights import Packed
from ..winograd import Pair, is_worth_it
from .build import library
from .division import up
from .memory import Floats, Slabs
from .packing import pack
from .steps import NONE, RELU
from .tape import run_alone

LEAST_CHANNELS = 64 * 64
"""Input times output channels from which on filtering is quicker than products (docs/log.md)."""
WIDE = 1 << 20
"""Weights of a 1x1 convolution from which on Strassen's algorithm is quicker."""

_compiling = threading.Lock()


@cache
def why_not() -> str | None:
    """The reason why there is no native code here; None where there is, and it gives the right numbers."""
    with _compiling:  # one thread compiles, the others wait for it
        return why_not_any()


def is_native(weight: Tensor) -> bool:
    """True where convolutions of such weights can run this way here."""
    return weight.dtype == torch.float32 and weight.device.type == "cpu" and why_not() is None


def form_of(module: nn.Conv2d) -> str:
    """The kernel of the C code for a layer, whatever the size of its blobs, so that weights are packed once."""
    channels, side = module.in_channels, module.kernel_size[0]
    if channels > MOST_CHANNELS or module.groups > 1:
        return "product"
    if is_worth_it(module, least_channels=LEAST_CHANNELS):
        return f"winograd_{side}"
    is_wide = module.kernel_size == (1, 1) and module.weight.numel() >= WIDE
    return "strassen_1" if is_wide and channels % (2 * LANES) == 0 else "product"


class NativeConvolution:
    """A convolution whose weights are `is_native`, with its ReLU."""

    def __init__(self, module: nn.Conv2d, *, relu: bool) -> None:
        self._window: Pair = module.kernel_size  # type: ignore[assignment]
        self._stride: Pair = module.stride  # type: ignore[assignment]
        self._padding: Pair = module.padding  # type: ignore[assignment]
        self._features, self._relu = module.out_channels, relu
        self.form = form_of(module)
        slabs, threads = Slabs(), torch.get_num_threads()
        weights = np.split(module.weight.detach().numpy(), module.groups)
        bias = np.zeros(module.out_channels, np.float32) if module.bias is None else module.bias.detach().numpy()
        self._packed = [
            Packed(pack(weight, self.form, slabs, threads=threads), padded(part))
            for weight, part in zip(weights, np.split(bias, module.groups), strict=True)
        ]

    def __call__(self, *bottoms: Tensor, padding: Pair | None = None) -> Tensor:
        (x,) = bottoms
        pad = self._padding if padding is None else padding
        h, w = (
            (length + 2 * beyond - side) // stride + 1
            for length, beyond, side, stride in zip(x.shape[2:], pad, self._window, self._stride, strict=True)
        )
        return run_alone(self, x, (self._features, h, w), pad)

    @property
    def nbytes(self) -> int:
        """Bytes of the packed weights."""
        return sum(each.kernels.nbytes for each in self._packed if each.kernels is not None)

    def tasks(self, x: BlobPlace, y: BlobPlace, *, pad: Pair | None = None, threads: int) -> list[NativeTask]:
        """The steps that write y; the first window begins `pad` rows and columns before x, the layer's own if None."""
        pad = self._padding if pad is None else pad
        kernel = KernelChoice(self.form, self._window, self._stride, pad, groups=len(self._packed))
        activation = RELU if self._relu else NONE
        return [
            of_group(kernel, x, y, None, packed, threads, group=group, activation=activation)
            for group, packed in enumerate(self._packed)
        ]


def padded(values: Floats) -> Floats:
    """Values of channels, continued with zeros as far as the C code may read."""
    found = np.zeros(up(len(values), library().panel()), np.float32)
    found[: len(values)] = values
    return found
