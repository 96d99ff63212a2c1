"""COCO's run lengths: against counting by hand, against a decoder written down here, and against pycocotools."""

from __future__ import annotations

import numpy as np
import pytest

from fcn_port.predict import Segmentation
from fcn_port.predict.palettes import voc_palette
from fcn_port.predict.run_lengths import counts_text, run_lengths, to_coco


def decoded(text: str, size: tuple[int, int]) -> np.ndarray:
    """The mask of a text, as maskApi.c's rleFrString reads it."""
    counts: list[int] = []
    at = 0
    while at < len(text):
        value = shift = 0
        more = True
        while more:
            c = ord(text[at]) - 48
            value |= (c & 0x1F) << (5 * shift)
            more = bool(c & 0x20)
            at += 1
            shift += 1
            if not more and c & 0x10:
                value |= -1 << (5 * shift)
        counts.append(value + counts[-2] if len(counts) > 2 else value)
    values = np.repeat(np.arange(len(counts)) % 2, counts)
    return values.reshape(size, order="F").astype(bool)


def test_the_runs_of_a_mask_by_hand() -> None:
    mask = np.array([[0, 1, 1], [0, 1, 0]])
    assert run_lengths(mask) == [2, 3, 1]  # down the columns: 00 11 10
    assert run_lengths(1 - mask) == [0, 2, 3, 1]
    assert run_lengths(np.ones((2, 3))) == [0, 6] and run_lengths(np.zeros((2, 3))) == [6]


@pytest.mark.parametrize("size, density", [((1, 1), 1.0), ((7, 5), 0.5), ((40, 61), 0.02), ((200, 333), 0.0005)])
def test_a_mask_comes_back(size: tuple[int, int], density: float) -> None:
    mask = np.random.default_rng(3).random(size) < density
    text = counts_text(run_lengths(mask))
    assert np.array_equal(decoded(text, size), mask)
    coco = pytest.importorskip("pycocotools.mask", reason="pycocotools, COCO's own")
    assert coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode() == text


def test_each_class_is_a_record() -> None:
    labels = np.zeros((6, 9), np.uint8)
    labels[1:3, 4:8] = 15
    seen = Segmentation(labels, None, np.zeros((6, 9, 3), np.uint8), (), voc_palette())
    background, person = to_coco(seen, 7)
    assert (background["category_id"], background["area"], background["bbox"]) == (0, 46, [0, 0, 9, 6])
    assert (person["image_id"], person["category_id"], person["area"]) == (7, 15, 8)
    assert person["bbox"] == [4, 1, 4, 2] and person["segmentation"]["size"] == [6, 9]
    assert np.array_equal(decoded(person["segmentation"]["counts"], (6, 9)), labels == 15)
