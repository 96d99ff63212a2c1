"""Images at other sizes have cv2's bits, which Caffe's classification.cpp and data layers feed to a net."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import fcn_port
from converters import CaffeNet, parse_prototxt
from fcn_port.predict.resizing import resize
from weights.records import InputRecipe, Preprocessing


@pytest.mark.parametrize("seed", range(8))
def test_every_bit_is_cv2s(seed: int) -> None:
    r = np.random.default_rng(seed)
    for _ in range(12):
        before, after = (tuple(map(int, r.integers(1, 70, 2))) for _ in range(2))
        image = r.integers(0, 256, (*before, int(r.choice([1, 3, 4]))), dtype=np.uint8)
        for size in (after, (2 * before[0], before[1]), (max(1, before[0] // 2), max(1, before[1] // 2))):
            expected = cv2.resize(image, size[::-1]).reshape(*size, -1)
            assert np.array_equal(resize(image, size), expected), (before, size)


def test_numbers_that_are_no_bytes_keep_their_fractions() -> None:
    image = np.random.default_rng(0).normal(size=(9, 14, 3)).astype(np.float32)
    expected = cv2.resize(image, (5, 6))
    assert np.allclose(resize(image, (6, 5)), expected, atol=1e-6)


def test_a_classifier_sees_what_classification_cpp_feeds(tmp_path: Path) -> None:
    net = CaffeNet(parse_prototxt("""
        layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 7 dim: 9 } } }
        layer { name: "score" type: "InnerProduct" bottom: "data" top: "score" inner_product_param { num_output: 5 } }
    """))  # fmt: skip
    image, mean = np.random.default_rng(1).integers(0, 256, (31, 20, 3), dtype=np.uint8), (104.0, 117.0, 123.0)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    blob = (cv2.resize(image, (9, 7)).astype(np.float32) - np.float32(mean)).transpose(2, 0, 1)[None]
    expected = net(torch.from_numpy(blob))[0]
    recipe = Preprocessing((InputRecipe("data", "color", "bgr", mean),))
    found = fcn_port.classify(net, tmp_path / "a.png", preprocessing=recipe).found
    assert {each.label: each.score for each in found} == dict(enumerate(expected.tolist()))
