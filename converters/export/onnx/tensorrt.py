"""why_not_in_tensorrt: what TensorRT's ONNX parser does not take, by its own list; TensorRT itself is not asked.

Source: onnx/onnx-tensorrt 10.1, docs/operators.md and onnxOpCheckers.cpp (poolingCheckHelper, MaxPool).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .graph import Initializer

MISSING = frozenset({"Compress", "MaxRoiPool", "MaxUnpool"})
"""Operators of forms here that it does not know."""
LARGEST_K = 3839
"""Of TopK."""


def why_not_in_tensorrt(
    op: str,
    inputs: Sequence[str],
    outputs: Sequence[object],
    attributes: Mapping[str, Any],
    constants: Mapping[str, Initializer],
) -> str | None:
    """The reason for which TensorRT does not take a node; None for one that its list does not exclude."""
    if op in MISSING:
        return f"TensorRT has no {op}"
    if op == "MaxPool" and len(outputs) > 1:
        return "TensorRT's MaxPool gives no places"
    if op in ("MaxPool", "AveragePool") and any(hole != 1 for hole in attributes.get("dilations") or ()):
        return f"TensorRT's {op} has no holes"
    if op == "TopK" and inputs[1] in constants and (k := int(np.max(constants[inputs[1]].values))) > LARGEST_K:
        return f"TensorRT's TopK gives up to {LARGEST_K} values, and {k} are asked for"
    return None
