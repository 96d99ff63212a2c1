"""Modules for what Caffe does differently from PyTorch; exported source files bring them along.

A file that `python_source` writes holds the text of those that it needs, as it is here (88 columns, as formatters
like it), and of the functions in converters/layers/functions.py. They compute what the layers in converters/layers do,
and a test holds them to the last bit.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ...layers.functions import batch_normalize


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
        weight = self.weight.reshape([*self.weight.shape, *[1] * after])
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
            return batch_normalize(x, mean, variance, eps=self.eps)
        if self.training:
            self._gather(x.detach())
        return batch_normalize(x, eps=self.eps)

    def _gather(self, x: Tensor) -> None:
        axes = [0, *range(2, x.ndim)]
        correction = 1 if x.numel() > x.shape[1] else 0
        self.weight.mul_(self.fraction).add_(x.mean(axes))
        self.bias.mul_(self.fraction).add_(x.var(axes, correction=correction))
        self.blob2.mul_(self.fraction).add_(1)
