"""Anybody's nets by `fast`, beside onnxruntime and the net itself.

``python -m benchmarks.public_nets FOLDER`` takes every .prototxt of a folder or of a .zip (``--every 6``: each sixth),
with noise as weights, each in a process of its own. Candidates run in turn on the same input after two passes that do
not count; a line has the median milliseconds and the ratio to onnxruntime's. Nets that one of them does not run, or
not within ``--seconds``, are told and left out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.coverage.sources import Source, sources
from benchmarks.options import above_zero, positive


def measured(source: Source, *, threads: int, rounds: int) -> Mapping[str, float]:
    """Median milliseconds of each candidate for one net."""
    import torch

    import fcn_port
    from benchmarks.coverage.noise import fill_weights, noise_inputs, tame
    from converters import CaffeNet
    from converters.formats import parse_prototxt

    torch.set_num_threads(threads)
    net = CaffeNet(parse_prototxt(source.content.decode("utf-8", "surrogateescape"), path=source.name)).eval()
    fill_weights(net)
    inputs = noise_inputs(net.spec)
    tame(net, inputs)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        quick = fcn_port.fast(net)
        runs: dict[str, Callable[[], Any]] = {
            "fast": lambda: quick(**inputs),
            "onnxruntime": _onnxruntime(net, inputs, Path(folder), threads),
            "CaffeNet": lambda: net(**inputs),
        }
        times: dict[str, list[float]] = {name: [] for name in runs}
        for number in range(-2, rounds):
            for name, run in runs.items():
                began = time.perf_counter()
                run()
                if number >= 0:
                    times[name].append(1e3 * (time.perf_counter() - began))
    return {name: statistics.median(values) for name, values in times.items()}


def _onnxruntime(net: Any, inputs: Mapping[str, Any], folder: Path, threads: int) -> Callable[[], Any]:
    import onnxruntime

    from fcn_port.exporting import export_net

    path, first = folder / "net.onnx", next(iter(inputs.values()))
    export_net(net, to="onnx", out=path, size=(first.shape[2], first.shape[3]) if first.ndim == 4 else None)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    fed = {each.name: inputs[each.name].numpy() for each in session.get_inputs()}
    return lambda: session.run(None, fed)


def in_a_process(source: Source, arguments: argparse.Namespace) -> Mapping[str, float] | str:
    """What a process of its own measures, or why there is nothing."""
    command = [sys.executable, "-m", "benchmarks.public_nets", str(arguments.place), "--one", source.name]
    command += ["--threads", str(arguments.threads), "--rounds", str(arguments.rounds)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=arguments.seconds)
    except subprocess.TimeoutExpired:
        return f"more than {arguments.seconds} s"
    if done.returncode:
        return (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1][:100]
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("place", type=Path, help="a folder or a .zip with .prototxt files")
    parser.add_argument("--every", type=positive, default=1, help="one net of so many")
    parser.add_argument("--threads", type=positive, default=1)
    parser.add_argument("--rounds", type=positive, default=7)
    parser.add_argument("--seconds", type=above_zero, default=60, help="the most that one net may take")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    nets = sources(arguments.place)
    if arguments.one is not None:
        (source,) = (each for each in nets if each.name == arguments.one)
        print(json.dumps(measured(source, threads=arguments.threads, rounds=arguments.rounds)))
        return
    print("| net | fast | onnxruntime | CaffeNet | of onnxruntime |\n| --- | ---: | ---: | ---: | ---: |")
    ratios = []
    for source in nets[:: arguments.every]:
        found = in_a_process(source, arguments)
        if isinstance(found, str):
            print(f"{source.name}: {found}", file=sys.stderr, flush=True)
            continue
        ratios.append(found["fast"] / found["onnxruntime"])
        print(
            f"| {source.name} | {' | '.join(f'{each:.2f}' for each in found.values())} | {ratios[-1]:.2f} |", flush=True
        )
    if ratios:
        ahead = sum(ratio < 1 for ratio in ratios)
        print(f"\n{len(ratios)} nets: {ahead} ahead of onnxruntime, median ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
