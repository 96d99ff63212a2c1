"""Decoding, overlaps and suppression of boxes against loops that follow SSD's bbox_util.cpp and py-faster-rcnn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy import ndarray

from converters.layers import boxes as module
from converters.layers.boxes import box_overlaps, clip_boxes, decode_boxes, decode_regions, nms

Box = tuple[float, float, float, float]


def some_boxes(count: int, *, seed: int, size: float = 1.0) -> ndarray:
    random = np.random.default_rng(seed)
    low = random.random((count, 2)) * 0.8
    return (np.concatenate([low, low + 0.02 + random.random((count, 2)) * 0.3], 1) * size).astype(np.float32)


# The loops of the sources


def overlap_by_hand(a: Box, b: Box, pixels: float) -> float:
    """JaccardOverlap of bbox_util.cpp; with pixels 1, the `ovr` of py_cpu_nms.py."""
    width = min(a[2], b[2]) - max(a[0], b[0]) + pixels
    height = min(a[3], b[3]) - max(a[1], b[1]) + pixels
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(x2 - x1 + pixels) * (y2 - y1 + pixels) if x2 >= x1 and y2 >= y1 else 0 for x1, y1, x2, y2 in (a, b)]
    return width * height / (sum(areas) - width * height)


def nms_by_hand(
    boxes: ndarray, scores: ndarray, *, threshold: float, least: float, top_k: int, eta: float, pixels: float
) -> list[int]:
    """GetMaxScoreIndex and ApplyNMSFast of bbox_util.cpp, candidate by candidate."""
    floor = np.float32(least)  # NumPy 1 would compare with a Python float in double precision
    waiting = [index for index, score in enumerate(scores) if score > floor]
    waiting.sort(key=lambda index: -scores[index])  # stable, as std::stable_sort
    if -1 < top_k < len(waiting):
        waiting = waiting[:top_k]
    kept: list[int] = []
    for index in waiting:
        a = tuple(map(float, boxes[index]))
        if all(overlap_by_hand(a, tuple(map(float, boxes[k])), pixels) <= threshold for k in kept):
            kept.append(index)
            if eta < 1 and threshold > 0.5:
                threshold *= eta
    return kept


def nms_of_py_faster_rcnn(boxes: ndarray, scores: ndarray, threshold: float) -> list[int]:
    """py_cpu_nms.py's loop over what is left."""
    x1, y1, x2, y2 = boxes.T
    areas = (x2 - x1 + 1) * (y2 - y1 + 1)
    order, keep = scores.argsort()[::-1], []
    while order.size:
        best, rest = order[0], order[1:]
        keep.append(int(best))
        w = np.maximum(0.0, np.minimum(x2[best], x2[rest]) - np.maximum(x1[best], x1[rest]) + 1)
        h = np.maximum(0.0, np.minimum(y2[best], y2[rest]) - np.maximum(y1[best], y1[rest]) + 1)
        order = rest[w * h / (areas[best] + areas[rest] - w * h) <= threshold]
    return keep


# Suppression


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.45, 0.7, 1.0])
@pytest.mark.parametrize("eta", [1.0, 0.9, 0.5])
@pytest.mark.parametrize(("top_k", "least"), [(-1, -math.inf), (0, 0.0), (50, 0.5), (400, 0.01)])
@pytest.mark.parametrize("block", [7, 256])
def test_nms_is_apply_nms_fast(
    monkeypatch: pytest.MonkeyPatch, threshold: float, eta: float, top_k: int, least: float, block: int
) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    monkeypatch.setattr(module, "KEPT", 13)
    boxes = some_boxes(150, seed=int(threshold * 100))
    scores = np.random.default_rng(5).random(150).astype(np.float32).round(2)  # with ties
    expected = nms_by_hand(boxes, scores, threshold=threshold, least=least, top_k=top_k, eta=eta, pixels=0)
    given = torch.from_numpy(boxes), torch.from_numpy(scores)
    found = nms(*given, threshold=threshold, score_threshold=least, top_k=top_k, eta=eta)
    assert found.tolist() == expected


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_nms_is_that_of_py_faster_rcnn(threshold: float) -> None:
    boxes = some_boxes(200, seed=3, size=60).round()
    scores = np.random.default_rng(6).permutation(200).astype(np.float32)
    found = nms(torch.from_numpy(boxes), torch.from_numpy(scores), threshold=threshold, pixels=1).tolist()
    assert found == nms_of_py_faster_rcnn(boxes, scores, threshold)
    without = nms(torch.from_numpy(boxes), torch.from_numpy(scores), threshold=threshold).tolist()
    assert found != without, "the pixel more must matter here"


def test_of_equal_scores_the_first_stays() -> None:
    boxes = torch.tensor([[0.0, 0, 1, 1]] * 3 + [[5, 5, 6, 6]])
    assert nms(boxes, torch.tensor([0.5, 0.5, 0.5, 0.5]), threshold=0.5).tolist() == [0, 3]


