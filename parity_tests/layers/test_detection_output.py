"""DetectionOutput in every form against loops that follow detection_output_layer.cpp."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from converters import NetError, parse_prototxt
from converters.layers.detection_output import DetectionOutput
from converters.layers.std_sort import best, descending
from parity_tests.layers.test_boxes import decode_by_hand, nms_by_hand, some_boxes

CLASSES = 4
TOPK = "nms_param { nms_threshold: 0.45 top_k: 30 } keep_top_k: 20"


def make(settings: str, *, bottoms: int = 3, kind: str = "DetectionOutput", classes: int = CLASSES) -> DetectionOutput:
    wires = " ".join(f'bottom: "b{index}"' for index in range(bottoms))
    params = f"detection_output_param {{ num_classes: {classes} {settings} }}"
    layer = parse_prototxt(f'layer {{ name: "it" type: "{kind}" {wires} top: "t" {params} }}').layers[-1].params
    assert isinstance(layer, DetectionOutput)
    return layer


def predictions(
    priors: int, *, images: int = 2, box_classes: int = 1, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """loc (n, p * l * 4), conf (n, p * classes) with ties, and priors (1, 2, p * 4)."""
    random = np.random.default_rng(seed)
    loc = random.normal(size=(images, priors * box_classes * 4)).astype(np.float32)
    conf = random.random((images, priors * CLASSES)).astype(np.float32).round(2)
    variances = random.uniform(0.05, 0.3, (priors, 4)).astype(np.float32)
    return loc, conf, np.stack([some_boxes(priors, seed=seed).ravel(), variances.ravel()])[None]


def run(layer: DetectionOutput, *bottoms: np.ndarray) -> np.ndarray:
    given = [torch.from_numpy(bottom) for bottom in bottoms]
    (top,) = layer.forward(given, ())
    (shape,) = layer.top_shapes([bottom.shape for bottom in bottoms])
    assert shape[:2] == (1, 1) and shape[3] == top.shape[3] and top.ndim == 4
    return top[0, 0].numpy()


def by_hand(
    boxes: Any,
    scores: np.ndarray,
    *,
    background: int,
    threshold: float,
    least: float,
    top_k: int,
    eta: float,
    keep: int,
) -> list[list[float]]:
    """Forward_cpu from the decoded boxes [image][class][prior] and the scores (n, p, classes) on."""
    rows: list[list[float]] = []
    for image in range(len(scores)):
        indices = {
            label: nms_by_hand(
                np.array(boxes[image][label]),
                scores[image, :, label],
                threshold=threshold,
                least=least,
                top_k=top_k,
                eta=eta,
                pixels=0,
            )
            for label in range(scores.shape[2])
            if label != background
        }
        if -1 < keep < sum(map(len, indices.values())):
            pairs = [(float(scores[image, i, label]), label, i) for label, own in indices.items() for i in own]
            keys = [score for score, _, _ in pairs]
            order = descending(keys) if 8 * keep > len(keys) else best(keys, keep)
            stay = [pairs[place] for place in order[:keep]]
            indices = {label: [i for _, other, i in stay if other == label] for label in indices}
        rows += [
            [image, label, float(scores[image, i, label]), *boxes[image][label][i]]
            for label, own in sorted(indices.items())
            for i in own
        ]
    return rows or [[image, *[-1.0] * 6] for image in range(len(scores))]


def decoded(
    loc: np.ndarray, priors: np.ndarray, *, code: str, encoded: bool = False, classes: int = CLASSES
) -> list[list[list[list[float]]]]:
    """The boxes [image][class][prior] of loc (n, p, l, 4); l = 1: the classes share them."""
    boxes, variances = priors[0].reshape(2, -1, 4).tolist()
    return [
        [
            [
                decode_by_hand(
                    tuple(row[p, c if row.shape[1] > 1 else 0]), boxes[p], None if encoded else variances[p], code
                )
                for p in range(len(boxes))
            ]
            for c in range(classes)
        ]
        for row in loc.astype(np.float64)
    ]


def assert_same(found: np.ndarray, expected: Sequence[Sequence[float]]) -> None:
    assert found.shape == (len(expected), len(expected[0]))
    np.testing.assert_allclose(found, np.array(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("code", ["CORNER", "CENTER_SIZE", "CORNER_SIZE"])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("encoded", [True, False])
def test_it_is_ssds_forward_pass(code: str, shared: bool, encoded: bool) -> None:
    loc, conf, priors = predictions(40, box_classes=1 if shared else CLASSES)
    settings = f"{TOPK} code_type: {code} share_location: {shared} variance_encoded_in_target: {encoded}"
    found = run(make(f"{settings} confidence_threshold: 0.3"), loc, conf, priors)
    boxes = decoded(loc.reshape(2, 40, -1, 4), priors, code=code, encoded=encoded)
    how = {"threshold": 0.45, "top_k": 30, "eta": 1.0, "keep": 20}
    assert_same(found, by_hand(boxes, conf.reshape(2, 40, -1), background=0, least=0.3, **how))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "how"),
    [
        ("", {}),
        ("background_label_id: 2", {"background": 2}),
        ("background_label_id: -1", {"background": -1}),
        ("confidence_threshold: 0.9", {"least": 0.9}),
        ("keep_top_k: 7", {"keep": 7}),
        ("keep_top_k: 0", {"keep": 0}),
        ("nms_param { nms_threshold: 0.6 }", {"threshold": 0.6}),
        ("nms_param { nms_threshold: 0.9 eta: 0.7 }", {"threshold": 0.9, "eta": 0.7}),
        ("nms_param { top_k: 5 }", {"top_k": 5}),
    ],
)
def test_every_setting_counts(settings: str, how: dict[str, Any]) -> None:
    loc, conf, priors = predictions(60, seed=3)
    found = run(make(settings), loc, conf, priors)
    boxes = decoded(loc.reshape(2, 60, 1, 4), priors, code="CORNER")
    usual = {"background": 0, "threshold": 0.3, "least": -math.inf, "top_k": -1, "eta": 1.0, "keep": -1}
    expected = by_hand(boxes, conf.reshape(2, 60, -1), **(usual | how))
    assert_same(found, expected)
    plain = run(make(""), loc, conf, priors)
    assert not how or found.shape != plain.shape or not np.array_equal(found, plain)


def test_where_nothing_is_found_each_image_has_a_row_as_in_caffe() -> None:
    loc, conf, priors = predictions(10, images=3)
    found = run(make("confidence_threshold: 2"), loc, conf, priors)
    np.testing.assert_array_equal(found, [[image, -1, -1, -1, -1, -1, -1] for image in range(3)])
    conf[0, 1] = 5
    assert run(make("confidence_threshold: 2"), loc, conf, priors)[:, :3].tolist() == [[0, 1, 5]]


def test_boxes_may_be_cut_to_the_image_before_they_are_suppressed() -> None:
    """`clip: 1` of OpenCV's face detector: it changes what overlaps, and not only where boxes end."""
    loc, conf, priors = predictions(60, seed=3)
    loc *= 20
    found = run(make(f"{TOPK} clip: 1"), loc, conf, priors)
    boxes = np.array(decoded(loc.reshape(2, 60, 1, 4), priors, code="CORNER")).clip(0, 1).tolist()
    scores = conf.reshape(2, 60, -1)
    how = {"background": 0, "threshold": 0.45, "least": -math.inf, "top_k": 30, "eta": 1.0, "keep": 20}
    assert_same(found, by_hand(boxes, scores, **how))  # type: ignore[arg-type]
    unclipped = run(make(f"{TOPK} keep_top_k: -1"), loc, conf, priors)
    assert len(unclipped) != len(run(make(f"{TOPK} keep_top_k: -1 clip: 1"), loc, conf, priors))


