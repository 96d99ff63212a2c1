"""Images wait together where their sizes are equal, and one's trouble is nobody else's."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from fcn_port.serving.batching import Batcher

A, B = (4, 6, 3), (5, 6, 3)


class Watched:
    """A net that gives each image's first value, and remembers the batches; the first one waits at a gate."""

    def __init__(self, bad: int | None = None) -> None:
        self.batches: list[list[int]] = []
        self.began, self.may = threading.Event(), threading.Event()
        self._bad = bad

    def __call__(self, images: list[np.ndarray]) -> Any:
        values = [int(each[0, 0, 0]) for each in images]
        assert len({each.shape for each in images}) == 1
        self.batches.append(values)
        self.began.set()
        assert self.may.wait(60)
        if self._bad in values:
            raise ValueError(f"no {self._bad}")
        return values


def image(value: int, size: tuple[int, ...] = A) -> np.ndarray:
    return np.full(size, value, np.uint8)


def test_equal_sizes_go_together_the_longest_waiting_first() -> None:
    net, heard = Watched(), []
    batcher = Batcher(net, threads=1, batch=3, heard=lambda count, waited, took: heard.append(count))
    first = batcher.submit(image(0))
    assert net.began.wait(60)
    sizes = {1: B, 2: A, 3: B, 4: A, 5: A, 6: A, 7: A}
    waiting = {value: batcher.submit(image(value, size)) for value, size in sizes.items()}
    assert waiting[5].cancel()
    net.may.set()
    assert first.result(60) == 0
    assert {value: each.result(60) for value, each in waiting.items() if value != 5} == {
        v: v for v in (1, 2, 3, 4, 6, 7)
    }
    assert net.batches == [[0], [1, 3], [2, 4], [6, 7]]
    batcher.close()
    for thread in batcher.threads:
        thread.join(60)
    assert heard == [1, 2, 2, 2]


def test_a_bad_image_harms_no_other_of_its_batch() -> None:
    net = Watched(bad=2)
    batcher = Batcher(net, threads=1, batch=8)
    first = batcher.submit(image(0))
    assert net.began.wait(60)
    waiting = [batcher.submit(image(value)) for value in (1, 2, 3)]
    net.may.set()
    assert [waiting[0].result(60), waiting[2].result(60), first.result(60)] == [1, 3, 0]
    with pytest.raises(ValueError, match="no 2"):
        waiting[1].result(60)
    batcher.close()


def test_a_closed_batcher_takes_and_does_nothing_more() -> None:
    net = Watched()
    batcher = Batcher(net, threads=1, batch=1)
    first = batcher.submit(image(0))
    assert net.began.wait(60)
    second = batcher.submit(image(1))
    batcher.close()
    net.may.set()
    assert first.result(60) == 0 and second.cancelled()
    with pytest.raises(RuntimeError, match="stops"):
        batcher.submit(image(2))
