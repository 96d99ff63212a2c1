"""Layer types one by one: windows counted by hand, Caffe's forks (which the oracle does not have), and refusals."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from converters import NetError, NetSpec, parse_prototxt
from converters.layers import find_layer
from converters.net.layer import Layer
from parity_tests.fill import rs
from parity_tests.goldens import compare

FLT_MAX = float(np.finfo(np.float32).max)


def layer_of(text: str) -> Layer:
    """The parameters of the last layer of a net of one line."""
    params = parse_prototxt(text).layers[-1].params
    assert params is not None
    return params


def make(kind: str, settings: str = "", *, bottoms: int = 1, tops: int = 1) -> Layer:
    wires = "".join(f' bottom: "b{i}"' for i in range(bottoms)) + "".join(f' top: "t{i}"' for i in range(tops))
    return layer_of(f'layer {{ name: "it" type: "{kind}"{wires} {settings} }}')


def values(name: str, *shape: int) -> torch.Tensor:
    return torch.from_numpy(rs(name).standard_normal(shape).astype(np.float32))


def run(layer: Layer, *bottoms: torch.Tensor, blobs: tuple[torch.Tensor, ...] = (), training: bool = False) -> list:
    """The tops as arrays; their shapes and the blobs' must be those of the shape rules, and the bottoms unharmed."""
    before = [bottom.clone() for bottom in bottoms]
    tops = layer.forward(bottoms, blobs, training=training)
    assert all(torch.equal(a, b) for a, b in zip(before, bottoms, strict=True))
    shapes = [tuple(bottom.shape) for bottom in bottoms]
    assert tuple(tuple(top.shape) for top in tops) == layer.top_shapes(shapes)
    assert tuple(tuple(blob.shape) for blob in blobs) == layer.blob_shapes(shapes)
    return [top.numpy() for top in tops]


# Pooling, against windows walked one by one


def windows(h: int, w: int, kernel: tuple, stride: tuple, pad: tuple, *, ceil: bool) -> Iterator[tuple]:
    """(row, column, h range, w range) of each of Caffe's windows, not yet cut to the blob."""
    counts = []
    for axis, size in enumerate((h, w)):
        room = size + 2 * pad[axis] - kernel[axis]
        count = (math.ceil if ceil else math.floor)(room / stride[axis]) + 1
        if any(pad) and (count - 1) * stride[axis] >= size + pad[axis]:
            count -= 1
        counts.append(count)
    for row, column in itertools.product(*map(range, counts)):
        top, left = row * stride[0] - pad[0], column * stride[1] - pad[1]
        yield row, column, (top, top + kernel[0]), (left, left + kernel[1])


def pool_by_hand(x: np.ndarray, method: str, *window: tuple, ceil: bool) -> tuple[np.ndarray, np.ndarray]:
    """One channel (h, w) pooled as pooling_layer.cpp says, and the place of each maximum."""
    h, w = x.shape
    pad = window[2]
    found = list(windows(h, w, *window, ceil=ceil))
    shape = (found[-1][0] + 1, found[-1][1] + 1)
    top, place = np.zeros(shape), np.full(shape, -1.0)
    for row, column, (h0, h1), (w0, w1) in found:
        h1, w1 = (min(h1, h + pad[0]), min(w1, w + pad[1])) if method == "AVE" else (h1, w1)
        size = (h1 - h0) * (w1 - w0)
        inside = [(i, j) for i in range(max(h0, 0), min(h1, h)) for j in range(max(w0, 0), min(w1, w))]
        if method == "AVE":
            with np.errstate(divide="ignore", invalid="ignore"):
                top[row, column] = np.float64(sum(x[i, j] for i, j in inside)) / size
        else:
            best = max(inside, key=lambda ij: x[ij], default=None)
            top[row, column] = -FLT_MAX if best is None else x[best]
            place[row, column] = -1 if best is None else best[0] * w + best[1]
    return top, place


axes = st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(0, 4), st.integers(1, 12)).filter(
    lambda a: a[2] < a[0] and a[3] + 2 * a[2] - a[0] > -a[1]
)


