"""Layers at the ends of their settings, where a formula says one thing and Caffe another, beside real Caffe."""

from __future__ import annotations

from math import inf, nan

import numpy as np
import pytest
import torch

from converters import CaffeNet, parse_prototxt
from parity_tests.oracle.client import Oracle
from parity_tests.tolerances import tolerance

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


def lrn_in_place(region: str) -> str:
    return (
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: [1, 4, 1, 1] } } }\n'
        'layer { name: "y" type: "LRN" bottom: "x" top: "x" '
        f"lrn_param {{ norm_region: {region} local_size: 3 alpha: 3 beta: 0.5 k: 2 }} }}"
    )


IMAGE = X.reshape(1, 4, 1, 1)
SCALES = np.float32([2 + 4, 2 + 4.25, 2 + 9.25, 2 + 9.25]).reshape(IMAGE.shape)
"""k and the squares of each channel and its neighbours."""


def test_an_lrn_in_place_is_that_of_caffes_gpu_code() -> None:
    """lrn_layer.cu, LRNComputeOutput: each number is read before it is overwritten."""
    found = CaffeNet(parse_prototxt(lrn_in_place("ACROSS_CHANNELS")))(torch.from_numpy(IMAGE)).numpy()
    np.testing.assert_allclose(found, IMAGE / np.sqrt(SCALES), rtol=tolerance("oracle-live"))


@pytest.mark.oracle
def test_caffes_lrn_in_place(oracle: Oracle) -> None:
    """On a CPU (lrn_layer.cpp, CrossChannelForward_cpu): the powers lie in x when it is multiplied by them."""
    found = oracle.forward(lrn_in_place("ACROSS_CHANNELS"), inputs={"x": IMAGE}).blobs["x"]
    np.testing.assert_allclose(found, 1 / SCALES, rtol=tolerance("oracle-live"))
    within = lrn_in_place("WITHIN_CHANNEL")
    ours = CaffeNet(parse_prototxt(within))(torch.from_numpy(IMAGE)).numpy()
    caffes = oracle.forward(within, inputs={"x": IMAGE}).blobs["x"]
    np.testing.assert_allclose(ours, caffes, rtol=tolerance("oracle-live"))


SPECIAL = np.float32([nan, -inf, 1.0, 2.0]).reshape(1, 1, 1, 4)
ON_SPECIAL = {
    "Pooling": (
        "pooling_param { kernel_h: 1 kernel_w: 1 }",
        [-np.finfo(np.float32).max] * 2 + [1, 2],
        [nan, -inf, 1, 2],
    ),
    "Clip": ("clip_param { min: -1 max: 1 }", [-1, -1, 1, 1], [nan, -1, 1, 1]),
    "ReLU": ("", [nan, nan, 1, 2], [nan, 0, 1, 2]),
    "ArgMax": ("argmax_param { axis: 3 }", [3], [0]),
    "Power": ("power_param { power: 0.5 }", [nan, inf, 1, 2**0.5], [nan, nan, 1, 2**0.5]),
}
"""Caffe's numbers and ours, where docs/parity.md says that they differ."""


def special(kind: str) -> str:
    return (
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: [1, 1, 1, 4] } } }\n'
        f'layer {{ name: "y" type: "{kind}" bottom: "x" top: "y" {ON_SPECIAL[kind][0]} }}'
    )


@pytest.mark.parametrize("kind", ON_SPECIAL)
def test_what_is_no_number_stays_none(kind: str) -> None:
    found = CaffeNet(parse_prototxt(special(kind)))(torch.from_numpy(SPECIAL)).numpy()
    np.testing.assert_array_equal(found.ravel(), np.float32(ON_SPECIAL[kind][2]))


@pytest.mark.oracle
@pytest.mark.parametrize("kind", ON_SPECIAL)
def test_caffe_makes_something_else_of_it(oracle: Oracle, kind: str) -> None:
    found = oracle.forward(special(kind), inputs={"x": SPECIAL}).blobs["y"]
    np.testing.assert_array_equal(found.ravel(), np.float32(ON_SPECIAL[kind][1]))


def of_two(kind: str, settings: str) -> str:
    """A layer over two blobs of SPECIAL's shape."""
    made = "".join(
        f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ dim: [1, 1, 1, 4] }} }} }}\n'
        for name in "ab"
    )
    return f'{made}layer {{ name: "y" type: "{kind}" bottom: "a" bottom: "b" top: "y" {settings} }}'


PAIR = {"a": SPECIAL, "b": np.float32([1.0, 2.0, nan, -inf]).reshape(SPECIAL.shape)}
OF_PAIR = {
    "Eltwise": ("eltwise_param { operation: MAX }", [1, 2, nan, 2], [1, 2, nan, 2]),
    "Scale": ("scale_param { axis: 0 }", [nan, -inf, 0, -inf], [nan, -inf, nan, -inf]),
}
"""The same of two blobs; a maximum is Caffe's here, too."""


@pytest.mark.parametrize("kind", OF_PAIR)
def test_what_is_no_number_beside_one(kind: str) -> None:
    settings, _, ours = OF_PAIR[kind]
    found = CaffeNet(parse_prototxt(of_two(kind, settings)))(**{k: torch.from_numpy(x) for k, x in PAIR.items()})
    np.testing.assert_array_equal(found.numpy().ravel(), np.float32(ours))


@pytest.mark.oracle
@pytest.mark.parametrize("kind", OF_PAIR)
def test_what_caffe_makes_of_the_pair(oracle: Oracle, kind: str) -> None:
    settings, caffes, _ = OF_PAIR[kind]
    found = oracle.forward(of_two(kind, settings), inputs=PAIR).blobs["y"]
    np.testing.assert_array_equal(found.ravel(), np.float32(caffes))
