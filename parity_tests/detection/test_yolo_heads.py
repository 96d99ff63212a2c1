"""YOLO nets that end before their boxes: of 2016 by their grid, the others by anchors that are given."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

import fcn_port
from converters import CaffeNet, NetError, parse_prototxt
from converters.export import write_caffe
from fcn_port.cli import run
from fcn_port.detection import with_anchors
from fcn_port.loading import attach
from fcn_port.predict.resizing import resize
from parity_tests.detection.test_refined import Found, same
from weights.card import Card
from weights.records import InputRecipe, Preprocessing

HEAD = """layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: [1, 3, 64, 96] }} }} }}
layer {{ name: "{name}" type: "Convolution" bottom: "data" top: "{name}"
  convolution_param {{ num_output: {count} kernel_size: {stride} stride: {stride} }} }}"""
ANCHORS_2 = (0.5, 0.8, 1.5, 1.0)
ANCHORS_3 = (10.0, 14.0, 23.0, 27.0, 37.0, 58.0, 81.0, 82.0)
CLASSES = 3


def made(text: str, *, size: float = 0.001) -> CaffeNet:
    net = CaffeNet(parse_prototxt(text)).eval()
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * size)
    attach(net, Card(preprocessing=Preprocessing((InputRecipe("data", "color", "file", (0.0, 0.0, 0.0)),))))
    return net


def drawn(size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (*size, 3)).astype(np.uint8)


def overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    across, down = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(0, across) * max(0, down)
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def best_of(boxes: list[Found], threshold: float, *, equal: bool) -> set[Found]:
    kept: list[Found] = []
    for each in sorted(boxes, key=lambda box: -box[1]):
        if all(overlap(each[2], o[2]) < threshold or (overlap(each[2], o[2]) == threshold and equal) for o in kept):
            kept.append(each)
    return set(kept)


def cut(box: tuple[float, ...], size: tuple[int, int]) -> tuple[float, ...]:
    return tuple(min(max(side, 0), (size[1], size[0])[k % 2]) for k, side in enumerate(box))


def grid_by_hand(numbers: np.ndarray, size: tuple[int, int], *, rooted: bool = True) -> set[Found]:
    """caffe-yolo, yolo_main.py, interpret_output."""
    h, w = size
    found: list[Found] = []
    for row, column, box in np.ndindex(7, 7, 2):
        cell = row * 7 + column
        scores = [numbers[cell * 20 + k] * numbers[980 + cell * 2 + box] for k in range(20)]
        x, y, bw, bh = numbers[1078 + (cell * 2 + box) * 4 :][:4]
        cx, cy = (x + column) / 7 * w, (y + row) / 7 * h
        bw, bh = (bw * bw * w, bh * bh * h) if rooted else (bw * w, bh * h)
        for score in scores:
            if score >= 0.2:
                corners = (cx - bw / 2, cy - bh / 2, cx + bw / 2, cy + bh / 2)
                found.append((int(np.argmax(scores)) + 1, float(score), tuple(map(float, corners))))
    return {(label, score, cut(box, size)) for label, score, box in best_of(found, 0.5, equal=True)}


@pytest.mark.parametrize("size", [(448, 448), (60, 140)])
def test_the_grid_of_the_first_yolo(size: tuple[int, int]) -> None:
    net = made("""layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [1, 3, 448, 448] } } }
layer { name: "small" type: "Pooling" bottom: "data" top: "small"
  pooling_param { pool: AVE kernel_size: 64 stride: 64 } }
