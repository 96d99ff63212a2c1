"""Functions of tensors for what Caffe computes and PyTorch does not, or does otherwise.

CaffeNet's layers, the hand-written nets and exported source files compute with these; a
file that `python_source` writes holds the text of those that it needs, as it is here (88
columns, as formatters like it).
"""

# ruff: noqa: B905

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def crop(x: Tensor, reference: Tensor, axis: int, offsets: tuple[int, ...]) -> Tensor:
    """The part of x that begins at the offsets and is as large as the reference.

    One offset for each axis from `axis` on; the axes before stay as they are.
    """
    for i, offset in enumerate(offsets, axis):
        x = x.narrow(i, offset, reference.shape[i])
    return x


def max_pool_with_places(
    x: Tensor,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pad: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
    ceil: bool = True,
) -> tuple[Tensor, Tensor]:
    """Maxima, and the place of each in its channel, row * width + column."""
    top, places = F.max_pool2d(
        x, kernel, stride, pad, dilation, ceil, return_indices=True
    )
    return top, places.to(x.dtype)


def global_max_pool_with_places(x: Tensor) -> tuple[Tensor, Tensor]:
    """The maximum of each channel, and its place, row * width + column.

    The gradient goes to that place alone, the first of equal ones.
    """
    top, places = x.flatten(2).max(2)
    return top[..., None, None], places.to(x.dtype)[..., None, None]


def whole_windows(
    x: Tensor,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    pad: tuple[int, ...],
    ceil: bool,
    value: float,
) -> Tensor:
    """x with `value` around it, so that each of Caffe's windows is whole.

    Their number, rounded up where `ceil`, comes out by rounding down then. Where there
    is padding on any axis, a last window that would begin in the padding is dropped.
    """
    after = []
    for k, s, p in zip(kernel, stride, pad):
        more = (s - 1) * ceil
        after.append(min(p + more, k - 1) if any(pad) else more)
    return F.pad(x, (pad[1], after[1], pad[0], after[0]), value=value)


def caffe_max_pool(
    x: Tensor,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pad: tuple[int, ...],
    dilation: tuple[int, int] = (1, 1),
    ceil: bool = True,
) -> tuple[Tensor, Tensor]:
    """Maxima and places where PyTorch has other windows or allows no such pad.

    A window outside the image has the lowest float and place -1.
    """
    lowest = torch.finfo(x.dtype).min
    reach = tuple(d * (k - 1) + 1 for d, k in zip(dilation, kernel))
    filled = whole_windows(x, reach, stride, pad, ceil, lowest)
    top, places = F.max_pool2d(
        filled, kernel, stride, dilation=dilation, return_indices=True
    )
    rows = places // filled.shape[3] - pad[0]
    columns = places % filled.shape[3] - pad[1]
    places = torch.where(top == lowest, -1, rows * x.shape[3] + columns)
    return top, places.to(x.dtype)


def caffe_average_pool(
    x: Tensor,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pad: tuple[int, ...],
    ceil: bool = True,
) -> Tensor:
    """Averages where PyTorch has other windows or allows no such pad.

    The padding counts, as far as the padded image reaches.
    """
    filled = whole_windows(x, kernel, stride, pad, ceil, 0)
    sums = F.avg_pool2d(filled, kernel, stride) * (kernel[0] * kernel[1])
    counts = []
    for axis in (0, 1):
        size = x.shape[2 + axis]
        first = torch.arange(sums.shape[2 + axis], device=x.device)
        first = first * stride[axis] - pad[axis]
        last = (first + kernel[axis]).clamp(max=size + pad[axis])
        counts.append((last - first).to(x.dtype))
    return sums / (counts[0][:, None] * counts[1])


def stochastic_pool(
    x: Tensor, kernel: tuple[int, int], stride: tuple[int, int], ceil: bool = True
) -> Tensor:
    """The mean of each window weighted by itself, as Caffe does at test."""
    filled = whole_windows(x, kernel, stride, (0, 0), ceil, 0)
    total = F.avg_pool2d(filled, kernel, stride)
    squares = F.avg_pool2d(filled.square(), kernel, stride)
    return torch.where(total > 0, squares / total, 0)