@given(h=axes, w=axes, method=st.sampled_from(["MAX", "AVE"]), ceil=st.booleans())
def test_pooling_has_caffes_windows(h: tuple, w: tuple, method: str, ceil: bool) -> None:
    """Any kernel, stride and pad: sizes, averages over the padding, windows beyond the blob, places of maxima."""
    kernel, stride, pad, size = zip(h, w, strict=True)
    if not ceil and any(s + 2 * p < k for s, p, k in zip(size, pad, kernel, strict=True)):
        return
    settings = f"kernel_h: {kernel[0]} kernel_w: {kernel[1]} stride_h: {stride[0]} stride_w: {stride[1]}"
    settings += f" pad_h: {pad[0]} pad_w: {pad[1]} pool: {method} round_mode: {'CEIL' if ceil else 'FLOOR'}"
    layer = make("Pooling", f"pooling_param {{ {settings} }}", tops=2 if method == "MAX" else 1)
    x = values("pool", 1, 2, *size)
    tops = run(layer, x)
    for channel in range(2):
        expected, place = pool_by_hand(x[0, channel].numpy(), method, kernel, stride, pad, ceil=ceil)
        np.testing.assert_allclose(tops[0][0, channel], expected, rtol=1e-5, atol=1e-6)
        if method == "MAX":
            np.testing.assert_array_equal(tops[1][0, channel], place)


def test_stochastic_pooling() -> None:
    """At test the mean weighted by itself, 0 where all is 0; in training one of the window's values."""
    layer = make("Pooling", "pooling_param { pool: STOCHASTIC kernel_size: 3 stride: 2 }")
    x = values("stochastic", 2, 3, 8, 7).relu()
    x[0, 0] = 0
    (top,) = run(layer, x)
    torch.manual_seed(0)
    (drawn,) = run(layer, x, training=True)
    for row, column, (h0, h1), (w0, w1) in windows(8, 7, (3, 3), (2, 2), (0, 0), ceil=True):
        window = x[:, :, h0:h1, w0:w1].flatten(2).numpy()
        total = window.sum(2)
        expected = np.divide((window**2).sum(2), total, out=np.zeros_like(total), where=total > 0)
        np.testing.assert_allclose(top[:, :, row, column], expected, rtol=1e-5)
        picked = drawn[:, :, row, column, None] == window
        assert picked.any(2).all()
        assert (drawn[:, :, row, column] > 0)[total > 0].all()


def test_pooling_of_forks() -> None:
    """`ceil_mode: false` rounds down; DeepLab's hole spreads the kernel."""
    floor = make("Pooling", "pooling_param { kernel_size: 2 stride: 2 ceil_mode: false }")
    assert floor.top_shapes([(1, 1, 5, 5)]) == ((1, 1, 2, 2),)
    x = values("hole", 1, 1, 9, 9)
    (top,) = run(make("Pooling", "pooling_param { kernel_size: 2 hole: 3 }"), x)
    corners = torch.stack([x[:, :, i : i + 6, j : j + 6] for i in (0, 3) for j in (0, 3)])
    np.testing.assert_array_equal(top, corners.amax(0).numpy())


# Layers of the forks


def test_upsample_puts_maxima_back() -> None:
    """SegNet's pair: pooling records places, Upsample returns to them; the rest is 0."""
    pool = make("Pooling", "pooling_param { kernel_size: 2 stride: 2 }", tops=2)
    x = values("unpool", 2, 3, 6, 8).abs() + 0.1
    top, place = map(torch.from_numpy, run(pool, x))
    (back,) = run(make("Upsample", "upsample_param { scale: 2 }", bottoms=2), top, place)
    for n, c in itertools.product(range(2), range(3)):
        expected = np.zeros(48, np.float32)
        expected[place[n, c].flatten().int().numpy()] = top[n, c].flatten().numpy()
        np.testing.assert_array_equal(back[n, c], expected.reshape(6, 8))
    sized = make("Upsample", "upsample_param { scale: 2 upsample_h: 6 upsample_w: 8 }", bottoms=2)
    np.testing.assert_array_equal(run(sized, top, place)[0], back)
    cut = make("Upsample", "upsample_param { scale: 2 pad_out_h: true }", bottoms=2)
    assert cut.top_shapes([(1, 2, 3, 4)] * 2) == ((1, 2, 5, 8),)


