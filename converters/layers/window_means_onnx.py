"""Means of windows over a padded value, as every ONNX Runtime takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..net.onnx_form import OnnxLayer, Operand


def mean_of_padded(out: OnnxLayer, padded: Operand, *, part: str, is_long: bool, **window: Any) -> Operand:
    """The mean of each window; `is_long` says that a side has as much padding as a kernel, or more.

    ONNX Runtime up to 1.30 makes zeros around it the pooling's own (PadFusion), and then refuses as many as a kernel
    has: not where something is in between.
    """
    if not is_long:
        return out.node("AveragePool", [padded], part=part, **window)
    below = out.node("AveragePool", [out.node("Neg", [padded], part=f"{part}_turned")], part=f"{part}_below", **window)
    return out.node("Neg", [below], part=part)
