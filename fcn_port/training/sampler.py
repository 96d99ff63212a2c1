"""The order that images are trained on: a function of a seed, so that any position can be found again.

replacement   drawn anew each time, as the release's data layers do: the same images in the same order
shuffled      every image once, then again in another order
listed        as the split's list has them, again and again
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from itertools import cycle, islice

from .choices import Order


def image_order(count: int, *, order: Order = "replacement", seed: int = 1337, start: int = 0) -> Iterator[int]:
    """Places of images, 0 to count - 1, without end, from position `start` on.

    With "replacement" and seed 1337 they are those of the release, which draws with `random.randint` of Python 2 after
    `random.seed(1337)` (voc_layers.py): the integer part of count times a number of the Mersenne Twister.
    """
    if count < 1:
        raise ValueError("there are no images")
    return islice(_ORDERS[order](count, seed), start, None)


def _replacement(count: int, seed: int) -> Iterator[int]:
    numbers = random.Random(seed)
    while True:
        yield int(numbers.random() * count)


def _shuffled(count: int, seed: int) -> Iterator[int]:
    numbers = random.Random(seed)
    while True:
        places = list(range(count))
        for last in range(count - 1, 0, -1):  # random.shuffle draws otherwise in other versions of Python
            other = int(numbers.random() * (last + 1))
            places[last], places[other] = places[other], places[last]
        yield from places


def _listed(count: int, seed: int) -> Iterator[int]:
    return cycle(range(count))


_ORDERS: Mapping[Order, Callable[[int, int], Iterator[int]]] = {
    "replacement": _replacement,
    "shuffled": _shuffled,
    "listed": _listed,
}
