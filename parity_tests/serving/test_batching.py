"""Images wait together where their sizes are equal, and one's trouble is nobody else's."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import torch

from converters import CaffeNet, parse_prototxt
from fcn_port.detection import detect, detect_all
from fcn_port.loading import attach
from fcn_port.nets import Net
from fcn_port.nets.net import as_net
from fcn_port.serving.batching import Batcher
from fcn_port.serving.seeing import keeps_apart, look_through, try_out
from parity_tests.detection.nets import SSD, ssd
from parity_tests.serving.nets import PROTOTXT, largest_channel, of_values, of_whole_images

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


def test_objects_of_a_batch_are_each_image_s_own() -> None:
    numbers = np.random.default_rng(0)
    cells = [numbers.choice(np.array([0, 255], np.uint8), (4, 4, 3)) for _ in range(4)]
    images = [np.kron(each, np.ones((8 * k, 8 * k, 1), np.uint8)) for each, k in zip(cells, (1, 2, 1, 3), strict=True)]
    images.insert(2, np.full((32, 32, 3), 255, np.uint8))
    together = [each.to_json() for each in detect_all(ssd(), images)]
    assert together == [detect(ssd(), each).to_json() for each in images]
    assert [len(each["detections"]) > 0 for each in together] == [True, True, False, True, True]
    assert detect_all(ssd(), []) == []


def net_of(text: str) -> Net:
    net = CaffeNet(parse_prototxt(text)).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for each in net.parameters():
            each.copy_(torch.randn(each.shape, generator=generator))
    attach(net, largest_channel().card)
    return as_net(net)


BATCH_STATISTICS = """
layer { name: "norm" type: "BatchNorm" bottom: "score" top: "norm" batch_norm_param { use_global_stats: false } }
"""
TO_ONE_IMAGE = """
layer { name: "one" type: "Reshape" bottom: "score" top: "one"
  reshape_param { shape { dim: 1 dim: 3 dim: -1 dim: 16 } } }
"""
YOLO = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [1, 3, 64, 64] } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 7 kernel_size: 16 stride: 16 } }
layer { name: "found" type: "YoloDetectionOutput" bottom: "conv" top: "found" yolo_detection_output_param {
  num_classes: 2 num_box: 1 biases: [1, 2] } }
"""


NORM_OF_DATA = BATCH_STATISTICS.replace('"score"', '"data"')
MIXED = {
    "batch statistics": PROTOTXT + BATCH_STATISTICS,
    "batch statistics before boxes": SSD.replace(
        'layer { name: "conf"', f'{NORM_OF_DATA}layer {{ name: "conf"'
    ).replace('bottom: "data" top: "loc"', 'bottom: "norm" top: "loc"'),
    "scores of one image": SSD.replace("dim: [0, -1, 3]", "dim: [1, -1, 3]"),
    "a Reshape to one image": PROTOTXT + TO_ONE_IMAGE,
    "YOLO": YOLO,
}


@pytest.mark.parametrize("which", MIXED)
def test_a_net_that_mixes_images_gets_them_one_by_one(which: str) -> None:
    net = net_of(MIXED[which])
    assert not keeps_apart(net, try_out(net, look_through(net)))


@pytest.mark.parametrize("make", [lambda: as_net(ssd()), largest_channel, of_whole_images, of_values])
def test_a_net_that_keeps_images_apart_gets_them_together(make: Any) -> None:
    net = make()
    assert keeps_apart(net, try_out(net, look_through(net)))
