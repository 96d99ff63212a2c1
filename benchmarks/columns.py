"""Where a convolution by columns beats PyTorch's direct one, by layer and over whole nets.

``python -m benchmarks.columns`` times both ways in turn, on the layers that `converters/layers/im2col.py` draws its
lines by and on FCN-8s padded, one image, and prints medians as Markdown. Its choice is marked with a star.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch

from benchmarks.nets import plain_convolutions, random_image, random_net
from converters.layers import im2col as columns
from fcn_port.nets import FCN


class Case(NamedTuple):
    """A layer and the side of its input."""

    name: str
    channels: int
    features: int
    kernel: int
    sides: tuple[int, ...]
    padding: int = 0
    batch: int = 1


CASES = (
    Case("VGG-16 fc6", 512, 4096, 7, (8, 10, 14, 22, 26, 31)),
    Case("VGG-16 fc7", 4096, 4096, 1, (2, 4, 8, 16, 20, 31)),
    Case("AlexNet fc6", 256, 4096, 6, (6, 13, 22, 30)),
    Case("VGG-16 fc6", 512, 4096, 7, (8, 14), batch=4),
    Case("1024 to 1024", 1024, 1024, 3, (8, 16, 20), 1),
    Case("4096 to 256", 4096, 256, 3, (8, 15, 16), 1),
    Case("VGG-16 conv5", 512, 512, 3, (4, 14, 22), 1),
    Case("LeNet conv1", 1, 20, 5, (28,)),
    Case("LeNet conv2", 20, 50, 5, (12,)),
    Case("LeNet-5 conv3", 16, 120, 5, (5,)),
    Case("GoogLeNet 4b 5x5", 24, 64, 5, (7, 14), 2),
    Case("CIFAR-10 conv1", 3, 32, 5, (32,), 2),
    Case("CIFAR-10 conv2", 32, 32, 5, (16,), 2),
)
SIDES = (32, 128, 256, 500)


def in_turn(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median milliseconds of each way, one after the other in every round; the first round does not count."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            taken[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(times[1:]) for name, times in taken.items()}


def of_layer(case: Case, side: int, rounds: int) -> str:
    """A row of the table: a layer at one size of its input."""
    name, channels, features, kernel, _, pad, batch = case
    weight, bias = torch.randn(features, channels, kernel, kernel), torch.randn(features)
    x = torch.randn(batch, channels, side, side)
    found = in_turn(
        {
            "PyTorch": lambda: torch.conv2d(x, weight, bias, padding=pad),
            "columns": lambda: columns.im2col_conv2d(x, weight, bias, (1, 1), (pad, pad)),
        },
        rounds if weight.numel() >= columns.HEAVY else 30 * rounds,
    )
    star = "columns" if columns.is_faster_by_im2col(x, weight, (1, 1), (pad, pad)) else "PyTorch"
    cells = " | ".join(f"{time:.3g}{' *' if way == star else ''}" for way, time in found.items())
    positions = batch * (side + 2 * pad - kernel + 1) ** 2
    return f"| {name} | {batch} of {side}x{side} | {positions} | {cells} | {found['columns'] / found['PyTorch']:.2f} |"


def of_net(net: FCN, side: int, rounds: int) -> str:
    """A row of the other table: FCN-8s on one square image."""
    image = random_image(net, (side, side))

    def plain() -> torch.Tensor:
        with plain_convolutions():
            return net(image)  # type: ignore[no-any-return]

    found = in_turn({"plain": plain, "ours": lambda: net(image)}, rounds)
    return f"| {side}x{side} | {found['plain']:.0f} | {found['ours']:.0f} | {found['ours'] / found['plain']:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rounds", type=int, default=5, help="of which the median is taken (small layers: 30 times as many)"
    )
    rounds = parser.parse_args().rounds
    with torch.no_grad():
        print("| milliseconds | input | positions | PyTorch | columns | ratio |\n| --- | --- | --- | --- | --- | --- |")
        for case in CASES:
            for side in case.sides:
                print(of_layer(case, side, rounds), flush=True)
        print("\n| FCN-8s padded, milliseconds | nn.Conv2d | ours | ratio |\n| --- | --- | --- | --- |")
        net = random_net()
        for side in SIDES:
            print(of_net(net, side, rounds), flush=True)


if __name__ == "__main__":
    main()
