"""Layers of single forks against the loops of their sources: U-Net, LiteFlowNet, DeconvNet, FlowNet, ICNet, DeepLab."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from converters import NetError
from converters.layers import dense_crf as dense_crf_layer
from parity_tests.layers.test_layers import make, run, values


def close(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-5)


# MergeCrop: mergecrop_layer.cu, CopyForwardStack and CopyForwardAdd


@pytest.mark.parametrize(
    ("settings", "add", "counts"),
    [("", False, (1, 1)), ("operation: ADD", True, (1, 1)), ("forward: 1 forward: 0", False, (1, 0))],
)
def test_merge_crop_takes_the_middle(settings: str, add: bool, counts: tuple[int, int]) -> None:
    a, b = values("a", 2, 3, 4, 5), values("b", 2, 3, 7, 9)
    expected = np.zeros((2, 3 if add else 6, 4, 5))
    for n in range(2):
        for c in range(3):
            for y in range(4):
                for x in range(5):
                    one = counts[0] * float(a[n, c, y, x])
                    two = counts[1] * float(b[n, c, y + (7 - 4) // 2, x + (9 - 5) // 2])
                    if add:
                        expected[n, c, y, x] = one + two
                    else:
                        expected[n, c, y, x], expected[n, 3 + c, y, x] = one, two
    close(run(make("MergeCrop", f"mergecrop_param {{ {settings} backward: 1 }}", bottoms=2), a, b)[0], expected)


def test_merge_crop_refuses_what_its_kernel_mixes_up() -> None:
    with pytest.raises(ValueError, match="as many items and channels"):
        make("MergeCrop", bottoms=2).top_shapes([(1, 3, 4, 4), (1, 2, 6, 6)])
    with pytest.raises(ValueError, match="larger"):
        make("MergeCrop", bottoms=2).top_shapes([(1, 3, 4, 4), (1, 3, 6, 3)])


# Warp: warp_layer.cpp, Forward_cpu


def test_warp_counts_each_pixel_outside_as_nothing() -> None:
    image, places = values("image", 2, 3, 5, 6), values("places", 2, 2, 5, 6) * 3 + 2
    places[0, :, 0, 0] = torch.tensor([-0.5, 2.0])  # half a pixel beyond the border
    places[0, :, 0, 1] = torch.tensor([5.0, 4.0])  # the last pixel
    expected = np.zeros((2, 3, 5, 6))
    for n in range(2):
        for h in range(5):
            for w in range(6):
                x, y = (float(place) for place in places[n, :, h, w])
                x0, y0 = math.floor(x), math.floor(y)
                for dx, dy in ((0, 0), (0, 1), (1, 0), (1, 1)):
                    if 0 <= x0 + dx < 6 and 0 <= y0 + dy < 5:
                        share = (x - x0 if dx else 1 - (x - x0)) * (y - y0 if dy else 1 - (y - y0))
                        expected[n, :, h, w] += share * image[n, :, y0 + dy, x0 + dx].numpy()
    found = run(make("Warp", bottoms=2), image, places)[0]
    close(found, expected)
    assert found[0, 0, 0, 0] == pytest.approx(float(image[0, 0, 2, 0]) / 2, rel=1e-5)


# Unpooling: unpooling_layer.cpp, Forward_cpu


def unpooled(x: np.ndarray, method: str, kernel: tuple, stride: int, size: tuple | None, mask: np.ndarray | None):  # type: ignore[no-untyped-def]
    n, c, h, w = x.shape
    size = size or tuple(max((m - 1) * stride + k, m * stride + 1) for m, k in zip((h, w), kernel, strict=True))
    top = np.zeros((n, c, *size))
    for i, j, ph, pw in np.ndindex(n, c, h, w):
        value = x[i, j, ph, pw]
        if method == "MAX":
            flat = top[i, j].reshape(-1)
            place = min(ph * stride, size[0] - 1) * size[1] + min(pw * stride, size[1] - 1)
            flat[place if mask is None else int(mask[i, j, ph, pw])] = value
            continue
        rows = range(ph * stride, min(ph * stride + kernel[0], size[0]))
        columns = range(pw * stride, min(pw * stride + kernel[1], size[1]))
        for y in rows:
            for z in columns:
                top[i, j, y, z] += value / (len(rows) * len(columns)) if method == "AVE" else value
    return top


@pytest.mark.parametrize("method", ["MAX", "AVE", "TILE"])
@pytest.mark.parametrize(("kernel", "stride"), [((3, 3), 2), ((2, 2), 2), ((2, 3), 1)])
@pytest.mark.parametrize("size", [None, (8, 9), (5, 6)])
def test_unpooling(method: str, kernel: tuple[int, int], stride: int, size: tuple[int, int] | None) -> None:
    x = values("x", 2, 2, 3, 4)
    given = f"unpool_h: {size[0]} unpool_w: {size[1]}" if size else ""
    text = f"unpool: {method} kernel_h: {kernel[0]} kernel_w: {kernel[1]} stride: {stride} {given}"
    found = run(make("Unpooling", f"unpooling_param {{ {text} }}"), x)[0]
    close(found, unpooled(x.numpy(), method, kernel, stride, size, None))


def test_unpooling_puts_values_where_pooling_found_them() -> None:
    x = values("x", 2, 3, 8, 6)
    pool = make("Pooling", "pooling_param { pool: MAX kernel_size: 2 stride: 2 }", tops=2)
    top, mask = pool.forward([x], ())
    layer = make(
        "Unpooling", "unpooling_param { unpool: MAX kernel_size: 2 stride: 2 unpool_h: 8 unpool_w: 6 }", bottoms=2
    )
    found = run(layer, top, mask)[0]
    close(found, unpooled(top.numpy(), "MAX", (2, 2), 2, (8, 6), mask.numpy()))
    np.testing.assert_array_equal(found[found != 0], x.numpy()[found != 0])


# DataAugmentation: data_augmentation_layer.cu, SpatialAugmentation and Forward_gpu


def sampled(x: np.ndarray, crop: tuple[int, int]) -> np.ndarray:
    n, c, h, w = x.shape
    top = np.zeros((n, c, *crop))
    for y in range(crop[0]):
        for z in range(crop[1]):
            ypos = min(max(y - 0.5 * crop[0] + 0.5 * h, 0), h - 1.05)
            xpos = min(max(z - 0.5 * crop[1] + 0.5 * w, 0), w - 1.05)
            ty, tx = math.floor(ypos), math.floor(xpos)
            dy, dx = ypos - ty, xpos - tx
            above = (1 - dx) * x[:, :, ty, tx] + dx * x[:, :, ty, tx + 1]
            below = (1 - dx) * x[:, :, ty + 1, tx] + dx * x[:, :, ty + 1, tx + 1]
            top[:, :, y, z] = (1 - dy) * above + dy * below
    return top


@pytest.mark.parametrize("crop", [(5, 7), (8, 9), (4, 6)])
@pytest.mark.parametrize("per_pixel", [False, True])
def test_data_augmentation_at_test(crop: tuple[int, int], per_pixel: bool) -> None:
    x = values("x", 2, 3, 8, 9)
    blobs = torch.full((1, 1, 1, 1), 9e3), values("pixel", 1, 3, *crop), values("channel", 1, 3, 1, 1)
    text = f"recompute_mean: 1000 mean_per_pixel: {str(per_pixel).lower()} crop_height: {crop[0]} crop_width: {crop[1]}"
    found = run(make("DataAugmentation", f"augmentation_param {{ {text} mirror {{ prob: 1 }} }}"), x, blobs=blobs)[0]
    close(found, sampled(x.numpy(), crop) - blobs[1 if per_pixel else 2].numpy())


@pytest.mark.parametrize(("text", "less"), [("mean_per_pixel: false", True), ("", False)])
def test_data_augmentation_with_a_mean_in_the_text(text: str, less: bool) -> None:
    x = values("x", 1, 3, 4, 5)
    layer = make("DataAugmentation", f"augmentation_param {{ mean: 1 mean: 2 mean: 3 {text} }}")
    expected = x.numpy() - np.array([1, 2, 3], np.float32).reshape(3, 1, 1) * less
    close(run(layer, x, blobs=(torch.zeros(1, 1, 1, 1),))[0], expected)


@pytest.mark.parametrize(("text", "bottoms"), [("augment_during_test: true", 1), ("", 2)])
def test_what_is_drawn_at_random_is_refused(text: str, bottoms: int) -> None:
    with pytest.raises(NetError, match="at random"):
        make("DataAugmentation", f"augmentation_param {{ {text} }}", bottoms=bottoms)


# BilinearInterpolation: bilinear_interpolation_layer.cpp of both forks


@pytest.mark.parametrize("factor", [None, 2, 1.5])
def test_bilinear_interpolation(factor: float | None) -> None:
    x, size = values("x", 2, 3, 4, 5), values("size", 1, 2, 9, 7)
    h, w = (9, 7) if factor is None else (int(4 * factor), int(5 * factor))
    expected = np.zeros((2, 3, h, w))
    padded = np.pad(x.numpy(), [(0, 0), (0, 0), (0, 1), (0, 1)])
    for y in range(h):
        for z in range(w):
            fy, fx = 3 * y / (h - 1), 4 * z / (w - 1)
            ty, tx = math.floor(fy), math.floor(fx)
            for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
                share = (fy - ty if dy else 1 - fy + ty) * (fx - tx if dx else 1 - fx + tx)
                expected[:, :, y, z] += share * padded[:, :, ty + dy, tx + dx]
    if factor is None:
        close(run(make("BilinearInterpolation", bottoms=2), x, size)[0], expected)
    else:
        text = f"bilinear_interpolation_param {{ interpolation_factor: {factor} }}"
        close(run(make("BilinearInterpolation", text), x)[0], expected)


# ICNetSubgraph: icnet_subgraph_layer.cpp, as its own layers


def test_icnets_subgraph_is_its_layers() -> None:
    x = values("x", 1, 2, 33, 70)
    expected = x.clone()
    for kernel, stride in (((33, 65), (33, 65)), ((17, 33), (16, 32)), ((13, 25), (10, 20)), ((8, 15), (5, 10))):
        text = f"pool: AVE kernel_h: {kernel[0]} kernel_w: {kernel[1]} stride_h: {stride[0]} stride_w: {stride[1]}"
        (pooled,) = make("Pooling", f"pooling_param {{ {text} }}").forward([x], ())
        (wide,) = make("Interp", "interp_param { height: 33 width: 70 }").forward([pooled], ())
        expected = expected + wide
    close(run(make("ICNetSubgraph"), x)[0], expected.numpy())
    with pytest.raises(ValueError, match="33 x 65"):
        make("ICNetSubgraph").top_shapes([(1, 2, 32, 70)])


# ChannelScale: channel_scale_layer.cpp


def test_channel_scale() -> None:
    x, scale = values("x", 2, 3, 2, 4), values("scale", 2, 1, 2, 4)
    expected = np.zeros(x.shape)
    for n, c, y, z in np.ndindex(*x.shape):
        expected[n, c, y, z] = float(scale[n, 0, y, z]) * float(x[n, c, y, z])
    close(run(make("ChannelScale", bottoms=2), x, scale)[0], expected)
    vectors, lengths = values("v", 2, 5), values("l", 2, 1)
    close(run(make("ChannelScale", bottoms=2), vectors, lengths)[0], (vectors * lengths).numpy())


@pytest.mark.parametrize(("blob", "counts"), [(3.0, 2.0), (-1.0, 0.0), (1.5, 1.5)])
def test_channel_scale_with_one_scale(blob: float, counts: float) -> None:
    x, scale = values("x", 2, 3, 2, 4), values("scale", 2, 1, 2, 4)
    text = "channel_scale_param { global_scale: true max_global_scale: 2 do_backward_scale: false }"
    top, one = run(make("ChannelScale", text, bottoms=2, tops=2), x, scale, blobs=(torch.tensor([blob]),))
    close(top, counts * x.numpy())
    assert one == np.float32(counts)
    still = make("ChannelScale", "channel_scale_param { do_forward: false }", bottoms=2)
    np.testing.assert_array_equal(run(still, x, scale)[0], x.numpy())


# SSDDecoder and SSDSort: together they are DetectionOutput


@pytest.mark.parametrize("code", ["CORNER", "CENTER_SIZE", "CORNER_SIZE"])
def test_ssd_in_two_layers_is_detection_output(code: str) -> None:
    loc, conf = values("loc", 1, 48) * 0.3, values("conf", 1, 36).softmax(1)
    low = values("low", 12, 2).sigmoid()
    priors = torch.stack([torch.cat([low, low + 0.3], 1).flatten(), torch.full((48,), 0.1)])[None]
    text = (
        f"detection_output_param {{ num_classes: 3 code_type: {code} keep_top_k: 7"
        " nms_param { nms_threshold: 0.3 top_k: 9 } }"
    )
    (boxes,) = make("SSDDecoder", text, bottoms=2).forward([loc, priors], ())
    assert boxes.shape == (1, 1, 12, 4)
    (found,) = make("SSDSort", text, bottoms=2).forward([boxes, conf], ())
    (expected,) = make("DetectionOutput", text, bottoms=3).forward([loc, conf, priors], ())
    assert expected.shape[2] > 1
    torch.testing.assert_close(found, expected)


def test_ssd_in_two_layers_is_for_one_image() -> None:
    layer = make("SSDDecoder", "detection_output_param { num_classes: 3 }", bottoms=2)
    with pytest.raises(ValueError, match="expected"):
        layer.top_shapes([(2, 48), (1, 2, 48)])
    with pytest.raises(NetError, match="share_location"):
        make("SSDSort", "detection_output_param { num_classes: 3 share_location: false }", bottoms=2)


# DenseCRF: densecrf_layer.cpp, with the Gaussians summed over all pairs of pixels


class SummedFilter:
    """The filter summed over all pairs of points, which the lattice comes near to."""

    def __init__(self, features: torch.Tensor) -> None:
        self.features = features.double().numpy()

    def filter(self, values_: torch.Tensor) -> torch.Tensor:
        found = np.zeros(values_.shape)
        for i, here in enumerate(self.features):
            for j, there in enumerate(self.features):
                found[i] += math.exp(-((here - there) ** 2).sum() / 2) * values_[j].numpy()
        return torch.from_numpy(found)


def dense_crf(scores: np.ndarray, image: np.ndarray) -> np.ndarray:
    """The probabilities (c, h, w) after three steps, with spatial deviations of 3 and bilateral ones of 20 and 8."""
    c, h, w = scores.shape
    pixels = [(y, x) for y in range(h) for x in range(w)]
    start = np.array([scores[:, y, x] for y, x in pixels])
    likely = np.exp(start) / np.exp(start).sum(1, keepdims=True)
    for _ in range(3):
        after = start.copy()
        for i, (y, x) in enumerate(pixels):
            near, alike = [], []
            for v, u in pixels:
                away = (y - v) ** 2 + (x - u) ** 2
                near.append(math.exp(-away / 9 / 2))
                colours = ((image[:, y, x] - image[:, v, u]) ** 2).sum()
                alike.append(math.exp(-(away / 400 + colours / 64) / 2))
            for weight, shares in ((2, near), (4, alike)):
                after[i] += weight * (np.array(shares)[:, None] * likely).sum(0) / sum(shares)
        likely = np.exp(after) / np.exp(after).sum(1, keepdims=True)
    return likely.T.reshape(c, h, w)


@pytest.mark.parametrize("probability", [True, False])
def test_dense_crf(probability: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    scores, image = values("scores", 1, 3, 6, 6).double(), values("image", 1, 3, 6, 6).double() * 5
    sizes = torch.tensor([4.0, 6.0]).reshape(1, 2, 1, 1)
    text = (
        "dense_crf_param { max_iter: 3 pos_w: 2 pos_xy_std: 3 bi_w: 4 bi_xy_std: 20 bi_rgb_std: 8"
        f" output_probability: {str(probability).lower()} }}"
    )
    layer, expected = make("DenseCRF", text, bottoms=3), dense_crf(scores[0, :, :4].numpy(), image[0, :, :4].numpy())
    near = run(layer, scores, sizes, image)[0]
    monkeypatch.setattr(dense_crf_layer, "lattice", SummedFilter)
    found = run(layer, scores, sizes, image)[0]
    assert not found[:, :, 4:].any()  # beyond the image
    close(found[0, :, :4], expected if probability else np.log(expected))
    if probability:
        assert np.abs(near[0, :, :4] - expected).max() < 0.1


def test_dense_crf_of_an_image_without_filters_is_refused() -> None:
    with pytest.raises(NetError, match="no bilateral"):
        make("DenseCRF", "dense_crf_param { pos_w: 1 pos_xy_std: 1 }", bottoms=3)
    with pytest.raises(NetError, match="how many"):
        make("DenseCRF", "dense_crf_param { pos_w: 1 }", bottoms=2)


# ActionsDetectionOutputLayer: actions_detection_output_layer.py


def actions_layer(settings: str):  # type: ignore[no-untyped-def]
    told = f"{{'num_anchors': 2{settings}}}"
    return make("Python", f"python_param {{ layer: 'ActionsDetectionOutputLayer' param_str: \"{told}\" }}", bottoms=3)


ROWS = torch.tensor(
    [  # image, class, score, box, anchor, x, y
        [0, 1, 0.9, 0.1, 0.1, 0.5, 0.5, 0, 1, 0],
        [0, 1, 0.8, 0.12, 0.1, 0.5, 0.5, 1, 2, 1],
        [1, 1, 0.7, 0.6, 0.6, 0.9, 0.9, 1, 0, 0],
        [0, 1, 0.6, 0.1, 0.12, 0.5, 0.5, 1, 2, 1],
    ]
)[None, None]


def test_the_action_is_that_of_the_anchor_and_the_cell() -> None:
    branches = [values(f"branch{i}", 2, 2, 3, 4).softmax(3) for i in range(2)]
    (found,) = actions_layer("").forward([ROWS, *branches], ())
    assert found.shape == (1, 1, 4, 8)
    for row, made in zip(ROWS[0, 0].tolist(), found[0, 0].tolist(), strict=True):
        scores = branches[int(row[7])][int(row[0]), int(row[9]), int(row[8])]
        assert made == pytest.approx([row[0], int(scores.argmax()), row[2], float(scores.max()), *row[3:7]])


def test_boxes_that_overlap_vote() -> None:
    branches = [torch.zeros(2, 2, 3, 4), torch.zeros(2, 2, 3, 4)]
    branches[0][0, 0, 1, 3] = 0.5  # the best one: its own vote counts 1
    branches[1][0, 1, 2, 2] = 0.6  # two of them: 1.2
    branches[1][1, 0, 0, 1] = 0.4
    (found,) = actions_layer(", 'use_nms': True, 'num_valid_actions': 4").forward([ROWS, *branches], ())
    close(found[0, 0, :, :4].numpy(), np.array([[0, 2, 0.9, 0.5], [1, 1, 0.7, 0.4]]))
    (apart,) = actions_layer(", 'use_nms': True, 'num_valid_actions': 4, 'min_overlap': 0.999").forward(
        [ROWS, *branches], ()
    )
    assert apart.shape[2] == 4


def test_another_number_of_anchors_is_refused() -> None:
    with pytest.raises(NetError, match="expected 4"):
        make(
            "Python",
            "python_param { layer: 'ActionsDetectionOutputLayer' param_str: \"{'num_anchors': 3}\" }",
            bottoms=3,
        )


# Pushin (pushin_layer.cu) and BatchNorm (batch_norm_layer.cpp) where nothing is left of a number


def test_pushin_drops_in_training_alone() -> None:
    x = torch.ones(1, 50, 10, 10)
    layer = make("Pushin", "pushin_param { pushin_ratio: 0.2 }")
    assert torch.equal(layer.forward([x], ())[0], x)
    (dropped,) = layer.forward([x], (), training=True)
    assert set(dropped.unique().tolist()) == {0.0, 1.25} and 0.15 < float((dropped == 0).float().mean()) < 0.25
    with pytest.raises(NetError, match="between 0 and 1"):
        make("Pushin", "pushin_param { pushin_ratio: 1 }")


@pytest.mark.parametrize("eps", [1e-5, 1e-3])
@pytest.mark.parametrize("shape", [(1, 3), (1, 3, 1, 1)])
def test_batch_norm_over_one_value_is_zero(eps: float, shape: tuple[int, ...]) -> None:
    """A batch of one value for each channel is its own mean; PyTorch's batch_norm refuses it."""
    layer = make("BatchNorm", f"batch_norm_param {{ use_global_stats: false eps: {eps} }}")
    blobs = (torch.zeros(3), torch.ones(3), torch.ones(1))
    for training in (False, True):
        assert not run(layer, values("x", *shape) * 100, blobs=blobs, training=training)[0].any()
