"""docs/layers.md: every layer type with what it computes, its source, its proof, and who takes it."""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

from converters import layers
from converters.net.layer import Layer

ROOT = Path(__file__).parents[2]
OPENCV = Path(__file__).with_name("opencv.json")

BVLC = frozenset({
    "AbsVal", "ArgMax", "BNLL", "BatchNorm", "BatchReindex", "Bias", "Clip", "Concat", "Convolution", "Crop",
    "Deconvolution", "Dropout", "ELU", "Eltwise", "Embed", "Exp", "Filter", "Flatten", "Im2col", "InnerProduct",
    "Input", "LRN", "LSTM", "LSTMUnit", "Log", "MVN", "PReLU", "Parameter", "Pooling", "Power", "RNN", "ReLU",
    "Reduction", "Reshape", "SPP", "Scale", "Sigmoid", "Silence", "Slice", "Softmax", "Split", "Swish", "TanH",
    "Threshold", "Tile",
})  # fmt: skip
"""The types of BVLC Caffe 1.0 that compute something at test."""

INTRODUCTION = """\
# Layer types

Every layer type that this project computes. This page is made from the code by `make docs-generated`: change the
docstrings in `converters/layers/` and not this file. A type of your own is added as `converters/net/layer.py` shows.

- **Type**: Caffe's `type`; `Python:Name` is a layer of type Python whose class is Name.
- **Proof**: *Caffe 1.0* where real Caffe gave the numbers that the tests compare with (recorded, and live with `make
  test-oracle`); the test files of `parity_tests/layers/` that work the source's formula in loops, or ask OpenCV.
- **ONNX**, **Python**: the type has a form in exports to ONNX (opset 17, which OpenCV 5, OpenVINO and TensorRT read)
  and to Python source. Exports to Caffe, safetensors and `torch-export` take every type.
- **OpenCV 4**: OpenCV VERSION reads the type from Caffe's files and computes the same numbers (`yes`), or does for some
  of the settings in our examples (`some`).
"""


def layers_page() -> str:
    """The page, as Markdown."""
    record = json.loads(OPENCV.read_text(encoding="utf-8"))
    parts = [INTRODUCTION.replace("VERSION", record["version"])]
    parts += [_section(module, list(kinds), record) for module, kinds in _families()]
    return "\n".join(part.strip() + "\n" for part in parts)


def _families() -> Iterator[tuple[ModuleType, Iterable[str]]]:
    """The modules of converters/layers, by name, with their types."""
    found: dict[str, list[str]] = {}
    for kind, layer_class in layers.all_layers().items():
        if layer_class.__module__.startswith(layers.__name__ + "."):
            found.setdefault(layer_class.__module__, []).append(kind)
    for name in sorted(found):
        yield sys.modules[name], sorted(found[name])


def _section(module: ModuleType, kinds: list[str], record: dict[str, list[str]]) -> str:
    title, _, rest = inspect.cleandoc(module.__doc__ or "").partition("\n\n")
    lines = [f"## {module.__name__.rpartition('.')[2]}", "", _joined(title)]
    lines += ["", *(f"{_joined(part)}\n" for part in rest.split("\n\n") if part and "    " not in part)]
    lines += ["| Type | Computes | Proof | ONNX | Python | OpenCV 4 |", "| --- | --- | --- | --- | --- | --- |"]
    shown: dict[type[Layer], list[str]] = {}
    for kind in kinds:
        shown.setdefault(layers.all_layers()[kind], []).append(kind)
    for layer_class, names in shown.items():
        cells = [
            ", ".join(f"`{name}`" for name in names),
            _joined(inspect.cleandoc(layer_class.__doc__ or "")),
            _proof(names),
            "yes" if layer_class.to_onnx is not Layer.to_onnx else "",
            "yes" if layer_class.to_python is not Layer.to_python else "",
            _opencv(names, record),
        ]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _joined(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def _proof(names: list[str]) -> str:
    found = ["Caffe 1.0"] if BVLC.intersection(names) else []
    for path in sorted((ROOT / "parity_tests" / "layers").glob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        if path.stem not in ("test_what_layers_say", "test_homes") and any(_quoted(name) in text for name in names):
            found.append(f"`{path.stem}`")
    return ", ".join(found)


def _quoted(name: str) -> str:
    return f'"{name.removeprefix("Python:")}"'


def _opencv(names: list[str], record: dict[str, list[str]]) -> str:
    same = [name in record["same"] for name in names]
    return "yes" if all(same) else "some" if any(same) or set(names) & set(record["partly"]) else ""
