"""Layers that cut regions out of a blob, against the forks' own loops written out one number after the other, and
against OpenCV where it reads the same layer."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from converters import CaffeNet, NetError, parse_prototxt
from parity_tests.fill import rs
from parity_tests.layers.test_layers import make, run, values

H, W = 11, 14
f = np.float32


def regions(count: int, *, images: int = 2, seed: str = "regions", size: int = 60) -> np.ndarray:
    """Regions of all kinds: small, large, beyond the image, turned over, and on halves that rounding decides about."""
    random = rs(seed)
    first = random.uniform(-8, size * 0.8, (count, 2))
    extent = random.uniform(-3, size * 0.7, (count, 2))
    found = np.concatenate([random.randint(0, images, (count, 1)), first, first + extent], 1).astype(np.float32)
    found[::3, 1:] = np.round(found[::3, 1:]) // 2 * 2
    found[1] = [0, 200, 200, 300, 300]
    found[2, 1:] = [2, 6, 2, 6]
    return found


def c_round(x: float) -> f:
    return f(math.floor(abs(x) + 0.5) * (1 if x >= 0 else -1))


def cells(n: int, c: int, h: int, w: int) -> Iterator[tuple[int, int, int, int]]:
    return np.ndindex(n, c, h, w)


def roi_pooling(x: np.ndarray, rois: np.ndarray, ph: int, pw: int, scale: f, pad: float = 0.0) -> np.ndarray:
    """mscnn, roi_pooling_layer.cpp, Forward_cpu; with a pad of 0 Fast R-CNN's."""
    top = np.zeros((len(rois), x.shape[1], ph, pw), f)
    for n, c, i, j in cells(*top.shape):
        image, x1, y1, x2, y2 = rois[n]
        pad_w, pad_h = f(f(x2 - x1) + f(1)) * f(pad), f(f(y2 - y1) + f(1)) * f(pad)
        left, up = c_round(f(x1 - pad_w) * scale), c_round(f(y1 - pad_h) * scale)
        right, down = c_round(f(x2 + pad_w) * scale), c_round(f(y2 + pad_h) * scale)
        bin_h, bin_w = f(max(down - up + 1, 1)) / f(ph), f(max(right - left + 1, 1)) / f(pw)
        rows = range(max(math.floor(f(i) * bin_h) + int(up), 0), min(math.ceil(f(i + 1) * bin_h) + int(up), H))
        columns = range(max(math.floor(f(j) * bin_w) + int(left), 0), min(math.ceil(f(j + 1) * bin_w) + int(left), W))
        top[n, c, i, j] = max((x[int(image), c, a, b] for a in rows for b in columns), default=0)
    return top


def psroi_pooling(x: np.ndarray, rois: np.ndarray, outputs: int, group: int, scale: f) -> np.ndarray:
    """caffe-rfcn, psroi_pooling_layer.cu, PSROIPoolingForward."""
    top = np.zeros((len(rois), outputs, group, group), f)
    for n, c, i, j in cells(*top.shape):
        left, up = c_round(rois[n, 1]) * scale, c_round(rois[n, 2]) * scale
        right, down = (c_round(rois[n, 3]) + f(1)) * scale, (c_round(rois[n, 4]) + f(1)) * scale
        bin_h, bin_w = f(max(down - up, f(0.1))) / f(group), f(max(right - left, f(0.1))) / f(group)
        rows = range(max(math.floor(f(i) * bin_h + up), 0), min(math.ceil(f(i + 1) * bin_h + up), H))
        columns = range(max(math.floor(f(j) * bin_w + left), 0), min(math.ceil(f(j + 1) * bin_w + left), W))
        found = [x[int(rois[n, 0]), (c * group + i) * group + j, a, b] for a in rows for b in columns]
        top[n, c, i, j] = sum(found, f(0)) / f(len(found)) if found else 0
    return top


def between(image: np.ndarray, y: float, x: float, low: float, high: float) -> float | None:
    """Bilinear value at (y, x); None farther than `low` before the first pixel or `high` behind the last."""
    h, w = image.shape
    if y < -low or y > h - 1 + high or x < -low or x > w - 1 + high:
        return None
    y, x = min(max(float(y), 0), h - 1), min(max(float(x), 0), w - 1)
    i, j = int(y), int(x)
    below, beside = min(i + 1, h - 1), min(j + 1, w - 1)
    return (1 - y + i) * ((1 - x + j) * image[i, j] + (x - j) * image[i, beside]) + (y - i) * (
        (1 - x + j) * image[below, j] + (x - j) * image[below, beside]
    )


