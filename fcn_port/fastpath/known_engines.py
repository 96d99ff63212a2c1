"""The engines by name, with what each needs; read without PyTorch, so that `--help` can tell them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

OURS = ("native", "torch", "direct")
"""Those of this project, which `fast` chooses by `convolutions`."""

ENGINES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        **dict.fromkeys(OURS, ()),
        "compile": (),
        "onnxruntime": ("onnx", "onnxruntime"),
        "openvino": ("onnx", "openvino"),
    }
)
"""The packages that each engine needs beside PyTorch."""

EXTRAS: Mapping[str, str] = MappingProxyType({"onnxruntime": "onnx", "openvino": "openvino"})
"""The extra of pyproject.toml that installs them."""
