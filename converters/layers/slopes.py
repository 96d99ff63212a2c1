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
    base = _base(x, scale, shift)
    if power == -0.5 and not shift:
        base = base + 0.0  # PyTorch divides 1 by the root, which is -inf at -0.0, where C's pow is inf
    return base.pow(power)


def _base(x: Tensor, scale: float, shift: float) -> Tensor:
    x = x if scale == 1 else x * scale
    return x + shift if shift else x


class _OfCaffe(torch.autograd.Function):
    """Base of the functions here: `vmap`, `grad` and their like take them as they take PyTorch's own."""

    generate_vmap_rule = True


class _DividedPower(_OfCaffe):
    @staticmethod
    def forward(x: Tensor, power: float, scale: float, shift: float) -> Tensor:
        return _power(x, power, scale, shift)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, *ctx.settings = inputs
        ctx.save_for_backward(x, output)
        ctx.save_for_forward(x, output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        return gradient * _DividedPower._slope(ctx), None, None, None

    @staticmethod
    def jvp(ctx: Any, x: Tensor, *_: None) -> Tensor:
        return torch.mul(x, _DividedPower._slope(ctx))

    @staticmethod
    def _slope(ctx: Any) -> Tensor:
        x, top = ctx.saved_tensors
        power, scale, shift = ctx.settings
        slope: Tensor = top / _base(x, scale, shift) * (power * scale) if shift else top / x * power
        return slope


class _Product(_OfCaffe):
    @staticmethod
    def forward(*bottoms: Tensor) -> Tensor:
        return reduce(torch.mul, bottoms)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(output, *inputs)
        ctx.save_for_forward(output, *inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        top, *bottoms = ctx.saved_tensors
        return tuple(top / x * gradient for x in bottoms)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
        top, *bottoms = ctx.saved_tensors
        parts = [top / x * each for x, each in zip(bottoms, tangents, strict=True) if each is not None]
        along: Tensor = sum(parts[1:], parts[0])
        return along


class _TimesZero(_OfCaffe):
    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.relu()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(output)
        ctx.save_for_forward(output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (top,) = ctx.saved_tensors
        return torch.ops.aten.leaky_relu_backward(gradient, top, 0.0, False)  # type: ignore[no-any-return]

    @staticmethod
    def jvp(ctx: Any, x: Tensor) -> Tensor:
        (top,) = ctx.saved_tensors
        return torch.mul(x, top > 0)


class _Clamp(_OfCaffe):
    @staticmethod
    def forward(x: Tensor, low: float, high: float) -> Tensor:
        return x.clamp(low, high)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, *ctx.ends = inputs
        ctx.save_for_backward(x)
        ctx.save_for_forward(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient * _Clamp._inside(ctx), None, None

    @staticmethod
    def jvp(ctx: Any, x: Tensor, *_: None) -> Tensor:
        return torch.mul(x, _Clamp._inside(ctx))

    @staticmethod
    def _inside(ctx: Any) -> Tensor:
        (x,), (low, high) = ctx.saved_tensors, ctx.ends
        inside: Tensor = (x >= low) & (x <= high)
        return inside
