"""Synopsys' operations of TensorFlow and its resizing, against loops as in the fork's sources."""

from __future__ import annotations

from math import ceil, floor

import numpy as np
import pytest
import torch

from converters import NetError
from parity_tests.layers.test_layers import make, run, values

# Axes and shapes


@pytest.mark.parametrize(
    ("shape", "axes", "expected"),
    [((2, 3, 1, 1), (2, 3), (2, 3)), ((1, 3, 1, 1), (), (3,)), ((1, 3, 1, 2), (-2,), (1, 3, 2)), ((2, 3), (), (2, 3))],
)
def test_squeeze(shape: tuple, axes: tuple, expected: tuple) -> None:
    x = values("squeeze", *shape)
    layer = make("Squeeze", "squeeze_param {" + " ".join(f"axis: {axis}" for axis in axes) + "}")
    assert np.array_equal(run(layer, x)[0], x.numpy().reshape(expected))


def test_squeeze_refuses_an_axis_that_is_not_one() -> None:
    with pytest.raises(ValueError, match="axis 1 has size 3"):
        make("Squeeze", "squeeze_param { axis: 1 }").top_shapes([(1, 3, 1)])


@pytest.mark.parametrize(
    ("axes", "expected"), [((0,), (1, 4, 5)), ((-1,), (4, 5, 1)), ((1, -1), (4, 1, 5, 1)), ((0, 0), (1, 1, 4, 5))]
)
def test_expand_dims(axes: tuple, expected: tuple) -> None:
    """Later axes count the bottom's axes, not those already put in (expand_dims_nd_layer.cpp, Reshape)."""
    layer = make("ExpandDimsND", "expand_dims_nd_param {" + " ".join(f"axis: {axis}" for axis in axes) + "}")
    assert run(layer, values("expand", 4, 5))[0].shape == expected


def test_unstack_gives_the_slices_that_have_tops() -> None:
    x = values("unstack", 3, 4, 5)
    tops = run(make("Unstack", "unstack_param { axis: 1 }", tops=2), x)
    assert len(tops) == 2 and all(np.array_equal(top, x.numpy()[:, i]) for i, top in enumerate(tops))


def test_pads() -> None:
    x = values("pad", 2, 3, 4, 5)
    widths = [(0, 1), (1, 0), (2, 1), (0, 3)]
    text = " ".join(f"paddings: {pad}" for pads in widths for pad in pads)
    padded = run(make("Pad", f"pad_param {{ {text} constant_values: 2.5 }}"), x)[0]
    assert np.array_equal(padded, np.pad(x.numpy(), widths, constant_values=2.5))
    for mode in ("constant", "edge", "reflect"):
        settings = f"{{'pad_t': 1, 'pad_b': 2, 'pad_l': 0, 'pad_r': 3, 'pad_mode': '{mode}'}}"
        layer = make("Python", f'python_param {{ module: "pad" layer: "PadTensor" param_str: "{settings}" }}')
        assert np.array_equal(run(layer, x)[0], np.pad(x.numpy(), [(0, 0), (0, 0), (1, 2), (0, 3)], mode))  # type: ignore[call-overload]


@pytest.mark.parametrize("text", ["__import__('os').getcwd()", "[1]", "{'pad_t': 1.5}", "{" * 200, "{'pad_t': 1}"])
def test_a_param_str_is_read_and_never_run(text: str) -> None:
    with pytest.raises(NetError, match=r"param_str|pad_"):
        make("Python", f'python_param {{ module: "pad" layer: "PadTensor" param_str: "{text}" }}')


def test_the_shape_of_a_blob_is_a_blob() -> None:
    layer = make("Python", 'python_param { module: "shape" layer: "TensorShape" }')
    assert run(layer, values("shape", 2, 3, 4))[0].tolist() == [2, 3, 4]


SHAPES = [((2, 3, 4, 5), (3, 1, 1)), ((1, 3, 1, 1), (2, 3, 4, 5)), ((4, 5), (4, 5)), ((2, 3), ())]


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("kind", ["Mul", "Add", "Sub", "Div", "Maximum", "Minimum"])
def test_arithmetic_broadcasts(kind: str, shapes: tuple) -> None:
    a, b = values("a", *shapes[0]), values("b", *shapes[1]).abs() + 1
    names = {"Mul": "multiply", "Add": "add", "Sub": "subtract", "Div": "divide"}
    expected = getattr(np, names.get(kind, kind.lower()))(a.numpy(), b.numpy())
    np.testing.assert_allclose(run(make(kind, bottoms=2), a, b)[0], expected, rtol=1e-6)
    with pytest.raises(ValueError, match="do not broadcast"):
        make(kind, bottoms=2).top_shapes([(2, 3), (2, 4)])


