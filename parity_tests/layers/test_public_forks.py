"""Layers of public forks against the loops of their sources: DenseNet's, Deformable ConvNets', NormFace's, ..."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from converters import NetError, parse_prototxt
from parity_tests.layers.test_layers import make, run, values


def close(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)


# DenseBlock: DenseBlock_layer.cpp, Forward_cpu


def blobs_of(layer, *shapes: tuple[int, ...], factor: float) -> tuple[torch.Tensor, ...]:  # type: ignore[no-untyped-def]
    drawn = [values(f"blob{i}", *shape) for i, shape in enumerate(layer.blob_shapes(list(shapes)))]
    running = set(layer.statistics())
    kept = [blob.abs() + 0.5 if i in running else blob for i, blob in enumerate(drawn[:-1])]
    return (*kept, torch.full((1,), factor))


def turned_convolution(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    n, _, h, w = x.shape
    out, _, kh, kw = kernel.shape
    top = np.zeros((n, out, h, w))
    for i, o, y, z in np.ndindex(n, out, h, w):
        for a, b in np.ndindex(kh, kw):
            row, column = y + kh // 2 - a, z + kw // 2 - b
            if 0 <= row < h and 0 <= column < w:
                top[i, o, y, z] += (kernel[o, :, a, b] * x[i, :, row, column]).sum()
    return top


def normal(x: np.ndarray, scale: np.ndarray, shift: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    return np.maximum(scale * (x - mean) / np.sqrt(variance + 1e-5) + shift, 0)


@pytest.mark.parametrize("factor", [0.0, 2.5])
@pytest.mark.parametrize("bottleneck", [False, True])
def test_dense_block(bottleneck: bool, factor: float) -> None:
    settings = f"numTransition: 2 initChannel: 3 growthRate: 2 use_BC: {str(bottleneck).lower()} dropout_amount: 0.2"
    layer, x = make("DenseBlock", f"denseblock_param {{ {settings} }}"), values("x", 2, 3, 4, 5)
    blobs = blobs_of(layer, (2, 3, 4, 5), factor=factor)
    of = [blob.numpy().astype(np.float64) for blob in blobs]
    merged, divisor = x.numpy().astype(np.float64), factor or 1
    for i in range(2):
        y = normal(merged, of[2 + i], of[4 + i], of[6 + i] / divisor, of[8 + i] / divisor)
        if bottleneck:
            y = turned_convolution(y, of[10 + i])
            y = normal(y, of[12 + i], of[14 + i], of[16 + i] / divisor, of[18 + i] / divisor)
        merged = np.concatenate([merged, turned_convolution(y, of[i])], 1)
    close(run(layer, x, blobs=blobs)[0], merged)


def test_dense_block_takes_the_first_numbers_of_a_bottom_with_more_channels() -> None:
    layer, x = (
        make("DenseBlock", "denseblock_param { numTransition: 1 initChannel: 3 growthRate: 2 }"),
        values("x", 2, 5, 4, 5),
    )
    blobs = blobs_of(layer, (2, 5, 4, 5), factor=0)
    memory = x.numpy().ravel()  # DenseBlock_layer.cu, gpu_copy_one_to_many: chunks of initChannel * H * W
    taken = np.stack([memory[i * 60 : (i + 1) * 60].reshape(3, 4, 5) for i in range(2)])
    found = run(layer, x, blobs=blobs)[0]
    np.testing.assert_array_equal(found[:, :3], taken)
    np.testing.assert_array_equal(found, run(layer, torch.from_numpy(taken), blobs=blobs)[0])
    with pytest.raises(ValueError, match="initChannel is 3"):
        layer.top_shapes([(1, 2, 4, 5)])


def test_dense_block_trains_on_its_own_statistics() -> None:
    layer, x = (
        make("DenseBlock", "denseblock_param { numTransition: 1 initChannel: 3 growthRate: 2 }"),
        values("x", 4, 3, 5, 5),
    )
    blobs = blobs_of(layer, (4, 3, 5, 5), factor=0)
    mean = blobs[3].clone()
    top = layer.forward([x], blobs, training=True)[0]
    assert not np.allclose(top.numpy(), layer.forward([x], blobs)[0].numpy(), atol=1e-3)
    close(blobs[3].flatten().numpy(), (0.9 * mean.flatten() + 0.1 * x.mean((0, 2, 3))).numpy())


# DeformableConvolution: deformable_im2col.cu


def read_at(image: np.ndarray, y: float, x: float) -> np.ndarray:
    height, width = image.shape[1:]
    if not (0 <= y < height and 0 <= x < width):
        return np.zeros(len(image))
    top, left = math.floor(y), math.floor(x)
    bottom, right = top + 1, left + 1
    if top >= height - 1:
        bottom = top = height - 1
        y = top
    if left >= width - 1:
        right = left = width - 1
        x = left
    down, across = y - top, x - left
    above = (1 - across) * image[:, top, left] + across * image[:, top, right]
    below = (1 - across) * image[:, bottom, left] + across * image[:, bottom, right]
    return (1 - down) * above + down * below


@pytest.mark.parametrize(
    ("stride", "pad", "dilation", "group", "parts"), [(1, 1, 1, 1, 1), (2, 2, 2, 2, 2), (1, 0, 1, 1, 4)]
)
def test_deformable_convolution(stride: int, pad: int, dilation: int, group: int, parts: int) -> None:
    text = f"num_output: 4 kernel_size: 3 stride: {stride} pad: {pad} dilation: {dilation} group: {group}"
    layer = make(
        "DeformableConvolution", f"deformable_convolution_param {{ {text} deformable_group: {parts} }}", bottoms=2
    )
    x = values("x", 2, 4, 6, 7)
    size = tuple((side + 2 * pad - 2 * dilation - 1) // stride + 1 for side in (6, 7))
    offsets = values("offsets", 2, parts * 18, *size) * 2
    weight, bias = values("w", 4, 4 // group, 3, 3), values("b", 4)
    expected = np.tile(bias.numpy()[None, :, None, None], (2, 1, *size)).astype(np.float64)
    images, moved = x.numpy().astype(np.float64), offsets.numpy().astype(np.float64)
    for n, h, w, i, j in np.ndindex(2, *size, 3, 3):
        column = np.zeros(4)
        for part in range(parts):
            own = slice(part * 4 // parts, (part + 1) * 4 // parts)
            at = part * 18 + 2 * (i * 3 + j)
            y, z = (
                h * stride - pad + i * dilation + moved[n, at, h, w],
                w * stride - pad + j * dilation + moved[n, at + 1, h, w],
            )
            column[own] = read_at(images[n, own], y, z)
        for o in range(4):
            first = o * group // 4 * (4 // group)
            expected[n, o, h, w] += (weight[o, :, i, j].numpy() * column[first : first + 4 // group]).sum()
    close(run(layer, x, offsets, blobs=(weight, bias))[0], expected)


def test_offsets_of_another_size_are_refused() -> None:
    layer = make("DeformableConvolution", "deformable_convolution_param { num_output: 4 kernel_size: 3 }", bottoms=2)
    with pytest.raises(ValueError, match=r"offsets must be \(1, 72, 4, 4\)"):
        layer.top_shapes([(1, 4, 6, 6), (1, 72, 6, 6)])


# InnerDistance: inner_distance_layer.cpp, Forward_cpu


@pytest.mark.parametrize("kind", ["L1", "L2"])
@pytest.mark.parametrize("fed", [False, True])
def test_inner_distance(kind: str, fed: bool) -> None:
    x, weight = values("x", 3, 2, 2), values("w", 5, 4)
    settings = f'num_output: 5 distance_type: "{kind}" normalize: true'
    layer = make("InnerDistance", f"inner_distance_param {{ {settings} }}", bottoms=1 + fed)
    rows = weight.numpy().astype(np.float64)
    if not fed:
        rows = rows / np.sqrt((rows**2).sum(1, keepdims=True) + 1e-6)
    apart = x.numpy().reshape(3, 1, 4) - rows[None]
    expected = np.abs(apart).sum(2) if kind == "L1" else (apart**2).sum(2)
    close(run(layer, x, *[weight] * fed, blobs=() if fed else (weight,))[0], expected)


# Small ones


def test_guided_dropout_keeps_what_is_guided() -> None:
    x, guidance = values("x", 2, 4), torch.tensor([[1.0, -1, 2, 0], [-1, -1, -1, -1]])
    settings = 'guided_dropout_param { type: "deterministic" }'
    expected = x.numpy() * np.array([[2.0, 0, 2, 0], [0, 0, 0, 0]])  # guided_dropout_layer.cpp: c / kept times as large
    close(run(make("GuidedDropout", settings, bottoms=2), x, guidance)[0], expected)
    stochastic = make("GuidedDropout", 'guided_dropout_param { type: "stochastic" }', bottoms=2)
    assert np.array_equal(run(stochastic, x, guidance)[0], x.numpy())


def test_lite_flow_nets_kernels() -> None:
    """expmax_layer.cu: the largest of the channels is taken off, then base^(shift + scale * x); negsquare_layer.cu."""
    x = values("x", 1, 3, 2, 4)
    expected = np.zeros((1, 3, 2, 4))
    for n, c, h, w in np.ndindex(1, 3, 2, 4):
        expected[n, c, h, w] = 2.0 ** (0.25 + 0.5 * float(x[n, c, h, w] - max(x[n, :, h, w])))
    close(run(make("ExpMax", "expmax_param { base: 2 scale: 0.5 shift: 0.25 }"), x)[0], expected)
    close(run(make("NegSquare"), x)[0], -(x.numpy() ** 2))


def test_grid_is_each_pixels_place() -> None:
    top = run(make("Grid"), values("x", 2, 5, 3, 4))[0]
    for n, h, w in np.ndindex(2, 3, 4):
        assert tuple(top[n, :, h, w]) == (w, h)


def test_scale_stays_between_its_bounds() -> None:
    x, scale = values("x", 2, 3, 4, 4), torch.tensor([-1.0, 0.5, 9.0])
    found = run(make("Scale", "scale_param { min_value: 0.01 max_value: 2 }"), x, blobs=(scale,))[0]
    close(found, x.numpy() * np.array([0.01, 0.5, 2]).reshape(1, 3, 1, 1))


def test_denser_priors_stand_twice() -> None:
    """TextBoxes++: each box once more with its centre at the cell's lower border, (h + 1) * step."""
    text = "min_size: 4 aspect_ratio: 2 flip: false step: 8 offset: 0.25"
    once, twice = (
        run(
            make("PriorBox", f"prior_box_param {{ {text} {more} }}", bottoms=2),
            values("x", 1, 2, 2, 3),
            values("i", 1, 3, 16, 24),
        )[0]
        for more in ("", "denser_prior_boxes: true")
    )
    boxes = twice[0, 0].reshape(6, 2, 2, 4)
    np.testing.assert_array_equal(boxes[:, :, 0].reshape(-1), once[0, 0])
    close(boxes[:, :, 1], boxes[:, :, 0] + np.array([0, 0.75 * 8 / 16, 0, 0.75 * 8 / 16]))