def roi_align(x: np.ndarray, rois: np.ndarray, ph: int, pw: int, scale: f, sampling: int) -> np.ndarray:
    """pva-mobilenet-v2, roi_align_layer.cpp, ROIAlignForward."""
    top = np.zeros((len(rois), x.shape[1], ph, pw), f)
    for n, c, i, j in cells(*top.shape):
        left, up, right, down = rois[n, 1:] * scale
        height, width = max(down - up, f(1)), max(right - left, f(1))
        rows, columns = sampling or math.ceil(height / f(ph)), sampling or math.ceil(width / f(pw))
        total = 0.0
        for a in range(rows):
            for b in range(columns):
                y = up + i * height / ph + (a + 0.5) * height / ph / rows
                z = left + j * width / pw + (b + 0.5) * width / pw / columns
                total += between(x[int(rois[n, 0]), c], y, z, 1, 1) or 0
        top[n, c, i, j] = total / (rows * columns)
    return top


def psroi_align(
    x: np.ndarray, rois: np.ndarray, outputs: int, group: int, scale: f, sampling: int | None
) -> np.ndarray:
    """caffe-windows (p517332051), psroi_align_layer.cu; without sampling caffe-fast-rcnn's (fallingdust)."""
    top = np.zeros((len(rois), outputs, group, group), f)
    for n, c, i, j in cells(*top.shape):
        image = x[int(rois[n, 0]), (c * group + i) * group + j]
        if sampling is not None:
            top[n, c, i, j] = roi_align(
                image[None, None], rois[n : n + 1] * [0, 1, 1, 1, 1], group, group, scale, sampling
            )[0, 0, i, j]
            continue
        left, up, right, down = rois[n, 1:] * scale
        bin_h, bin_w = (down - up) / group, (right - left) / group
        if bin_h > 0 and bin_w > 0:
            points = [(up + (i + a) * bin_h, left + (j + b) * bin_w) for a in (0.25, 0.75) for b in (0.25, 0.75)]
            top[n, c, i, j] = sum(between(image, *point, 0, 0) or 0 for point in points) / 4
    return top


def cascade_align(x: np.ndarray, rois: np.ndarray, ph: int, pw: int, scale: f, pad: f) -> np.ndarray:
    """cascade-rcnn, roi_align_layer.cpp, Forward_cpu."""
    top = np.zeros((len(rois), x.shape[1], ph + 1, pw + 1), f)
    for n, c, i, j in cells(*top.shape):
        _, x1, y1, x2, y2 = rois[n]
        pad_w, pad_h = (x2 - x1 + 1) * pad, (y2 - y1 + 1) * pad
        left, up = (x1 - pad_w) * scale - 0.5, (y1 - pad_h) * scale - 0.5
        height, width = (y2 + pad_h) * scale - 0.5 - up, (x2 + pad_w) * scale - 0.5 - left
        if height > 0 and width > 0:
            point = up + i * height / ph, left + j * width / pw
            top[n, c, i, j] = between(x[int(rois[n, 0]), c], *point, 0.5, 0.5) or 0
    return top


def centre_align(x: np.ndarray, rois: np.ndarray, ph: int, pw: int, scale: f) -> np.ndarray:
    """HAKE-Action, roi_align_layer.cpp, Forward_cpu, bilinear."""
    top = np.zeros((len(rois), x.shape[1], ph, pw), f)
    for n, c, i, j in cells(*top.shape):
        _, x1, y1, x2, y2 = rois[n] * scale
        left, up = max(x1, 0), max(y1, 0)
        right, down = min(round(W / float(scale)) - 1, x2), min(round(H / float(scale)) - 1, y2)
        height, width = max(down - up + 1, 1), max(right - left + 1, 1)
        y = min(max((i + 0.5) * height / ph + up, 0), H - 1)
        z = min(max((j + 0.5) * width / pw + left, 0), W - 1)
        a, b = int(y), int(z)
        below, beside = min(a + 1, H - 1), min(b + 1, W - 1)
        image = x[int(rois[n, 0]), c]
        top[n, c, i, j] = (
            image[a, b] * (below - y) * (beside - z)
            + image[a, beside] * (below - y) * (z - b)
            + image[below, b] * (y - a) * (beside - z)
            + image[below, beside] * (y - a) * (z - b)
        )
    return top