def test_as_much_as_the_threshold_is_kept_or_not() -> None:
    boxes = torch.tensor([[0.0, 0, 2, 1], [0, 0, 1, 1]], dtype=torch.float64)
    scores = torch.tensor([0.9, 0.8])
    assert nms(boxes, scores, threshold=0.5).tolist() == [0, 1]
    assert nms(boxes, scores, threshold=0.5, keep_equal=False).tolist() == [0]


def test_the_threshold_is_a_float_as_in_caffe() -> None:
    """One box is 0.3f of the other, which is above the double 0.3."""
    boxes = torch.tensor([[0.0, 0, 10, 1], [0, 0, 3, 1]])
    assert float(box_overlaps(boxes, boxes)[0, 1]) > 0.3
    assert nms(boxes, torch.tensor([0.9, 0.8]), threshold=0.3).tolist() == [0, 1]


def test_degenerate_boxes_overlap_with_nothing() -> None:
    boxes = torch.tensor([[1.0, 1, 1, 1], [1, 1, 1, 1], [2, 2, 1, 1], [0, 0, 3, 3]])
    assert nms(boxes, torch.ones(4), threshold=0.0).tolist() == [0, 1, 2, 3]
    assert box_overlaps(boxes, boxes).isfinite().all()
    assert nms(torch.zeros(0, 4), torch.zeros(0), threshold=0.5).tolist() == []
    assert nms(torch.ones(2, 4), torch.tensor([math.nan, 0.1]), threshold=0.5, score_threshold=0.0).tolist() == [1]


def test_as_many_priors_as_ssd512_has_go_through() -> None:
    """Without top_k: a matrix of all against all would take 2.4 GB."""
    boxes = torch.from_numpy(some_boxes(24_564, seed=1))
    scores = torch.rand(24_564, generator=torch.Generator().manual_seed(0))
    kept = nms(boxes, scores, threshold=0.45)
    assert 0 < len(kept) < 4000
    assert (box_overlaps(boxes[kept], boxes[kept]) - torch.eye(len(kept))).max() <= 0.45


# Decoding


def decode_by_hand(offset: Box, prior: Box, variance: Box | None, code: str) -> list[float]:
    """DecodeBBox of bbox_util.cpp, one box."""
    v = variance or (1.0, 1.0, 1.0, 1.0)
    width, height = prior[2] - prior[0], prior[3] - prior[1]
    if code == "CORNER":
        return [p + s * o for p, s, o in zip(prior, v, offset, strict=True)]
    if code == "CORNER_SIZE":
        return [p + s * o * d for p, s, o, d in zip(prior, v, offset, (width, height) * 2, strict=True)]
    x = v[0] * offset[0] * width + (prior[0] + prior[2]) / 2
    y = v[1] * offset[1] * height + (prior[1] + prior[3]) / 2
    w, h = math.exp(v[2] * offset[2]) * width, math.exp(v[3] * offset[3]) * height
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]


@pytest.mark.parametrize("code", module.CODE_TYPES)
@pytest.mark.parametrize("scaled", [True, False])
def test_boxes_are_decoded(code: module.CodeType, scaled: bool) -> None:
    random = np.random.default_rng(2)
    priors, offsets = some_boxes(9, seed=4).astype(np.float64), random.normal(size=(2, 9, 4))
    variances = random.uniform(0.05, 0.3, (9, 4)) if scaled else None
    found = decode_boxes(
        torch.from_numpy(offsets),
        torch.from_numpy(priors),
        torch.from_numpy(variances) if variances is not None else None,
        code=code,
    )
    for image in range(2):
        for index in range(9):
            variance = tuple(variances[index]) if variances is not None else None
            expected = decode_by_hand(tuple(offsets[image, index]), tuple(priors[index]), variance, code)
            np.testing.assert_allclose(found[image, index], expected, rtol=0, atol=1e-12)


def test_regions_are_decoded_as_in_py_faster_rcnn() -> None:
    random = np.random.default_rng(7)
    boxes, offsets = some_boxes(5, seed=8, size=100).astype(np.float64), random.normal(size=(5, 12))
    found = decode_regions(torch.from_numpy(offsets), torch.from_numpy(boxes)).numpy()
    for (x1, y1, x2, y2), row, result in zip(boxes, offsets, found, strict=True):
        w, h = x2 - x1 + 1, y2 - y1 + 1
        for k in range(3):
            dx, dy, dw, dh = row[4 * k : 4 * k + 4]
            x, y = dx * w + x1 + 0.5 * w, dy * h + y1 + 0.5 * h
            half_w, half_h = 0.5 * math.exp(dw) * w, 0.5 * math.exp(dh) * h
            expected = [x - half_w, y - half_h, x + half_w, y + half_h]
            np.testing.assert_allclose(result[4 * k : 4 * k + 4], expected, rtol=0, atol=1e-9)


def test_corners_are_moved_into_the_image() -> None:
    boxes = torch.tensor([[-5.0, -1, 120, 30, 3, 4, 5, 99]])
    assert clip_boxes(boxes, height=49, width=99).tolist() == [[0, 0, 99, 30, 3, 4, 5, 49]]
