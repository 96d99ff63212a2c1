"""Small layers: borders, masks of pruned nets, norms, AutoCrop, which becomes a Crop, and a Flatten of no axes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from converters import NetError, parse_prototxt
from converters.passes import prepare
from parity_tests.layers.test_layers import make, run, values


@pytest.mark.parametrize(("begin", "end"), [(1, 2), (0, 3), (-2, -1), (0, -3), (0, 0)])
def test_padding(begin: int, end: int) -> None:
    """padding_layer.cpp: top[h, w] is bottom[h - pad_beg, w - pad_beg], or 0 outside."""
    x = values("x", 2, 3, 6, 7)
    expected = np.zeros((2, 3, 6 + begin + end, 7 + begin + end), np.float32)
    for i in range(expected.shape[2]):
        for j in range(expected.shape[3]):
            if 0 <= i - begin < 6 and 0 <= j - begin < 7:
                expected[:, :, i, j] = x.numpy()[:, :, i - begin, j - begin]
    top = run(make("Padding", f"padding_param {{ pad_beg: {begin} pad_end: {end} }}"), x)[0]
    assert np.array_equal(top, expected)


def test_padding_both_ways_is_refused() -> None:
    with pytest.raises(NetError, match="both pad or both crop"):
        make("Padding", "padding_param { pad_beg: 1 pad_end: -1 }")


def test_crop_center() -> None:
    x = values("x", 2, 5, 6, 7)
    sizes = " ".join(f"crop_size: {size}" for size in (0, 1, 2, 3))
    assert np.array_equal(run(make("CropCenter", f"crop_center_param {{ {sizes} }}"), x)[0], x[:, 1:4, 2:4, 3:4])


def test_masks_of_pruned_nets() -> None:
    x, weight, bias = values("x", 1, 3, 5, 5), values("w", 2, 3, 3, 3), values("b", 2)
    mask = (values("m", 2, 3, 3, 3) > 0).float()
    settings = "convolution_param { num_output: 2 kernel_size: 3 }"
    plain = run(make("Convolution", settings), x, blobs=(weight * mask, bias))[0]
    assert np.array_equal(run(make("CConvolution", settings), x, blobs=(weight, bias, mask))[0], plain)
    settings = "inner_product_param { num_output: 4 bias_term: false }"
    weight, mask = values("w", 4, 75), (values("m", 4, 75) > 0).float()
    plain = run(make("InnerProduct", settings), x, blobs=(weight * mask,))[0]
    assert np.array_equal(run(make("CInnerProduct", settings), x, blobs=(weight, mask))[0], plain)


def test_norm2_layer() -> None:
    x = values("x", 3, 5)
    x[1] = 0
    expected = x.numpy() / np.maximum(np.sqrt((x.numpy() ** 2).sum(1, keepdims=True)), 1e-30)
    layer = make("Python", 'python_param { module: "norm2layer" layer: "Norm2Layer" }')
    np.testing.assert_allclose(run(layer, x)[0], expected, rtol=1e-6)
    assert run(layer, torch.ones(2, 4, 1, 1))[0].shape == (2, 4)


AUTO = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 12 dim: 12 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 2 kernel_size: 3 pad: 5 } }
layer { name: "crop" type: "AutoCrop" bottom: "conv" bottom: "data" top: "crop" }
layer { name: "kept" type: "Crop" bottom: "conv" bottom: "data" top: "kept" }
"""  # noqa: E501


def test_auto_crop_becomes_a_crop_with_its_offset() -> None:
    """auto_crop_layer.cpp: from the second bottom's coordinates to the first's; other Crops keep theirs, 0."""
    net = prepare(parse_prototxt(AUTO))
    crop = net.layer("crop")
    assert crop.type == "Crop" and list(crop.message.crop_param.offset) == [4]
    assert list(net.layer("kept").message.crop_param.offset) == []


def test_flatten_of_no_axes_makes_one() -> None:
    """flatten_layer.cpp, Reshape: the count of axes from `axis` to the one after end_axis is 1 where there are none."""
    x = values("flatten", 2, 3, 4)
    (top,) = run(make("Flatten", "flatten_param { axis: 2 end_axis: 1 }"), x)
    np.testing.assert_array_equal(top, x.numpy()[:, :, None])
    with pytest.raises(ValueError, match="axis 2 comes after end_axis 0"):
        make("Flatten", "flatten_param { axis: 2 end_axis: 0 }").top_shapes([(2, 3, 4)])
