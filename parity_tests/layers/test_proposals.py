"""Region proposals, against the projects' own loops written out box by box, and against OpenCV's Proposal."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from converters import CaffeNet, NetError, parse_prototxt
from converters.layers.anchors import generate_anchors
from converters.layers.python_params import python_params
from converters.net.layer import Layer
from parity_tests.fill import rs
from parity_tests.layers.test_layers import make, values

f = np.float32
H, W = 9, 11


def bottoms(anchors: int, *, per: int = 4, info: tuple[float, ...] = (140, 170, 1, 1)) -> tuple[torch.Tensor, ...]:
    """Scores that all differ, offsets that move boxes by about a size, and im_info."""
    count = 2 * anchors * H * W
    scores = rs("scores").permutation(count).reshape(1, 2 * anchors, H, W) / count
    offsets = rs("offsets").standard_normal((1, per * anchors, H, W)) * 0.4
    return tuple(torch.from_numpy(np.asarray(each, f)) for each in (scores, offsets, [info]))


def test_anchors_are_the_papers() -> None:
    """The nine boxes in the comment of generate_anchors.py, of Shaoqing Ren's own code (counted from 0 here)."""
    assert [list(box) for box in generate_anchors(16, (0.5, 1, 2), (8, 16, 32)).boxes] == [
        [-84, -40, 99, 55], [-176, -88, 191, 103], [-360, -184, 375, 199],
        [-56, -56, 71, 71], [-120, -120, 135, 135], [-248, -248, 263, 263],
        [-36, -80, 51, 95], [-80, -168, 95, 183], [-168, -344, 183, 359],
    ]  # fmt: skip


def boxes_by_hand(
    scores: np.ndarray, offsets: np.ndarray, info: np.ndarray, anchors: list[list[float]], stride: int
) -> list[tuple[f, list[f]]]:
    """(score, box) of every anchor of every place, clipped: proposal_layer.py and bbox_transform.py."""
    found = []
    for y in range(H):
        for x in range(W):
            for k, (x1, y1, x2, y2) in enumerate(anchors):
                dx, dy, dw, dh = offsets[0, 4 * k : 4 * k + 4, y, x]
                width, height = f(x2 - x1 + 1), f(y2 - y1 + 1)
                centre = (
                    f(dx * width + f(x1 + x * stride + width / 2)),
                    f(dy * height + f(y1 + y * stride + height / 2)),
                )
                size = f(np.exp(dw) * width), f(np.exp(dh) * height)
                box = [
                    centre[0] - size[0] / 2,
                    centre[1] - size[1] / 2,
                    centre[0] + size[0] / 2,
                    centre[1] + size[1] / 2,
                ]
                box = [max(min(v, f(info[0, 1 - i % 2] - 1)), f(0)) for i, v in enumerate(box)]
                found.append((scores[0, len(anchors) + k, y, x], box))
    return found


def overlap(a: list[f], b: list[f]) -> float:
    """nms.cpp, iou, and py_cpu_nms.py."""
    w = max(0, min(a[2], b[2]) - max(a[0], b[0]) + 1)
    h = max(0, min(a[3], b[3]) - max(a[1], b[1]) + 1)
    area = [(c[2] - c[0] + 1) * (c[3] - c[1] + 1) for c in (a, b)]
    return w * h / (area[0] + area[1] - w * h)


def best_by_hand(ranked: list[tuple[f, list[f]]], threshold: float, most: int) -> list[tuple[f, list[f]]]:
    kept: list[tuple[f, list[f]]] = []
    for score, box in sorted(ranked, key=lambda each: -each[0]):
        if all(overlap(box, other) <= threshold for _, other in kept):
            kept.append((score, box))
    return kept[:most]


def check(layer: Layer, given: tuple[torch.Tensor, ...], expected: list[tuple[f, list[f]]]) -> None:
    regions, scores = (top.numpy() for top in layer.forward(given, ()))
    assert len(expected) > 5
    assert regions.shape == (len(expected), 5)
    np.testing.assert_allclose(regions, [[0, *box] for _, box in expected], atol=1e-3)
    np.testing.assert_array_equal(scores.ravel(), [score for score, _ in expected])


RATIOS, SCALES = [0.5, 1, 2], [1, 2, 4]
ANCHORS = [list(box) for box in generate_anchors(16, RATIOS, SCALES).boxes]
INTEL = "ratio: 0.5 ratio: 1 ratio: 2 scale: 1 scale: 2 scale: 4 feat_stride: 16 pre_nms_topn: 300"


