"""A convolution as Caffe does it, windows as columns and one matrix product, where that beats the direct one.

PyTorch hands convolutions on a processor to oneDNN, which brings the weight into a layout of its own at every call:
411 MB for fc6, which takes longer than the sum itself where there are few positions. Caffe's way (im2col and BLAS,
base_conv_layer.cpp) uses the weight where it lies. It also rounds less in small layers of large kernels, such as
LeNet's, at no cost; for kernels up to 3x3 PyTorch does the same by itself. `benchmarks/columns.py` shows where the
lines lie.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..recorded import is_recorded
from .base import in_order, may_be_one

if TYPE_CHECKING:
    from torch import Tensor

HEAVY = 2**23
"""Weights from which on a new layout costs more than columns, 32 MiB."""

FEW = 400
"""Positions of the output, of all images of a batch, up to which that is so."""

SHORT = 2**21
"""Multiplications of a whole layer up to which columns cost nothing."""


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
) -> Tensor:
    """torch.conv2d of `x` (n, c, h, w), by columns where those are better; the last bits may differ.

    Programs that are traced, compiled or exported have the direct one, as has everything but float32 on a processor.
    """
    import torch

    if groups == 1 and dilation == (1, 1) and is_faster_by_im2col(x, weight, stride, padding):
        return im2col_conv2d(x, weight, bias, stride, padding)
    return torch.conv2d(x, weight, bias, stride, padding, dilation, groups)


def columns(
    x: Tensor,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    pad: tuple[int, ...],
    dilation: tuple[int, ...],
) -> Tensor:
    """`functions.im2col`, by the places of the windows where a trace may not ask how many there are."""
    import torch
    from torch.nn.functional import pad as padded

    from .functions import im2col

    axes = len(kernel)
    first = x.ndim - axes
    windows = zip(x.shape[first:], kernel, stride, pad, dilation, strict=True)
    tops = [(size + 2 * p - d * (k - 1) - 1) // s + 1 for size, k, s, p, d in windows]
    if not may_be_one(*tops):
        return im2col(x, kernel, stride, pad, dilation)
    x = padded(x, [side for p in reversed(pad) for side in (p, p)])
    for axis, (top, k, s, d) in enumerate(zip(tops, kernel, stride, dilation, strict=True)):
        starts = torch.arange(top, device=x.device) * s
        dim = first + 2 * axis
        parts = [x.index_select(dim, starts + d * place) for place in range(k)]
        x = torch.stack(parts, dim)
    places = range(first, first + 2 * axes, 2)
    turned = x.permute(*range(first), *places, *(place + 1 for place in places))
    return in_order(turned).flatten(first - 1, first + axes - 1)


def im2col_conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, ...], padding: tuple[int, ...]
) -> Tensor:
    """The convolution, by columns whatever it costs."""
    import torch
    from torch.nn.functional import unfold

    whole = weight.shape[2:] == (1, 1) == stride and padding == (0, 0)
    columns = x.flatten(2) if whole else unfold(x, weight.shape[2:], padding=padding, stride=stride)
    matrix, columns = weight.flatten(1), columns.transpose(0, 1).flatten(1)
    tops = matrix @ columns if bias is None else torch.addmm(bias[:, None], matrix, columns)
    images: Tensor = tops.unflatten(1, (x.shape[0], *_places(x, weight, stride, padding)))
    return images.transpose(0, 1)


def is_faster_by_im2col(x: Tensor, weight: Tensor, stride: tuple[int, ...], padding: tuple[int, ...]) -> bool:
    """True for a convolution of one group without dilation that is better done by columns."""
    import torch

    if type(x) is not torch.Tensor or is_recorded():
        return False
    if not (x.device.type == weight.device.type == "cpu" and x.dtype == weight.dtype == torch.float32):
        return False
    if x.ndim != 4 or x.shape[1] != weight.shape[1] or x.layout != torch.strided or not weight.is_contiguous():
        return False
    rows, columns = _places(x, weight, stride, padding)
    positions = x.shape[0] * rows * columns
    if min(rows, columns) < 1 or not positions:
        return False
    if weight.numel() >= HEAVY:
        return positions <= FEW and positions < weight.shape[0]
    return max(weight.shape[2:]) > 3 and positions * weight.numel() <= SHORT


def _places(x: Tensor, weight: Tensor, stride: tuple[int, ...], padding: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of the output."""
    rows, columns = ((x.shape[i] + 2 * padding[i - 2] - weight.shape[i]) // stride[i - 2] + 1 for i in (2, 3))
    return rows, columns
