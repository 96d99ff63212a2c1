"""Behind a Filter a blob has as many images as it lets through: what does not go together then is told, as by Caffe."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from converters import CaffeNet, NetError, parse_prototxt
from fcn_port.fastpath.native import why_not
from fcn_port.fastpath.program import FastNet
from parity_tests.fill import rs
from parity_tests.oracle.client import CaffeAborted, Oracle

SHAPE = (3, 2, 4, 4)
X = rs("varying sizes").standard_normal(SHAPE).astype(np.float32)
LAYERS = {
    "sum": 'type: "Eltwise" bottom: "f" bottom: "x"',
    "maximum": 'type: "Eltwise" bottom: "f" bottom: "x" eltwise_param { operation: MAX }',
    "factors": 'type: "Scale" bottom: "x" bottom: "f" scale_param { axis: 0 }',
    "weights": 'type: "Scale" bottom: "f" scale_param { axis: 0 }',
    "channels": 'type: "Concat" bottom: "f" bottom: "x"',
    "crop": 'type: "Crop" bottom: "f" bottom: "x" crop_param { axis: 0 }',
    "dims": 'type: "Reshape" bottom: "f" reshape_param { shape { dim: [3, 2, 16] } }',
}
"""Layers that take three images and not one of them beside three; the first four gave three, spread from one."""


def text_of(layer: str, *, between: bool = False) -> str:
    dims = " ".join(f"dim: {size}" for size in SHAPE)
    return f"""
layer {{ name: "data" type: "Input" top: "x" top: "chosen" input_param {{ shape {{ {dims} }} shape {{ dim: 3 }} }} }}
layer {{ name: "f" type: "Filter" bottom: "x" bottom: "chosen" top: "f" }}
{'layer { name: "p" type: "Power" bottom: "f" top: "p" }' * between}
layer {{ name: "it" top: "it" {layer.replace('"f"', '"p"') if between else layer} }}
"""


def runners(layer: str, *, between: bool = False) -> list[torch.nn.Module]:
    plain = CaffeNet(parse_prototxt(text_of(layer, between=between)))
    return [plain, *([FastNet(plain)] if why_not() is None else [])]


def run(net: torch.nn.Module, *chosen: float) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = net(x=torch.from_numpy(X), chosen=torch.tensor(chosen))
    return found


@pytest.mark.parametrize("between", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_one_image_is_not_spread_over_three(name: str, between: bool) -> None:
    for net in runners(LAYERS[name], between=between):
        assert run(net, 1.0, 1.0, 1.0).shape[0] == 3
        with pytest.raises(NetError, match=r"layer 'it'.*its bottoms became"):
            run(net, 0.0, 1.0, 0.0)


@pytest.mark.oracle
@pytest.mark.parametrize("name", LAYERS)
def test_caffe_refuses_it(oracle: Oracle, name: str) -> None:
    """By a CHECK of the layer's Reshape; the oracle asks for it when none is chosen yet."""
    with pytest.raises(CaffeAborted, match="Check failed"):
        oracle.forward(text_of(LAYERS[name]), inputs={"x": X, "chosen": np.array([0, 1, 0], np.float32)})


def test_what_is_left_of_no_images_is_told() -> None:
    """Caffe divides by 0 there, and ends."""
    for net in runners('type: "Reshape" bottom: "f" reshape_param { shape { dim: [0, -1] } }'):
        assert run(net, 0.0, 1.0, 1.0).shape == (2, 32)
        with pytest.raises(NetError, match=r"layer 'it'.*without elements"):
            run(net, 0.0, 0.0, 0.0)
