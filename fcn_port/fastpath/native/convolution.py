"""A layer's kernel (see ../kernels.py) that runs winograd.c."""

from __future__ import annotations

import threading
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..compiler import NotBuilt
from ..points import TILES
from ..winograd import Pair, is_worth_it
from .build import library
from .division import divide_winograd, tiles_of, up
from .memory import Slabs, address
from .packing import pack
from .steps import COUNTERS, KINDS, NONE, RELU, NativeBlob, NativeStep, NativeSteps

LEAST_CHANNELS = 64 * 64
"""Input times output channels; with fewer, oneDNN's direct convolution is faster (docs/log.md)."""
_CHANNELS = 16

_compiling = threading.Lock()


@cache
def why_not() -> str | None:
    """The reason why there is no native code here; None where there is, and it gives PyTorch's numbers."""
    with _compiling:  # one thread compiles, the others wait for it
        return _why_not()


def _why_not() -> str | None:
    try:
        library()
    except NotBuilt as error:
        return str(error)
    generator = torch.Generator().manual_seed(0)
    for side in TILES:
        weight, x = (torch.randn(32, 32, n, n, generator=generator) for n in (side, 12))
        layer = nn.Conv2d(32, 32, side, bias=False, device="meta")
        layer.weight = nn.Parameter(weight, requires_grad=False)
        expected = F.conv2d(x, weight)
        if not float((NativeConvolution(layer, relu=False)(x) - expected).abs().max()) <= 1e-4 * expected.abs().max():
            return f"{side}x{side} convolutions, as compiled here, differ from PyTorch's"
    return None


def is_native(module: nn.Conv2d) -> bool:
    """True where a layer can run this way here, and is faster so."""
    if not is_worth_it(module, least_channels=LEAST_CHANNELS):
        return False
    weight = module.weight
    if weight.dtype != torch.float32 or weight.device.type != "cpu" or module.in_channels > 4096:
        return False
    return why_not() is None and module.in_channels % _CHANNELS == 0 and module.out_channels % library().panel() == 0


class _Scratch(threading.local):
    """Memory that layers use one after the other; each thread of the caller has its own."""

    def __init__(self) -> None:
        self._memory = torch.empty(0)

    def take(self, size: int) -> Tensor:
        if self._memory.numel() < size:
            self._memory = torch.zeros(size)
        return self._memory


_scratch = _Scratch()


class NativeConvolution:
    """A convolution that `is_native`, with its ReLU; x may have any strides but that of channels."""

    def __init__(self, module: nn.Conv2d, *, relu: bool) -> None:
        self._side = module.kernel_size[0]
        self._form = f"winograd_{self._side}"
        self._channels = module.in_channels, module.out_channels
        self._padding: Pair = module.padding  # type: ignore[assignment]
        self._relu = relu
        self._kernels = pack(module.weight.detach().numpy(), self._form, Slabs(), threads=torch.get_num_threads())
        bias = module.bias
        self._bias = torch.zeros(module.out_channels) if bias is None else bias.detach().contiguous()

    def __call__(self, *bottoms: Tensor, padding: Pair | None = None) -> Tensor:
        (x,) = bottoms
        top, left = self._padding if padding is None else padding
        images, channels, in_h, in_w = x.shape
        h, w = in_h + 2 * top - self._side + 1, in_w + 2 * left - self._side + 1
        if x.stride(1) != 1:
            x = x.contiguous(memory_format=torch.channels_last)
        y = torch.empty(images, self._channels[1], h, w, memory_format=torch.channels_last)
        threads, tiles = torch.get_num_threads(), tiles_of(self._form, images, (h, w))
        cut = divide_winograd(self._form, channels=channels, features=self._channels[1], tiles=tiles, threads=threads)
        counters = up(COUNTERS * cut.phases, 16)
        memory = _scratch.take(counters + cut.common + threads * cut.scratch)
        arena = memory.data_ptr()
        NativeSteps([NativeStep(
            kind=KINDS.index(self._form), x=_blob(x, arena), y=_blob(y, arena),
            kernels=address(self._kernels), bias=self._bias.data_ptr(),
            images=images, in_h=in_h, in_w=in_w, in_channels=channels, h=h, w=w, channels=self._channels[1],
            top=top, left=left, dilation_h=1, dilation_w=1, activation=RELU if self._relu else NONE,
            block=cut.block, group=cut.group, shared=cut.shared,
            common=counters, scratch=counters + cut.common, scratch_apart=cut.scratch,
        )], phases=cut.phases).run(arena, arena, threads)  # fmt: skip
        return y


def _blob(x: Tensor, arena: int) -> NativeBlob:
    """The place of a tensor, seen from the arena."""
    return NativeBlob((x.data_ptr() - arena) // 4, x.stride(0), x.stride(2), x.stride(3))