@pytest.mark.parametrize("info", [(140, 170, 1, 1), (100, 150, 1.5, 0.5), (140, 170, 1.25)])
def test_intels_proposal(info: tuple[float, ...]) -> None:
    layer = make("Proposal", f"proposal_param {{ {INTEL} post_nms_topn: 60 nms_thresh: 0.5 }}", bottoms=3, tops=2)
    given = bottoms(9, info=info)
    found = boxes_by_hand(*(each.numpy() for each in given), ANCHORS, 16)
    high, wide = 16 * info[2], 16 * info[-1]
    ranked = [(score if b[2] - b[0] + 1 >= wide and b[3] - b[1] + 1 >= high else f(0), b) for score, b in found]
    expected = best_by_hand(sorted(ranked, key=lambda each: -each[0])[:300], 0.5, 60)
    check(layer, given, expected)
    assert layer.top_shapes([(1, 18, H, W), (1, 36, H, W), (1, 4)]) == ((60, 5), (60,))


PYTHON = "\"{{'feat_stride': 16, 'ratios': [0.5, 1, 2], 'scales': [1, 2, 4]}}\""


@pytest.mark.parametrize("scale", [1, 1.5])
def test_py_faster_rcnns_proposal(scale: float) -> None:
    text = f'python_param {{ module: "rpn.proposal_layer" layer: "ProposalLayer" param_str: {PYTHON.format()} }}'
    layer = make("Python", text, bottoms=3, tops=2)
    given = bottoms(9, info=(140, 170, scale))
    found = boxes_by_hand(*(each.numpy() for each in given), ANCHORS, 16)
    least = 16 * scale
    fine = [each for each in found if min(each[1][2] - each[1][0], each[1][3] - each[1][1]) + 1 >= least]
    assert len(fine) < len(found)
    check(layer, given, best_by_hand(fine, 0.7, 300))
    assert layer.top_shapes([(1, 18, H, W), (1, 36, H, W), (1, 3)]) == ((1, 5), (1, 1))


@pytest.mark.parametrize(("count", "scales"), [(9, [8, 16, 32]), (12, [4, 8, 16, 32]), (15, [2, 4, 8, 16, 32])])
def test_anchors_that_only_the_code_tells(count: int, scales: list[int]) -> None:
    """A net for COCO whose param_str has the stride alone is the same as one that has its scales."""
    texts = [f"\"{{'feat_stride': 16{more}}}\"" for more in ("", f", 'scales': {scales}")]
    given = bottoms(count)
    found = []
    for text in texts:
        layer = make("Python", f'python_param {{ layer: "ProposalLayer" param_str: {text} }}', bottoms=3, tops=2)
        assert layer.top_shapes([tuple(each.shape) for each in given]) == ((1, 5), (1, 1))
        found.append(layer.forward(given, ()))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert len(found[0][0]) > 9
    other = make("Python", f'python_param {{ layer: "ProposalLayer" param_str: {texts[0]} }}', bottoms=3)
    with pytest.raises(ValueError, match="9 anchors need 18"):
        other.top_shapes([(1, 14, H, W), (1, 28, H, W), (1, 3)])


def test_ssh_has_no_nms() -> None:
    text = f'python_param {{ module: "SSH.layers.proposal_layer" layer: "ProposalLayer" param_str: {PYTHON.format()} }}'
    layer = make("Python", text, bottoms=3, tops=2)
    given = bottoms(9)
    found = boxes_by_hand(*(each.numpy() for each in given), ANCHORS, 16)
    check(layer, given, sorted(found, key=lambda each: -each[0])[:1000])


def test_synopsys_proposal() -> None:
    """proposal_layer.cpp, apply_nms: erasing from the list while it is walked."""
    given = bottoms(9)
    found = boxes_by_hand(
        *(e.numpy() for e in given), [list(b) for b in generate_anchors(16, RATIOS, (8, 16, 32)).boxes], 16
    )
    by_anchor = [found[place * 9 + k] for k in range(9) for place in range(H * W)]
    left = [each for each in by_anchor if each[0] >= 0.3]
    i = 0
    while i < len(left) - 1:
        j, (score, a) = i + 1, left[i]
        while j < len(left):
            b = left[j][1]
            w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
            area = sum((c[2] - c[0] + 1) * (c[3] - c[1] + 1) for c in (a, b))
            if w > 0 and h > 0 and w * h / (area - w * h) > 0.7:
                if score >= left[j][0]:
                    del left[j]
                    continue
                del left[i]
                i -= 1
                break
            j += 1
        i += 1
    layer = make("Proposal", "proposal_param { feat_stride: 16 max_rois: 40 }", bottoms=3, tops=2)
    assert len(left) > 40
    check(layer, given, left[:40])


