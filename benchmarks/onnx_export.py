"""A caffemodel of 538 MB and one of 5 MB to ONNX, beside a plain copy and a sha256 of the large one.

``python -m benchmarks.onnx_export`` makes the files, runs every task in a process of its own, all of them once in each
round, and prints a Markdown table of medians and the limits that hold for them; ``--json FILE`` keeps every number.
Exit status 1 if a limit is broken. Nothing is checked against PyTorch here: this is what ``--no-check`` takes.

Seconds are taken inside each process after its imports, processor time is the whole process's with its imports, as the
system counts it; modules are compiled before, as those of an installed package are (PYTHONDONTWRITEBYTECODE adds half
as much again). The traced exporter that the writer replaced took 18 s and 3.1 GB for the large file on the same kind of
machine, when nothing else ran.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from . import conversion
from .tasks import OUT, Benchmark, Limits, Runs, Task, medians, nothing, run

LARGE, COPY, SMALL = "FCN-8s (538 MB) to ONNX", "plain copy and sha256", "a net of 5 MB to ONNX"
SMALL_FILE = "small.caffemodel"
TRACED_SECONDS, TRACED_MB = 18, 3100
"""Of the traced exporter, at its last."""


def write_large(folder: Path) -> Callable[[], object]:
    return _write(folder, conversion.WEIGHTS)


def write_small(folder: Path) -> Callable[[], object]:
    return _write(folder, SMALL_FILE)


def _write(folder: Path, weights: str) -> Callable[[], object]:
    from fcn_port.onnx_export import export_onnx

    return lambda: export_onnx(folder / weights, folder / OUT, check=False)


TASKS: Mapping[str, Task] = {
    LARGE: write_large,
    COPY: conversion.copy_and_hash,
    SMALL: write_small,
    "bare interpreter": nothing,
}
MOST_COPIES, MOST_MEMORY, MOST_PROCESSOR = 2.0, 150e6, 0.5


def make_files(folder: Path) -> None:
    conversion.make_files(folder)
    make_small(folder / SMALL_FILE)


def make_small(path: Path) -> None:
    """SqueezeNet-like: 26 convolutions, 1.25 million weights, which are drawn with a seed."""
    import numpy as np

    from converters import parse_prototxt, write_caffemodel
    from converters.formats import CaffeModel
    from converters.net import infer_blobs

    text = 'name: "small" input: "data" input_shape { dim: 1 dim: 3 dim: 227 dim: 227 }\n'
    text += _convolution("conv1", "data", 64, 3, stride=2)
    last, widths = "conv1", (16, 16, 32, 32, 48, 48, 64, 64)
    for number, width in enumerate(widths, 2):
        squeezed, one, three = (f"fire{number}_{part}" for part in ("squeeze", "1x1", "3x3"))
        text += _convolution(squeezed, last, width, 1)
        text += _convolution(one, squeezed, 4 * width, 1) + _convolution(three, squeezed, 4 * width, 3, pad=1)
        last = f"fire{number}"
        text += f'layer {{ name: "{last}" type: "Concat" bottom: "{one}" bottom: "{three}" top: "{last}" }}\n'
    text += _convolution("conv10", last, 1000, 1)
    text += 'layer { name: "pool10" type: "Pooling" bottom: "conv10" top: "pool10"\n'
    text += "        pooling_param { pool: AVE global_pooling: true } }\n"
    spec = parse_prototxt(text)
    random = np.random.default_rng(0)
    blobs = {
        name: tuple(random.standard_normal(shape, np.float32) * 0.05 for shape in shapes)
        for name, shapes in infer_blobs(spec).items()
    }
    write_caffemodel(CaffeModel(spec, blobs), path)


def _convolution(name: str, bottom: str, outputs: int, kernel: int, *, stride: int = 1, pad: int = 0) -> str:
    return (
        f'layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}" convolution_param {{ '
        f"num_output: {outputs} kernel_size: {kernel} stride: {stride} pad: {pad} }} }}\n"
        f'layer {{ name: "relu_{name}" type: "ReLU" bottom: "{name}" top: "{name}" }}\n'
    )


def rows(found: Runs) -> Sequence[str]:
    of_all = medians(found)
    bare = of_all["bare interpreter"]["peak"]
    lines = ["| | seconds | processor, s, with imports | memory, MB |", "| --- | ---: | ---: | ---: |"]
    for name, row in of_all.items():
        if name != "bare interpreter":
            memory = (row["peak"] - bare) / 1e6
            lines.append(f"| {name} | {row['seconds']:.2f} | {row['processor']:.2f} | {memory:.0f} |")
    former = "FCN-8s to ONNX, traced (the former exporter, on a quiet machine)"
    return [*lines, f"| {former} | {TRACED_SECONDS} | | {TRACED_MB} |"]


def limits(found: Runs) -> Limits:
    of_all = medians(found)
    ratios = [mine["seconds"] / theirs["seconds"] for mine, theirs in zip(found[LARGE], found[COPY], strict=True)]
    memory = (of_all[LARGE]["peak"] - of_all["bare interpreter"]["peak"]) / 1e6
    return {
        "FCN-8s, in plain copies and sha256 of the same round": (statistics.median(ratios), MOST_COPIES),
        "MB for FCN-8s, beyond the interpreter": (memory, MOST_MEMORY / 1e6),
        "processor seconds for 5 MB, with imports": (of_all[SMALL]["processor"], MOST_PROCESSOR),
    }


if __name__ == "__main__":
    sys.exit(run(Benchmark("benchmarks.onnx_export", TASKS, make_files, rows, limits, warm=SMALL), __doc__))
