"""Convolutions with fewer multiplications: Winograd's minimal filtering, by plain PyTorch matrix products.

An output tile of m x m of a convolution with an r x r kernel takes (m + r - 1)^2 products for each pair of channels
instead of (m r)^2 (Winograd 1980; Lavin and Gray, arXiv:1509.09308). Kernel and input are evaluated at m + r - 1
points, multiplied there (a matrix product over channels for each point), and interpolated:

    y = A^T [ (G g G^T) * (B^T d B) ] A

The matrices are in `points.py`; kernels are transformed in double precision.
Rounding grows with the size of the numbers in B and A, which the choice of points keeps small: 3e-6 of a layer's
largest value for 4 x 4 tiles, where the direct sum has 2e-6. Not equal to a direct convolution to the last bits, but
far inside 2e-5 of the largest score for a whole net.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .points import TILES, matrices

Pair = tuple[int, int]

LEAST_CHANNELS = 64 * 128
"""Input times output channels; with fewer, moving tiles costs what multiplications save (docs/log.md)."""
CHUNK_BYTES = 4 << 20
"""The most bytes for the transformed tiles of one chunk: more leaves the cache, less reads the kernels too often."""


def is_worth_it(module: nn.Conv2d, *, least_channels: int = LEAST_CHANNELS) -> bool:
    """True where a layer is faster this way; `least_channels` counts input times output channels."""
    return (
        module.kernel_size in ((3, 3), (7, 7))
        and set(module.stride) == set(module.dilation) == {1}
        and module.groups == 1
        and module.in_channels * module.out_channels >= least_channels
    )


class WinogradConvolution:
    """A kernel (see kernels.py) for a layer that `is_worth_it`, on channels-last tensors, with its ReLU."""

    def __init__(self, module: nn.Conv2d, *, relu: bool) -> None:
        self._r = module.kernel_size[0]
        self._m = TILES[self._r]
        self._n = self._m + self._r - 1
        self._padding: Pair = module.padding  # type: ignore[assignment]
        self._relu = relu
        weight = module.weight.detach()
        output, kernel, data = map(torch.from_numpy, matrices(self._m, self._r))
        self._data = torch.kron(data, data).to(weight.dtype)
        self._output = torch.kron(output, output).to(weight.dtype)
        self._kernels = _transform(weight, kernel)
        self._bias = None if module.bias is None else module.bias.detach()

    def __call__(self, *bottoms: Tensor, padding: Pair | None = None) -> Tensor:
        (x,) = bottoms
        pad_h, pad_w = self._padding if padding is None else padding
        h, w = (side + 2 * pad - self._r + 1 for side, pad in zip(x.shape[-2:], (pad_h, pad_w), strict=True))
        rows, cols = -(-h // self._m), -(-w // self._m)
        missing = rows * self._m - h, cols * self._m - w
        x = F.pad(x, (pad_w, pad_w + missing[1], pad_h, pad_h + missing[0]))
        x = x.contiguous(memory_format=torch.channels_last)
        shape = (len(x), self._kernels.shape[2], rows * self._m, cols * self._m)
        out = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
        chunk = max(CHUNK_BYTES, self._kernels.nbytes // 4)  # every chunk reads the kernels once
        height = max(1, chunk // (self._n**2 * cols * max(self._kernels.shape[1:]) * x.element_size()))
        for image, result in zip(x.split(1), out.split(1), strict=True):
            for first in range(0, rows, height):
                self._chunk(image, result, slice(first, min(first + height, rows)), cols)
        return out[:, :, :h, :w]

    def _chunk(self, x: Tensor, out: Tensor, rows: slice, cols: int) -> None:
        """Some rows of tiles of one image."""
        n, m, count = self._n, self._m, rows.stop - rows.start
        _, _, row, col = x.stride()
        channels, features = self._kernels.shape[1:]
        windows = x.as_strided(
            (n, n, count, cols, channels), (row, col, m * row, m * col, 1), x.storage_offset() + rows.start * m * row
        )
        data = self._data @ windows.reshape(n * n, -1)
        products = torch.bmm(data.view(n * n, count * cols, channels), self._kernels)
        tiles = (self._output @ products.view(n * n, -1)).view(m, m, count, cols, features)
        target = out[:, :, rows.start * m : rows.stop * m].permute(0, 2, 3, 1).view(count, m, cols, m, features)
        tiles = tiles.permute(2, 0, 3, 1, 4)
        if self._bias is None:
            target.copy_(tiles)
        else:
            torch.add(tiles, self._bias, out=target)
        if self._relu:
            target.relu_()


def _transform(weight: Tensor, kernel: Tensor) -> Tensor:
    """G g G^T of every pair of channels: (n * n, in, out), a few output channels at a time to spare memory."""
    n = len(kernel)
    features, channels = weight.shape[:2]
    result = torch.empty(n * n, channels, features, dtype=weight.dtype, device=weight.device)
    both = torch.kron(kernel, kernel)
    for first in range(0, features, 256):
        part = weight[first : first + 256].double()
        values = both @ part.permute(2, 3, 1, 0).reshape(both.shape[1], -1)
        result[:, :, first : first + 256] = values.view(n * n, channels, len(part))
    return result