def test_ctpns_slices() -> None:
    layer = make(
        "Python",
        'python_param { module: "layers.text_proposal_layer" layer: "ProposalLayer" param_str: "\'feat_stride\': 16" }',
        bottoms=3, tops=2,
    )  # fmt: skip
    given = bottoms(10, per=2)
    boxes, scores = (top.numpy() for top in layer.forward(given, ()))
    assert boxes.shape == (H * W * 10, 4)
    for row in range(0, len(boxes), 7):
        place, k = divmod(row, 10)
        y, x = divmod(place, W)
        height = [11, 16, 23, 33, 48, 68, 97, 139, 198, 283][k]
        top, bottom = (int(7.5 - height // 2) + 16 * y, int(7.5 + height // 2) + 16 * y)  # np.int32 cuts towards zero
        shift, growth = given[1].numpy()[0, 2 * k : 2 * k + 2, y, x]
        size = math.exp(growth) * (bottom - top + 1)
        begin = shift * (bottom - top + 1) + (top + bottom) / 2 - size / 2
        expected = [min(16 * x, 169), begin, min(16 * x + 15, 169), begin + size]
        expected[1::2] = [max(min(v, 139), 0) for v in expected[1::2]]
        np.testing.assert_allclose(boxes[row], expected, atol=1e-3)
        assert scores[row, 0] == given[0].numpy()[0, 10 + k, y, x]


def test_mncs_bridge() -> None:
    random = rs("bridge")
    corners = random.uniform(0, 60, (4, 2))
    rois = np.concatenate([np.zeros((4, 1)), corners, corners + random.uniform(5, 60, (4, 2))], 1)
    offsets, scores = random.standard_normal((4, 12)) * 0.3, random.standard_normal((4, 3))
    layer = make("Python", 'python_param { layer: "StageBridgeLayer" }', bottoms=4)
    given = tuple(torch.from_numpy(np.asarray(each, f)) for each in (rois, offsets, scores, [[90, 100, 1]]))
    (top,) = layer.forward(given, ())
    for n, (_, x1, y1, x2, y2) in enumerate(rois):
        k = int(scores[n].argmax())
        dx, dy, dw, dh = offsets[n, 4 * k : 4 * k + 4]
        w, h = x2 - x1 + 1, y2 - y1 + 1
        cx, cy = dx * w + x1 + w / 2, dy * h + y1 + h / 2
        w, h = math.exp(dw) * w, math.exp(dh) * h
        expected = [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]
        expected = [min(max(v, 0), (99, 89)[i % 2]) for i, v in enumerate(expected)]
        np.testing.assert_allclose(top[n].numpy(), [0, *expected], atol=1e-3)


NET = f"""
layer {{ name: "scores" type: "Input" top: "scores" input_param {{ shape {{ dim: 1 dim: 18 dim: {H} dim: {W} }} }} }}
layer {{ name: "deltas" type: "Input" top: "deltas" input_param {{ shape {{ dim: 1 dim: 36 dim: {H} dim: {W} }} }} }}
layer {{ name: "im_info" type: "Input" top: "im_info" input_param {{ shape {{ dim: 1 dim: 4 }} }} }}
layer {{ name: "rois" type: "Proposal" bottom: "scores" bottom: "deltas" bottom: "im_info" top: "rois"
  proposal_param {{ {INTEL} post_nms_topn: 40 nms_thresh: 0.5 min_size: 1 }} }}
"""


def test_opencv_proposes_the_same(tmp_path: Path) -> None:
    """OpenCV knows no least size; its number of regions is fixed, what is missing being zeros."""
    cv2 = pytest.importorskip("cv2")
    (tmp_path / "net.prototxt").write_text(NET)
    theirs = cv2.dnn.readNetFromCaffe(str(tmp_path / "net.prototxt"))
    given = dict(zip(("scores", "deltas", "im_info"), bottoms(9), strict=True))
    for name, each in given.items():
        theirs.setInput(each.numpy(), name)
    ours = CaffeNet(parse_prototxt(NET))(**given).numpy()
    expected = theirs.forward("rois")
    np.testing.assert_allclose(ours, expected[: len(ours)], atol=1e-3)
    assert not expected[len(ours) :].any()


def test_any_number_of_regions_goes_on(tmp_path: Path) -> None:
    """No box is large enough: no region, and no row of what comes after."""
    net = CaffeNet(parse_prototxt(NET.replace("Proposal", "Python").split("  proposal_param")[0] + f"""
      python_param {{ layer: "ProposalLayer" param_str: {PYTHON.format()} }} }}
    layer {{ name: "pool" type: "ROIPooling" bottom: "scores" bottom: "rois" top: "pool"
      roi_pooling_param {{ pooled_h: 2 pooled_w: 2 spatial_scale: 0.0625 }} }}
    layer {{ name: "fc" type: "InnerProduct" bottom: "pool" top: "fc" inner_product_param {{ num_output: 3 }} }}
    layer {{ name: "prob" type: "Softmax" bottom: "fc" top: "prob" }}
    """))  # fmt: skip
    scores, deltas, _ = bottoms(9)
    for info, rows in (((140, 170, 1, 1), None), ((140, 170, 100, 100), 0), ((0, 0, 0, 0), 1)):
        top = net(scores=scores, deltas=deltas, im_info=torch.tensor([info]))
        assert top.shape[1:] == (3,)
        assert rows is None or len(top) == rows


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("'feat_stride': 16", {"feat_stride": 16}),
        ("{'feat_stride': 16,'scales': [4,8], 'ratios':[1,]}", {"feat_stride": 16, "scales": [4, 8], "ratios": [1]}),
        ("'feat_stride': 16 \\n'scales': !!python/tuple [4, 8, 16]", {"feat_stride": 16, "scales": [4, 8, 16]}),
        ("'feat_stride': 16,'scales': [2,4]", {"feat_stride": 16, "scales": [2, 4]}),
        ("{ 'feat_stride': 16,  'use_clip': 1,  'clip_base': 512, 'num_classes': 21}",
         {"feat_stride": 16, "use_clip": 1, "clip_base": 512, "num_classes": 21}),
        ("{\\\"min_iou\\\": 0.4, name: word, flag: true}", {"min_iou": 0.4, "name": "word", "flag": True}),
        ("a: 1e-3\\nb: 'x, y'\\n", {"a": 1e-3, "b": "x, y"}),
        ("", {}),
    ],
)  # fmt: skip
def test_param_strs(text: str, expected: dict) -> None:
    layer = f'layer {{ name: "it" type: "Python" python_param {{ layer: "It" param_str: "{text}" }} }}'
    assert python_params(parse_prototxt(layer).layers[0]) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [("'scales': [8]", "feat_stride"), ("'feat_stride': 0", "above 0"), ("'feat_stride': 16, 'scales': [0]", "scales"),
     ("'feat_stride': 16, 'ratios': ['wide']", "ratios"), ("'feat_stride': 16, 'ratios': [True]", "ratios"),
     ("16, 300", "expected 'name': value"), ("{'feat_stride': ((((", "expected 'name': value")],
)  # fmt: skip
def test_param_strs_that_are_refused(text: str, words: str) -> None:
    with pytest.raises(NetError, match=words):
        make("Python", f'python_param {{ layer: "ProposalLayer" param_str: "{text}" }}', bottoms=3)


@pytest.mark.parametrize(
    "settings", ["scale: 8", "ratio: 1 scale: 0", "ratio: 1 ratio: -1 scale: 8", "ratio: true scale: 8"]
)
def test_anchors_of_no_size_are_refused(settings: str) -> None:
    with pytest.raises(NetError, match="expected numbers above 0"):
        make("Proposal", f"proposal_param {{ feat_stride: 16 {settings} }}", bottoms=3)


def test_channels_that_do_not_fit_the_anchors() -> None:
    layer = make("Proposal", f"proposal_param {{ {INTEL} }}", bottoms=3)
    with pytest.raises(ValueError, match="9 anchors need 18 channels of scores and 36 of offsets"):
        layer.top_shapes([(1, 24, H, W), (1, 48, H, W), (1, 3)])
    assert layer.top_shapes([(2, 18, H, W), (2, 36, H, W), (1, 3)]) == ((600, 5),)
    assert values("x", 1).shape == (1,)
