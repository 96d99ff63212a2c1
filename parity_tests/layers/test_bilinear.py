"""Bilinear upsampling weights: made, and recognised in files, against what interpolation means."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn.functional import conv_transpose2d, interpolate

from converters import read_caffemodel
from converters.layers.bilinear import bilinear_kernel, bilinear_weight, kind_of_upsampling, old_bilinear_kernel
from parity_tests import fill
from parity_tests.goldens import formats

RELEASE = [(4, 2), (16, 8), (32, 16), (64, 32), (63, 32)]
"""(kernel, stride) of the published nets; the last is AlexNet's."""


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 9, 16, 31, 32, 63, 64])
def test_the_kernel_is_symmetric_and_the_one_of_the_fill_rule(size: int) -> None:
    kernel = bilinear_kernel(size)
    np.testing.assert_array_equal(kernel, kernel[::-1, ::-1])
    np.testing.assert_array_equal(kernel, kernel.T)
    np.testing.assert_array_equal(kernel, fill.bilinear_kernel(size))


@pytest.mark.parametrize(("size", "stride"), RELEASE)
def test_a_ramp_becomes_a_finer_ramp(size: int, stride: int) -> None:
    """What makes a kernel interpolate linearly: a plane stays a plane, inside where all taps are."""
    rows, columns = np.mgrid[0:6, 0:7].astype(np.float64)
    x = torch.from_numpy(3 * rows - 2 * columns + 5)[None, None]
    y = conv_transpose2d(x, torch.from_numpy(bilinear_kernel(size))[None, None], stride=stride)[0, 0].numpy()
    inside = y[size - 1 : 1 - size, size - 1 : 1 - size]
    down, right = np.diff(inside, axis=0), np.diff(inside, axis=1)
    np.testing.assert_allclose(down, 3 / stride, rtol=0, atol=1e-12)
    np.testing.assert_allclose(right, -2 / stride, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("size", "stride"), RELEASE[:-1])
def test_an_even_kernel_is_pytorchs_bilinear_interpolation(size: int, stride: int) -> None:
    x = torch.from_numpy(np.random.RandomState(0).standard_normal((1, 3, 5, 6)))
    weight = torch.from_numpy(bilinear_weight((3, 1, size, size))).double()
    found = conv_transpose2d(x, weight, stride=stride, padding=stride // 2, groups=3)
    expected = interpolate(x, scale_factor=stride, mode="bilinear", align_corners=False)
    edge = slice(stride, -stride)  # at the edge a deconvolution fades to zero
    torch.testing.assert_close(found[..., edge, edge], expected[..., edge, edge], rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(7, 7, 4, 4), (21, 1, 16, 16), (1, 1, 63, 63)])
def test_each_channel_is_upsampled_by_itself(shape: tuple[int, int, int, int]) -> None:
    expected = fill.bilinear_blob(shape, group=shape[0] if shape[1] == 1 else 1)
    np.testing.assert_array_equal(bilinear_weight(shape), expected)


@pytest.mark.parametrize("shape", [(7, 7, 4, 5), (7, 3, 4, 4)])
def test_a_shape_that_cannot_upsample_is_refused(shape: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"bilinear|diagonal"):
        bilinear_weight(shape)


def old_weight(channels: int, size: int) -> np.ndarray:
    weight = np.zeros((channels, channels, size, size), np.float32)
    weight[range(channels), range(channels)] = old_bilinear_kernel(size)
    return weight


def test_the_old_filler_leans_to_one_side_at_63_and_not_at_64() -> None:
    assert np.abs(old_bilinear_kernel(63) - bilinear_kernel(63)).max() > 0.01
    np.testing.assert_array_equal(old_bilinear_kernel(64), bilinear_kernel(64))


@pytest.mark.parametrize(
    "weight",
    [
        bilinear_weight((5, 5, 4, 4)),
        bilinear_weight((5, 1, 16, 16)),
        bilinear_weight((5, 5, 63, 63)),
        bilinear_weight((5, 5, 4, 4)).astype(np.float64),
        bilinear_weight((5, 5, 64, 64)).astype(np.float16),
        bilinear_weight((1, 1, 64, 64)),
        old_weight(3, 63),
    ],
)
def test_bilinear_weights_are_recognised(weight: np.ndarray) -> None:
    assert kind_of_upsampling(weight) == "bilinear"


def changed(change: Callable[[np.ndarray], object]) -> np.ndarray:
    weight = bilinear_weight((5, 5, 16, 16)).copy()
    change(weight)
    return weight


@pytest.mark.parametrize(
    "weight",
    [
        changed(lambda w: w.__setitem__((2, 2, 7, 7), w[2, 2, 7, 7] + 1e-4)),
        changed(lambda w: w.__setitem__((2, 3, 7, 7), 1e-4)),
        changed(lambda w: w.__setitem__((4, 4), 0)),
        changed(lambda w: w.__setitem__((0, 0, 0, 0), np.nan)),
        changed(lambda w: w.__imul__(2)),
        np.roll(bilinear_weight((5, 5, 16, 16)), 1, axis=3),
        bilinear_weight((5, 5, 16, 16))[:, ::-1],
        bilinear_weight((5, 5, 16, 16))[:, :4],
        bilinear_weight((5, 5, 16, 16))[..., :8],
        np.zeros((3, 4), np.float32),
    ],
    ids=[
        *("one value off", "two channels mixed", "a channel empty", "NaN", "twice as strong", "shifted"),
        *("channels swapped", "more in than out", "not square", "not four axes"),
    ],
)
def test_all_other_weights_are_learned(weight: np.ndarray) -> None:
    assert kind_of_upsampling(weight) == "learned"


def test_the_recorded_nets() -> None:
    blobs = read_caffemodel(formats("fcn8s-mini.caffemodel")).blobs
    assert {kind_of_upsampling(blobs[name][0]) for name in blobs if name.startswith("upscore")} == {"learned"}