def test_the_code_type_may_be_a_number() -> None:
    """As in a binary file, whose enums have no names."""
    for number, name in enumerate(["CORNER", "CENTER_SIZE", "CORNER_SIZE"], 1):
        assert make(f"code_type: {number}").code == make(f"code_type: {name}").code == name


def test_refinedet_refines_the_priors_and_drops_easy_ones() -> None:
    """Bottoms 3 and 4 (OSGetConfidenceScores and CasRegDecodeBBoxesAll)."""
    loc, conf, priors = predictions(40)
    arm_loc, arm_conf, _ = predictions(40, seed=9)
    arm_conf = arm_conf[:, :80].copy()
    arm_loc *= 0.2
    layer = make(f"{TOPK} code_type: CENTER_SIZE objectness_score: 0.4 confidence_threshold: 0.2", bottoms=5)
    found = run(layer, loc, conf, priors, arm_conf, arm_loc)
    scores = conf.reshape(2, 40, -1).copy()
    scores[arm_conf.reshape(2, 40, 2)[..., 1] < np.float32(0.4)] = [1, 0, 0, 0]
    boxes = []
    for image in range(2):
        refined = np.array(decoded(arm_loc.reshape(2, 40, 1, 4), priors, code="CENTER_SIZE")[image][0])
        own = np.stack([refined.ravel(), priors[0, 1]])[None]
        boxes.append(decoded(loc.reshape(2, 40, 1, 4)[image : image + 1], own, code="CENTER_SIZE")[0])
    expected = by_hand(boxes, scores, background=0, threshold=0.45, least=0.2, top_k=30, eta=1.0, keep=20)
    assert_same(found, expected)
    unrefined = run(make(f"{TOPK} code_type: CENTER_SIZE confidence_threshold: 0.2"), loc, conf, priors)
    assert found.shape != unrefined.shape or not np.allclose(found, unrefined)


