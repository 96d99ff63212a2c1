"""Layers at the ends of their settings, where a formula says one thing and Caffe another, beside real Caffe."""

from __future__ import annotations

from math import inf, nan

import numpy as np
import pytest
import torch

from converters import CaffeNet, parse_prototxt
from parity_tests.oracle.client import Oracle

X = np.array([[-2.0, 0.0, 0.5, 3.0]], np.float32)
POWERS = {
    "power: -1 scale: 0": inf,
    "power: -3 scale: 0": inf,
    "power: -0.5 scale: -0": inf,
    "power: 0.5 scale: 0 shift: -1": nan,
    "power: 3 scale: 0 shift: -2": -8.0,
    "power: 0 scale: 0": 1.0,
    "power: 0 shift: 2": 1.0,
    "power: 1e-30 scale: 1e-30 shift: 4": 1.0,
}
"""What Caffe makes of every number (power_layer.cpp, Forward_cpu), by settings of a Power."""


def net_of(settings: str, kind: str = "Power") -> str:
    """A layer over X's shape."""
    return (
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 4 } } }\n'
        f'layer {{ name: "y" type: "{kind}" bottom: "x" top: "y" {kind.lower()}_param {{ {settings} }} }}'
    )


@pytest.mark.parametrize("settings", POWERS)
def test_a_power_that_does_not_depend_on_its_bottom(settings: str) -> None:
    net = CaffeNet(parse_prototxt(net_of(settings)))
    for x in (X, np.full_like(X, nan)):
        np.testing.assert_array_equal(net(torch.from_numpy(x)).numpy(), np.full_like(X, POWERS[settings]))


@pytest.mark.oracle
@pytest.mark.parametrize("settings", POWERS)
def test_caffes_powers(oracle: Oracle, settings: str) -> None:
    for x in (X, np.full_like(X, nan)):
        done = oracle.forward(net_of(settings), inputs={"x": x})
        np.testing.assert_array_equal(done.blobs["y"], np.full_like(X, POWERS[settings]))


CLIPS = {"min: 1 max: -1": [[1, 1, 1, 1]], "min: -1 max: 1": [[-1, 0, 0.5, 1]], "min: 0.5 max: 0.5": [[0.5] * 4]}


@pytest.mark.parametrize("settings", CLIPS)
def test_a_clip_whose_ends_have_changed_places(settings: str) -> None:
    net = CaffeNet(parse_prototxt(net_of(settings, "Clip")))
    np.testing.assert_array_equal(net(torch.from_numpy(X)).numpy(), np.float32(CLIPS[settings]))


@pytest.mark.oracle
@pytest.mark.parametrize("settings", CLIPS)
def test_caffes_clips(oracle: Oracle, settings: str) -> None:
    done = oracle.forward(net_of(settings, "Clip"), inputs={"x": X})
    np.testing.assert_array_equal(done.blobs["y"], np.float32(CLIPS[settings]))
