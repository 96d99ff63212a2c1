"""Means of windows over a padded value, as every ONNX Runtime takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..net.onnx_form import OnnxLayer, Operand


def are_long(pads: Sequence[int], kernel: Sequence[int]) -> bool:
    """True where a side has as much padding as the kernel, or more: those before all axes and those behind them."""
    return any(pad >= length for pad, length in zip(pads, (*kernel, *kernel), strict=True))


def mean_of_padded(out: OnnxLayer, padded: Operand, *, part: str, is_long: bool, **window: Any) -> Operand:
    """The mean of each window; `is_long` where the pads `are_long`.

    ONNX Runtime up to 1.30 makes zeros around it the pooling's own (PadFusion), and then refuses as many as a kernel
    has: not where something is in between.
    """
    if not is_long:
        return out.node("AveragePool", [padded], part=part, **window)
    below = out.node("AveragePool", [out.node("Neg", [padded], part=f"{part}_turned")], part=f"{part}_below", **window)
    return out.node("Neg", [below], part=part)
