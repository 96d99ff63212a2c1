"""A convolution as Caffe does it, windows as columns and one matrix product, where that beats the direct one.

PyTorch hands convolutions on a processor to oneDNN, which first brings the weight into a layout of its own, at every
call: 411 MB for fc6, as long as everything else for an image of 256x256. And it begins slowly, which is most of the
time of layers like LeNet's. PyTorch has Caffe's way too (im2col and BLAS, base_conv_layer.cpp) and uses it for small
maps, but not for kernels over 3x3 and not for heavy weights. benchmarks/columns.py shows both where the line lies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

HEAVY = 2**23
"""Weights from which on columns are worth it: 32 MiB, which no cache holds."""

FEW = 400
"""Positions of the output up to which columns of a heavy layer cost less than the weight's new layout."""

SHORT = 2**21
"""Multiplications of a whole layer up to which oneDNN's beginning is most of its time."""


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
) -> Tensor:
    """torch.conv2d of `x` (n, c, h, w), by columns where those are faster; the last bits may differ.

    Programs that are compiled or exported always have the direct one: their kernels are another's.
    """
    import torch

    if groups == 1 and dilation == (1, 1) and columns_win(x, weight, stride, padding):
        kernel = weight.shape[2:]
        by_columns: Tensor = torch.ops.aten.thnn_conv2d(x, weight, kernel, bias, stride, padding)
        return by_columns
    return torch.conv2d(x, weight, bias, stride, padding, dilation, groups)


def columns_win(x: Tensor, weight: Tensor, stride: tuple[int, ...], padding: tuple[int, ...]) -> bool:
    import torch

    if torch.compiler.is_compiling() or x.device.type != "cpu" or x.dtype != torch.float32 or x.shape[0] != 1:
        return False
    (h, w), (kh, kw) = x.shape[2:], weight.shape[2:]
    rows, columns = (h + 2 * padding[0] - kh) // stride[0] + 1, (w + 2 * padding[1] - kw) // stride[1] + 1
    if weight.numel() >= HEAVY:
        return rows * columns <= FEW
    return max(kh, kw) > 3 and rows * columns * weight.numel() <= SHORT
