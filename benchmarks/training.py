"""One update of a net by our trainer, beside the plain PyTorch loop that a user would write on the same padded net.

``python -m benchmarks.training`` makes updates with both in turn, in one process and on the same image, and prints
medians and their ratio as Markdown; ``--json FILE`` keeps every number. The plain loop is torch.optim.SGD and
``cross_entropy(ignore_index=255, reduction="sum")``. Memory is the peak of a process of its own for each, beyond what
it had once everything was imported. Ratios are the median over the rounds of the ratio within a round: above 1, ours
is slower.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

from benchmarks.engines import machine
from benchmarks.nets import plain_convolutions
from benchmarks.options import positive
from converters.formats.solver import SolverSpec
from fcn_port.nets import NETS, Widths
from fcn_port.training import CaffeSolver, TrainingTask, parameter_groups, task_for
from fcn_port.training.distributed import DistributedGroup
from fcn_port.training.feed import Batch
from fcn_port.training.initial import begin
from fcn_port.training.multipliers import definition
from fcn_port.training.update import Update

OURS, PLAIN = "fcn-port", "plain PyTorch"
NARROW = Widths(8, 16, 32, 48, 48, 64, 64)
CLASSES = 21
HEAVY = SolverSpec(base_lr=1e-10, momentum=0.99, weight_decay=0.0005)
"""How the release trains FCN-8s: one image an update, the loss summed over its pixels."""

Step = Callable[[], float]


def task_of(name: str, *, narrow: bool) -> TrainingTask:
    """A net to train with its own first weights, the same each time; deconvolutions are fixed."""
    net = NETS[name].make(CLASSES, **({"widths": NARROW} if narrow else {}))
    begin(net, definition(net), seed=1)
    task = task_for(net.train(), ["score"])
    for group in parameter_groups(net):
        group["params"][0].requires_grad_(group["lr_mult"] != 0)
    return task


def ours(task: TrainingTask, image: torch.Tensor, labels: torch.Tensor) -> Step:
    """What `fcn-port train` does once an image is read."""
    solver = CaffeSolver(parameter_groups(task.net), HEAVY)
    update = Update(task, solver, DistributedGroup(), task.net)
    batch = Batch(("image",), {"data": image, "label": labels.byte()})
    return lambda: update([batch])["loss"]


def plain(task: TrainingTask, image: torch.Tensor, labels: torch.Tensor) -> Step:
    """A loop as PyTorch's first tutorial has it; gradients go at the end, so that it keeps no more memory than ours."""
    net = task.net
    parameters = [each for each in net.parameters() if each.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=HEAVY.base_lr, momentum=HEAVY.momentum, weight_decay=HEAVY.weight_decay)

    def step() -> float:
        with plain_convolutions():
            scores = net(image)
        loss = cross_entropy(scores, labels, ignore_index=255, reduction="sum")
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return step


MAKE: Mapping[str, Callable[[TrainingTask, torch.Tensor, torch.Tensor], Step]] = {OURS: ours, PLAIN: plain}


def batch_of(size: int, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise as an image, and labels of which one in ten is ignored."""
    generator = torch.Generator().manual_seed(size)
    labels = torch.randint(0, CLASSES, (batch, size, size), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.1] = 255
    return 60 * torch.randn(batch, 3, size, size, generator=generator), labels


def times(options: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds of each update of both, interleaved; the first two of each are not counted."""
    data = batch_of(options.size, options.batch)
    steps = {name: make(task_of(options.net, narrow=options.narrow), *data) for name, make in MAKE.items()}
    found: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(options.rounds + 2):
        order = list(steps) if turn % 2 else list(reversed(steps))
        for name in order:
            begun = time.perf_counter()
            steps[name]()
            if turn >= 2:
                found[name].append(time.perf_counter() - begun)
    return found


def peak(name: str, options: argparse.Namespace) -> float:
    """Peak memory in MB of three updates in a new process, beyond what it had before the net was made."""
    same = [f"--{key}={getattr(options, key)}" for key in ("net", "size", "batch", "threads")]
    command = [sys.executable, "-m", "benchmarks.training", "--peak-of", name, *same]
    done = subprocess.run(command + ["--narrow"] * options.narrow, check=True, capture_output=True, text=True)
    return float(done.stdout)


def own_peak(name: str, options: argparse.Namespace) -> float:
    """The same, of this process."""
    import resource

    def highest() -> float:
        found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return found / (2**20 if sys.platform == "darwin" else 2**10)

    before = highest()
    step = MAKE[name](task_of(options.net, narrow=options.narrow), *batch_of(options.size, options.batch))
    for _ in range(3):
        step()
    return highest() - before


def table(seconds: Mapping[str, list[float]], peaks: Mapping[str, float]) -> str:
    lines = ["| | s an update | of plain | peak MB | of plain |", "| --- | ---: | ---: | ---: | ---: |"]
    for name, own in seconds.items():
        ratio = statistics.median(mine / its for mine, its in zip(own, seconds[PLAIN], strict=True))
        share = peaks[name] / peaks[PLAIN]
        lines.append(f"| {name} | {statistics.median(own):.3f} | {ratio:.3f} | {peaks[name]:.0f} | {share:.3f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", default="voc-fcn8s", help="a net of the release with one image as its input")
    parser.add_argument("--size", type=positive, default=256, help="side of the square images")
    parser.add_argument("--batch", type=positive, default=1)
    parser.add_argument("--rounds", type=positive, default=8)
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads())
    parser.add_argument("--narrow", action="store_true", help="the widths of the bundled release, not VGG-16's")
    parser.add_argument("--json", type=Path, help="write every number to this file")
    parser.add_argument("--peak-of", choices=list(MAKE), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.peak_of:
        print(own_peak(options.peak_of, options))
        return
    widths = "the bundled release's widths" if options.narrow else "VGG-16's widths"
    print(", ".join(f"{key} {value}" for key, value in machine(options.threads).items()))
    print(f"\n{options.net}, {widths}, batch {options.batch} of {options.size}x{options.size}\n")
    peaks = {name: peak(name, options) for name in MAKE}
    seconds = times(options)
    print(table(seconds, peaks))
    if options.json:
        settings = {key: value for key, value in vars(options).items() if key not in ("json", "peak_of")}
        found = {"machine": machine(options.threads), "settings": settings, "seconds": seconds, "peak_mb": peaks}
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
