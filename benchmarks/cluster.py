"""Images on a Ray cluster of this machine, beside plain loops: one alone, and one for each core side by side.

    python -m benchmarks.cluster [WEIGHTS] [--images 200] [--size 300x400] [--rounds 5]

Run it where the extra `ray` is installed, as by `make test-ray`: `.ray/bin/python -m benchmarks.cluster`. Each round
does the same images three ways, one after another, and numbers are medians of rounds: images a second from when every
process has done its first block, so that starting and loading do not count. All write the files that `predict` writes.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.options import positive
from fcn_port.cluster import ImageRef, Settings, Worker, plan, run_on_ray
from fcn_port.cluster.planning import as_columns, blocks_of
from fcn_port.predictor import Predictor

ROOT = Path(__file__).resolve().parents[1]


def pictures(folder: Path, count: int, size: tuple[int, int]) -> Path:
    folder.mkdir()
    for i in range(count):
        small = np.random.default_rng(i).integers(0, 255, (8, 8, 3), np.uint8)
        big = Image.fromarray(small).resize((size[1], size[0]), Image.Resampling.BICUBIC)
        big.save(folder / f"{i}.jpg")
    return folder


def loop(weights: str, items: Sequence[ImageRef], out: Path) -> float:
    """Images a second of one process with one thread, after its first image."""
    worker = Worker(Predictor(weights), out, run=1)
    worker(as_columns(items[:1]))
    begun = time.perf_counter()
    for block in blocks_of(items[1:], workers=1):
        worker(as_columns(block))
    return (len(items) - 1) / (time.perf_counter() - begun)


def loops(weights: str, folder: Path, count: int) -> float:
    """Images a second of so many loops side by side, each with its part of the images: the sum of what each says."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "benchmarks.cluster", weights, "--loop", str(folder), "--out", out]
        running = [
            subprocess.Popen(
                [*command, "--part", f"{k}/{count}"], cwd=ROOT, stdout=subprocess.PIPE, text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            for k in range(count)
        ]  # fmt: skip
        return sum(json.loads(each.communicate()[0]) for each in running)


def on_ray(weights: str, folder: Path, cores: int) -> float:
    """Images a second of a cluster's workers, after the first block of each."""
    told: list[tuple[float, int]] = []
    with tempfile.TemporaryDirectory() as out:
        run_on_ray(
            plan([folder]), Predictor(weights), Path(out), settings=Settings(weights, "", None, None),
            progress=lambda done, total: told.append((time.perf_counter(), done)),
        )  # fmt: skip
    (begun, before), (ended, done) = told[cores], told[-1]
    return (done - before) / (ended - begun)


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("weights", nargs="?", default=str(ROOT / "weights" / "sample" / "shapes-fcn8s.caffemodel"))
    parser.add_argument("--images", type=positive, default=200)
    parser.add_argument("--size", default="300x400", help="height x width")
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--loop", type=Path, help="one plain loop over this folder: images a second as JSON")
    parser.add_argument("--part", default="0/1")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.loop:
        number, count = map(int, given.part.split("/"))
        print(json.dumps(loop(given.weights, plan([given.loop])[number::count], given.out / str(number))))
        return
    import ray

    height, width = map(int, given.size.split("x"))
    with tempfile.TemporaryDirectory() as place:
        folder = pictures(Path(place) / "images", given.images, (height, width))
        ray.init(address="local", include_dashboard=False, log_to_driver=False)
        cores = int(ray.cluster_resources()["CPU"])
        ways = {
            "one loop": lambda: loops(given.weights, folder, 1),
            f"{cores} loops side by side": lambda: loops(given.weights, folder, cores),
            f"Ray, {cores} workers": lambda: on_ray(given.weights, folder, cores),
        }
        found: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(given.rounds):
            for name, way in ways.items():
                found[name].append(way())
        ray.shutdown()
    rates = {name: statistics.median(each) for name, each in found.items()}
    one, side, ours = rates.values()
    for name, rate in rates.items():
        low, high = min(found[name]), max(found[name])
        print(f"{name}: {rate:.2f} images/s ({low:.2f} to {high:.2f}); of {cores} x one loop: {rate / one / cores:.2f}")
    print(f"Ray beside the loops side by side: {ours / side:.2f}")


if __name__ == "__main__":
    main()
