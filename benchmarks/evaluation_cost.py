"""What an evaluation spends beside the forward pass: `python -m benchmarks.evaluation_cost [--device cuda]`.

One image of VOC's size (375x500), a net of the real widths with arbitrary weights, medians of interleaved repetitions.
Decoding runs in other threads during the forward pass; it is counted here all the same.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

import fcn_port
from benchmarks.options import positive
from fcn_port.data import make_shapes, net_inputs, open_dataset
from fcn_port.evaluation import histogram
from fcn_port.evaluation.cache import Cache, fingerprint
from fcn_port.evaluation.results import ImageResult
from fcn_port.predict.reading import best_labels
from weights import release


def measure(device: str, repetitions: int, folder: Path) -> dict[str, float]:
    """Milliseconds for each step of one image."""
    data = open_dataset(make_shapes(folder, count=1, size=(375, 500), val=1.0))
    recipe = release("voc-fcn8s").preprocessing
    (id_,) = data.ids
    sample = data.read(id_)
    net = fcn_port.build("voc-fcn8s").to(device)
    x = net_inputs(data, sample, recipe)["data"]
    with torch.inference_mode():
        scores = net(x.to(device))
    predicted = best_labels(scores[0]).to(torch.uint8)
    counts = histogram(sample.labels["score"], predicted, num_classes=21)
    cache, result, files = Cache(folder / "cache"), ImageResult(id_, {"score": counts}), fingerprint(data.files(id_))

    def forward() -> None:
        with torch.inference_mode():
            net(x.to(device))

    steps: dict[str, Callable[[], object]] = {
        "forward pass": forward,
        "decode image and labels": lambda: data.read(id_),
        "make the input": lambda: net_inputs(data, sample, recipe),
        "best class of each pixel": lambda: best_labels(scores[0]),
        "histogram": lambda: histogram(sample.labels["score"], predicted, num_classes=21),
        "keep the result": lambda: cache.append(result, files or []),
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repetitions):
        for name, step in steps.items():
            times[name].append(_timed(step, device))
    return {name: 1000 * median(each) for name, each in times.items()}


def _timed(step: Callable[[], object], device: str) -> float:
    if device != "cpu":
        torch.cuda.synchronize()
    began = time.perf_counter()
    step()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repetitions", type=positive, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(options.device, options.repetitions, Path(folder))
    forward = found["forward pass"]
    print(f"{options.device}, torch {torch.__version__}, {torch.get_num_threads()} threads\n")
    print("| step | ms | of the forward pass |\n| --- | ---: | ---: |")
    for name, each in found.items():
        print(f"| {name} | {each:.2f} | {each / forward:.2%} |")
    share = (found["decode image and labels"] + found["histogram"]) / forward
    print(f"\ndecode and histogram together: {share:.2%} of the forward pass")


if __name__ == "__main__":
    main()
