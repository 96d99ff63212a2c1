"""SSH's and CTPN's nets in `detect`, against their projects' steps in loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import fcn_port
from converters import CaffeNet, parse_prototxt
from fcn_port.detection.text_lines import text_lines
from fcn_port.loading import attach
from fcn_port.predict.resizing import resize
from parity_tests.layers.test_boxes import nms_of_py_faster_rcnn
from weights.card import Card
from weights.records import InputRecipe, Preprocessing

MEAN = (102.9801, 115.9465, 122.7717)
NET = """
layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: [1, 3, 96, 96] }} }} }}
layer {{ name: "im_info" type: "Input" top: "im_info" input_param {{ shape {{ dim: [1, 3] }} }} }}
layer {{ name: "small" type: "Pooling" bottom: "data" top: "small"
  pooling_param {{ pool: AVE kernel_size: {pooled} stride: {pooled} }} }}
layer {{ name: "cls" type: "Convolution" bottom: "small" top: "cls"
  convolution_param {{ num_output: {cls} kernel_size: 1 }} }}
layer {{ name: "two" type: "Reshape" bottom: "cls" top: "two" reshape_param {{ shape {{ dim: [0, 2, -1, 0] }} }} }}
layer {{ name: "prob" type: "Softmax" bottom: "two" top: "prob" }}
layer {{ name: "back" type: "Reshape" bottom: "prob" top: "back"
  reshape_param {{ shape {{ dim: [0, {cls}, -1, 0] }} }} }}
layer {{ name: "box" type: "Convolution" bottom: "small" top: "box"
  convolution_param {{ num_output: {box} kernel_size: 1 }} }}
layer {{ name: "proposal" type: "Python" bottom: "back" bottom: "box" bottom: "im_info" top: "{boxes}" top: "{scores}"
  python_param {{ module: "{module}" layer: "ProposalLayer" param_str: "{params}" }} }}
"""
SSH = NET.format(pooled=128, cls=4, box=8, boxes="ssh_boxes", scores="ssh_cls_prob", module="SSH.layers.proposal_layer",
                 params="{'feat_stride': 128, 'scales': [8, 16], 'ratios': [1]}")  # fmt: skip
CTPN = NET.format(pooled=16, cls=20, box=20, boxes="rois", scores="scores", module="layers.text_proposal_layer",
                  params="'feat_stride': 16")  # fmt: skip


def made(text: str, *, size: float) -> CaffeNet:
    net = CaffeNet(parse_prototxt(text)).eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("weight"):
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * (size if "cls" in name else 0.002))
    attach(net, Card(preprocessing=Preprocessing((InputRecipe("data", "color", "bgr", MEAN),))))
    return net


def blobs(net: CaffeNet, image: np.ndarray, shorter: int, longer: int) -> tuple[dict[str, np.ndarray], float]:
    h, w = image.shape[:2]
    scale = shorter / min(h, w)
    if round(scale * max(h, w)) > longer:
        scale = longer / max(h, w)
    seen = resize(image, (round(h * scale), round(w * scale)))
    x = (seen[:, :, ::-1].astype(np.float64) - MEAN).astype(np.float32)
    info = torch.tensor([[*seen.shape[:2], scale]], dtype=torch.float32)
    with torch.no_grad():
        found = net.blobs(torch.from_numpy(x.transpose(2, 0, 1).copy())[None], info)
    return {name: blob.numpy() for name, blob in found.items()}, scale


def drawn(size: tuple[int, int]) -> np.ndarray:
    coarse = np.random.default_rng(5).integers(0, 256, (6, 10, 3)).astype(np.uint8)
    return resize(coarse, size)


@pytest.mark.parametrize("size", [(90, 120), (40, 200)])
def test_faces_of_ssh(size: tuple[int, int]) -> None:
    """SSH/test.py, detect: scores above 0.05, then an NMS of 0.3, in pixels of the image."""
    net, image = made(SSH, size=0.005), drawn(size)
    found = fcn_port.detect(net, image)
    values, scale = blobs(net, image, 1200, 1600)
    boxes, scores = values["ssh_boxes"][:, 1:] / scale, values["ssh_cls_prob"][:, 0]
    good = [i for i in range(len(scores)) if scores[i] > 0.05]
    kept = nms_of_py_faster_rcnn(boxes[good].astype(np.float32), scores[good], 0.3)
    assert len(found) == len(kept) > 2 and {each.name for each in found} == {"face"}
    for each, k in zip(found, kept, strict=True):
        np.testing.assert_allclose(each.score, scores[good[k]], atol=1e-6)
        np.testing.assert_allclose(each.box, boxes[good[k]], atol=0.01)
    h, w = size
    assert max(each.box[2] for each in found) <= w and max(each.box[3] for each in found) <= h


def nms_by_hand(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> list[int]:
    """CTPN, src/utils/cpu_nms.pyx: a box goes where it overlaps as much, too."""
    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable"):
        for j in kept:
            a, b = boxes[i], boxes[j]
            across = max(0, min(a[2], b[2]) - max(a[0], b[0]) + 1)
            down = max(0, min(a[3], b[3]) - max(a[1], b[1]) + 1)
            areas = [(x[2] - x[0] + 1) * (x[3] - x[1] + 1) for x in (a, b)]
            if across * down / (sum(areas) - across * down) >= threshold:
                break
        else:
            kept.append(int(i))
    return kept


def lines_by_hand(
    slices: np.ndarray, scores: np.ndarray, size: tuple[int, int], *, gap: int = 50, mutual: bool = True
) -> np.ndarray:
    """text_proposal_graph_builder.py and text_proposal_connector.py, with a matrix of which slice follows which."""
    n, width = len(slices), size[1]
    scores = (scores - scores.min()) / (scores.max() - scores.min())

    def alike(a: int, b: int) -> bool:
        ha, hb = (slices[k, 3] - slices[k, 1] + 1 for k in (a, b))
        shared = max(0, min(slices[a, 3], slices[b, 3]) - max(slices[a, 1], slices[b, 1]) + 1) / min(ha, hb)
        return bool(shared >= 0.7 and min(ha, hb) / max(ha, hb) >= 0.7)

    lefts = slices[:, 0].astype(int).tolist()

    def first_of(index: int, columns: range) -> list[int]:
        for column in columns:
            there = [k for k in range(n) if lefts[k] == column and alike(k, index)]
            if there:
                return there
        return []

    graph = np.zeros((n, n), bool)
    for i in range(n):
        x = int(slices[i, 0])
        after = first_of(i, range(x + 1, min(x + gap + 1, width)))
        if after:
            best = max(after, key=lambda k: scores[k])
            x = int(slices[best, 0])
            before = first_of(best, range(x - 1, max(x - gap, 0) - 1, -1))
            if not mutual or scores[i] >= max(scores[k] for k in before):
                graph[i, best] = True
    lines = []
    for i in range(n):
        if graph[:, i].any() or not graph[i].any():
            continue
        group = [i]
        while graph[group[-1]].any():
            group.append(int(np.flatnonzero(graph[group[-1]])[0]))
        part = slices[group]
        x0, x1 = part[:, 0].min(), part[:, 2].max()
        half = (part[0, 2] - part[0, 0]) / 2
        sides = []
        for side in (1, 3):
            a, b = np.linalg.lstsq(np.stack([part[:, 0], np.ones(len(part))], 1), part[:, side], rcond=None)[0]
            sides.append((a * (x0 + half) + b, a * (x1 - half) + b))
        box = [x0, min(sides[0]), x1, max(sides[1])]
        box = [min(max(value, 0), (size[1], size[0])[k % 2] - 1) for k, value in enumerate(box)]
        score = scores[group].mean()
        wide, high = box[2] - box[0] + 1, box[3] - box[1] + 1
        if wide / high > 1.2 and score > 0.7 and wide > 32:
            lines.append([*box, score])
    return np.array(lines).reshape(-1, 5)


def slices_of(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two lines that lean, with gaps, and slices beside them."""
    rng = np.random.default_rng(seed)
    boxes = []
    for top, lean, columns in ((40, 0.1, range(1, 14)), (120, -0.05, [2, 3, 5, 8, 9, 14, 15, 16, 17, 18])):
        for column in columns:
            x = 16 * column
            y = top + lean * x + rng.normal()
            boxes.append([x, y, x + 15, y + 30 + rng.normal()])
            if rng.random() < 0.4:
                boxes.append([x, y + 4, x + 15, y + 33])
    boxes.append([300, 20, 315, 60])
    return np.array(boxes, np.float32), rng.uniform(0.8, 1, len(boxes)).astype(np.float32)