def test_ctc_decoder_of_one_bottom_reads_to_the_end_and_class_0_is_its_blank() -> None:
    classes = [2, 2, 0, 2, 1, 0]
    x = torch.eye(3)[classes][:, None]
    assert run(make("CTCGreedyDecoder"), x)[0].flatten().tolist() == [2, 2, 1, -1, -1, -1]


@pytest.mark.parametrize("batch", ["", "batch_size: 2"])
def test_lstm_of_rows_is_that_of_steps_and_streams(batch: str) -> None:
    streams = 2 if batch else 1
    x, cont = values("x", 6, 3), torch.tensor([0.0, 0, 1, 1, 1, 0])
    blobs = (values("a", 16, 3), values("b", 16, 4), values("c", 16))
    flat = make("Lstm", f"lstm_param {{ num_output: 4 {batch} }}", bottoms=2)
    steps = make("Lstm", "lstm_param { num_output: 4 }", bottoms=2)
    expected = run(steps, x.reshape(-1, streams, 3), cont.reshape(-1, streams), blobs=blobs)[0]
    close(run(flat, x, cont, blobs=blobs)[0], expected.reshape(6, 4))


def test_an_input_without_a_shape_is_the_input_layers_that_has_one() -> None:
    net = parse_prototxt(
        'input: "data" layer { name: "input" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 } } } '
        'layer { name: "relu" type: "ReLU" bottom: "data" top: "relu" }'
    )
    assert [layer.name for layer in net.layers] == ["input", "relu"]
    assert net.inputs == {"data": (1, 3)} and "left to the Input layer" in " ".join(net.notes)