def test_the_fourth_bottom_may_be_the_image_that_caffe_draws_on() -> None:
    loc, conf, priors = predictions(10)
    image = np.zeros((2, 3, 5, 5), np.float32)
    plain = run(make(TOPK), loc, conf, priors)
    np.testing.assert_array_equal(run(make(f"{TOPK} visualize: true", bottoms=4), loc, conf, priors, image), plain)
    np.testing.assert_array_equal(run(make(TOPK, bottoms=4), loc, conf, priors, image), plain)


def test_intels_extended_form_tells_anchor_and_cell() -> None:
    """detection_output_extended_layer.cpp: anchor, x and y of (h, w, anchors) follow each box."""
    random = np.random.default_rng(4)
    h, w, anchors = 3, 5, 2
    loc = random.normal(size=(2, h, w, anchors * 4)).astype(np.float32)
    conf = random.random((2, h, w, anchors * 2)).astype(np.float32)
    _, _, priors = predictions(h * w * anchors)
    layer = make(f"{TOPK} background_label_id: -1", kind="DetectionOutputExtended", classes=2)
    found = run(layer, loc, conf, priors)
    flat = run(make(TOPK, classes=2), loc.reshape(2, -1), conf.reshape(2, -1), priors)
    np.testing.assert_array_equal(found[:, :7], flat)
    assert len(found) > 20
    for row in found:
        image, score, (anchor, x, y) = int(row[0]), row[2], row[7:].astype(int)
        assert conf[image, y, x, anchor * 2 + 1] == score
    nothing = make("confidence_threshold: 2", kind="DetectionOutputExtended", classes=2)
    np.testing.assert_array_equal(run(nothing, loc, conf, priors), [[i, *[-1] * 9] for i in range(2)])


# Synopsys' heads that are not concatenated


def heads(seed: int = 0) -> tuple[list[tuple[int, int, int]], list[np.ndarray], list[np.ndarray], np.ndarray]:
    """Two heads: (h, w, ratios), offsets (1, h, w, ratio, 4) and scores (1, h, w, ratio, classes) of each, priors."""
    random = np.random.default_rng(seed)
    sizes = [(3, 4, 3), (2, 2, 2)]
    offsets = [random.normal(size=(1, *size, 4)).astype(np.float32) for size in sizes]
    scores = [random.random((1, *size, CLASSES)).astype(np.float32) for size in sizes]
    priors = predictions(sum(math.prod(size) for size in sizes))[2]
    priors[0, 1] = np.tile([0.1, 0.1, 0.2, 0.2], 44)  # Synopsys reorders the boxes and not the variances: always alike
    return sizes, offsets, scores, priors


def concatenated(settings: str) -> np.ndarray:
    """What the usual form makes of the same heads, as a set."""
    _, offsets, scores, priors = heads()
    loc, conf = (np.concatenate([part.reshape(1, -1) for part in parts], 1) for parts in (offsets, scores))
    return run(make(settings), loc, conf, priors)


SEPARATE = "confidence_threshold: 0.2 code_type: CENTER_SIZE keep_top_k: 30 nms_param { nms_threshold: 0.45 top_k: 20 }"


def test_heads_that_were_permuted_and_not_concatenated() -> None:
    _, offsets, scores, priors = heads()
    layer = make(f"{SEPARATE} nbottom: 2", bottoms=5)
    with pytest.raises(ValueError, match="must be"):
        layer.top_shapes([(2, 3)] * 5)
    parts = [part.reshape(1, -1) for part in (*scores, *offsets)]
    np.testing.assert_array_equal(run(layer, *parts, priors), concatenated(SEPARATE))
    each = np.split(priors, [36 * 4], axis=2)
    layer = make(f"{SEPARATE} nbottom: 2", bottoms=6)
    np.testing.assert_array_equal(run(layer, *parts, *each), concatenated(SEPARATE))