def test_slices_join_to_lines() -> None:
    wrong = {"gap": 0, "mutual": 0}
    for seed in range(4):
        slices, scores = slices_of(seed)
        scores[0] = 0.0  # so that the others are near 1 when they are spread
        found = text_lines(slices, scores, (200, 400))
        expected = lines_by_hand(slices, scores, (200, 400))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-2)
        for name, others in (
            ("gap", lines_by_hand(slices, scores, (200, 400), gap=40)),
            ("mutual", lines_by_hand(slices, scores, (200, 400), mutual=False)),
        ):
            wrong[name] += others.shape != found.shape or not np.allclose(others, found, atol=1e-2)
    assert len(found) >= 2 and all(wrong.values()), "a wrong step must show"


def test_no_slices_and_equal_ones_make_no_line() -> None:
    assert text_lines(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), (50, 50)).shape == (0, 5)
    slices, _ = slices_of(0)
    assert not len(text_lines(slices, np.ones(len(slices), np.float32), (200, 400))), "spread scores are all 0"


def test_lines_of_ctpn_are_in_pixels_of_the_image() -> None:
    net = made(CTPN, size=0.2)
    with torch.no_grad():
        net.cls.bias[[*range(10, 13), *range(14, 20)]] = -60.0  # type: ignore[union-attr]  # slices of one height alone
    image = drawn((90, 130))
    found = fcn_port.detect(net, image)
    values, scale = blobs(net, image, 600, 1000)
    boxes, scores = values["rois"], values["scores"][:, 0]
    good = np.flatnonzero(scores > 0.7)
    kept = good[nms_by_hand(boxes[good], scores[good], 0.3)]
    lines = lines_by_hand(boxes[kept], scores[kept], (600, round(130 * scale)))
    lines = lines[nms_by_hand(lines, lines[:, 4], 0.3)]
    assert len(found) == len(lines) >= 1 and {each.name for each in found} == {"text"}
    for each, line in zip(found, lines, strict=True):
        np.testing.assert_allclose(each.score, line[4], atol=1e-5)
        np.testing.assert_allclose(each.box, line[:4] / scale, atol=0.02)
