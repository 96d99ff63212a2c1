"""Convolution and pooling of volumes, against the loops of C3D's and Synopsys' sources."""

from __future__ import annotations

from itertools import product
from math import ceil, floor

import numpy as np
import pytest

from converters import NetError
from parity_tests.layers.test_layers import FLT_MAX, make, run, values

SIZE = (5, 7, 6)


@pytest.mark.parametrize("kind", ["Convolution3d", "Convolution3D", "NdConvolution"])
@pytest.mark.parametrize(("depth", "size"), [((3, 1, 1), (3, 1, 1)), ((1, 2, 0), (3, 2, 1)), ((2, 1, 1), (4, 3, 2))])
def test_convolution(kind: str, depth: tuple, size: tuple) -> None:
    """vol2col.cpp and a product of matrices; (kernel, stride, pad) along the length, and along h and w."""
    (kl, sl, pl), (k, s, p) = depth, size
    x, weight, bias = values("v", 2, 3, *SIZE), values("w", 4, 3, kl, k, k), values("b", 4)
    padded = np.pad(x.numpy(), [(0, 0), (0, 0), (pl, pl), (p, p), (p, p)])
    steps = zip(padded.shape[2:], (kl, k, k), (sl, s, s), strict=True)
    counts = [(full - kernel) // step + 1 for full, kernel, step in steps]
    expected = np.zeros((2, 4, *counts))
    for a, i, j in product(*map(range, counts)):
        window = padded[:, :, a * sl : a * sl + kl, i * s : i * s + k, j * s : j * s + k]
        expected[:, :, a, i, j] = np.einsum("nclhw,oclhw->no", window, weight.numpy()) + bias.numpy()
    own = f"num_output: 4 kernel_size: {k} stride: {s} pad: {p}"
    own += f" kernel_depth: {kl} temporal_stride: {sl} temporal_pad: {pl}"
    shapes = {"kernel": (kl, k, k), "stride": (sl, s, s), "pad": (pl, p, p)}
    dims = " ".join(f"{n}_shape {{ {' '.join(f'dim: {v}' for v in shape)} }}" for n, shape in shapes.items())
    settings = {
        "Convolution3d": f"convolution_param {{ {own} }}",
        "Convolution3D": f"convolution3d_param {{ {own} filter_group: 2 }}",
        "NdConvolution": f"convolution_param {{ num_output: 4 {dims} }}",
    }
    top = run(make(kind, settings[kind]), x, blobs=(weight, bias))[0]
    np.testing.assert_allclose(top, expected, rtol=1e-4, atol=1e-4)


def test_deconvolution() -> None:
    """deconvolution3d_layer.cpp: each number of the bottom adds the kernel to the top; the pad is cut off."""
    x, weight = values("v", 1, 2, 2, 3, 3), values("w", 2, 3, 4, 3, 3)
    whole = np.zeros((1, 3, 2 + 4, 2 * 2 + 3, 2 * 2 + 3))
    for a, i, j in product(range(2), range(3), range(3)):
        add = np.einsum("nc,colhw->nolhw", x.numpy()[:, :, a, i, j], weight.numpy())
        whole[:, :, a * 2 : a * 2 + 4, i * 2 : i * 2 + 3, j * 2 : j * 2 + 3] += add
    own = "num_output: 3 bias_term: false kernel_size: 3 stride: 2 pad: 1"
    own += " kernel_depth: 4 temporal_stride: 2 temporal_pad: 1"
    for kind, settings in (("Deconvolution3d", "convolution_param"), ("Deconvolution3D", "convolution3d_param")):
        top = run(make(kind, f"{settings} {{ {own} }}"), x, blobs=(weight,))[0]
        np.testing.assert_allclose(top, whole[:, :, 1:-1, 1:-1, 1:-1], rtol=1e-4, atol=1e-5)


def pooled(x: np.ndarray, pool: str, kernel: tuple, stride: tuple, pads: list[tuple], *, up: bool) -> np.ndarray:
    """pool3d_layer.cpp of C3D and pooling3d_layer.cpp of synopsys-caffe, Forward_cpu."""
    counts = []
    for size, k, s, (before, after) in zip(x.shape[2:], kernel, stride, pads, strict=True):
        count = (ceil if up else floor)((size + before + after - k) / s) + 1
        inside = not any(map(any, pads)) or (count - 1) * s < size + before
        counts.append(count if inside else count - 1)
    top = np.zeros((*x.shape[:2], *counts))
    for place in product(*map(range, counts)):
        starts = [i * s - before for i, s, (before, _) in zip(place, stride, pads, strict=True)]
        ends = [min(a + k, n + after) for a, k, n, (_, after) in zip(starts, kernel, x.shape[2:], pads, strict=True)]
        count = np.prod([b - a for a, b in zip(starts, ends, strict=True)])
        inner = [slice(max(a, 0), min(b, n)) for a, b, n in zip(starts, ends, x.shape[2:], strict=True)]
        window = x[(slice(None), slice(None), *inner)]
        axes = tuple(range(2, x.ndim))
        if pool == "MAX":
            top[(slice(None), slice(None), *place)] = window.max(axes, initial=-FLT_MAX)
        else:
            count = np.prod(window.shape[2:]) if pool == "AVE_EXC_PAD" else count
            top[(slice(None), slice(None), *place)] = window.sum(axes) / count
    return top


POOLS = [
    ("Pooling3d", "pooling_param { kernel_size: 2 stride: 2 kernel_depth: 1 temporal_stride: 1 }", "MAX",
     (1, 2, 2), (1, 2, 2), (0, 0, 0, 0, 0, 0), True),
    ("Pooling3d", "pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 kernel_depth: 2 temporal_stride: 2 }",
     "AVE", (2, 3, 3), (2, 2, 2), (0, 0, 1, 1, 1, 1), True),
    ("Pooling3D", "pooling3d_param { kernel_size: 3 stride: 3 kernel_depth: 2 temporal_stride: 2 }", "MAX",
     (2, 3, 3), (2, 3, 3), (0, 0, 0, 0, 0, 0), True),
    ("Pooling3D", "pooling3d_param { pool: AVE_EXC_PAD kernel_size: 3 stride: 2 pad: 1 }", "AVE_EXC_PAD",
     (3, 3, 3), (2, 2, 2), (1, 1, 1, 1, 1, 1), False),
    ("Pooling3D", "pooling3d_param { pool: AVE kernel_size: 3 kernel_d: 2 stride: 2 pad_h1: 1 ceil_mode: true }",
     "AVE", (2, 3, 3), (2, 2, 2), (0, 0, 0, 1, 0, 0), True),
    ("NdPooling", "pooling_param { kernel_shape { dim: 1 dim: 2 dim: 3 } stride_shape { dim: 1 dim: 2 dim: 2 } }",
     "MAX", (1, 2, 3), (1, 2, 2), (0, 0, 0, 0, 0, 0), True),
    ("PoolingND", "pooling_nd_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }", "AVE",
     (3, 3, 3), (2, 2, 2), (1, 1, 1, 1, 1, 1), True),
    ("PoolingND", "pooling_nd_param { kernel_size: 1 kernel_size: 2 kernel_size: 3 stride: 2 }", "MAX",
     (1, 2, 3), (2, 2, 2), (0, 0, 0, 0, 0, 0), True),
    ("Pooling", "pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }", "AVE",
     (3, 3, 3), (2, 2, 2), (1, 1, 1, 1, 1, 1), True),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "settings", "pool", "kernel", "stride", "pads", "up"), POOLS)
