"""Slopes in which Caffe has its own way: of values that are equal, and of a spread with its eps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from converters import CaffeNet, parse_prototxt
from parity_tests.fill import rs

MVN = """
input: "data" input_shape {{ dim: 2 dim: 3 dim: 4 dim: 5 }}
layer {{ name: "it" type: "MVN" bottom: "data" top: "it" mvn_param {{ {settings} }} }}
"""


@pytest.mark.parametrize("eps", [1e-9, 0.5])
@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("variance", [True, False])
def test_mvn_learns_as_caffe_does(eps: float, across: bool, variance: bool) -> None:
    """mvn_layer.cpp:75-125: (dy - mean(dy) - y mean(y dy)) / (deviation + eps), finite where all places are equal."""
    settings = f"eps: {eps} across_channels: {across} normalize_variance: {variance}".lower()
    x, dy = (rs(name).standard_normal((2, 3, 4, 5)) for name in ("mvn", "mvn/slope"))
    x[0, 1] = 2.0
    x[1] = 1.0
    blob = torch.from_numpy(x).requires_grad_()
    y = CaffeNet(parse_prototxt(MVN.format(settings=settings)))(blob)
    y.backward(torch.from_numpy(dy))
    axes = (1, 2, 3) if across else (2, 3)
    mean = lambda a: a.mean(axes, keepdims=True)  # noqa: E731
    centred = x - mean(x)
    deviation = np.sqrt(mean(centred**2)) + float(np.float32(eps)) if variance else 1.0
    top = centred / deviation
    expected = (dy - mean(dy) - (top * mean(top * dy) if variance else 0)) / deviation
    np.testing.assert_allclose(y.detach(), top, atol=1e-12)
    np.testing.assert_allclose(blob.grad, expected, rtol=1e-9, atol=1e-9)


def maxima(arrays: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The largest of bottoms and which of them it is (eltwise_layer.cpp:66-96)."""
    top = np.where(arrays[0] > arrays[1], arrays[0], arrays[1])
    which = np.where(arrays[0] > arrays[1], 0, 1)
    for place, array in enumerate(arrays[2:], 2):
        which, top = np.where(array > top, place, which), np.where(array > top, array, top)
    return top, which


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("seed", range(3))
def test_one_of_equal_values_has_the_gradient_of_a_maximum(count: int, seed: int) -> None:
    names = [f"b{i}" for i in range(count)]
    inputs = "".join(f'input: "{name}" input_shape {{ dim: 2 dim: 3 dim: 4 dim: 5 }}\n' for name in names)
    bottoms = " ".join(f'bottom: "{name}"' for name in names)
    text = f'{inputs}layer {{ name: "it" type: "Eltwise" {bottoms} top: "it" eltwise_param {{ operation: MAX }} }}'
    r = np.random.default_rng(seed)
    arrays = [r.integers(0, 3, (2, 3, 4, 5)).astype(np.float64) for _ in names]
    blobs = {name: torch.from_numpy(array).requires_grad_() for name, array in zip(names, arrays, strict=True)}
    found = CaffeNet(parse_prototxt(text))(**blobs)
    dy = r.standard_normal((2, 3, 4, 5))
    found.backward(torch.from_numpy(dy))
    top, which = maxima(arrays)
    np.testing.assert_array_equal(found.detach(), top)
    for place, blob in enumerate(blobs.values()):
        np.testing.assert_array_equal(blob.grad, dy * (which == place))


def tied(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A blob in which largest values come several times, and the slope of its maxima."""
    r = np.random.default_rng(seed)
    return r.integers(0, 3, (4, 3, 2, 3)).astype(np.float64), r.standard_normal((4, 3))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "layer",
    [
        'type: "Pooling" pooling_param { global_pooling: true }',
        'type: "Pooling" pooling_param { kernel_h: 2 kernel_w: 3 }',
        'type: "SPP" spp_param { pyramid_height: 1 }',
        'type: "PoolingND" pooling_nd_param { pool: MAX global_pooling: true }',
    ],
)
def test_the_first_of_equal_values_has_the_gradient_of_a_pooling(layer: str, seed: int) -> None:
    """pooling_layer.cpp:158-165: a later value has to be larger to take the place of one."""
    x, slope = tied(seed)
    inputs = 'input: "data" input_shape { dim: 4 dim: 3 dim: 2 dim: 3 }'
    blob = torch.from_numpy(x).requires_grad_()
    top = CaffeNet(parse_prototxt(f'{inputs} layer {{ name: "it" bottom: "data" top: "it" {layer} }}'))(blob)
    top.backward(torch.from_numpy(slope).reshape(top.shape))
    expected = np.zeros((12, 6))
    expected[np.arange(12), x.reshape(12, 6).argmax(1)] = slope.ravel()
    np.testing.assert_array_equal(blob.grad, expected.reshape(x.shape))


@pytest.mark.parametrize("seed", range(3))
def test_one_of_equal_scores_has_the_gradient_of_mil(seed: int) -> None:
    x, slope = tied(seed)
    text = """
input: "data" input_shape { dim: 8 dim: 9 }
layer { name: "it" type: "MIL" bottom: "data" top: "it" mil_param { context_per_roi: 4 } }
"""
    scores, dy = x.reshape(8, 9), np.resize(slope, (2, 9))
    blob = torch.from_numpy(scores).requires_grad_()
    top = CaffeNet(parse_prototxt(text))(blob)
    top.backward(torch.from_numpy(dy).reshape(top.shape))
    assert blob.grad is not None
    found = blob.grad.numpy().reshape(2, 4, 9)
    np.testing.assert_array_equal((found != 0).sum(1), 1)
    np.testing.assert_array_equal(found.sum(1), dy)


@pytest.mark.parametrize("seed", range(4))
def test_the_first_of_equal_values_has_the_gradient_of_a_region(seed: int) -> None:
    """caffe-fast-rcnn, roi_pooling_layer.cpp:96-108: row by row, a later value has to be larger to take the place."""
    r = np.random.default_rng(seed)
    x, slope = r.integers(0, 3, (1, 2, 6, 7)).astype(np.float64), r.standard_normal((1, 2, 2, 3))
    text = """
input: "data" input_shape { dim: 1 dim: 2 dim: 6 dim: 7 } input: "rois" input_shape { dim: 1 dim: 5 }
layer { name: "it" type: "ROIPooling" bottom: "data" bottom: "rois" top: "it"
  roi_pooling_param { pooled_h: 2 pooled_w: 3 spatial_scale: 1 } }
"""
    blob = torch.from_numpy(x).requires_grad_()
    top = CaffeNet(parse_prototxt(text))(data=blob, rois=torch.tensor([[0.0, 0, 0, 6, 5]], dtype=torch.float64))
    top.backward(torch.from_numpy(slope))
    expected = np.zeros_like(x)
    for channel, row, column in np.ndindex(2, 2, 3):
        (h0, h1), (w0, w1) = (3 * row, 3 * row + 3), (7 * column // 3, -(-7 * (column + 1) // 3))
        window = x[0, channel, h0:h1, w0:w1]
        first = np.unravel_index(window.argmax(), window.shape)
        expected[0, channel, h0 + first[0], w0 + first[1]] += slope[0, channel, row, column]
    np.testing.assert_allclose(blob.grad, expected, atol=1e-12)
