"""A layer's kernel (see ../kernels.py) that runs winograd.c."""

from __future__ import annotations

import ctypes
import threading
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..winograd import TILES, Pair, is_worth_it
from .build import NotBuilt, library

LEAST_CHANNELS = 64 * 64
"""Input times output channels; with fewer, oneDNN's direct convolution is faster (docs/log.md)."""
_CHANNELS, _ROWS, _APART = 16, 12, 16  # of winograd.c: multiples that it takes, and APART
_BLOCK = 72
"""Tiles that a thread evaluates at a time, and interpolates: what a cache of its own holds, in most layers."""
_SHARED_BYTES, _SHARED_BLOCK = 16 << 20, 108
"""Layers with kernels of more bytes than that: all threads work on the same tiles, and read the kernels together."""


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


class _Arguments(ctypes.Structure):
    """`struct task` of winograd.c."""

    _fields_ = (
        *((name, ctypes.c_void_p if name in ("x", "kernels", "bias", "y", "tiles", "products") else ctypes.c_int64)
          for name in ("x", "x_image", "x_row", "x_col", "kernels", "bias", "y", "y_image", "y_row", "y_col",
                       "tiles", "products")),
        *((name, ctypes.c_int) for name in ("images", "in_h", "in_w", "in_channels", "h", "w", "channels", "top",
                                            "left", "relu", "block", "group", "shared", "threads")),
    )  # fmt: skip


class _Scratch(threading.local):
    """Memory that layers use one after the other; each thread of the caller has its own."""

    def __init__(self) -> None:
        self._memory = torch.empty(0)

    def take(self, *sizes: int) -> list[Tensor]:
        if self._memory.numel() < sum(sizes):
            self._memory = torch.zeros(sum(sizes))
        return list(self._memory[: sum(sizes)].split(sizes))


_scratch = _Scratch()


class NativeConvolution:
    """A convolution that `is_native`, with its ReLU; x may have any strides but that of channels."""

    def __init__(self, module: nn.Conv2d, *, relu: bool) -> None:
        self._r = module.kernel_size[0]
        self._m = TILES[self._r]
        self._n = self._m + self._r - 1
        self._channels = module.in_channels, module.out_channels
        self._padding: Pair = module.padding  # type: ignore[assignment]
        self._relu = relu
        self._panel = library().panel()
        self._run = getattr(library(), f"convolve_{self._n}")
        weight = module.weight.detach().contiguous()
        self._kernels = torch.empty(self._n**2 * weight.shape[0] * weight.shape[1])
        pack = getattr(library(), f"pack_{self._n}")
        pack(weight.data_ptr(), *self._channels, torch.get_num_threads(), self._kernels.data_ptr())
        bias = module.bias
        self._bias = torch.zeros(weight.shape[0]) if bias is None else bias.detach().contiguous()

    def __call__(self, x: Tensor, *, padding: Pair | None = None) -> Tensor:
        top, left = self._padding if padding is None else padding
        images, channels, in_h, in_w = x.shape
        h, w = in_h + 2 * top - self._r + 1, in_w + 2 * left - self._r + 1
        if x.stride(1) != 1:
            x = x.contiguous(memory_format=torch.channels_last)
        y = torch.empty(images, self._channels[1], h, w, memory_format=torch.channels_last)
        threads = torch.get_num_threads()
        block, group, shared = self._blocks(images * -(-h // self._m) * -(-w // self._m), threads)
        points = self._n**2
        tiles, products = _scratch.take(
            (1 if shared else threads) * points * (block * channels + _APART),
            threads * points * (group * self._panel + _APART),
        )
        self._run(ctypes.byref(_Arguments(
            x=x.data_ptr(), x_image=x.stride(0), x_row=x.stride(2), x_col=x.stride(3),
            kernels=self._kernels.data_ptr(), bias=self._bias.data_ptr(),
            y=y.data_ptr(), y_image=y.stride(0), y_row=y.stride(2), y_col=y.stride(3),
            tiles=tiles.data_ptr(), products=products.data_ptr(),
            images=images, in_h=in_h, in_w=in_w, in_channels=channels, h=h, w=w, channels=self._channels[1],
            top=top, left=left, relu=self._relu, block=block, group=group, shared=shared, threads=threads,
        )))  # fmt: skip
        return y

    def _blocks(self, tiles: int, threads: int) -> tuple[int, int, bool]:
        """Tiles that are evaluated at a time, how many of these are interpolated, and whether threads share a block."""
        if self._kernels.nbytes <= _SHARED_BYTES:
            block = min(_BLOCK, _up(-(-tiles // threads), _ROWS))
            return block, block, False
        block = _up(-(-tiles // max(1, round(tiles / _SHARED_BLOCK))), _ROWS)
        panels = self._channels[1] // self._panel
        return block, _up(-(-block // -(-threads // panels)), _ROWS), True


def _up(count: int, step: int) -> int:
    return -(-count // step) * step
