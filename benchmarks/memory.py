"""Peak memory of one pass of FCN-8s: padded, without the padding's work, and with `low_memory`.

``python -m benchmarks.memory`` starts a process of its own for each line, so that none sees another's leavings, and
prints the process's largest resident size (VmHWM, Linux) as Markdown. The weights' 0.54 GB and PyTorch are in it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import torch

import fcn_port
from benchmarks.nets import random_image, random_net

KINDS = ("padded", "fast", "fast, low memory", "fast, bf16")
CASES = ((500, 1), (500, 8), (2000, 1))
"""Side of the image and batch."""


def peak_mb(kind: str, side: int, batch: int) -> float:
    """What this process has taken at most, when one pass is done."""
    net = random_net()
    run = {
        "padded": lambda: net,
        "fast": lambda: fcn_port.fast(net),
        "fast, low memory": lambda: fcn_port.fast(net, low_memory=True),
        "fast, bf16": lambda: fcn_port.fast(net, precision="bf16"),
    }[kind]()
    with torch.no_grad():
        run(random_image(net, (side, side), batch=batch))
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def in_a_process(kind: str, side: int, batch: int) -> float:
    command = [sys.executable, "-m", "benchmarks.memory", "--one", kind, str(side), str(batch)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write every number to this file")
    parser.add_argument("--one", nargs=3, metavar=("KIND", "SIDE", "BATCH"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        kind, side, batch = arguments.one
        print(peak_mb(kind, int(side), int(batch)))
        return
    found = {kind: {case: in_a_process(kind, *case) for case in CASES} for kind in KINDS}
    print("| peak, MB (of padded) |" + "".join(f" {batch} x {side}x{side} |" for side, batch in CASES))
    print("| --- " * (1 + len(CASES)) + "|")
    for kind in KINDS:
        cells = (f" {found[kind][case]:.0f} ({found[kind][case] / found['padded'][case]:.2f}) |" for case in CASES)
        print(f"| {kind} |" + "".join(cells))
    if arguments.json:
        rows = [
            {"kind": kind, "side": side, "batch": batch, "mb": mb}
            for kind, cases in found.items()
            for (side, batch), mb in cases.items()
        ]
        arguments.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
