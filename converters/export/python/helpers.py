"""Functions and modules for what Caffe does differently from PyTorch; exported source files bring them along.

A file that `python_source` writes holds the text of those that it needs, as it is here (88 columns, as formatters
like it). They compute what the layers in converters/layers do, and a test holds them to the last bit.
"""

# ruff: noqa: B905

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class CaffeKeys(nn.Module):
    """A module whose state dict has Caffe's keys.

    `names` are Caffe's layer names by attribute, where Python cannot have an attribute
    so called; `shared` the keys of blobs that layers share, with the keys they are
    kept under. Files have both; as in Caffe the last one counts.
    """

    def __init__(self, names: dict[str, str], shared: dict[str, str]) -> None:
        super().__init__()
        self._names, self._shared = names, shared

    def state_dict(self, *args: Any, **kwargs: Any):  # type: ignore
        state = super().state_dict(*args, **kwargs)
        self._rename(state, kwargs.get("prefix", ""), self._names)
        return state

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any
    ) -> None:
        for key, owner in self._shared.items():
            if prefix + key in state_dict:
                value = state_dict.pop(prefix + key)
                first = state_dict.get(prefix + owner, value)
                state_dict[prefix + owner] = value.reshape(first.shape)
        attributes = {name: attribute for attribute, name in self._names.items()}
        self._rename(state_dict, prefix, attributes)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _rename(
        self, state: dict[str, Any], prefix: str, names: dict[str, str]
    ) -> None:
        renamed = []
        for key, value in state.items():
            layer, _, blob = key.removeprefix(prefix).rpartition(".")
            mine = key.startswith(prefix) and layer in names
            renamed.append((f"{prefix}{names[layer]}.{blob}" if mine else key, value))
        state.clear()
        state.update(renamed)


class CaffeBlobs(nn.Module):
    """The learnable blobs of a layer for which PyTorch has no module."""

    def __init__(self, **shapes: tuple[int, ...]) -> None:
        super().__init__()
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.zeros(shape)))


class CaffeScale(nn.Module):
    """x * weight (+ bias), which span the axes of x from `axis` on."""

    def __init__(self, *shape: int, axis: int = 1, bias: bool = False) -> None:
        super().__init__()
        self.axis = axis
        self.weight = nn.Parameter(torch.ones(shape))
        self.bias = nn.Parameter(torch.zeros(shape)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        after = x.ndim - self.axis - self.weight.ndim
        weight = self.weight.reshape(*self.weight.shape, *[1] * after)
        if self.bias is None:
            return x * weight
        return torch.addcmul(self.bias.reshape(weight.shape), x, weight)


class CaffeBatchNorm(nn.Module):
    """(x - mean) / sqrt(variance + eps) for each channel.

    Caffe's three blobs are running sums of means (weight) and variances (bias), and
    the factor (blob2) that both are divided by. `use_global_stats` says whether they
    count; by default they do except in training.
    """

    weight: Tensor
    bias: Tensor
    blob2: Tensor

    def __init__(
        self,
        channels: int,
        *,
        eps: float = 1e-5,
        fraction: float = 0.999,
        use_global_stats: bool | None = None,
    ) -> None:
        super().__init__()
        self.eps, self.fraction = eps, fraction
        self.use_global_stats = use_global_stats
        self.register_buffer("weight", torch.zeros(channels))
        self.register_buffer("bias", torch.ones(channels))
        self.register_buffer("blob2", torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        use_sums = self.use_global_stats
        if use_sums is None:
            use_sums = not self.training
        if use_sums:
            inverse = torch.where(self.blob2 == 0, 0, 1 / self.blob2)
            mean, variance = self.weight * inverse, self.bias * inverse
            return F.batch_norm(x, mean, variance, eps=self.eps)
        if self.training:
            self._gather(x.detach())
        return F.batch_norm(x, None, None, training=True, eps=self.eps)

    def _gather(self, x: Tensor) -> None:
        axes = [0, *range(2, x.ndim)]
        correction = 1 if x.numel() > x.shape[1] else 0
        self.weight.mul_(self.fraction).add_(x.mean(axes))
        self.bias.mul_(self.fraction).add_(x.var(axes, correction=correction))
        self.blob2.mul_(self.fraction).add_(1)


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
    """The maximum of each channel, and its place, row * width + column."""
    top, places = x.flatten(2).max(2)
    return top[..., None, None], places.to(x.dtype)[..., None, None]


def window_count(
    size: int, kernel: int, stride: int, pad: int, ceil: bool, padded: bool
) -> int:
    """The number of windows that Caffe's pooling has along an axis.

    Rounded up, where `ceil`; a last one that would begin in the padding after the
    image is dropped, but only where there is padding on any axis.
    """
    room = size + 2 * pad - kernel
    count = (-(-room // stride) if ceil else room // stride) + 1
    return min(count, (size + pad - 1) // stride + 1) if padded else count


def whole_windows(
    x: Tensor,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    pad: tuple[int, ...],
    ceil: bool,
    value: float,
) -> Tensor:
    """x, cut or filled with `value` so that each of Caffe's windows is whole."""
    after = []
    for size, k, s, p in zip(x.shape[2:], kernel, stride, pad):
        count = window_count(size, k, s, p, ceil, any(pad))
        after.append((count - 1) * s + k - size - p)
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
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pad: tuple[int, int],
    dilation: tuple[int, int],
) -> Tensor:
    """Each kernel window as a column: (n, c, h, w) -> (n, c kh kw, out h, out w)."""
    sizes = []
    for size, k, s, p, d in zip(x.shape[2:], kernel, stride, pad, dilation):
        sizes.append((size + 2 * p - (d * (k - 1) + 1)) // s + 1)
    columns: Tensor = F.unfold(x, kernel, dilation, pad, stride).unflatten(2, sizes)
    return columns


def lrn_within_channel(x: Tensor, size: int, alpha: float, beta: float) -> Tensor:
    """x / (1 + alpha * mean of x^2 over size x size places)^beta."""
    mean = F.avg_pool2d(x.square(), size, 1, size // 2)
    return x * (1.0 + alpha * mean) ** -beta


def mean_variance_normalize(
    x: Tensor, axes: tuple[int, ...], eps: float, variance: bool = True
) -> Tensor:
    """(x - mean) / (standard deviation + eps) over `axes`."""
    centred = x - x.mean(axes, keepdim=True)
    if not variance:
        return centred
    return centred / (centred.square().mean(axes, keepdim=True).sqrt() + eps)


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
    values, places = largest(x.flatten(1), 1, count)
    top = torch.stack((places, values), 1) if with_values else places[:, None]
    return top.reshape(*top.shape, *[1] * (x.ndim - 3))


def filter_items(*bottoms: Tensor) -> tuple[Tensor, ...]:
    """The items of all but the last bottom where that is not 0."""
    chosen = bottoms[-1].flatten().nonzero().squeeze(1)
    return tuple(x.index_select(0, chosen) for x in bottoms[:-1])
