"""YOLO's layers, against the forks' own loops written out one number after the other, and Reorg against OpenCV too."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from converters import CaffeNet, NetError, parse_prototxt
from converters.net.layer import Layer
from parity_tests.layers.test_layers import make, run, values


def reorg_by_hand(x: np.ndarray, s: int, *, forward: bool) -> np.ndarray:
    """caffe-yolov2, reorg_layer.hpp, reorg_cpu: places in flat memory."""
    n, c, h, w = x.shape
    flat, top = x.ravel(), np.zeros(x.size, np.float32)
    count = c // (s * s)
    for b, k, j, i in np.ndindex(n, c, h, w):
        here = i + w * (j + h * (k + c * b))
        offset, k2 = k // count, k % count
        there = i * s + offset % s + w * s * (j * s + offset // s + h * s * (k2 + count * b))
        top[there if forward else here] = flat[here if forward else there]
    return top


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_reorg_is_darknets(stride: int) -> None:
    x = values("reorg", 2, 18 if stride == 3 else 8, 6, 12)
    (top,) = run(make("Reorg", f"reorg_param {{ stride: {stride} }}"), x)
    assert np.array_equal(top.ravel(), reorg_by_hand(x.numpy(), stride, forward=False))
    (back,) = run(make("Reorg", f"reorg_param {{ stride: {stride} reverse: true }}"), x)
    assert np.array_equal(back.ravel(), reorg_by_hand(x.numpy(), stride, forward=True))


def test_the_same_as_python_layer_and_in_opencv(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    text = """
    layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 8 dim: 6 dim: 10 } } }
    layer { name: "reorg" type: "Reorg" bottom: "data" top: "reorg" reorg_param { stride: 2 } }
    """
    (tmp_path / "net.prototxt").write_text(text)
    theirs = cv2.dnn.readNetFromCaffe(str(tmp_path / "net.prototxt"))
    x = values("reorg", 1, 8, 6, 10)
    theirs.setInput(x.numpy())
    ours = CaffeNet(parse_prototxt(text))(x).numpy()
    assert np.array_equal(ours, theirs.forward())
    (python,) = run(make("Python", 'python_param { module: "yolov2" layer: "darknet_reorg" }'), x)
    assert np.array_equal(ours, python)


def test_what_reorg_refuses() -> None:
    layer = make("Reorg", "reorg_param { stride: 2 }")
    for shape, words in (((1, 6, 4, 4), "6 channels"), ((1, 8, 5, 4), "5 x 4 pixels")):
        with pytest.raises(ValueError, match=words):
            layer.top_shapes([shape])


def test_upsample_of_darknet() -> None:
    x = values("x", 1, 2, 3, 4)
    (top,) = run(make("UpsampleDarknet", "upsample_darknet_param { stride: 2 }"), x)
    for n, c, h, w in np.ndindex(*top.shape):
        assert top[n, c, h, w] == x[n, c, h // 2, w // 2]


# Detection outputs

Box = tuple[float, int, tuple[float, float, float, float]]


def logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """box_iou of centres and sizes."""
    sides = [
        min(a[i] + a[2 + i] / 2, b[i] + b[2 + i] / 2) - max(a[i] - a[2 + i] / 2, b[i] - b[2 + i] / 2) for i in (0, 1)
    ]
    common = 0 if min(sides) < 0 else sides[0] * sides[1]
    return common / (a[2] * a[3] + b[2] * b[3] - common)


def rows_by_hand(predicts: list[Box], threshold: float) -> list[list[float]]:
    """ApplyNms and the rows: of classes too, and of all images together."""
    predicts = sorted(predicts, key=lambda each: -each[0])
    gone: set[int] = set()
    for i in range(len(predicts)):
        if i not in gone:
            gone |= {j for j in range(i + 1, len(predicts)) if overlap(predicts[i][2], predicts[j][2]) >= threshold}
    return [
        [0, label + 1, score, x - w / 2, y - h / 2, x + w / 2, y + h / 2]
        for i, (score, label, (x, y, w, h)) in enumerate(predicts)
        if i not in gone
    ]


def v2_by_hand(bottoms: list[np.ndarray], classes: int, anchors: list[float], least: float) -> list[Box]:
    """yolo_detection_output_layer.cpp, Forward_cpu."""
    found: list[Box] = []
    boxes = len(anchors) // 2
    for bottom in bottoms:
        side = bottom.shape[3]
        for b, j, i, n in np.ndindex(len(bottom), side, side, boxes):
            x = bottom[b, n * (5 + classes) : (n + 1) * (5 + classes), j, i].tolist()
            powers = [math.exp(v - max(x[5:])) for v in x[5:]]
            label = int(np.argmax(powers))
            score = logistic(x[4]) * powers[label] / sum(powers)
            size = math.exp(x[2]) * anchors[2 * n] / side, math.exp(x[3]) * anchors[2 * n + 1] / side
            if score >= least:
                found.append((score, label, ((i + logistic(x[0])) / side, (j + logistic(x[1])) / side, *size)))
    return found


def v3_by_hand(
    bottoms: list[np.ndarray], classes: int, anchors: list[float], mask: list[int], scales: list[int], least: float
) -> list[Box]:
    """yolov3_detection_output_layer.cpp, Forward_cpu: a box for each class that is likely."""
    found: list[Box] = []
    boxes = len(mask) // len(bottoms)
    for t, bottom in enumerate(bottoms):
        side = bottom.shape[3]
        for b, j, i, n in np.ndindex(len(bottom), side, side, boxes):
            x = bottom[b, n * (5 + classes) : (n + 1) * (5 + classes), j, i].tolist()
            k, pixels = mask[t * boxes + n], side * scales[t]
            size = math.exp(x[2]) * anchors[2 * k] / pixels, math.exp(x[3]) * anchors[2 * k + 1] / pixels
            for label in range(classes):
                score = logistic(x[5 + label]) * logistic(x[4])
                if score > least:
                    found.append((score, label, ((i + logistic(x[0])) / side, (j + logistic(x[1])) / side, *size)))
    return found


def check(layer: Layer, bottoms: list[torch.Tensor], expected: list[list[float]]) -> None:
    (top,) = layer.forward(bottoms, ())
    assert top.shape == (1, 1, len(expected), 7)
    assert len(expected) > 4
    np.testing.assert_allclose(top[0, 0].numpy(), expected, atol=1e-5)


ANCHORS = [1.5, 2.0, 3.0, 1.0]
V2 = "num_classes: 3 num_box: 2 biases: 1.5 biases: 2 biases: 3 biases: 1 confidence_threshold: 0.2 nms_threshold: 0.4"
PIXELS = [20.0, 30.0, 50.0, 25.0, 60.0, 90.0, 14.0, 9.0]
V3 = (
    "num_classes: 3 num_box: 2 " + " ".join(f"biases: {size}" for size in PIXELS) + " mask: 2 mask: 1 mask: 0 mask: 3 "
    "anchors_scale: 32 anchors_scale: 16 mask_group_num: 2 confidence_threshold: 0.3 nms_threshold: 0.4"
)


@pytest.mark.parametrize("sides", [(5,), (4, 7)])
@pytest.mark.parametrize("images", [1, 2])
def test_yolo_v2s_output(sides: tuple[int, ...], images: int) -> None:
    bottoms = [values(f"v2-{side}", images, 16, side, side) for side in sides]
    layer = make("YoloDetectionOutput", f"yolo_detection_output_param {{ {V2} }}", bottoms=len(sides))
    found = v2_by_hand([bottom.numpy() for bottom in bottoms], 3, ANCHORS, 0.2)
    check(layer, bottoms, rows_by_hand(found, 0.4))
    assert len(rows_by_hand(found, 0.4)) < len(found)


def darknets(x: np.ndarray, section: str, folder: Path, *, pixels: int = 1) -> np.ndarray:
    """What OpenCV's Region layer makes of x as darknet's file has it: rows of x, y, width, height, objectness, scores.

    The net before it is a convolution that takes each of its channels, every `pixels` pixels, as it is.
    """
    cv2 = pytest.importorskip("cv2")
    _, c, h, w = x.shape
    (folder / "net.cfg").write_text(
        f"[net]\nwidth={w * pixels}\nheight={h * pixels}\nchannels={c}\n\n"
        f"[convolutional]\nfilters={c}\nsize=1\nstride={pixels}\npad=0\nactivation=linear\n\n{section}\n"
    )
    head = np.array([0, 2, 0, 0, 0], np.int32).tobytes()
    weights = np.concatenate([np.zeros(c), np.eye(c).ravel()]).astype(np.float32).tobytes()
    (folder / "net.weights").write_bytes(head + weights)
    net = cv2.dnn.readNetFromDarknet(str(folder / "net.cfg"), str(folder / "net.weights"))
    net.setInput(x.repeat(pixels, 2).repeat(pixels, 3))
    rows: np.ndarray = net.forward()
    return rows


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("version", [2, 3])
def test_opencv_finds_the_same_boxes(version: int, classes: int, tmp_path: Path) -> None:
    """OpenCV suppresses boxes of a class, the fork any: the same with one class, and with boxes far from each other."""
    x = values("opencv", 1, 2 * (5 + classes), 6, 6)
    size = 10 if classes == 1 else 0.5
    v2, v3 = (",".join(str(size * each / 10) for each in sizes) for sizes in ((1.5, 2, 3, 1), (20, 30, 50, 25, 60, 90)))
    settings = f"num_classes: {classes} num_box: 2 confidence_threshold: 0.1 nms_threshold: 0.4 "
    section = f"classes={classes}\nthresh=0.1\nnms_threshold=0.4\nnum={{}}\nanchors={{}}\n"
    if version == 2:
        settings += f"biases: [{v2}]"
        layer = make("YoloDetectionOutput", f"yolo_detection_output_param {{ {settings} }}")
        section = "[region]\ncoords=4\nsoftmax=1\n" + section.format(2, v2)
    else:
        settings += f"biases: [{v3}] mask: [2, 1] anchors_scale: 16 mask_group_num: 1"
        layer = make("Yolov3DetectionOutput", f"yolov3_detection_output_param {{ {settings} }}")
        section = "[yolo]\nmask=2,1\n" + section.format(3, v3)
    theirs = darknets(x.numpy(), section, tmp_path, pixels=1 if version == 2 else 16)
    theirs = theirs[theirs[:, 5:].max(1) > 0.1]
    theirs = theirs[np.argsort(-theirs[:, 5:].max(1))]
    (ours,) = layer.forward((x,), ())
    rows = ours[0, 0].numpy()
    assert 5 < len(rows) < 72
    np.testing.assert_array_equal(rows[:, 1], theirs[:, 5:].argmax(1) + 1)
    np.testing.assert_allclose(rows[:, 2], theirs[:, 5:].max(1), atol=1e-5)
    np.testing.assert_allclose((rows[:, 3:5] + rows[:, 5:7]) / 2, theirs[:, :2], atol=1e-5)
    np.testing.assert_allclose(rows[:, 5:7] - rows[:, 3:5], theirs[:, 2:4], atol=1e-5)


def test_detections_in_the_order_of_places() -> None:
    """caffe-yolov2, detection_output_layer.cpp: boxes are not sorted, so a worse one before a better one stays."""
    bottom = values("region", 1, 16, 4, 4)
    layer = make("DetectionOutput", f"detection_output_param {{ {V2} side: 4 }}")
    found = v2_by_hand([bottom.numpy()], 3, ANCHORS, 0.2)
    kept: list = []
    for box in found:
        x, y, w, h = box[2]
        cut = [min(max(v, 0), 1) for v in (x - w / 2, y - h / 2, x + w / 2, y + h / 2)]
        cut = ((cut[0] + cut[2]) / 2, (cut[1] + cut[3]) / 2, cut[2] - cut[0], cut[3] - cut[1])
        if all(overlap(other[3], cut) < 0.4 for other in kept):
            kept.append((*box, cut))
    (top,) = layer.forward([bottom], ())
    expected = [[0, label, score, *place] for score, label, place, _ in kept]
    np.testing.assert_allclose(top[0, 0].numpy(), expected, atol=1e-5)
    assert 3 < len(kept) < len(found)
    assert expected != sorted(expected, key=lambda row: -row[2])
    with pytest.raises(ValueError, match="4 x 4 places"):
        layer.top_shapes([(1, 16, 5, 5)])


def test_the_sum_and_the_best_of_rstarcnn() -> None:
    scores = values("scores", 7, 3)
    (top,) = run(make("MIL", "mil_param { context_per_roi: 3 }"), scores)
    assert np.array_equal(top[:, :, 0, 0], [scores[:3].amax(0).numpy(), scores[3:6].amax(0).numpy()])
    (top,) = run(make("Sum", bottoms=2), scores, scores.reshape(7, 3, 1, 1))
    assert np.array_equal(top, 2 * scores.numpy())


@pytest.mark.parametrize("images", [1, 2])
def test_yolo_v3s_output(images: int) -> None:
    bottoms = [values(f"v3-{side}", images, 16, side, side) for side in (3, 6)]
    layer = make("Yolov3DetectionOutput", f"yolov3_detection_output_param {{ {V3} }}", bottoms=2)
    found = v3_by_hand([bottom.numpy() for bottom in bottoms], 3, PIXELS, [2, 1, 0, 3], [32, 16], 0.3)
    check(layer, bottoms, rows_by_hand(found, 0.4))
    assert len({box for _, _, box in found}) < len(found), "boxes of two classes"


@pytest.mark.parametrize(("threshold", "kept"), [(0.5, 1), (0.51, 2)])
def test_a_box_goes_where_the_overlap_is_just_the_threshold(threshold: float, kept: int) -> None:
    """By hand: about one centre, a box and one twice as wide have half in common."""
    settings = f"num_classes: 1 num_box: 2 biases: 0.25 biases: 0.5 biases: 0.5 biases: 0.5 nms_threshold: {threshold}"
    (top,) = make("YoloDetectionOutput", f"yolo_detection_output_param {{ {settings} }}").forward(
        [torch.zeros(1, 12, 1, 1)], ()
    )
    assert top.shape[2] == kept


@pytest.mark.parametrize("kind", ["YoloDetectionOutput", "Yolov3DetectionOutput"])
def test_no_box_is_a_row_for_each_image(kind: str) -> None:
    settings = (
        f"yolo_detection_output_param {{ {V2} }}" if "v3" not in kind else f"yolov3_detection_output_param {{ {V3} }}"
    )
    bottoms = [torch.full((2, 16, side, side), -9.0) for side in ((3, 6) if "v3" in kind else (3,))]
    layer = make(kind, settings, bottoms=len(bottoms))
    (top,) = layer.forward(bottoms, ())
    assert top[0, 0].tolist() == [[0, *[-1] * 6], [1, *[-1] * 6]]
    assert layer.top_shapes([tuple(bottom.shape) for bottom in bottoms]) == ((1, 1, 1, 7),)


def test_the_best_of_equal_boxes_is_one_of_many() -> None:
    """As many boxes as a net with untrained weights makes, in no time: each of 80 classes is likely everywhere."""
    bottoms = [torch.zeros(1, 255, side, side) for side in (13, 26)]
    settings = " ".join(f"biases: {size}" for size in range(10, 22)) + " " + " ".join(f"mask: {i}" for i in range(6))
    layer = make(
        "Yolov3DetectionOutput",
        f"yolov3_detection_output_param {{ num_classes: 80 {settings} anchors_scale: 32 anchors_scale: 16 }}",
        bottoms=2,
    )
    (top,) = layer.forward(bottoms, ())
    assert 500 < top.shape[2] <= 3 * (13**2 + 26**2)


def test_region() -> None:
    """caffe_yolo_v2, region_layer.cpp: memory as darknet's flatten leaves it, in the bottom's shape."""
    x = values("region", 2, 16, 3, 4)
    for softmax in (False, True):
        layer = make("Region", f"region_param {{ classes: 3 boxes_of_each_grid: 2 softmax: {str(softmax).lower()} }}")
        (top,) = run(layer, x)
        rows = top.reshape(2, 12, 2, 8)
        for b, place, n in np.ndindex(2, 12, 2):
            given = x[b, 8 * n : 8 * n + 8].reshape(8, 12)[:, place].tolist()
            powers = [math.exp(v) for v in given[5:]]
            classes = [power / sum(powers) for power in powers] if softmax else given[5:]
            np.testing.assert_allclose(rows[b, place, n], [*given[:4], logistic(given[4]), *classes], atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "settings", "words"),
    [
        ("YoloDetectionOutput", "yolo_detection_output_param { num_box: 5 biases: 1 biases: 2 }", "5 boxes need 10"),
        ("YoloDetectionOutput", "yolo_detection_output_param { biases: 1 biases: 2 biases: 3 }", "3 numbers"),
        (
            "Yolov3DetectionOutput",
            f"yolov3_detection_output_param {{ {V3.replace('mask: 3', 'mask: 4')} }}",
            "4 anchors",
        ),
        ("Yolov3DetectionOutput", f"yolov3_detection_output_param {{ {V3.replace('num: 2', 'num: 3')} }}", "2 bottoms"),
        ("Region", "region_param { coords: 5 }", "coords is 5"),
    ],
)
def test_settings_that_are_refused(kind: str, settings: str, words: str) -> None:
    with pytest.raises(NetError, match=words):
        make(kind, settings, bottoms=2 if "v3" in kind else 1)
