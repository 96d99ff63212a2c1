"""FCN-8s on CUDA: with and without the padding's work, one launch for each kernel or one for all.

``python -m benchmarks.gpu`` needs a CUDA machine and this project's own requirements. Every candidate runs once in each
round, all in one process; times are medians of CUDA events. TF32 is off but where a line says otherwise. Errors are the
largest difference from the padded net in double precision, as a share of the largest score. Prints Markdown; ``--json
FILE`` keeps every number.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import fcn_port
from benchmarks.cuda_graphs import Replayed
from benchmarks.nets import difference, random_image, random_net
from benchmarks.options import positive

PADDED = "padded"
Candidate = Callable[[Tensor], Tensor]


def candidates(net: nn.Module) -> dict[str, Candidate]:
    """What is measured, by name; each is called with an image on the device."""
    lossless = fcn_port.fast(net)
    with_tf32 = fcn_port.fast(net)
    with_tf32.tf32 = True
    found: dict[str, Candidate] = {
        PADDED: net,
        "padded, CUDA graph": Replayed(net),
        "padded, TF32": with_tf32_allowed(net),
        "lossless": lossless,
        "lossless, CUDA graph": Replayed(lossless),
        "lossless, CUDA graph, TF32": Replayed(with_tf32),
    }
    compiled = torch.compile(net, mode="max-autotune-no-cudagraphs")
    found["padded, torch.compile"] = compiled
    return found


def with_tf32_allowed(net: nn.Module) -> Candidate:
    """The net with PyTorch's default for convolutions on CUDA."""

    def call(x: Tensor) -> Tensor:
        torch.backends.cudnn.allow_tf32 = True
        try:
            result: Tensor = net(x)
            return result
        finally:
            torch.backends.cudnn.allow_tf32 = False

    return call


def measure(net: nn.Module, size: tuple[int, int], batch: int, rounds: int) -> list[dict[str, Any]]:
    """One row for each candidate: median, best and peak memory, and the error against double precision."""
    x = random_image(net, size, batch=batch).cuda()
    exact = exact_scores(net, x)
    tasks = candidates(net)
    rows: dict[str, dict[str, Any]] = {}
    for name, task in list(tasks.items()):
        try:
            rows[name] = {"name": name, "size": size, "batch": batch, **prepare(task, x, exact)}
        except Exception as error:  # a candidate that this machine cannot run is a line of the table too
            reason = (str(error) or type(error).__name__).splitlines()[0]
            rows[name] = {"name": name, "size": size, "batch": batch, "failed": reason[:200]}
            del tasks[name]
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            times[name].append(milliseconds(task, x))
    for name, values in times.items():
        rows[name].update(median_ms=statistics.median(values), best_ms=min(values))
    return list(rows.values())


def exact_scores(net: nn.Module, x: Tensor) -> Tensor:
    """The padded net's scores in double precision, image by image."""
    net.double()
    scores = torch.cat([net(each.double()) for each in x.split(1)])
    net.float()
    return scores


def prepare(task: Candidate, x: Tensor, exact: Tensor) -> dict[str, float]:
    """Let a candidate compile, choose algorithms and record; then its error and its memory beside weights and input."""
    for _ in range(3):
        task(x)
    torch.cuda.synchronize()
    gc.collect()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    error = difference(task(x).double(), exact)
    torch.cuda.synchronize()
    return {"error": error, "peak_mb": (torch.cuda.max_memory_allocated() - before) / 2**20}


def milliseconds(task: Candidate, x: Tensor) -> float:
    """One call, between two events."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    task(x)
    end.record()
    end.synchronize()
    return start.elapsed_time(end)


def table(rows: list[dict[str, Any]]) -> str:
    """Rows of one size and batch as Markdown, ratios to the padded net."""
    base = next(row for row in rows if row["name"] == PADDED)["median_ms"]
    lines = ["| | ms (median) | best | of padded | error | activations MB |", "| --- | --- | --- | --- | --- | --- |"]
    for row in rows:
        if "failed" in row:
            lines.append(f"| {row['name']} | failed: {row['failed']} | | | | |")
            continue
        numbers = f"{row['median_ms']:.2f} | {row['best_ms']:.2f} | {row['median_ms'] / base:.2f}"
        lines.append(f"| {row['name']} | {numbers} | {row['error']:.1e} | {row['peak_mb']:.0f} |")
    return "\n".join(lines)


def machine() -> dict[str, str]:
    """What a reader needs to judge the numbers."""
    properties = torch.cuda.get_device_properties(0)
    return {
        "device": f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB",
        "torch": torch.__version__,
        "cuda": str(torch.version.cuda),
        "cudnn": str(torch.backends.cudnn.version()),
        "python": platform.python_version(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=positive, default=30)
    parser.add_argument("--json", type=Path, help="write every number to this file")
    parser.add_argument("--sizes", type=positive, nargs="+", default=[256, 500])
    parser.add_argument("--batches", type=positive, nargs="+", default=[1, 8])
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("there is no CUDA device here")
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    net = random_net().cuda()
    print(", ".join(f"{key} {value}" for key, value in machine().items()))
    everything = []
    with torch.inference_mode():
        for side in arguments.sizes:
            for batch in arguments.batches:
                rows = measure(net, (side, side), batch, arguments.rounds)
                everything += rows
                print(f"\n### {side}x{side}, batch {batch}\n\n{table(rows)}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine(), "rows": everything}, indent=2))


if __name__ == "__main__":
    main()