def test_mul_of_one_bottom_has_a_blob() -> None:
    x, factor = values("a", 2, 3, 4, 5), values("b", 3, 1, 1)
    layer = make("Mul", "mul_param { mul_shape: 3 mul_shape: 1 mul_shape: 1 }")
    assert np.array_equal(run(layer, x, blobs=(factor,))[0], (x * factor).numpy())


# Blocks


def test_space_to_batch_as_tensorflow_defines_it() -> None:
    """Item (i * block_w + j) * batch + n of the top holds the places (y * block_h + i, x * block_w + j) of item n."""
    x = values("blocks", 2, 3, 4, 3).numpy()
    block, pads = (1, 2, 3), [(0, 0), (1, 1), (0, 3)]
    padded = np.pad(x, [(0, 0), *pads])
    expected = np.zeros((2 * 6, 3, 3, 2), np.float32)
    for n in range(2):
        for i in range(2):
            for j in range(3):
                for y in range(3):
                    for z in range(2):
                        expected[(i * 3 + j) * 2 + n, :, y, z] = padded[n, :, y * 2 + i, z * 3 + j]
    there = " ".join(f"block_shape: {b}" for b in block)
    edges = " ".join(f"EDGE: {pad}" for edge in pads for pad in edge)
    layer = make("SpaceToBatchND", f"space_to_batch_nd_param {{ {there} {edges.replace('EDGE', 'paddings')} }}")
    top = run(layer, torch.from_numpy(x))[0]
    assert np.array_equal(top, expected)
    back = make("BatchToSpaceND", f"batch_to_space_nd_param {{ {there} {edges.replace('EDGE', 'crops')} }}")
    assert np.array_equal(run(back, torch.from_numpy(top))[0], x)