def spatial_pyramid(x: Tensor, levels: int, method: str) -> Tensor:
    """Level l pools to 2^l x 2^l windows; the levels are flattened and joined."""
    tops = []
    for level in range(levels):
        bins = 2**level
        kernel = (-(-x.shape[2] // bins), -(-x.shape[3] // bins))
        pad = tuple((k * bins - n + 1) // 2 for k, n in zip(kernel, x.shape[2:]))
        if method == "MAX":
            top, _ = caffe_max_pool(x, kernel, kernel, pad)
        elif method == "STOCHASTIC":
            top = stochastic_pool(x, kernel, kernel)
        else:
            top = caffe_average_pool(x, kernel, kernel, pad)
        tops.append(top if levels == 1 else top.flatten(1))
    return tops[0] if levels == 1 else torch.cat(tops, 1)


def unpool(x: Tensor, places: Tensor, height: int, width: int) -> Tensor:
    """Each value at the place that max pooling recorded, zeros elsewhere."""
    top = x.new_zeros(x.shape[0], x.shape[1], height * width)
    top = top.scatter(2, places.flatten(2).long(), x.flatten(2))
    images: Tensor = top.unflatten(2, (height, width))
    return images


def im2col(
    x: Tensor,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    pad: tuple[int, ...],
    dilation: tuple[int, ...],
) -> Tensor:
    """Each kernel window as a column: (n, c, h, w) -> (n, c kh kw, out h, out w).

    Of a kernel along other than two axes likewise; any number of axes, or none, for n.
    """
    axes = len(kernel)
    if axes == 2 and x.ndim == 4:
        sizes = []
        for size, k, s, p, d in zip(x.shape[2:], kernel, stride, pad, dilation):
            sizes.append((size + 2 * p - (d * (k - 1) + 1)) // s + 1)
        columns: Tensor = F.unfold(x, kernel, dilation, pad, stride)
        images: Tensor = columns.unflatten(2, sizes)
        return images
    first = x.ndim - axes
    x = F.pad(x, [side for p in reversed(pad) for side in (p, p)])
    for i, (k, s, d) in enumerate(zip(kernel, stride, dilation), first):
        x = x.unfold(i, d * (k - 1) + 1, s)[..., ::d]
    places = range(first + axes, first + 2 * axes)
    x = x.permute(*range(first), *places, *range(first, first + axes))
    return x.flatten(first - 1, first + axes - 1)


def convolve_along(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, ...],
    pad: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
) -> Tensor:
    """A convolution along any number of axes, as many as the weight has after two."""
    kernel = tuple(weight.shape[2:])
    first = x.ndim - len(kernel) - 1
    columns = im2col(x, kernel, stride, pad, dilation) if kernel else x
    leading, size = columns.shape[:first], columns.shape[first + 1 :]
    places = size.numel()
    columns = columns.reshape(*leading, groups, -1, places)
    top = weight.reshape(groups, weight.shape[0] // groups, -1) @ columns
    top = top.reshape(*leading, -1, places)
    top = top if bias is None else top + bias[:, None]
    return top.reshape(*leading, -1, *size)


def deconvolve_along(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, ...],
    pad: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
) -> Tensor:
    """A deconvolution along any number of axes, as many as the weight has after two."""
    kernel = tuple(weight.shape[2:])
    first = x.ndim - len(kernel)
    for i, s in enumerate(stride, first):
        spread = x.new_zeros(*x.shape[:i], s * (x.shape[i] - 1) + 1, *x.shape[i + 1 :])
        spread[(slice(None),) * i + (slice(None, None, s),)] = x
        x = spread
    around = [d * (k - 1) - p for k, p, d in zip(kernel, pad, dilation)]
    x = F.pad(x, [side for p in reversed(around) for side in (p, p)])
    turned = weight.flip(tuple(range(2, weight.ndim))) if kernel else weight
    turned = turned.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)
    ones, zeros = (1,) * len(kernel), (0,) * len(kernel)
    return convolve_along(x, turned, bias, ones, zeros, dilation, groups)


def lrn_across_channels(
    x: Tensor, size: int, alpha: float, beta: float, k: float = 1.0
) -> Tensor:
    """x / (k + alpha * sum of x^2 over `size` channels / size)^beta."""
    reach = min(size // 2, x.shape[1] - 1)  # further out there is no channel
    squares = F.pad(x.square(), (0, 0, 0, 0, reach, reach))
    total = squares.narrow(1, 0, x.shape[1])
    for shift in range(1, 2 * reach + 1):
        total = total + squares.narrow(1, shift, x.shape[1])
    return x * (k + alpha / size * total) ** -beta


def lrn_within_channel(x: Tensor, size: int, alpha: float, beta: float) -> Tensor:
    """x / (1 + alpha * mean of x^2 over size x size places)^beta."""
    mean = F.avg_pool2d(x.square(), size, 1, size // 2)
    return x * (1.0 + alpha * mean) ** -beta


def batch_normalize(
    x: Tensor,
    mean: Tensor | None = None,
    variance: Tensor | None = None,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    *,
    eps: float,
) -> Tensor:
    """torch's batch_norm, with the batch's own statistics where none are given.

    What that refuses is done in Caffe's way: an eps of 0, and statistics of one place
    for each channel, where Caffe finds a variance of 0. Statistics that are given get no gradients,
    as no solver learns them (batch_norm_layer.cpp, LayerSetUp).
    """
    own = mean is None or variance is None
    if mean is not None and mean.requires_grad:
        mean = mean.detach()
    if variance is not None and variance.requires_grad:
        variance = variance.detach()
    if own and x.device.type == "cpu" and not x.is_contiguous():
        x = x.contiguous()  # of pixels side by side PyTorch adds up a channel in one chain: 6e-5 off at 500x500
    if eps > 0 and not (own and x[:, :1].numel() == 1):
        return F.batch_norm(x, mean, variance, scale, shift, training=own, eps=eps)
    if mean is None or variance is None:
        axes = [0, *range(2, x.ndim)]
        mean, variance = x.mean(axes), x.var(axes, correction=0)
    rest = [1] * (x.ndim - 2)
    top = (x - mean.reshape(-1, *rest)) / (variance + eps).sqrt().reshape(-1, *rest)
    top = top if scale is None else top * scale.reshape(-1, *rest)
    return top if shift is None else top + shift.reshape(-1, *rest)


def larger(a: Tensor, b: Tensor) -> Tensor:
    """The larger of each two; of equal ones b, which gets the gradient (eltwise_layer.cpp)."""
    return torch.where(a > b, a, b)


def mean_variance_normalize(
    x: Tensor, axes: tuple[int, ...], eps: float, variance: bool = True
) -> Tensor:
    """(x - mean) / (standard deviation + eps) over `axes`.

    The slope is Caffe's, which takes eps for a part of the deviation and is finite where
    all places are equal (mvn_layer.cpp, Backward_cpu).
    """
    centred = x - x.mean(axes, keepdim=True)
    if not variance:
        return centred
    square = centred.square().mean(axes, keepdim=True)
    divisor = square.detach().sqrt() + eps
    if square.requires_grad:
        slope = square / (2 * divisor)
        divisor = divisor + torch.where(slope.isfinite(), slope - slope.detach(), 0)
    return centred / divisor


def normalize(x: Tensor, axes: tuple[int, ...], eps: float, scale: Tensor) -> Tensor:
    """scale * x / sqrt(eps + sum of x^2 over `axes`)."""
    return x * (x.square().sum(axes, keepdim=True) + eps).rsqrt() * scale


def largest(x: Tensor, axis: int, count: int) -> tuple[Tensor, Tensor]:
    """The largest values along an axis and their places; of equal ones the last."""
    flipped = x.flip(axis)
    if count == 1:
        values, places = flipped.max(axis, keepdim=True)
    else:
        values, places = flipped.sort(stable=True, dim=axis, descending=True)
        values = values.narrow(axis, 0, count)
        places = places.narrow(axis, 0, count)
    return values, (x.shape[axis] - 1 - places).to(x.dtype)


def largest_of_items(x: Tensor, count: int, with_values: bool = False) -> Tensor:
    """(n, 1, count): the places of each item's largest; (n, 2, count) with values."""
    rows = x.flatten(1) if x.ndim > 1 else x[:, None]
    values, places = largest(rows, 1, count)
    top = torch.stack((places, values), 1) if with_values else places[:, None]
    return top.reshape(*top.shape, *[1] * (x.ndim - 3))


def filter_items(*bottoms: Tensor) -> tuple[Tensor, ...]:
    """The items of all but the last bottom where that is not 0."""
    chosen = bottoms[-1].flatten().nonzero().squeeze(1)
    return tuple(x.index_select(0, chosen) for x in bottoms[:-1])


def space_to_depth(x: Tensor, block: int) -> Tensor:
    """Blocks of h and w as channels: the place in a block is the outer part of one."""
    n, c, h, w = x.shape
    split = x.reshape(n, c, h // block, block, w // block, block)
    return split.permute(0, 3, 5, 1, 2, 4).reshape(n, -1, h // block, w // block)


def depth_to_space(x: Tensor, block: int, inner: bool = False) -> Tensor:
    """Channels as blocks of h and w: the place in a block is the outer part of one.

    With `inner` it is the inner part.
    """
    n, _, h, w = x.shape
    if inner:
        split = x.reshape(n, -1, block, block, h, w).permute(0, 1, 4, 2, 5, 3)
    else:
        split = x.reshape(n, block, block, -1, h, w).permute(0, 3, 4, 1, 5, 2)
    return split.reshape(n, -1, h * block, w * block)


def darknet_reorg(x: Tensor, stride: int) -> Tensor:
    """Blocks of h and w as channels, in darknet's order, which takes x for a larger map."""
    n, c, h, w = x.shape
    few, more = c // stride**2, c * stride**2
    blocks = space_to_depth(x.reshape(n, few, h * stride, w * stride), stride)
    return blocks.reshape(n, more, h // stride, w // stride)
