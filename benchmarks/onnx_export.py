"""A caffemodel of 538 MB and one of 5 MB to ONNX, beside a plain copy and a sha256 of the large one.

``python -m benchmarks.onnx_export`` makes the files, runs every task in a process of its own, all of them once in each
round, and prints a Markdown table of medians and the limits that hold for them; ``--json FILE`` keeps every number.
Exit status 1 if a limit is broken. Nothing is checked against PyTorch here: this is what ``--no-check`` takes.

Seconds are taken inside each process after its imports, processor time is the whole process's with its imports, as the
system counts it; modules are compiled before, as those of an installed package are (PYTHONDONTWRITEBYTECODE adds half
as much again). Memory is RssAnon of /proc (Linux) at its highest. The traced exporter that the writer replaced took
18 s and 3.1 GB for the large file on the same kind of machine, when nothing else ran.
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
from pathlib import Path

from .conversion import WEIGHTS, anonymous_memory, copy_and_hash, make_files, nothing

SMALL, OUT = "small.caffemodel", "out"
TRACED_SECONDS, TRACED_MB = 18, 3100
"""Of the traced exporter, at its last."""

Task = Callable[[Path], Callable[[], object]]


def write_large(folder: Path) -> Callable[[], object]:
    return _write(folder, WEIGHTS)


def write_small(folder: Path) -> Callable[[], object]:
    return _write(folder, SMALL)


def _write(folder: Path, weights: str) -> Callable[[], object]:
    from fcn_port.onnx_export import export_onnx

    return lambda: export_onnx(folder / weights, folder / OUT, check=False)


TASKS: Mapping[str, Task] = {
    "FCN-8s (538 MB) to ONNX": write_large,
    "plain copy and sha256": copy_and_hash,
    "a net of 5 MB to ONNX": write_small,
    "bare interpreter": nothing,
}
MOST_COPIES, MOST_MEMORY, MOST_PROCESSOR = 2.0, 150e6, 0.5


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


def run_task(name: str, folder: Path) -> dict[str, float]:
    """Do one task in this process: the seconds of its work, and the processor time of the process so far."""
    work = TASKS[name](folder)
    started = time.perf_counter()
    work()
    return {"seconds": time.perf_counter() - started, "processor": time.process_time()}


def watch_task(name: str, folder: Path) -> dict[str, float]:
    """Run one task in a process of its own; its report, and the most anonymous memory that it ever had."""
    compiled = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(folder / "compiled")}
    command = [sys.executable, "-m", "benchmarks.onnx_export", "--task", name, "--folder", str(folder)]
    peak = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **compiled}) as process:
        while process.poll() is None:
            peak = max(peak, anonymous_memory(process.pid))
            time.sleep(0.003)
        assert process.stdout is not None
        report = process.stdout.read()
    if process.returncode:
        raise SystemExit(f"{name}: exit status {process.returncode}")
    return {**json.loads(report), "peak": peak}


def measure(folder: Path, rounds: int) -> dict[str, list[dict[str, float]]]:
    """Every task once in each round; what each of them reported."""
    watch_task("a net of 5 MB to ONNX", folder)  # compiles the modules
    (folder / OUT).unlink()
    found: dict[str, list[dict[str, float]]] = {name: [] for name in TASKS}
    for count in range(rounds):
        for name in TASKS:
            print(f"round {count + 1} of {rounds}: {name}", file=sys.stderr)
            found[name].append(watch_task(name, folder))
            (folder / OUT).unlink(missing_ok=True)
    return found


def summarise(found: Mapping[str, list[dict[str, float]]]) -> tuple[str, dict[str, tuple[float, float]]]:
    """A Markdown table of medians; and for each limit what was found and what is allowed."""
    medians = {
        name: {key: statistics.median(run[key] for run in runs) for key in runs[0]} for name, runs in found.items()
    }
    bare = medians["bare interpreter"]["peak"]
    lines = ["| | seconds | processor, s, with imports | memory, MB |", "| --- | ---: | ---: | ---: |"]
    for name, row in medians.items():
        if name != "bare interpreter":
            memory = (row["peak"] - bare) / 1e6
            lines.append(f"| {name} | {row['seconds']:.2f} | {row['processor']:.2f} | {memory:.0f} |")
    lines.append(
        f"| FCN-8s to ONNX, traced (the former exporter, on a quiet machine) | {TRACED_SECONDS} | | {TRACED_MB} |"
    )
    large, copy = found["FCN-8s (538 MB) to ONNX"], found["plain copy and sha256"]
    ratios = [mine["seconds"] / theirs["seconds"] for mine, theirs in zip(large, copy, strict=True)]
    limits = {
        "FCN-8s, in plain copies and sha256 of the same round": (statistics.median(ratios), MOST_COPIES),
        "MB for FCN-8s, beyond the interpreter": (
            (medians["FCN-8s (538 MB) to ONNX"]["peak"] - bare) / 1e6,
            MOST_MEMORY / 1e6,
        ),
        "processor seconds for 5 MB, with imports": (medians["a net of 5 MB to ONNX"]["processor"], MOST_PROCESSOR),
    }
    lines += ["", "| limit | found | allowed |", "| --- | ---: | ---: |"]
    lines += [f"| {name} | {value:.3g} | {most:g} |" for name, (value, most) in limits.items()]
    return "\n".join(lines), limits


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="where to keep every number")
    parser.add_argument("--folder", type=Path, help="where to make the files, and leave them; else a temporary one")
    parser.add_argument("--task", choices=list(TASKS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        print(json.dumps(run_task(options.task, options.folder)))
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        if not (folder / WEIGHTS).exists():
            make_files(folder)
        make_small(folder / SMALL)
        (folder / WEIGHTS).read_bytes()
        os.sync()
        found = measure(folder, options.rounds)
    table, limits = summarise(found)
    print(table)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2))
    return int(any(value > most for value, most in limits.values()))


if __name__ == "__main__":
    sys.exit(main())
