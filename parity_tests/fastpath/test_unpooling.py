"""Pooling that keeps places, and Upsample by them, as native steps: to the bit what the layers give."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from converters import CaffeNet
from converters.formats import parse_prototxt
from fcn_port.fastpath.native import why_not
from fcn_port.fastpath.program import FastNet
from parity_tests.famous_nets import prototxt
from parity_tests.fastpath.random_nets import filled
from parity_tests.fastpath.test_any_net import error, in_double, named, run_blankly

pytestmark = pytest.mark.skipif(why_not() is not None, reason="no C compiler")

NET = """layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ dim: [2, {channels}, 8, 8] }} }} }}
layer {{ name: "p" type: "Pooling" bottom: "x" top: "p" top: "m" pooling_param {{ {pooling} }} }}
layer {{ name: "v" type: "ReLU" bottom: "p" top: "v" relu_param {{ negative_slope: -0.7 }} }}
layer {{ name: "u" type: "Upsample" bottom: "v" bottom: "m" top: "u" upsample_param {{ {size} }} }}
layer {{ name: "seen" type: "Power" bottom: "m" top: "seen" power_param {{ scale: 1 }} }}"""


def net_of(channels: int, pooling: str, size: str = "upsample_h: 20 upsample_w: 23") -> CaffeNet:
    return CaffeNet(parse_prototxt(NET.format(channels=channels, pooling=pooling, size=size)))


@pytest.mark.parametrize("channels", [1, 16, 37])
@pytest.mark.parametrize(
    "pooling",
    [
        "kernel_size: 2 stride: 2",
        "kernel_size: 3 stride: 2",  # a place may be that of several windows
        "kernel_size: 3 stride: 1 pad: 1",
        "kernel_h: 2 kernel_w: 3 stride_h: 2 stride_w: 3",
    ],
)
def test_to_the_bit(channels: int, pooling: str) -> None:
    """With equal maxima, of which the first counts, and numbers that are none."""
    net = net_of(channels, pooling)
    quick = FastNet(net)
    for h, w in ((8, 8), (13, 17)):
        x = torch.randint(-3, 4, (2, channels, h, w), generator=torch.Generator().manual_seed(h)).float()
        x[0, 0, 1, 2], x[1, 0, :, :5] = float("nan"), -float("inf")
        said = quick.explain((h, w))
        assert "none of them by PyTorch" in said and "maximum and its place" in said and "where maxima were" in said
        expected, found = net(x), run_blankly(quick, {"x": x})
        for name, value in expected.items():
            assert np.array_equal(found[name].numpy(), value.numpy(), equal_nan=True), (name, h, w)
            assert np.array_equal(quick(x)[name].numpy(), value.numpy(), equal_nan=True), (name, h, w)


def test_places_that_no_pooling_made_are_left_to_the_layer() -> None:
    """They may lie outside the blob, where nothing may be written; so may those of a larger blob's maxima."""
    given = """layer { name: "x" type: "Input" top: "x" input_param { shape { dim: [1, 3, 4, 4] } } }
        layer { name: "m" type: "Input" top: "m" input_param { shape { dim: [1, 3, 4, 4] } } }
        layer { name: "u" type: "Upsample" bottom: "x" bottom: "m" top: "u" }"""
    net = CaffeNet(parse_prototxt(given))
    assert "places that no pooling before it has made" in FastNet(net).explain((4, 4))
    x = torch.zeros(1, 3, 4, 4)
    for wrong in (64.0, -1.0, 1e9):
        with pytest.raises((RuntimeError, ValueError, IndexError, LookupError)):
            FastNet(net)(x, torch.full_like(x, wrong))
    small = net_of(3, "kernel_size: 2 stride: 2", "upsample_h: 5 upsample_w: 5")
    assert "places that no pooling before it has made" in FastNet(small).explain((8, 8))


def test_segnet() -> None:
    net = filled(CaffeNet(parse_prototxt(prototxt("segnet"))))
    quick, (name,) = FastNet(net), net.inputs
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert "none of them by PyTorch" in quick.explain((64, 64)), quick.explain((64, 64))
    exact = in_double(net, {name: x})
    assert error(run_blankly(quick, {name: x}), exact) <= max(2 * error(named(net, net(x)), exact), 2e-6)
