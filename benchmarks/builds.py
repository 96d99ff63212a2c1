"""What the C code of another working tree takes of this one's time, in one process and in turn.

``python -m benchmarks.builds TREE --nets ...`` compiles the kernels that lie in TREE, a working tree of this project,
and runs each net by both builds, a pass of each in turn, each over packed weights and an arena of its own. Plans are
this tree's: what they say to the kernels (native/step.h) has to be the same in both. Two processes in turn differ by 2
to 5 percent of themselves, these by less than one: name this tree to see how much. The machine should do nothing else.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import torch

import fcn_port
from benchmarks.engines import machine, say
from benchmarks.famous import NETS, example, seeded
from benchmarks.options import positive
from fcn_port.fastpath.native import steps
from fcn_port.fastpath.native.build import library

HERE = Path(__file__).parents[1]
STEP = "fcn_port/fastpath/native/step.h"
CALLED = "run", "work", "interleave"
"""Functions of the library that steps call."""
PATH_OF_LIBRARY = "from fcn_port.fastpath.native.build import library; print(library()._name)"


def build_of(tree: Path) -> ctypes.CDLL:
    """The kernels that lie in a working tree, compiled; SystemExit where they cannot run this tree's plans."""
    if not (tree / STEP).is_file():
        raise SystemExit(f"{tree}: no working tree of this project, as it has no {STEP}")
    if (tree / STEP).read_bytes() != (HERE / STEP).read_bytes():
        raise SystemExit(f"{tree}: its {STEP} is another one than this tree's, so that plans of one cannot run in both")
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    made = subprocess.run(
        [sys.executable, "-c", PATH_OF_LIBRARY], cwd=tree, env=environment, capture_output=True, text=True
    )
    if made.returncode:
        raise SystemExit(f"{tree}: its kernels cannot be compiled: {made.stderr.strip().splitlines()[-1]}")
    found = ctypes.CDLL(made.stdout.strip())
    for name in CALLED:
        getattr(found, name).argtypes = getattr(library(), name).argtypes
        getattr(found, name).restype = None
    return found


def measure(name: str, builds: list[ctypes.CDLL], rounds: int) -> list[list[float]]:
    """The milliseconds of each round's pass, for each build."""
    net = seeded(name)
    x, fast = example(net), []
    for build in builds:
        with mock.patch.object(steps, "library", lambda build=build: build):  # which plans call from now on
            fast.append(fcn_port.fast(net))
            fast[-1](x)
    took: list[list[float]] = [[] for _ in builds]
    for count in range(rounds):
        order = range(len(builds)) if count % 2 else reversed(range(len(builds)))
        for each in order:
            begun = time.perf_counter()
            fast[each](x)
            took[each].append(1e3 * (time.perf_counter() - begun))
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree", type=Path, help="a working tree of this project")
    parser.add_argument("--nets", nargs="+", choices=list(NETS), default=list(NETS), metavar="NET")
    parser.add_argument("--rounds", type=positive, default=40)
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    builds = [library(), build_of(arguments.tree.resolve())]
    rows = ["| net | this tree ms | the other ms | of this one |", "| --- | --- | --- | --- |"]
    with torch.no_grad():
        for name in arguments.nets:
            say(name)
            mine, its = measure(name, builds, arguments.rounds)
            ratio = statistics.median(b / a for a, b in zip(mine, its, strict=True))
            rows.append(f"| {name} | {statistics.median(mine):.2f} | {statistics.median(its):.2f} | {ratio:.3f} |")
            seeded.cache_clear()
    print(", ".join(f"{key} {value}" for key, value in machine(arguments.threads).items()), *rows, sep="\n")


if __name__ == "__main__":
    main()