def test_heads_that_were_not_permuted() -> None:
    """no_permute: scores (1, classes, ratio, h * w) and offsets (1, ratio * 4, h, w); the priors are reordered."""
    sizes, offsets, scores, priors = heads()
    conf = [
        s.transpose(0, 4, 3, 1, 2).reshape(1, CLASSES, r, h * w) for s, (h, w, r) in zip(scores, sizes, strict=True)
    ]
    loc = [o.transpose(0, 3, 4, 1, 2).reshape(1, r * 4, h, w) for o, (h, w, r) in zip(offsets, sizes, strict=True)]
    found = run(make(f"{SEPARATE} no_permute: true nbottom: 2", bottoms=5), *conf, *loc, priors)
    same_set(found, concatenated(SEPARATE))


@pytest.mark.parametrize("own_priors", [False, True])
def test_heads_permuted_by_ratio(own_priors: bool) -> None:
    """ratio_permute: all is flat, [class][ratio][y][x] and [4][ratio][y][x]; priors of their own [4][ratio][y][x]."""
    sizes, offsets, scores, priors = heads()
    conf = [s.transpose(0, 4, 3, 1, 2).reshape(1, -1) for s in scores]
    loc = [o.transpose(0, 4, 3, 1, 2).reshape(1, -1) for o in offsets]
    each = [
        part.reshape(1, 2, h, w, r, 4).transpose(0, 1, 5, 4, 2, 3).reshape(1, 2, -1)
        for part, (h, w, r) in zip(np.split(priors, [36 * 4], axis=2), sizes, strict=True)
    ]
    given = each if own_priors else [priors]
    layer = make(f"{SEPARATE} ratio_permute: true nbottom: 2 ratio0: 3 ratio1: 2", bottoms=4 + len(given))
    same_set(run(layer, *conf, *loc, *given), concatenated(SEPARATE))


def same_set(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.shape == expected.shape and len(found) > 10
    order, other = (np.lexsort(np.round(rows, 4).T) for rows in (found, expected))
    np.testing.assert_allclose(found[order], expected[other], rtol=0, atol=1e-6)


def test_priors_may_be_regions_in_pixels() -> None:
    """normalized: false, an R-CNN's regions (image, xmin, ymin, xmax, ymax) as in OpenVINO's DetectionOutput-1."""
    loc, conf, priors = predictions(12, images=1, box_classes=CLASSES)
    boxes = priors[0, 0].reshape(-1, 4)
    regions = np.concatenate([np.zeros((12, 1), np.float32), boxes * [200, 100, 200, 100]], 1).astype(np.float32)
    settings = f"{TOPK} share_location: false code_type: CENTER_SIZE variance_encoded_in_target: true"
    layer = make(f"{settings} normalized: false input_width: 200 input_height: 100")
    found = run(layer, loc, conf, regions.reshape(1, 1, -1))
    np.testing.assert_allclose(found, run(make(settings), loc, conf, priors), rtol=0, atol=1e-5)


# Refusals


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ("nms_param { nms_threshold: -0.1 }", "nms_threshold"),
        ("nms_param { eta: 0 }", "eta"),
        ("nms_param { eta: 1.5 }", "eta"),
        ("code_type: MIDDLE", "code_type"),
        ("tflite_detection: true", "tflite_detection"),
        ("normalized: false", "normalized"),
        ("no_permute: true", "3 bottoms for 6 heads"),
        ("nms_param: 3", "a message"),
    ],
)
def test_settings_that_cannot_be_had_are_refused(settings: str, problem: str) -> None:
    with pytest.raises(NetError, match=problem):
        make(settings)
    with pytest.raises(NetError, match="num_classes"):
        make("", classes=0)
    with pytest.raises(NetError, match="takes 2"):
        make("", kind="DetectionOutputExtended", classes=3)


def test_bottoms_that_do_not_fit_are_refused() -> None:
    layer = make("")
    fitting = [(1, 40), (1, 40), (1, 2, 40)]
    assert layer.top_shapes(fitting) == ((1, 1, 1, 7),)
    for index, shape in ((0, (1, 44)), (1, (1, 30)), (2, (1, 1, 40)), (1, (2, 40)), (2, (1, 2, 44))):
        with pytest.raises(ValueError, match=r"predictions|priors"):
            layer.top_shapes([*fitting[:index], shape, *fitting[index + 1 :]])