@pytest.mark.parametrize("layout", ["NCHW", "CRD", "DCR", "NHWC"])
def test_depth_to_space(layout: str) -> None:
    """depth_to_space_layer.cpp, Forward_cpu, index by index."""
    block, shape = 2, (2, 12, 3, 4) if layout != "NHWC" else (2, 3, 4, 12)
    x = values("depth", *shape)
    nchw = x.numpy().transpose(0, 3, 1, 2) if layout == "NHWC" else x.numpy()
    expected = np.zeros((2, 3, 6, 8), np.float32)
    for d in range(3):
        for h in range(6):
            for w in range(8):
                i, j = h % block, w % block
                source = (d * block + i) * block + j if layout == "CRD" else d + (i * block + j) * 3
                expected[:, d, h, w] = nchw[:, source, h // block, w // block]
    expected = expected.transpose(0, 2, 3, 1) if layout == "NHWC" else expected
    settings = f'block_size: 2 data_format: "{layout}"'
    top = run(make("DepthToSpace", f"depth_to_space_param {{ {settings} }}"), x)[0]
    assert np.array_equal(top, expected)
    if layout in ("NCHW", "NHWC"):
        layer = make("SpaceToDepth", f"space_to_depth_param {{ {settings} }}")
        assert np.array_equal(run(layer, torch.from_numpy(expected.copy()))[0], x.numpy())


def test_pixelshuffler_of_a_reshape() -> None:
    """reshape_layer.cpp of synopsys-caffe, Forward_cpu."""
    x, r = values("pixels", 2, 8, 3, 4), 2
    expected = np.zeros((2, 2, 6, 8), np.float32)
    for c in range(8):
        for h in range(3):
            for w in range(4):
                expected[:, c // 4, h * r + (c // r) % r, w * r + (c % 4) % r] = x.numpy()[:, c, h, w]
    assert np.array_equal(run(make("Reshape", "reshape_param { pixelshuffler: 2 }"), x)[0], expected)


def test_shuffle_channel() -> None:
    """shuffle_channel_layer.cpp, Resize_cpu: row i, column j goes to row j, column i."""
    x = values("shuffle", 2, 6, 2, 3)
    expected = np.zeros_like(x.numpy())
    for i in range(2):
        for j in range(3):
            expected[:, j * 2 + i] = x.numpy()[:, i * 3 + j]
    top = run(make("ShuffleChannel", "shuffle_channel_param { group: 2 }"), x)[0]
    assert np.array_equal(top, expected)
    assert not np.array_equal(top, run(make("ShuffleChannel", "shuffle_channel_param { group: 3 }"), x)[0])


# Resizing

BOTH = ["", "align_corners: true", "half_pixel_centers: true"]
FLAGS = [
    *(("bilinear", flags) for flags in [*BOTH, "pytorch_half_pixel: true"]),
    *(("nearest_neighbor", flags) for flags in [*BOTH, "half_pixel_onnx: true"]),
]


def scale_of(out: int, size: int, flags: str) -> np.float32:
    corners = "align" in flags and out > 1
    return np.float32(size - 1) / np.float32(out - 1) if corners else np.float32(size) / np.float32(out)


def bilinear(x: np.ndarray, out: tuple[int, int], flags: str) -> np.ndarray:
    """resize_bilinear_layer.cpp, compute_interpolation_weights and compute_lerp."""
    top = np.zeros((*x.shape[:2], *out), np.float32)
    half = np.float32(0.5)
    sides = []
    for length, size in zip(out, x.shape[2:], strict=True):
        scale, rows = scale_of(length, size, flags), []
        for i in range(length):
            place = np.float32(i) * scale
            if "half" in flags:
                place = (np.float32(i) + half) * scale - half
                place = -half if "pytorch" in flags and length == 1 else place
            rows.append((max(floor(place), 0), min(ceil(place), size - 1), place - np.floor(place)))
        sides.append(rows)
    for i, (low, high, y) in enumerate(sides[0]):
        for j, (left, right, z) in enumerate(sides[1]):
            above = x[:, :, low, left] + (x[:, :, low, right] - x[:, :, low, left]) * z
            below = x[:, :, high, left] + (x[:, :, high, right] - x[:, :, high, left]) * z
            top[:, :, i, j] = above + (below - above) * y
    return top


def nearest(x: np.ndarray, out: tuple[int, int], flags: str) -> np.ndarray:
    """resize_nearest_neighbor_layer.cpp, Forward_cpu."""
    half, sides = np.float32(0.5), []
    for length, size in zip(out, x.shape[2:], strict=True):
        scale, rows = scale_of(length, size, flags), []
        for i in range(length):
            if "half_pixel" in flags:
                place = floor((np.float32(i) + half) * scale - (0.5 if "onnx" in flags else 0))
            else:
                place = floor(i * scale + half) if "align" in flags else floor(i * scale)
            rows.append(max(min(place, size - 1), 0))
        sides.append(rows)
    return x[:, :, sides[0]][:, :, :, sides[1]]


@pytest.mark.parametrize("out", [(9, 13), (4, 3), (1, 1), (5, 7), (10, 14)])
@pytest.mark.parametrize(("kind", "flags"), FLAGS)
def test_resizing(kind: str, flags: str, out: tuple[int, int]) -> None:
    x = values("resize", 2, 3, 5, 7)
    name = "ResizeBilinear" if kind == "bilinear" else "ResizeNearestNeighbor"
    size = f"output_height: {out[0]} output_width: {out[1]} {flags}"
    expected = (bilinear if kind == "bilinear" else nearest)(x.numpy(), out, flags)
    top = run(make(name, f'resize_{kind}_param {{ {size} data_format: "NCHW" }}'), x)[0]
    np.testing.assert_allclose(top, expected, rtol=1e-5, atol=1e-5)
    last = run(make(name, f"resize_{kind}_param {{ {size} }}"), x.permute(0, 2, 3, 1).contiguous())[0]
    np.testing.assert_allclose(last, expected.transpose(0, 2, 3, 1), rtol=1e-5, atol=1e-5)


def test_a_size_may_be_a_factor() -> None:
    settings = 'resize_bilinear_param { scale_height: 1.5 scale_width: 2 data_format: "NCHW" }'
    assert make("ResizeBilinear", settings).top_shapes([(1, 2, 5, 7)]) == ((1, 2, 7, 14),)
