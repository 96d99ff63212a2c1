"""First results: from the start of a process to a net's first output, imports and the reading of its file included.

``python -m benchmarks.first_result`` starts a process for each round of each way, in turn, and prints medians of their
processor time and wall-clock time, their largest resident size (Linux), and what the first pass at another size took
of a pass there by wall-clock time, as other threads wait while Python plans: at 6, 5 and 4 sevenths of the net's size,
medians of three sizes about there (one of several passes has Python's collection of garbage in it, which takes as long
as some nets). Each way has run once before, so that caches are warm: the system's of files, and what we keep of packed
weights. Files of the nets are made in ``--folder``, and left there.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.options import positive

FCN8S = "FCN-8s"
Size = tuple[int, int]


def numpy_net(stem: str, **settings: bool) -> Callable[[np.ndarray], Any]:
    import fcn_port

    return fcn_port.numpy_net(f"{stem}.caffemodel", **settings)


def fast(stem: str) -> Callable[[np.ndarray], Any]:
    import torch

    import fcn_port

    net = fcn_port.fast(fcn_port.load(f"{stem}.caffemodel"))
    return lambda x: net(torch.from_numpy(x))


def onnxruntime(stem: str) -> Callable[[np.ndarray], Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ["OMP_NUM_THREADS"])
    session = onnxruntime.InferenceSession(f"{stem}.onnx", options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    return lambda x: session.run(None, {given.name: x})


WAYS: Mapping[str, Callable[[str], Callable[[np.ndarray], Any]]] = {
    "numpy_net": numpy_net, "fast": fast, "onnxruntime": onnxruntime,
    "keep=False": partial(numpy_net, keep=False), "low_memory": partial(numpy_net, low_memory=True),
}  # fmt: skip
USUAL = list(WAYS)[:3]
SEVENTHS = "6", "5", "4"
"""Of the net's size, which another size has."""


def size_of(name: str) -> Size:
    """Height and width of the first image, as the net was published."""
    from benchmarks.famous import NETS

    if name == FCN8S:
        return 500, 500
    (shape,) = dict(NETS[name]().inputs).values()
    return shape[2], shape[3]


def one(way: str, stem: str, size: Size) -> dict[str, float]:
    """The first result in this process; what is said of other sizes is not part of it."""
    x = np.ones((1, 3, *size), np.float32)
    net = WAYS[way](stem)
    net(x)
    spent = sum(os.times()[:4])
    lines = Path("/proc/self/status").read_text().splitlines() if sys.platform == "linux" else ["VmHWM 0"]
    peak = int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
    end = time.time()
    return {"processor": spent, "end": end, "peak": peak, **{part: _new_size(net, size, part) for part in SEVENTHS}}


def _new_size(net: Callable[[np.ndarray], Any], size: Size, part: str) -> float:
    """What the first pass at so many sevenths of a size takes, in passes there."""
    h, w = (side * int(part) // 7 for side in size)
    return statistics.median(_passes(net, (h - less, w - less)) for less in range(3))


def _passes(net: Callable[[np.ndarray], Any], size: Size) -> float:
    """What the first pass at a size takes, in passes there; 0 for a net of one size, or a model exported for one."""
    x, took = np.ones((1, 3, *size), np.float32), []
    for _ in range(4):
        begun = time.perf_counter()
        try:
            net(x)
        except Exception:
            return 0.0
        took.append(time.perf_counter() - begun)
    return took[0] / min(took[1:])


def write_files(name: str, folder: Path) -> str:
    """The stem of a net's .caffemodel and .onnx, made now where they are missing."""
    from benchmarks.famous import seeded
    from fcn_port.exporting import export_net

    stem, size = folder / name.replace(" ", "_"), size_of(name)
    if not stem.with_suffix(".onnx").exists():
        if name == FCN8S:
            from benchmarks.nets import random_net

            net: Any = random_net()
        else:
            net = seeded(name)
        export_net(net, to="caffe", out=Path(f"{stem}.caffemodel"))
        export_net(net, to="onnx", out=Path(f"{stem}.onnx"), size=None if name == FCN8S else size)
    return str(stem)


def measure(name: str, ways: list[str], stem: str, rounds: int) -> dict[str, dict[str, float]]:
    """Medians of each way."""
    rows: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for count in range(rounds + 1):
        for way in ways:
            command = [sys.executable, "-m", "benchmarks.first_result", "--one", way, stem, *map(str, size_of(name))]
            begun = time.time()
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found = json.loads(done.stdout)
            if count:
                rows[way].append({**found, "wall": found["end"] - begun})
    return {way: {key: statistics.median(row[key] for row in found) for key in found[0]} for way, found in rows.items()}


def tell(what: str) -> None:
    """Say on stderr what is being done, as the whole takes minutes."""
    print(what, file=sys.stderr, flush=True)


def table(results: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    lines = ["| net | way | processor s | wall s | peak MB | a new size, passes |", "| --- " * 6 + "|"]
    for name, rows in results.items():
        for way, row in rows.items():
            passes = ", ".join(f"{row[part]:.1f}" for part in SEVENTHS) if row[SEVENTHS[0]] else "of one size"
            numbers = f"{row['processor']:.2f} | {row['wall']:.2f} | {row['peak']:.0f} | {passes}"
            lines.append(f"| {name} | {way} | {numbers} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", nargs="+", default=["ResNet-50", "MobileNet v1", FCN8S], help="of benchmarks.famous")
    parser.add_argument("--only", nargs="+", choices=list(WAYS), default=USUAL)
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--threads", type=positive, default=1)
    parser.add_argument("--folder", type=Path, help="where the nets' files are made and stay; else they are removed")
    parser.add_argument("--json", type=Path, help="write every number to this file")
    parser.add_argument("--one", nargs=4, metavar=("WAY", "STEM", "H", "W"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        way, stem, h, w = arguments.one
        print(json.dumps(one(way, stem, (int(h), int(w)))))
        return
    from benchmarks.famous import NETS

    if unknown := [name for name in arguments.nets if name not in (*NETS, FCN8S)]:
        parser.error(f"no net {unknown[0]!r}; there are {', '.join((*NETS, FCN8S))}")
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # imports are compiled once, as where a package is installed
    with tempfile.TemporaryDirectory() as passing:
        folder = arguments.folder or Path(passing)
        stems = {}
        for name in arguments.nets:
            tell(f"{name}: its files")
            stems[name] = write_files(name, folder)
        time.sleep(3)  # what was written in the last two seconds is not kept packed
        results = {}
        for name, stem in stems.items():
            tell(f"{name}: {arguments.rounds + 1} rounds of {', '.join(arguments.only)}")
            results[name] = measure(name, arguments.only, stem, arguments.rounds)
    print(table(results))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
