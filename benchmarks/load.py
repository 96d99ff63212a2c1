"""What a pass takes beside other busy processes, in times of a quiet one.

``python -m benchmarks.load`` runs each net by `fast` with as many threads as processors, alone and beside as many
processes that do nothing but compute, and prints medians by the clock as Markdown. Twice is what sharing the
processors alone costs. The machine should do nothing else.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

import fcn_port
from benchmarks.engines import machine, say
from benchmarks.famous import NETS, example, seeded
from benchmarks.nets import random_image, random_net
from benchmarks.options import above_zero

FCN = "FCN-8s 500"


def prepared(name: str) -> tuple[torch.nn.Module, Tensor]:
    """A net with made-up weights as `fast` returns it, and an input."""
    if name == FCN:
        net = random_net()
        return fcn_port.fast(net), random_image(net, (500, 500))
    famous = seeded(name)
    return fcn_port.fast(famous), example(famous)


def median_ms(run: torch.nn.Module, x: Tensor, seconds: float) -> float:
    """The median time of the passes that fit into so many seconds, five at least."""
    took: list[float] = []
    while len(took) < 5 or sum(took) < seconds:
        begun = time.perf_counter()
        run(x)
        took.append(time.perf_counter() - begun)
    return 1e3 * statistics.median(took)


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    processes = [multiprocessing.get_context("spawn").Process(target=_compute, daemon=True) for _ in range(count)]
    for each in processes:
        each.start()
    try:
        time.sleep(2)  # until they compute
        yield
    finally:
        for each in processes:
            each.terminate()


def _compute() -> None:
    while os.getppid() != 1:  # whose parent was killed
        sum(range(100_000))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", nargs="+", choices=[*NETS, FCN], default=["ResNet-50", FCN], metavar="NET")
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count(), help="of ours, and busy processes (default: all)"
    )
    parser.add_argument("--seconds", type=above_zero, default=4, help="for each measurement (default: 4)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = ["| net | quiet ms | beside busy processes ms | times |", "| --- | --- | --- | --- |"]
    for name in arguments.nets:
        say(name)
        run, x = prepared(name)
        with torch.no_grad():
            run(x)
            run(x)
            quiet = median_ms(run, x, arguments.seconds)
            with busy_processes(arguments.threads):
                loaded = median_ms(run, x, arguments.seconds)
        rows.append(f"| {name} | {quiet:.0f} | {loaded:.0f} | {loaded / quiet:.2f} |")
    about = machine(arguments.threads)
    print(", ".join(f"{key} {about[key]}" for key in ("processor", "threads", "torch")), "", *rows, sep="\n")


if __name__ == "__main__":
    main()
