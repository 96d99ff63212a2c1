"""The versions of ONNX's operator set that are written."""

from __future__ import annotations

LOWEST_OPSET = 13
DEFAULT_OPSET = 17
HIGHEST_OPSET = 24
"""Of those that this package writes; it uses nothing that an opset between them takes away."""
