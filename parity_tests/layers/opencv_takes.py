"""The layer types whose examples in golden/layers OpenCV 4 reads from Caffe's files and computes with our numbers.

``python -m parity_tests.layers.opencv_takes TYPE ...`` prints a JSON line for each type: its examples that agree, and
those that do not. ``--write`` asks for all types, each in a process of its own, and writes docs/generate/opencv.json.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from converters import parse_prototxt
from converters.export import are_detections, detections_apart, write_caffe
from converters.formats import format_prototxt
from parity_tests.layers.test_what_layers_say import Example, examples

RECORD = Path(__file__).parents[2] / "docs" / "generate" / "opencv.json"
CLOSE = 1e-4
"""The largest difference, relative to the largest number, that counts as the same."""


def type_of(example: Example) -> str:
    kind = example.spec.type
    return f"Python:{example.spec.message.python_param.layer}" if kind == "Python" else kind


def agrees(example: Example, folder: Path) -> bool:
    """True where OpenCV's tops are ours."""
    import cv2
    import torch

    named = dict(zip(example.spec.bottoms, example.bottoms, strict=True))
    shapes = {name: " ".join(f"dim: {dim}" for dim in x.shape) for name, x in named.items()}
    inputs = parse_prototxt(
        "".join(
            f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {shape} }} }} }}\n'
            for name, shape in shapes.items()
        )
    )
    spec = inputs.replace_layers((*inputs.layers, example.spec))
    name = example.spec.name
    keys = ["weight", "bias", *(f"blob{i}" for i in range(2, 9))]
    state = {f"{name}.{key}": blob.float() for key, blob in zip(keys, example.blobs, strict=False)}
    write_caffe(spec, state, folder / "net.caffemodel")
    (folder / "net.prototxt").write_text(format_prototxt(spec))
    net = cv2.dnn.readNetFromCaffe(str(folder / "net.prototxt"), str(folder / "net.caffemodel"))
    for blob, x in named.items():
        net.setInput(x.float().numpy(), blob)
    with torch.no_grad():
        ours = example.params.forward([x.float() for x in example.bottoms], [blob.float() for blob in example.blobs])
    found = net.forward(list(example.spec.tops)) if len(ours) > 1 else [net.forward()]
    for top, expected in zip(ours, found, strict=True):
        a, b = top.numpy(), np.asarray(expected)
        if are_detections(a) and are_detections(b):
            if not detections_apart(b, a) <= CLOSE:
                return False
            continue
        if a.size != b.size or not np.allclose(a.ravel(), b.ravel(), rtol=0, atol=CLOSE * max(np.abs(a).max(), 1e-6)):
            return False
    return True


def ask(kind: str) -> dict[str, list[str]]:
    """The examples of a type that agree, and the others."""
    found: dict[str, list[str]] = {"same": [], "other": []}
    for name, example in examples().items():
        if type_of(example) == kind and example.bottoms:
            with tempfile.TemporaryDirectory() as folder:
                try:
                    same = agrees(example, Path(folder))
                except Exception:  # whatever stops OpenCV, or the writing of a file for it
                    same = False
            found["same" if same else "other"].append(name)
    return found


def write() -> None:
    import cv2

    kinds = sorted({type_of(example) for example in examples().values() if example.bottoms})
    answers = {}
    for start in range(0, len(kinds), 12):
        rest = kinds[start : start + 12]
        while rest:  # a type that ends the process is the first one without an answer
            command = [sys.executable, "-m", "parity_tests.layers.opencv_takes", *rest]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
            told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
            answers.update({each["type"]: each for each in told})
            rest = rest[len(told) + 1 :]
    record = {
        "version": cv2.__version__,
        "same": [kind for kind in kinds if kind in answers and answers[kind]["same"] and not answers[kind]["other"]],
        "partly": [kind for kind in kinds if kind in answers and answers[kind]["same"] and answers[kind]["other"]],
    }
    RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        write()
    for kind in sys.argv[1:]:
        if kind != "--write":
            print(json.dumps({"type": kind, **ask(kind)}), flush=True)
