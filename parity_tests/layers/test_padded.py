"""Synopsys' pads on each side and SAME, and its averages without padding, against the source's loops written out."""

from __future__ import annotations

from math import ceil, floor

import numpy as np
import pytest
import torch

from converters import CaffeNet, NetError, parse_prototxt, read_caffemodel
from converters.export import write_caffe
from parity_tests.layers.test_layers import FLT_MAX, make, run, values

SIZES = [(9, 11), (8, 8), (7, 10)]
ZERO = (0, 0, 0, 0)


def same(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """pad_type 1: im2col.cpp and pooling_layer.cpp, "for SAME padding"."""
    whole = max(kernel - stride, 0) if size % stride == 0 else max(kernel - size % stride, 0)
    return whole // 2, whole - whole // 2


def pooled(x: np.ndarray, pool: str, kernel: int, stride: int, pads: tuple, *, whole: bool, up: bool) -> np.ndarray:
    """pooling_layer.cpp, Reshape and Forward_cpu; pads (t, b, l, r), `whole` for SAME, `up` for ceil_mode."""
    size, before, after = x.shape[2:], [pads[0], pads[2]], [pads[1], pads[3]]
    counts = []
    for axis in (0, 1):
        if whole:
            before[axis], after[axis] = same(size[axis], kernel, stride)
            counts.append(ceil(size[axis] / stride))
            continue
        room = (size[axis] + before[axis] + after[axis] - kernel) / stride
        counts.append((ceil(room) if up else floor(room)) + 1)
        if any(pads) and (counts[axis] - 1) * stride >= size[axis] + before[axis]:
            counts[axis] -= 1
    top = np.zeros((*x.shape[:2], *counts))
    for ph in range(counts[0]):
        for pw in range(counts[1]):
            h0, w0 = ph * stride - before[0], pw * stride - before[1]
            h1, w1 = min(h0 + kernel, size[0] + after[0]), min(w0 + kernel, size[1] + after[1])
            count = (h1 - h0) * (w1 - w0)
            h0, w0, h1, w1 = max(h0, 0), max(w0, 0), min(h1, size[0]), min(w1, size[1])
            window = x[:, :, h0:h1, w0:w1]
            if pool == "MAX":
                top[:, :, ph, pw] = window.max((2, 3), initial=-FLT_MAX)
            else:
                exclusive = pool in ("AVE_EXC_PAD", "AVE_TF")
                top[:, :, ph, pw] = window.sum((2, 3)) / ((h1 - h0) * (w1 - w0) if exclusive else count)
    return top


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("pool", ["MAX", "AVE", "AVE_EXC_PAD", "AVE_TF"])
@pytest.mark.parametrize("kernel, stride", [(3, 1), (3, 2), (2, 2), (4, 3)])
@pytest.mark.parametrize("pads", [(0, 1, 1, 0), (1, 1, 1, 1), (1, 0, 0, 1), "same"])
def test_pooling(size: tuple, pool: str, kernel: int, stride: int, pads: tuple | str) -> None:
    x = values("padded pooling", 2, 3, *size)
    for up in (True, False) if pads != "same" else (True,):
        sides = dict(zip(("pad_t", "pad_b", "pad_l", "pad_r"), pads, strict=True)) if pads != "same" else {}
        fields = " ".join(f"{side}: {pad}" for side, pad in sides.items()) or "pad_type: 1"
        settings = f"pool: {pool} kernel_size: {kernel} stride: {stride} {fields} ceil_mode: {str(up).lower()}"
        layer = make("Pooling", f"pooling_param {{ {settings} }}")
        given = pads if pads != "same" else ZERO
        expected = pooled(x.numpy(), pool, kernel, stride, given, whole=pads == "same", up=up)
        np.testing.assert_allclose(run(layer, x)[0], expected, rtol=1e-5, atol=1e-6)


def test_padding_that_counts_is_another_average() -> None:
    """The wrong variant: what AVE gives where AVE_EXC_PAD is asked for."""
    x = values("padded pooling", 1, 1, 6, 6).abs() + 1
    text = "pooling_param {{ pool: {} kernel_size: 3 pad: 1 }}"
    without, counted = (run(make("Pooling", text.format(pool)), x)[0] for pool in ("AVE_EXC_PAD", "AVE"))
    assert (without[:, :, 0] > counted[:, :, 0] * 1.2).all()
    np.testing.assert_allclose(without[:, :, 1:-1, 1:-1], counted[:, :, 1:-1, 1:-1], rtol=1e-6)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kernel, stride, dilation", [(3, 1, 1), (3, 2, 1), (2, 2, 1), (1, 2, 1), (3, 1, 2), (4, 3, 2)])
@pytest.mark.parametrize("pads", [(0, 1, 1, 0), (2, 0, 1, 3), "same"])
def test_convolution(size: tuple, kernel: int, stride: int, dilation: int, pads: tuple | str) -> None:
    """im2col.cpp: the row read is -pad_top + kernel_row * dilation + output_row * stride, zero outside the blob."""
    x, extent = values("padded", 2, 3, *size), dilation * (kernel - 1) + 1
    weight, bias = values("padded weight", 4, 3, kernel, kernel), values("padded bias", 4)
    if pads == "same":
        before = [same(length, kernel, stride)[0] for length in size]
        counts = [ceil(length / stride) for length in size]
        fields = "pad_type: 1"
    else:
        t, b, left, r = pads
        before, fields = [t, left], f"pad_t: {t} pad_b: {b} pad_l: {left} pad_r: {r}"
        counts = [(size[0] + t + b - extent) // stride + 1, (size[1] + left + r - extent) // stride + 1]
    expected = np.zeros((2, 4, *counts)) + bias.numpy()[:, None, None]
    for i in range(counts[0]):
        for j in range(counts[1]):
            for ki in range(kernel):
                for kj in range(kernel):
                    row, column = i * stride - before[0] + ki * dilation, j * stride - before[1] + kj * dilation
                    if 0 <= row < size[0] and 0 <= column < size[1]:
                        expected[:, :, i, j] += x.numpy()[:, :, row, column] @ weight.numpy()[:, :, ki, kj].T
    settings = f"num_output: 4 kernel_size: {kernel} stride: {stride} dilation: {dilation} {fields}"
    layer = make("Convolution", f"convolution_param {{ {settings} }}")
    np.testing.assert_allclose(run(layer, x, blobs=(weight, bias))[0], expected, rtol=1e-4, atol=1e-4)


def test_deconvolution_loses_its_sides() -> None:
    x, weight = values("padded", 1, 3, 5, 6), values("padded weight", 3, 2, 4, 4)
    settings = "num_output: 2 bias_term: false kernel_size: 4 stride: 2"
    whole = run(make("Deconvolution", f"convolution_param {{ {settings} }}"), x, blobs=(weight,))[0]
    cut = make("Deconvolution", f"convolution_param {{ {settings} pad_t: 1 pad_b: 2 pad_r: 3 }}")
    assert np.array_equal(run(cut, x, blobs=(weight,))[0], whole[:, :, 1:-2, :-3])


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("Convolution", "convolution_param { num_output: 1 kernel_size: 3 pad: 1 pad_l: 1 }", "go without pad"),
        ("Convolution", "convolution_param { num_output: 1 kernel_size: 3 pad_type: 2 }", "pad_type is 2"),
        ("Deconvolution", "convolution_param { num_output: 1 kernel_size: 3 pad_type: 1 }", "for convolutions"),
        ("Pooling", "pooling_param { kernel_size: 3 pad: 1 pad_b: 1 }", "go without pad"),
        ("Pooling", "pooling_param { kernel_size: 3 pool: STOCHASTIC pad_b: 1 }", "MAX, AVE and AVE_EXC_PAD"),
        ("Pooling", "pooling_param { kernel_size: 3 pool: MEDIAN }", "pool is MEDIAN; expected MAX, AVE"),
    ],
)
def test_refusals(kind: str, settings: str, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make(kind, settings)


def test_a_window_that_lies_before_the_blob_alone() -> None:
    """More is cut behind the only pixel than there was; PyTorch said that a length is negative."""
    layer = make("Pooling", "pooling_param { kernel_size: 1 stride: 3 pad_t: 0 pad_b: 1 pad_l: 2 pad_r: 0 }")
    assert layer.forward([torch.ones(1, 1, 1, 1)], [])[0].tolist() == [[[[-FLT_MAX]]]]


def test_the_method_survives_a_caffemodel(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """A pool method that has a name and no number of Caffe's is kept as text, and read again."""
    spec = parse_prototxt("""
        layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 2 dim: 6 dim: 6 } } }
        layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
          convolution_param { num_output: 2 kernel_size: 3 pad_type: 1 } }
        layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool"
          pooling_param { pool: AVE_EXC_PAD kernel_size: 3 pad: 1 } }""")
    net, x = CaffeNet(spec), torch.ones(1, 2, 6, 6)
    write_caffe(spec, net.state_dict(), tmp_path / "net.caffemodel")
    again = read_caffemodel(tmp_path / "net.caffemodel").spec
    assert again is not None and again.layer("pool").params == spec.layer("pool").params
    assert CaffeNet(again)(x).shape == (1, 2, 6, 6)
