"""Gradients that in Caffe are no number where PyTorch's are: of a division by 0, and of what is no number times 0.

Only passes that learn need them; the numbers of the top are PyTorch's.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from ..recorded import is_recorded


def power(x: Tensor, power: float, scale: float, shift: float) -> Tensor:
    """(shift + scale * x)^power, with the gradient of power_layer.cpp, Backward_cpu, for powers but 0, 1 and 2.

    It is power * top / x without a shift, else power * scale * top / (shift + scale * x).
    """
    if not _learns([x]):
        return _power(x, power, scale, shift)
    top: Tensor = _DividedPower.apply(x, power, scale, shift)  # type: ignore[no-untyped-call]
    return top


def product(bottoms: Sequence[Tensor]) -> Tensor:
    """The product, with the gradient top / bottom of each (eltwise_layer.cpp, Backward_cpu, no stable_prod_grad)."""
    if not _learns(bottoms):
        return reduce(torch.mul, bottoms)
    top: Tensor = _Product.apply(*bottoms)  # type: ignore[no-untyped-call]
    return top


def relu(x: Tensor) -> Tensor:
    """max(x, 0), with the gradient times 0 where x is not above 0 (relu_layer.cpp, Backward_cpu)."""
    if not _learns([x]):
        return x.relu()
    top: Tensor = _TimesZero.apply(x)  # type: ignore[no-untyped-call]
    return top


def clamp(x: Tensor, low: float, high: float) -> Tensor:
    """x between both, with the gradient times 0 where it is not (clip_layer.cpp, Backward_cpu)."""
    if not _learns([x]):
        return x.clamp(low, high)
    top: Tensor = _Clamp.apply(x, low, high)  # type: ignore[no-untyped-call]
    return top


def _learns(bottoms: Sequence[Tensor]) -> bool:
    return torch.is_grad_enabled() and any(x.requires_grad for x in bottoms) and not is_recorded()


def _power(x: Tensor, power: float, scale: float, shift: float) -> Tensor:
    return _base(x, scale, shift).pow(power)


def _base(x: Tensor, scale: float, shift: float) -> Tensor:
    x = x if scale == 1 else x * scale
    return x + shift if shift else x


class _DividedPower(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, power: float, scale: float, shift: float) -> Tensor:
        top = _power(x, power, scale, shift)
        ctx.save_for_backward(x, top)
        ctx.settings = power, scale, shift
        return top

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        x, top = ctx.saved_tensors
        power, scale, shift = ctx.settings
        slope = top / _base(x, scale, shift) * (power * scale) if shift else top / x * power
        return gradient * slope, None, None, None


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *bottoms: Tensor) -> Tensor:
        top = reduce(torch.mul, bottoms)
        ctx.save_for_backward(top, *bottoms)
        return top

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        top, *bottoms = ctx.saved_tensors
        return tuple(top / x * gradient for x in bottoms)


class _TimesZero(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        top = x.relu()
        ctx.save_for_backward(top)
        return top

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (top,) = ctx.saved_tensors
        return torch.ops.aten.leaky_relu_backward(gradient, top, 0.0, False)  # type: ignore[no-any-return]


class _Clamp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, low: float, high: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.ends = low, high
        return x.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (x,), (low, high) = ctx.saved_tensors, ctx.ends
        return gradient * ((x >= low) & (x <= high)), None, None
