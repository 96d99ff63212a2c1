"""Code for the processor at hand: what PyTorch's own operators leave on the table, in C, compiled where it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from converters.lazy import lazy_attributes

if TYPE_CHECKING:
    from .convolution import NativeConvolution, is_native, why_not
    from .pooling import NativePool
    from .upsampling import NativeUpsampling, is_by_channel

__all__ = ["NativeConvolution", "NativePool", "NativeUpsampling", "is_by_channel", "is_native", "why_not"]

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        "NativeConvolution": "convolution", "NativePool": "pooling", "NativeUpsampling": "upsampling",
        "is_by_channel": "upsampling", "is_native": "convolution", "why_not": "convolution",
    },
)  # fmt: skip