def test_pooling(kind: str, settings: str, pool: str, kernel: tuple, stride: tuple, pads: tuple, up: bool) -> None:
    x = values("v", 2, 3, *SIZE)
    expected = pooled(x.numpy(), pool, kernel, stride, list(zip(pads[::2], pads[1::2], strict=True)), up=up)
    np.testing.assert_allclose(run(make(kind, settings), x)[0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("settings", ["kernel_h: 3 kernel_w: 2", "stride_h: 1 stride_w: 2", "pad_h: 1 pad_w: 0"])
def test_a_plain_pooling_of_a_volume_has_one_value_for_all_axes(settings: str) -> None:
    """3D-Caffe takes kernel_size, stride and pad for all three; values for h and w say none for the length."""
    kernel = "" if "kernel" in settings else "kernel_size: 2"
    layer = make("Pooling", f"pooling_param {{ {kernel} {settings} }}")
    with pytest.raises(ValueError, match=r"expected \(n, c, h, w\)"):
        layer.top_shapes([(2, 3, *SIZE)])


def test_global_pooling() -> None:
    x = values("v", 2, 3, *SIZE)
    for kind, settings in (
        ("PoolingND", "pooling_nd_param { pool: AVE global_pooling: true }"),
        ("Pooling3D", "pooling3d_param { pool: AVE global_pooling: true }"),
        ("NdPooling", "pooling_param { pool: AVE global_pooling: true }"),
    ):
        expected = x.numpy().mean((2, 3, 4), keepdims=True)
        np.testing.assert_allclose(run(make(kind, settings), x)[0], expected, rtol=1e-5, atol=1e-6)


def test_voxel_softmax() -> None:
    x = values("v", 2, 3, *SIZE)
    e = np.exp(x.numpy() - x.numpy().max(1, keepdims=True))
    np.testing.assert_allclose(run(make("VoxelSoftmax"), x)[0], e / e.sum(1, keepdims=True), rtol=1e-5)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("Convolution3d", "convolution_param { num_output: 1 kernel_size: 3 }", "kernel is"),
        ("Convolution3D", "convolution3d_param { kernel_size: 3 kernel_depth: 3 }", "num_output"),
        ("Pooling3d", "pooling_param { pool: MAX kernel_size: 2 pad: 1 kernel_depth: 2 }", "for AVE only"),
        ("Pooling3d", "pooling_param { pool: STOCHASTIC kernel_size: 2 kernel_depth: 2 }", "expected MAX or AVE"),
        ("NdConvolution", "convolution_param { num_output: 1 kernel_size: 3 }", "kernel_shape"),
        ("PoolingND", "pooling_nd_param { kernel_size: 2 stride: 0 }", "at least 1"),
    ],
)
def test_refusals(kind: str, settings: str, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make(kind, settings)
