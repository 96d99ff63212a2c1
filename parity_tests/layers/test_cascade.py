"""MS-CNN's and Cascade R-CNN's layers, against the projects' own loops written out box by box."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from converters import NetError
from converters.layers.suppression import suppressed
from converters.net.layer import Layer
from parity_tests.fill import rs
from parity_tests.layers.test_layers import make, values

MEAN, STD = (0.01, -0.02, 0.03, 0.0), (0.1, 0.1, 0.2, 0.2)
REG = " ".join(f"bbox_mean: {m} bbox_std: {s}" for m, s in zip(MEAN, STD, strict=True))
Row = list[float]


def overlap(a: Row, b: Row, mode: str, wider: int) -> float:
    """x1, y1, x2, y2: mscnn's BoxIOU without the last pixel, cascade-rcnn's JaccardOverlap with it."""
    areas = [(c[2] - c[0] + wider) * (c[3] - c[1] + wider) for c in (a, b)]
    x1, y1, x2, y2 = max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])
    nothing = (x1 > x2 or y1 >= y2) if wider else (x1 >= x2 or y1 >= y2)
    common = 0 if nothing else (x2 - x1 + wider) * (y2 - y1 + wider)
    whole = {"IOU": sum(areas) - common, "IOMU": min(areas), "IOFU": areas[0]}[mode]
    return common / whole if min(areas) > 0 else 0


def best_by_hand(rows: list[Row], mode: str, threshold: float, wider: int, before: int, after: int) -> list[Row]:
    kept: list[Row] = []
    for row in sorted(rows, key=lambda each: -each[4])[: before or None]:
        if all(overlap(other, row, mode, wider) <= threshold for other in kept):
            kept.append(row)
    return kept[: after or None]


def decode_by_hand(
    offsets: Row, place: tuple[int, int], field: tuple[float, float], stride: float, bounds: tuple
) -> Row:
    """x, y, w, h of a box."""
    whr, xyr = bounds
    x, y, w, h = (v * s + m for v, s, m in zip(offsets, STD, MEAN, strict=True))
    x, y = (min(max(v, -1 / xyr), 1 / xyr) for v in (x, y))
    w, h = (min(max(v, math.log(1 / whr)), math.log(whr)) for v in (w, h))
    x, y = x * field[0] + (place[1] + 0.5) * stride, y * field[1] + (place[0] + 0.5) * stride
    w, h = field[0] * math.exp(w), field[1] * math.exp(h)
    return [x - w / 2, y - h / 2, w, h]


def check(layer: Layer, bottoms: list[torch.Tensor], expected: list[list[Row]]) -> None:
    regions, scored = (top.numpy() for top in layer.forward(bottoms, ()))
    rows = [[image, *row] for image, found in enumerate(expected) for row in found]
    assert len(rows) > 8
    assert regions.shape == (len(rows), 5, 1, 1)
    np.testing.assert_allclose(scored[:, :, 0, 0], rows, atol=1e-3)
    assert np.array_equal(scored[:, :5], regions)


@pytest.mark.parametrize("mode", ["IOU", "IOMU", "IOFU"])
def test_mscnns_regions(mode: str) -> None:
    """box_output_layer.cpp, Forward_cpu."""
    bottoms = [values("coarse", 2, 7, 5, 6), values("fine", 2, 7, 8, 11)]
    fields = [(60, 50, 16), (30, 36, 8)]
    sizes = " ".join(f"field_w: {w} field_h: {h} downsample_rate: {s}" for w, h, s in fields)
    layer = make(
        "BoxOutput",
        f"box_output_param {{ fg_thr: 0.5 iou_thr: 0.5 nms_type: '{mode}' {sizes} field_whr: 1.2 field_xyr: 3 "
        f"max_nms_num: 30 max_post_nms_num: 9 min_size: 33 }} bbox_reg_param {{ {REG} }}",
        bottoms=2, tops=2,
    )  # fmt: skip
    expected = []
    for image in range(2):
        rows = []
        for x, (wide, high, stride) in zip(bottoms, fields, strict=True):
            _, _, height, width = x.shape
            for i, j in np.ndindex(height, width):
                score = max(x[image, 1:3, i, j].tolist()) - x[image, 0, i, j].item()
                left, top, w, h = decode_by_hand(x[image, 3:, i, j].tolist(), (i, j), (wide, high), stride, (1.2, 3))
                left, top = max(left, 0), max(top, 0)
                w, h = min(w, width * stride - left), min(h, height * stride - top)
                if score >= 0.5 and w >= 33 and h >= 33:
                    rows.append([left, top, left + w, top + h, score])
        expected.append(best_by_hand(rows, mode, 0.5, 0, 30, 9))
    check(layer, bottoms, expected)


def test_cascades_regions() -> None:
    """box_group_output_layer.cpp, Forward_cpu."""
    images, fields = 2, [(60, 40), (30, 36), (40, 70)]
    prob = torch.from_numpy(rs("prob").uniform(0, 1, (6, 2, 5, 6)).astype(np.float32))
    offsets = values("offsets", 6, 4, 5, 6)
    sizes = " ".join(f"field_w: {w} field_h: {h}" for w, h in fields)
    layer = make(
        "BoxGroupOutput",
        f"box_group_output_param {{ fg_thr: 0.4 iou_thr: 0.4 box_group_param {{ {sizes} stride: 16 }} "
        f"field_whr: 1.5 field_xyr: 2 max_nms_num: 60 max_post_nms_num: 20 min_size: 30 }} bbox_reg_param {{ {REG} }}",
        bottoms=2, tops=2,
    )  # fmt: skip
    expected = []
    for image in range(images):
        rows = []
        for k, i, j in np.ndindex(3, 5, 6):
            n = image * 3 + k
            score = float(np.float32(1) - prob[n, 0, i, j].numpy())
            x, y, w, h = decode_by_hand(offsets[n, :, i, j].tolist(), (i, j), fields[k], 16, (1.5, 2))
            box = [max(x, 0), max(y, 0), min(x + w - 1, 96), min(y + h - 1, 80)]
            if score >= 0.4 and box[2] - box[0] + 1 >= 30 and box[3] - box[1] + 1 >= 30:
                rows.append([*box, score])
        expected.append(best_by_hand(rows, "IOU", 0.4, 1, 60, 20))
    check(layer, [prob, offsets], expected)


def test_no_region_is_one_of_ten_pixels() -> None:
    layer = make(
        "BoxOutput", "box_output_param { fg_thr: 9 field_w: 8 field_h: 8 downsample_rate: 8 }", bottoms=1, tops=2
    )
    regions, scored = layer.forward([torch.zeros(1, 6, 3, 3)], ())
    assert regions.flatten().tolist() == [0, 1, 1, 10, 10]
    assert scored.shape == (1, 6, 1, 1)
    assert not scored.any()
    assert layer.top_shapes([(1, 6, 3, 3)]) == ((1, 5, 1, 1), (1, 6, 1, 1))


def boxes(count: int) -> torch.Tensor:
    first = rs("first").uniform(0, 80, (count, 2))
    rows = np.concatenate([np.zeros((count, 1)), first, first + rs("size").uniform(5, 70, (count, 2))], 1)
    return torch.from_numpy(rows.astype(np.float32))


def with_prior_by_hand(offsets: Row, region: Row) -> Row:
    """bbox_util.cpp, DecodeBBoxesWithPrior."""
    _, x1, y1, x2, y2 = region
    w, h = x2 - x1 + 1, y2 - y1 + 1
    dx, dy, dw, dh = (v * s + m for v, s, m in zip(offsets, STD, MEAN, strict=True))
    wide, high = w * math.exp(dw), h * math.exp(dh)
    x, y = dx * w + (x1 + x2) / 2 - (wide - 1) / 2, dy * h + (y1 + y2) / 2 - (high - 1) / 2
    return [x, y, x + wide - 1, y + high - 1]


def test_regions_that_are_moved() -> None:
    layer = make("DecodeBBox", f"bbox_reg_param {{ {REG} }}", bottoms=2)
    offsets, regions = values("bbox", 6, 8), boxes(6).reshape(6, 5, 1, 1)
    (top,) = layer.forward([offsets, regions], ())
    assert tuple(top.shape) == layer.top_shapes([(6, 8), (6, 5, 1, 1)])[0]
    for row, given, region in zip(top.flatten(1).tolist(), offsets.tolist(), regions.flatten(1).tolist(), strict=True):
        np.testing.assert_allclose(row, [0, *with_prior_by_hand(given[4:], region)], atol=1e-3)


@pytest.mark.parametrize(("aware", "most"), [(True, 0), (False, 0), (True, 7)])
def test_detections(aware: bool, most: int) -> None:
    """frcnn_output_layer.cpp, Forward_cpu."""
    regions, classes = boxes(20), 4
    prob = torch.from_numpy(rs("classes").dirichlet(np.ones(classes), 20).astype(np.float32))
    offsets = values("detections", 20, 4 * classes if aware else 8)
    layer = make(
        "FrcnnOutput",
        f"frcnn_output_param {{ conf_thr: 0.2 iou_thr: 0.3 max_det_num: {most} }} "
        f"bbox_reg_param {{ cls_aware: {str(aware).lower()} {REG} }}",
        bottoms=4,
    )
    (top,) = layer.forward([prob, offsets, regions, torch.tensor([[90.0, 100.0]])], ())
    rows: list[Row] = []
    for label in range(1, classes):
        found = []
        for n in range(20):
            k = 4 * label if aware else 4
            x1, y1, x2, y2 = with_prior_by_hand(offsets[n, k : k + 4].tolist(), regions[n].tolist())
            if prob[n, label] >= 0.2:
                found.append([max(x1, 0), max(y1, 0), min(x2, 100), min(y2, 90), prob[n, label].item()])
        rows += [[0, *row[:4], label, row[4]] for row in best_by_hand(found, "IOU", 0.3, 1, 0, 0)]
    if most:
        assert len(rows) > most
        rows = sorted(sorted(rows, key=lambda row: -row[6])[:most], key=lambda row: row[5])
    np.testing.assert_allclose(top[:, :, 0, 0].numpy(), [[0, *[-1] * 6], *rows], atol=1e-3)
    assert len(rows) > 5


@pytest.mark.parametrize(("low", "high"), [(20, 40), (0, 30), (30, 0), (200, 400), (1, 2), (0, 0)])
def test_routes_by_scale(low: int, high: int) -> None:
    """scale_route_layer.cpp, Forward_cpu."""
    settings = (f"low_scale: {low} " if low else "") + (f"high_scale: {high}" if high else "")
    layer = make("ScaleRoute", f"scale_route_param {{ {settings} }}", bottoms=2, tops=2)
    regions, other = boxes(12), values("other", 12, 3, 2, 2)
    scales = [math.sqrt((x2 - x1 + 1) * (y2 - y1 + 1)) for _, x1, y1, x2, y2 in regions.tolist()]
    chosen = [i for i, scale in enumerate(scales) if low <= scale < (high or math.inf)]
    middle = math.sqrt(low * high) if low and high else low or high or 256
    chosen = chosen or [int(np.argmin([abs(math.log2(scale / middle)) for scale in scales]))]
    tops = layer.forward([regions, other], ())
    assert torch.equal(tops[0], regions[chosen])
    assert torch.equal(tops[1], other[chosen])
    assert layer.top_shapes([(12, 5), (12, 3, 2, 2)]) == ((1, 5), (1, 3, 2, 2))


def test_pixels_in_common() -> None:
    """By hand: with the last pixels counted, a common column is one pixel wide; a common row is none."""
    beside = np.array([[0, 0, 9, 9], [9, 0, 18, 9]], np.float32)
    below = beside[:, [1, 0, 3, 2]]
    corner = np.array([[0, 0, 9, 9], [9, 9, 18, 18]], np.float32)
    narrow = np.array([[3, 0, 3, 9], [3, 0, 3, 9]], np.float32)  # an area of ten pixels, or none
    for boxes, wider, kept in (
        (beside, 1, 1), (below, 1, 2), (corner, 1, 2), (beside, 0, 2), (below, 0, 2), (narrow, 1, 1), (narrow, 0, 2),
    ):  # fmt: skip
        assert len(suppressed(boxes, mode="IOU", threshold=0.001, wider=wider)) == kept


@pytest.mark.parametrize(
    ("kind", "settings", "words"),
    [
        ("BoxOutput", "box_output_param { field_w: 8 field_h: 8 }", "as many field_w"),
        ("BoxOutput", "box_output_param { nms_type: 'MAX' field_w: 8 field_h: 8 downsample_rate: 8 }", "IOMU"),
        ("BoxGroupOutput", "box_group_output_param { box_group_param { field_w: 8 } }", "as many"),
        ("BoxGroupOutput", "box_group_output_param { }", "two for each"),
        ("DecodeBBox", "bbox_reg_param { bbox_mean: 0 bbox_std: 1 }", "four numbers"),
        ("ScaleRoute", "scale_route_param { low_scale: 9 high_scale: 3 }", "scales above 0"),
        ("FrcnnOutput", "frcnn_output_param { nms_type: 'MAX' }", "IOMU"),
    ],
)
def test_settings_that_are_refused(kind: str, settings: str, words: str) -> None:
    with pytest.raises(NetError, match=words):
        make(kind, settings)
