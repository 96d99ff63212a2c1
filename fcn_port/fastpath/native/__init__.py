"""Code for the processor at hand: what PyTorch's own operators leave on the table, in C, compiled where it runs."""

from .convolution import NativeConvolution, is_native, why_not

__all__ = ["NativeConvolution", "is_native", "why_not"]