def roi_warping(x: np.ndarray, rois: np.ndarray, ph: int, pw: int, scale: f) -> np.ndarray:
    """caffe-mnc, roi_warping_layer.cu, ROIWarpingForward."""
    top = np.zeros((len(rois), x.shape[1], ph, pw), f)

    def steps(place: int, length: f, count: int) -> Iterator[f]:
        ratio = math.ceil(length / f(count))
        step, at = f(1.0 / ratio) if ratio else f(math.inf), f(place)
        while at <= place + 1:
            yield at
            at = f(at + step)

    for n, c, i, j in cells(*top.shape):
        left, up, right, down = (c_round(corner * scale) for corner in rois[n, 1:])
        height, width = max(down - up, f(0)), max(right - left, f(0))
        found = [
            between(x[int(rois[n, 0]), c], up + a * height / f(ph), left + b * width / f(pw), 0.5, 0.5)
            for a in steps(i, height, ph)
            for b in steps(j, width, pw)
        ]
        top[n, c, i, j] = max((value for value in found if value is not None), default=0)
    return top


Q = "spatial_scale: 0.25"
CASES: dict[str, tuple[str, int, Callable[[np.ndarray, np.ndarray], np.ndarray], float]] = {
    "ROIPooling": (
        f"roi_pooling_param {{ pooled_h: 3 pooled_w: 4 {Q} }}", 3, lambda x, r: roi_pooling(x, r, 3, 4, f(0.25)), 0,
    ),
    "ROIPooling, 7 bins of a scale that is no power of two": (
        "roi_pooling_param { pooled_h: 7 pooled_w: 7 spatial_scale: 0.3 }", 2,
        lambda x, r: roi_pooling(x, r, 7, 7, f(0.3)), 0,
    ),
    "ROIPooling, pad_ratio": (
        f"roi_pooling_param {{ pooled_h: 3 pooled_w: 4 {Q} pad_ratio: 0.3 }}", 3,
        lambda x, r: roi_pooling(x, r, 3, 4, f(0.25), f(0.3)), 0,
    ),
    "PSROIPooling": (
        f"psroi_pooling_param {{ output_dim: 2 group_size: 3 {Q} }}", 18,
        lambda x, r: psroi_pooling(x, r, 2, 3, f(0.25)), 1e-6,
    ),
    "PSROIAlign": (
        f"psroi_align_param {{ output_dim: 2 group_size: 3 {Q} }}", 18,
        lambda x, r: psroi_align(x, r, 2, 3, f(0.25), None), 1e-5,
    ),
    "PSROIAlign, sampling_ratio": (
        f"psroi_align_param {{ output_dim: 2 group_size: 3 {Q} sampling_ratio: 2 }}", 18,
        lambda x, r: psroi_align(x, r, 2, 3, f(0.25), 2), 1e-5,
    ),
    "ROIAlign": (
        f"roi_align_param {{ pooled_h: 3 pooled_w: 4 {Q} }}", 2, lambda x, r: roi_align(x, r, 3, 4, f(0.25), 0), 1e-5,
    ),
    "ROIAlign, sampling_ratio": (
        f"roi_align_param {{ pooled_h: 3 pooled_w: 4 {Q} sampling_ratio: 2 }}", 2,
        lambda x, r: roi_align(x, r, 3, 4, f(0.25), 2), 1e-5,
    ),
    "ROIAlign, Cascade R-CNN's": (
        f"roi_pooling_param {{ pooled_h: 3 pooled_w: 4 {Q} pad_ratio: 0.1 }}", 2,
        lambda x, r: cascade_align(x, r, 3, 4, f(0.25), f(0.1)), 1e-5,
    ),
    "ROIAlign, the centres": (
        f"roi_pooling_param {{ pooled_h: 3 pooled_w: 4 {Q} }}", 2,
        lambda x, r: centre_align(x, r, 3, 4, f(0.25)), 1e-5,
    ),
    "ROIWarping": (
        f"roi_warping_param {{ pooled_h: 3 pooled_w: 4 {Q} }}", 2, lambda x, r: roi_warping(x, r, 3, 4, f(0.25)), 1e-5,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_regions_are_read_as_the_fork_reads_them(case: str) -> None:
    settings, channels, by_hand, tolerance = CASES[case]
    x, rois = values(case, 2, channels, H, W), regions(12)
    (found,) = run(make(case.partition(",")[0], settings, bottoms=2), x, torch.from_numpy(rois))
    expected = by_hand(x.numpy(), rois)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=tolerance, rtol=0)
    assert (expected != 0).any((1, 2, 3)).sum() >= 9, "regions that say something"


@pytest.mark.parametrize("case", CASES)
def test_regions_one_by_one_are_what_they_are_together(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that memory does not follow their number: bounds are worked out for some at a time."""
    settings, channels, _, _ = CASES[case]
    layer = make(case.partition(",")[0], settings, bottoms=2)
    bottoms = values("x", 2, channels, H, W), torch.from_numpy(regions(9))
    (together,) = layer.forward(bottoms, ())
    monkeypatch.setattr("converters.layers.regions.AT_ONCE", 1)
    (one_by_one,) = layer.forward(bottoms, ())
    assert torch.equal(together, one_by_one)


def test_halves_are_rounded_away_from_zero() -> None:
    """2.5 is 3 in C, and 2 where halves go to the even number, as in Python and PyTorch."""
    x = torch.arange(20.0).reshape(1, 1, 1, 20)
    layer = make("ROIPooling", "roi_pooling_param { pooled_h: 1 pooled_w: 1 spatial_scale: 0.5 }", bottoms=2)
    for x2, largest in ((5, 3), (4, 2), (4.99, 2), (9, 5)):
        (top,) = run(layer, x, torch.tensor([[0.0, 0, 0, x2, 0]]))
        assert top.item() == largest


def test_regions_of_any_number_and_shape() -> None:
    layer = make("ROIPooling", "roi_pooling_param { pooled_h: 2 pooled_w: 2 spatial_scale: 1 }", bottoms=2)
    x = values("x", 1, 3, 6, 6)
    flat = torch.tensor([[0.0, 1, 1, 4, 4]])
    assert np.array_equal(*(run(layer, x, rois)[0] for rois in (flat, flat.reshape(1, 5, 1, 1))))
    assert run(layer, x, torch.zeros(0, 5))[0].shape == (0, 3, 2, 2)
    assert layer.forward((x, torch.tensor([[0, math.nan, -math.inf, math.inf, 3]])), ())[0].isfinite().all()
    with pytest.raises(ValueError, match="five numbers"):
        layer.top_shapes([(1, 3, 6, 6), (4, 4)])


def test_the_gradient_goes_to_the_largest() -> None:
    layer = make("ROIPooling", "roi_pooling_param { pooled_h: 2 pooled_w: 2 spatial_scale: 1 }", bottoms=2)
    x = values("x", 1, 1, 6, 6).requires_grad_()
    (top,) = layer.forward((x, torch.tensor([[0.0, 0, 0, 5, 5]])), (), training=True)
    top.sum().backward()
    assert x.grad is not None
    assert sorted(x.detach()[x.grad == 1].tolist()) == sorted(top.flatten().tolist())


NET = """
layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: 1 dim: {channels} dim: 11 dim: 14 }} }} }}
layer {{ name: "rois" type: "Input" top: "rois" input_param {{ shape {{ dim: 9 dim: 5 }} }} }}
layer {{ name: "it" type: "{kind}" bottom: "data" bottom: "rois" top: "it" {settings} }}
"""


@pytest.mark.parametrize("kind", ["ROIPooling", "PSROIPooling"])
def test_opencv_reads_the_same(kind: str, tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    settings, channels = CASES[kind][:2]
    text = NET.format(kind=kind, settings=settings, channels=channels)
    (tmp_path / "net.prototxt").write_text(text)
    theirs = cv2.dnn.readNetFromCaffe(str(tmp_path / "net.prototxt"))
    # OpenCV keeps regions inside of the image, and those that are turned over it reads otherwise.
    rois = regions(9, images=1)
    rois[:, 1:] = np.abs(rois[:, 1:]) % 40
    rois[:, 3:] = np.maximum(rois[:, 3:], rois[:, 1:3] + 4)
    x = values("opencv", 1, channels, H, W)
    theirs.setInput(x.numpy(), "data")
    theirs.setInput(rois, "rois")
    ours = CaffeNet(parse_prototxt(text))(data=x, rois=torch.from_numpy(rois))
    np.testing.assert_allclose(ours.numpy(), theirs.forward(), atol=1e-5, rtol=0)


def test_a_region_of_no_image_is_an_error_with_the_layer() -> None:
    net = CaffeNet(parse_prototxt(NET.format(kind="ROIPooling", settings=CASES["ROIPooling"][0], channels=3)))
    rois = torch.zeros(9, 5)
    rois[4, 0] = 1
    with pytest.raises(NetError, match=r"'it' \(ROIPooling.*index 1 is out of range"):
        net(data=torch.zeros(1, 3, 11, 14), rois=rois)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("far", [1e7, 3e38, float("inf"), float("nan")])
def test_regions_far_outside_are_read_at_once(case: str, far: float) -> None:
    settings, channels, _, _ = CASES[case]
    layer = make(case.partition(",")[0], settings.replace("0.25", "1e30"), bottoms=2)
    rois = torch.tensor([[0, -far, -far, far, far], [0, far, far, far, far], [0, 2, 2, far, 5]])
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (top,) = layer.forward((values("x", 1, channels, H, W), rois), ())
    assert top.isfinite().all()
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize(
    ("kind", "settings", "words"),
    [
        ("ROIPooling", "roi_pooling_param { pooled_h: 0 pooled_w: 7 }", "pooled_h 0 and pooled_w 7: expected 1 to"),
        ("ROIPooling", "", "pooled_h 0 and pooled_w 0"),
        ("ROIPooling", "roi_pooling_param { pooled_h: 2000000000 pooled_w: 7 }", "pooled_h 2000000000"),
        ("ROIPooling", "roi_pooling_param { pooled_h: 7 pooled_w: 7 spatial_scale: nan }", "spatial_scale is 'nan'"),
        ("ROIPooling", "roi_pooling_param { pooled_h: 7 pooled_w: 7 pad_ratio: 1e39 }", "pad_ratio is inf"),
        ("ROIAlign", "roi_align_param { pooled_h: 7 pooled_w: 7 spatial_scale: -inf }", "spatial_scale is '-inf'"),
        ("ROIAlign", "roi_pooling_param { pooled_h: 7 pooled_w: 7 spatial_scale: 0 }", "spatial_scale is 0"),
        ("PSROIAlign", "psroi_align_param { group_size: 9999 output_dim: 2 }", "group_size 9999"),
        ("PSROIPooling", "psroi_pooling_param { group_size: 7 }", "output_dim"),
        ("ROIAlign", "roi_align_param { aligned_h: 7 aligned_w: 7 }", "not supported"),
    ],
)
def test_settings_that_are_refused(kind: str, settings: str, words: str) -> None:
    with pytest.raises(NetError, match=words):
        make(kind, settings, bottoms=2)


def test_channels_that_do_not_fit_the_groups() -> None:
    layer = make("PSROIPooling", CASES["PSROIPooling"][0], bottoms=2)
    with pytest.raises(ValueError, match="output_dim 2 and group_size 3 need 18"):
        layer.top_shapes([(1, 17, H, W), (3, 5)])


def test_masks_of_mnc() -> None:
    x, mask = values("x", 2, 3, 4, 5), values("mask", 2, 1, 4, 5)
    (top,) = run(make("MaskPooling", bottoms=2), x, mask)
    assert np.array_equal(top, x.numpy() * mask.numpy())
    for h, w in (7, 3), (2, 1):
        (top,) = run(make("MaskResize", f"mask_resize_param {{ output_height: {h} output_width: {w} }}"), x)
        assert top.shape == (2, 3, h, w)
        for n, c, i, j in cells(*top.shape):  # caffe-mnc, mask_resize_layer.cu
            assert top[n, c, i, j] == pytest.approx(between(x[n, c].numpy(), i * 4 / h, j * 5 / w, 0.5, 0.5), abs=1e-5)
    (top,) = run(make("Python", 'python_param { layer: "MaskLayer" }'), values("x", 2, 9))
    assert top.shape == (2, 1, 3, 3)