layer { name: "result" type: "InnerProduct" bottom: "small" top: "result" inner_product_param { num_output: 1470 } }""")
    image = drawn(size)
    with torch.no_grad():
        net.result.bias[:1078] += 0.45  # type: ignore[union-attr,index,operator]
        seen = torch.from_numpy(resize(image, (448, 448)).transpose(2, 0, 1).copy())[None].float()
        numbers = net(seen).numpy()[0]
    found = fcn_port.detect(net, image)
    assert len(found) > 5 and same(found, grid_by_hand(numbers, size))
    assert not same(found, grid_by_hand(numbers, size, rooted=False))


def boxes_by_hand(head: np.ndarray, anchors: tuple[float, ...], *, softmax: bool, unit: float) -> list[Found]:
    """darknet's get_region_box and get_yolo_box; of a box's classes the best, in parts of the image."""
    found = []
    count = len(anchors) // 2
    channels, h, w = head.shape
    for n, j, i in np.ndindex(count, h, w):
        x, y, bw, bh, object_, *classes = head[n * (channels // count) :][: channels // count, j, i].astype(float)

        def logistic(value: float) -> float:
            return 1 / (1 + math.exp(-value))

        chances = [math.exp(c) / sum(map(math.exp, classes)) if softmax else logistic(c) for c in classes]
        label = int(np.argmax(chances))
        cx, cy = (i + logistic(x)) / w, (j + logistic(y)) / h
        bw, bh = (math.exp(v) * a / unit / s for v, a, s in zip((bw, bh), anchors[2 * n :], (w, h), strict=False))
        corners = (cx - bw / 2, cy - bh / 2, cx + bw / 2, cy + bh / 2)
        found.append((label + 1, chances[label] * logistic(object_), corners))
    return [each for each in found if each[1] >= 0.01]


def in_pixels(found: set[Found], size: tuple[int, int]) -> set[Found]:
    h, w = size
    return {(label, score, cut((b[0] * w, b[1] * h, b[2] * w, b[3] * h), size)) for label, score, b in found}


def test_heads_of_version_2_and_a_region_layer() -> None:
    text = HEAD.format(name="conv", count=2 * (5 + CLASSES), stride=16)
    region = """layer { name: "region" type: "Region" bottom: "conv" top: "region"
      region_param { classes: 3 coords: 4 boxes_of_each_grid: 2 softmax: true } }"""
    image = drawn((50, 120))
    net = made(text)
    with torch.no_grad():
        head = net(torch.from_numpy(resize(image, (64, 96)).transpose(2, 0, 1).copy())[None].float()).numpy()[0]
    expected = in_pixels(best_of(boxes_by_hand(head, ANCHORS_2, softmax=True, unit=1), 0.45, equal=False), (50, 120))
    found = fcn_port.detect(with_anchors(net, ANCHORS_2), image, names=["none", "cat", "dog", "cow"])
    assert len(found) > 5 and same(found, expected) and {each.name for each in found} <= {"cat", "dog", "cow"}
    assert not same(fcn_port.detect(with_anchors(net, ANCHORS_2[::-1]), image), expected)
    assert same(fcn_port.detect(with_anchors(made(text + region), ANCHORS_2), image), expected)
    with pytest.raises(NetError, match=r"does not say its anchors.*\n.*--anchors"):
        fcn_port.detect(made(text + region), image)
    with pytest.raises(NetError, match="no softmax"):
        with_anchors(made(text + region.replace("softmax: true", "")), ANCHORS_2)


def test_heads_of_version_3_take_the_last_anchors_where_places_are_fewest() -> None:
    text = (
        HEAD.format(name="fine", count=2 * (5 + CLASSES), stride=8)
        + HEAD.format(name="coarse", count=2 * (5 + CLASSES), stride=16).split("\n", 1)[1]
    )
    image = drawn((64, 96))
    net = made(text)
    with torch.no_grad():
        heads = net(torch.from_numpy(image.transpose(2, 0, 1).copy())[None].float())
    fine, coarse = (heads[name].numpy()[0] for name in ("fine", "coarse"))

    def expected(first: int) -> set[Found]:
        anchors = (ANCHORS_3[:4], ANCHORS_3[4:])[:: 1 if first == 0 else -1]
        found = boxes_by_hand(fine, anchors[0], softmax=False, unit=8)
        found += boxes_by_hand(coarse, anchors[1], softmax=False, unit=16)
        return in_pixels(best_of(found, 0.45, equal=False), (64, 96))

    found = fcn_port.detect(with_anchors(net, ANCHORS_3), image)
    assert len(found) > 5 and same(found, expected(0)) and not same(found, expected(1))


@pytest.mark.parametrize(
    ("anchors", "said"),
    [
        ((), "0 numbers"),
        ((1.0, 2.0, 3.0), "3 numbers"),
        ((1.0, float("nan")), "above 0"),
        ((1.0, 1.0, 1.0, 2.0, 3.0, 3.0), "3 x (5 + classes) channels; 'conv' has 16"),
        ((1.0,) * 40, "20 x (5 + classes)"),
    ],
)
def test_anchors_that_do_not_fit(
    anchors: tuple[float, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = made(HEAD.format(name="conv", count=16, stride=16))
    with pytest.raises(ValueError) as error:
        with_anchors(net, anchors)
    assert said in str(error.value)


def test_the_program_takes_anchors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    net = made(HEAD.format(name="conv", count=16, stride=16))
    write_caffe(net.spec, net.state_dict(), tmp_path / "y.caffemodel", prototxt=tmp_path / "y.prototxt")
    Image.fromarray(drawn((50, 120))).save(tmp_path / "a.png")
    call = [
        "predict",
        str(tmp_path / "y.caffemodel"),
        str(tmp_path / "a.png"),
        "--prototxt",
        str(tmp_path / "y.prototxt"),
    ]
    call += ["--mean", "0", "--channels", "rgb", "-o", str(tmp_path), "--least-score", "0.1", "--anchors"]
    assert run([*call, ",".join(map(str, ANCHORS_2))]) == 0
    expected = fcn_port.detect(with_anchors(net, ANCHORS_2), tmp_path / "a.png", threshold=0.1)
    assert len(capsys.readouterr().out.splitlines()) == len(expected) + 2
    assert (tmp_path / "a.detections.png").is_file()
    for anchors, words in (("1,2,x", "no list of numbers"), ("1,2,3,4,5,6", "'conv' has 16")):
        assert run([*call, anchors]) == 2
        assert words in capsys.readouterr().err