@pytest.mark.parametrize(
    ("kind", "settings", "bottoms", "message"),
    [
        ("DenseBlock", "denseblock_param { numTransition: 0 }", 1, "transitions"),
        ("DeformableConvolution", "deformable_convolution_param { num_output: 4 kernel_size: 3 deformable_group: 0 }",
         2,
         "deformable_group"),
        ("DeformableConvolution", "deformable_convolution_param { kernel_size: 3 }", 2, "num_output"),
        ("InnerDistance", "inner_distance_param { num_output: 3 transpose: true }", 1, "transpose"),
        ("InnerDistance", 'inner_distance_param { num_output: 3 distance_type: "cosine" }', 1, "distance_type"),
        ("GuidedDropout", 'guided_dropout_param { type: "other" }', 2, "type is other"),
        ("Interp", "interp_param { use_blob_size: true zoom_factor: 2 }", 1, "use_blob_size"),
        ("Lstm", "lstm_param { num_output: 4 batch_size: 0 }", 1, "batch_size"),
        ("ExpMax", "expmax_param { base: 0 }", 1, "base is 0"),
        ("SeLuDropout", "selu_dropout_param { dropout_ratio: 1 }", 1, "dropout_ratio"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(kind: str, settings: str, bottoms: int, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make(kind, settings, bottoms=bottoms)


# Route: darknet's src/route_layer.c, forward_route_layer


def test_route() -> None:
    """Item by item, all numbers of one input and then those of the next."""
    x, y = values("x", 2, 3, 4, 5), values("y", 2, 2, 4, 5)
    (found,) = run(make("Route", ""), x, y)
    goal, at = np.zeros(2 * 5 * 4 * 5, np.float32), 0
    for item in range(2):
        for source in (x, y):
            for number in np.asarray(source)[item].ravel():
                goal[at] = number
                at += 1
    close(np.asarray(found), goal.reshape(2, 5, 4, 5))
