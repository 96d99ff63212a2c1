"""std::sort's order of equal keys, against what libstdc++ gave for the same keys."""

from __future__ import annotations

import random

import pytest
import torch

from converters.layers.std_sort import best, descending
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


PARTLY = {"17 alike": [0, 1], "40 of three values": [8, 5, 11, 14, 2]}
"""The first indices that std::partial_sort left of the same keys, asked for as many."""


@pytest.mark.parametrize("case", PARTLY)
def test_equal_keys_are_where_std_partial_sort_leaves_them(case: str) -> None:
    assert best(RECORDED[case][0], len(PARTLY[case])) == PARTLY[case]


@pytest.mark.parametrize(("count", "wanted"), [(0, 0), (1, 1), (9, 2), (100, 12), (3000, 100), (50, 50)])
def test_the_best_are_the_best(count: int, wanted: int) -> None:
    source = random.Random(count)
    keys = [source.random() for _ in range(count)]
    assert best(keys, wanted) == sorted(range(count), key=lambda index: -keys[index])[:wanted]


@pytest.mark.parametrize(
    ("classes", "keep", "expected"),
    [(3, 3, RECORDED["17 alike"][1][:3]), (3, 2, PARTLY["17 alike"]), (2, 3, [0, 1, 2])],
)
def test_which_of_equal_detections_stay(classes: int, keep: int, expected: list[int]) -> None:
    """17 boxes apart with one score: std::sort, std::partial_sort of eight times as many, and one class's first."""
    layer = make(f"keep_top_k: {keep} confidence_threshold: 0.5", classes=classes)
    priors = torch.tensor([[i, i, i + 0.5, i + 0.5] for i in range(17)]).reshape(1, 1, -1).repeat(1, 2, 1)
    scores = torch.tensor([0.0, 1.0, 0.0][:classes]).repeat(1, 17)
    (found,) = layer.forward([torch.zeros(1, 68), scores, priors], ())
    assert found[0, 0, :, 3].tolist() == expected
