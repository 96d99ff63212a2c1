"""Code for the processor at hand: what PyTorch's own operators leave on the table, in C, compiled where it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from converters.lazy import lazy_attributes

if TYPE_CHECKING:
    from .convolution import NativeConvolution, is_native, why_not

__all__ = ["NativeConvolution", "is_native", "why_not"]

__getattr__, __dir__ = lazy_attributes(
    __name__, {"NativeConvolution": "convolution", "is_native": "convolution", "why_not": "convolution"}
)
