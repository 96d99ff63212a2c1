"""std::sort's order of equal keys, against what libstdc++ gave for the same keys."""

from __future__ import annotations

import random

import pytest
import torch

from converters.layers.std_sort import descending
from parity_tests.layers.test_detection_output import make

RECORDED = {
    "17 alike": ([1.0] * 17, [8, 16, 15, 14, 13, 12, 11, 10, 9, 0, 7, 6, 5, 4, 3, 2, 1]),
    "40 of three values": (
        [(index * 7) % 3 / 2 for index in range(40)],
        [
            29,
            20,
            17,
            23,
            14,
            26,
            11,
            8,
            32,
            5,
            35,
            2,
            38,
            31,
            1,
            34,
            28,
            25,
            37,
            22,
            16,
            13,
            4,
            10,
            19,
            7,
            30,
            39,
            0,
            3,
            36,
            6,
            33,
            9,
            12,
            27,
            15,
            24,
            18,
            21,
        ],
    ),
}
"""Keys, and the indices in which g++ 12's std::sort left them with `a > b`."""


@pytest.mark.parametrize("case", RECORDED)
def test_equal_keys_are_where_std_sort_leaves_them(case: str) -> None:
    keys, order = RECORDED[case]
    assert descending(keys) == order
    assert order != sorted(range(len(keys)), key=lambda index: -keys[index]), "a stable sort must differ here"


@pytest.mark.parametrize("count", [0, 1, 2, 16, 17, 100, 3000])
def test_it_sorts(count: int) -> None:
    source = random.Random(count)
    keys = [source.random() for _ in range(count)]
    assert descending(keys) == sorted(range(count), key=lambda index: -keys[index])
    assert [keys[index] for index in descending(keys)] == sorted(keys, reverse=True)


def test_the_best_of_equal_detections_are_caffes() -> None:
    """17 boxes apart with one score, of which one stays: the one that std::sort has first."""
    layer = make("keep_top_k: 1", classes=2)
    priors = torch.tensor([[i, i, i + 0.5, i + 0.5] for i in range(17)]).reshape(1, 1, -1).repeat(1, 2, 1)
    scores = torch.tensor([[0.0, 1.0]]).repeat(1, 17)
    (found,) = layer.forward([torch.zeros(1, 68), scores, priors], ())
    assert found.shape == (1, 1, 1, 7) and found[0, 0, 0, 3] == RECORDED["17 alike"][1][0]