def test_upsample_without_places_repeats() -> None:
    (top,) = run(make("Upsample", "upsample_param { scale: 3 }"), x := values("nearest", 1, 2, 2, 3))
    np.testing.assert_array_equal(top, np.kron(x.numpy(), np.ones((1, 1, 3, 3), np.float32)))


def interp_by_hand(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """One channel, corner pixels on corner pixels."""
    grids = [np.linspace(0, n - 1, m) if m > 1 else np.zeros(1) for n, m in zip(x.shape, size, strict=True)]
    columns = np.stack([np.interp(grids[1], range(x.shape[1]), row) for row in x])
    return np.stack([np.interp(grids[0], range(x.shape[0]), column) for column in columns.T], axis=1)


@pytest.mark.parametrize(
    ("settings", "size", "part"),
    [
        ("height: 13 width: 4", (13, 4), np.s_[:, :]),
        ("zoom_factor: 8", (41, 57), np.s_[:, :]),
        ("shrink_factor: 2", (3, 4), np.s_[:, :]),
        ("shrink_factor: 2 zoom_factor: 3", (7, 10), np.s_[:, :]),
        ("zoom_factor: 2 height: 99 width: 99", (11, 15), np.s_[:, :]),
        ("zoom_factor: 2 pad_beg: -1 pad_end: -2", (5, 9), np.s_[1:4, 1:6]),
        ("", (9, 5), np.s_[:, :]),
    ],
)
def test_interp(settings: str, size: tuple[int, int], part: tuple) -> None:
    """Every way to give Interp its size; without one it takes the second bottom's."""
    layer = make("Interp", f"interp_param {{ {settings} }}", bottoms=1 if settings else 2)
    bottoms = [values("interp", 2, 3, 6, 8), values("like", 2, 1, *size)][: 1 if settings else 2]
    (top,) = run(layer, *bottoms)
    for n, c in itertools.product(range(2), range(3)):
        np.testing.assert_allclose(top[n, c], interp_by_hand(bottoms[0][n, c][part].numpy(), size), atol=1e-5)


@pytest.mark.parametrize("across", ["true", "false"])
@pytest.mark.parametrize("shared", ["true", "false"])
def test_normalize(across: str, shared: str) -> None:
    layer = make("Normalize", f"norm_param {{ across_spatial: {across} channel_shared: {shared} eps: 0.3 }}")
    x, scale = values("normalize", 2, 5, 4, 3), values("scale", *([] if shared == "true" else [5]))
    (top,) = run(layer, x, blobs=(scale,))
    length = np.sqrt((x.numpy() ** 2).sum((1, 2, 3) if across == "true" else 1, keepdims=True) + 0.3)
    factor = scale.numpy() if shared == "true" else scale.numpy()[:, None, None]
    np.testing.assert_allclose(top, x.numpy() / length * factor, rtol=1e-5)


def test_permute() -> None:
    x = values("permute", 2, 3, 4, 5)
    (top,) = run(make("Permute", "permute_param { order: 0 order: 2 order: 3 order: 1 }"), x)
    np.testing.assert_array_equal(top, x.numpy().transpose(0, 2, 3, 1))
    (top,) = run(make("Permute", "permute_param { order: 2 }"), x)
    np.testing.assert_array_equal(top, x.numpy().transpose(2, 0, 1, 3))


def test_bn_of_segnet_and_pspnet() -> None:
    """SegNet merges the statistics for inference, else takes the batch's own; PSPNet keeps running ones."""
    x, scale, shift, mean = values("bn", 3, 4, 5, 2), *(values(n, 1, 4, 1, 1) for n in ("scale", "shift", "mean"))
    variance = values("variance", 1, 4, 1, 1).abs() + 0.5
    fillers = "scale_filler { value: 1 } shift_filler { value: 0 }"

    merged = make("BN", f"bn_param {{ bn_mode: INFERENCE {fillers} }}")
    np.testing.assert_allclose(run(merged, x, blobs=(scale, shift))[0], (x * scale + shift).numpy(), atol=1e-6)

    own = make("BN", f"bn_param {{ {fillers} }}", tops=3)
    batch_mean, batch_variance = x.mean((0, 2, 3), True), x.var((0, 2, 3), correction=0, keepdim=True)
    expected = (x - batch_mean) / (batch_variance + 1e-9).sqrt() * scale + shift
    for found, wanted in zip(run(own, x, blobs=(scale, shift)), (expected, batch_mean, batch_variance), strict=True):
        np.testing.assert_allclose(found, wanted.numpy(), atol=1e-5)

    running = make("BN", "bn_param { frozen: true momentum: 0.95 eps: 0.1 }")
    expected = (x - mean) / (variance + 0.1).sqrt() * scale + shift
    np.testing.assert_allclose(run(running, x, blobs=(scale, shift, mean, variance))[0], expected.numpy(), atol=1e-5)


def test_fork_settings_in_a_binary_file_are_refused() -> None:
    """A caffemodel holds a fork's message by number only; guessing would give a net that is silently another."""
    from converters.net.layer import LayerSpec, UnknownField

    spec = LayerSpec("p", "Permute", ("a",), ("b",), extra=(UnknownField("#202", b"\x08\x00"),))
    with pytest.raises(NetError, match=r"permute_param cannot be read.*#202(?s:.)*prototxt"):
        _ = spec.params


def test_python_layers_are_known_by_their_class() -> None:
    """ENet trains with a spatial dropout in Python; another Python layer is unknown, not an error by itself."""
    text = 'layer {{ name: "p" type: "Python" bottom: "a" top: "b" python_param {{ module: "m" layer: "{}" {} }} }}'
    known = layer_of(text.format("SpatialDropoutLayer", 'param_str: "0.25"'))
    x = torch.ones(8, 64, 3, 3)
    assert run(known, x)[0].min() == 1
    (dropped,) = run(known, x, training=True)
    assert set(np.unique(dropped)) == {0, np.float32(4 / 3)}
    assert (dropped.reshape(512, 9).std(1) == 0).all()
    assert parse_prototxt(text.format("VOCSegDataLayer", "")).layers[0].params is None


# Training, where it differs


def test_dropout_scales_in_training() -> None:
    torch.manual_seed(0)
    assert make("Dropout", "dropout_param { dropout_ratio: 0 }").ratio == 0  # as nets without dropout are written
    layer = make("Dropout", "dropout_param { dropout_ratio: 0.25 }")
    x = torch.ones(4, 5000)
    assert run(layer, x)[0].min() == 1
    (top,) = run(layer, x, training=True)
    assert set(np.unique(top)) == {0, np.float32(4 / 3)}
    assert abs((top == 0).mean() - 0.25) < 0.02


def test_batch_norm_gathers_in_training() -> None:
    """The running sums shrink by moving_average_fraction and take the batch's mean and unbiased variance."""
    layer = make("BatchNorm", "batch_norm_param { moving_average_fraction: 0.9 }")
    x = values("batch", 2, 3, 4, 5)
    mean, variance, factor = torch.full((3,), 2.0), torch.full((3,), 4.0), torch.full((1,), 2.0)
    (top,) = run(layer, x, blobs=(mean, variance, factor), training=True)
    torch.testing.assert_close(mean, 1.8 + x.mean((0, 2, 3)))
    torch.testing.assert_close(variance, 3.6 + x.var((0, 2, 3)))
    assert factor.item() == pytest.approx(2.8)
    np.testing.assert_allclose(top.mean((0, 2, 3)), 0, atol=1e-6)


def test_batch_norm_without_weight_is_zero_mean_and_variance() -> None:
    """A factor of 0, as before the first training step, makes both sums 0."""
    layer = make("BatchNorm", "batch_norm_param { eps: 0.25 }")
    x = values("zero", 2, 3, 4, 5)
    (top,) = run(layer, x, blobs=(torch.ones(3), torch.ones(3), torch.zeros(1)))
    np.testing.assert_allclose(top, 2 * x.numpy(), rtol=1e-6)


# What Caffe refuses

REFUSED = [
    ("Convolution", "convolution_param { kernel_size: 3 }", "num_output"),
    ("Convolution", "convolution_param { num_output: 4 }", "kernel_size is missing"),
    ("Convolution", "convolution_param { num_output: 4 kernel_size: 3 kernel_h: 3 kernel_w: 3 }", "both kernel_size"),
    ("Convolution", "convolution_param { num_output: 4 kernel_size: 3 group: 3 }", "multiple of group 3"),
    ("Convolution", "convolution_param { num_output: 4 kernel_size: 3 stride: 0 }", "stride"),
    ("Convolution", "convolution_param { num_output: 4 kernel_size: 3 hole: 2 dilation: 2 }", "both dilation and hole"),
    ("Convolution", "convolution_param { num_output: 4 kernel_size: 3 hole: wide }", "whole number"),
    ("Convolution", "convolution_param { num_output: 4 kernel_size: [3, 3, 3] hole_w: 2 }", "for 2 and for 3 spatial"),
    ("Pooling", "pooling_param { kernel_size: 2 pad: 2 }", "not smaller than kernel"),
    ("Pooling", "pooling_param { kernel_size: 2 global_pooling: true }", "global_pooling with a kernel size"),
    ("Pooling", "pooling_param { global_pooling: true stride: 2 }", "stride 1"),
    ("Pooling", "pooling_param { kernel_size: 2 stride: 0 }", "at least 1"),
    ("Pooling", "pooling_param { kernel_size: 2 stride_h: 0 stride_w: 2 }", "at least 1"),
    ("Pooling", "pooling_param { kernel_h: 3 kernel_w: 0 }", "at least 1"),
    ("Pooling", "pooling_param { kernel_size: 2 hole_h: 0 }", "at least 1"),
    ("Pooling", "pooling_param { kernel_size: 3 pad: 1 pool: STOCHASTIC }", "no pad"),
    ("InnerProduct", "", "num_output"),
    ("LRN", "lrn_param { local_size: 4 }", "odd"),
    ("Slice", "slice_param { slice_point: 2 }", "1 slice points for 1 tops"),
    ("Slice", "slice_param { axis: 1 slice_dim: 1 }", "both axis and slice_dim"),
    ("Concat", "concat_param { axis: 1 concat_dim: 1 }", "both axis and concat_dim"),
    ("Eltwise", "eltwise_param { coeff: 1 coeff: 2 }", "2 coefficients for 1 bottoms"),
    ("Eltwise", "eltwise_param { operation: PROD coeff: 2 }", "product takes no coefficients"),
    ("Clip", "clip_param { min: 1 }", "both required"),
    ("Log", "log_param { base: 0 }", "base"),
    ("Log", "log_param { base: 1 }", "base 1"),
    ("Exp", "exp_param { base: -2 }", "base"),
    ("InnerProduct", "", "DIGITS leaves it out"),
    ("Convolution", "filter_param { num_output: 3 }", "convolution_param { num_output: N }"),
    ("Dropout", "dropout_param { dropout_ratio: 1 }", "between 0 and 1"),
    ("BatchNorm", "batch_norm_param { eps: -1 }", "at least 0"),
    ("BatchNorm", "batch_norm_param { eps: nan }", "at least 0"),
    ("BN", "bn_param { eps: -1 }", "at least 0"),
    ("Reshape", "reshape_param { shape { dim: -1 dim: -1 } }", "one at most is -1"),
    ("Tile", "tile_param { axis: 1 }", "at least 1"),
    ("ArgMax", "argmax_param { top_k: 0 }", "at least 1"),
    ("SPP", "", "pyramid_height"),
    ("Embed", "embed_param { num_output: 3 }", "input_dim"),
    ("Scale", "scale_param { num_axes: -2 }", "num_axes"),
    ("Upsample", "upsample_param { scale: 0 }", "at least 1"),
    ("Upsample", "upsample_param { upsample_h: 4 upsample_w: 4 }", "pooling mask"),
    ("Interp", "interp_param { pad_beg: 0 }", "no size"),
    ("Interp", "interp_param { zoom_factor: 0 }", "at least 1"),
    ("Interp", "interp_param { zoom_factor: 2 pad_end: 1 }", "only crop"),
    ("Permute", "permute_param { order: 1 order: 1 }", "twice"),
    ("Normalize", "norm_param { across_spatial: maybe }", "true or false"),
    ("BN", "bn_param { bn_mode: GUESS }", "LEARN or INFERENCE"),
]


@pytest.mark.parametrize(("kind", "settings", "problem"), REFUSED)
def test_settings_are_refused_with_their_place(kind: str, settings: str, problem: str) -> None:
    text = f'# a net\nlayer {{ name: "it" type: "{kind}" bottom: "b" top: "t"\n {settings} }}'
    spec: NetSpec = parse_prototxt(text)
    with pytest.raises(NetError, match=problem) as caught:
        _ = spec.layers[0].params
    assert f"layer 'it' ({kind}, line 2)" in str(caught.value)


@pytest.mark.parametrize(("operation", "allowed"), [("SUM", False), ("MAX", False), ("PROD", True)])
def test_eltwise_in_place(operation: str, allowed: bool) -> None:
    """Caffe sets the top of a sum to 0 and of a maximum to -FLT_MAX, and only then reads the bottoms."""
    wires = 'bottom: "a" bottom: "b" top: "a"'
    text = f'layer {{ name: "it" type: "Eltwise" {wires} eltwise_param {{ operation: {operation} }} }}'
    if allowed:
        assert layer_of(text)
    else:
        with pytest.raises(NetError, match="bottom 'a' is its top too"):
            layer_of(text)


def test_every_layer_type_of_caffe_is_known() -> None:
    """All that Caffe 1.0 registers, but for data, losses, HDF5Output and recurrent layers."""
    inference = (
        "AbsVal ArgMax BNLL BatchNorm BatchReindex Bias Clip Concat Convolution Crop Deconvolution Dropout ELU Eltwise "
        "Embed Exp Filter Flatten Im2col InnerProduct Input LRN Log MVN PReLU Parameter Pooling Power Python ReLU "
        "Reduction Reshape SPP Scale Sigmoid Silence Slice Softmax Split Swish TanH Threshold Tile"
    )
    assert [kind for kind in inference.split() if find_layer(kind) is None] == []


@pytest.mark.parametrize(
    ("kind", "settings", "training"),
    [
        ("BatchNorm", "batch_norm_param { use_global_stats: false }", False),
        ("BatchNorm", "", True),
        ("BN", "", True),
        ("DenseBlock", "denseblock_param { numTransition: 2 initChannel: 8 growthRate: 4 }", True),
    ],
)
def test_a_batch_of_pixels_side_by_side_is_normalized_as_exactly(kind: str, settings: str, training: bool) -> None:
    """PyTorch adds up a channel of such memory in one chain: tops were 2e-4 off, and gradients 4e-4."""
    layer, x = make(kind, settings), values("pixels", 2, 8, 150, 150) + 1
    found = []
    for memory in (torch.contiguous_format, torch.channels_last):
        blobs = [torch.full(shape, 0.5) for shape in layer.blob_shapes([tuple(x.shape)])]
        bottom = x.clone(memory_format=memory).requires_grad_()
        top = layer.forward([bottom], blobs, training=training)[0]
        (top * values("slopes", *top.shape)).sum().backward()
        found.append((top, bottom.grad))
    assert all(compare(b.detach().numpy(), a.detach().numpy()) <= 3e-6 for a, b in zip(*found, strict=True))
