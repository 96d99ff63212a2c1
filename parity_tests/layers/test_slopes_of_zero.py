"""Slopes at exactly 0, where Caffe divides by it: what is no number there is none here, and goes as far."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

from converters import CaffeModel, parse_prototxt, write_caffemodel
from converters.formats.caffemodel import parse_caffemodel
from fcn_port.training import task_of
from parity_tests.oracle.client import Oracle
from parity_tests.tolerances import tolerance

RATE = 0.05
WEIGHTS = np.array([[-1.5, -0.25, 0.0, 0.25, 0.5, 2.0]], np.float32)
GATES = {
    "relu": 'layer { name: "gate" type: "ReLU" bottom: "p" top: "gate" }',
    "clip": 'layer { name: "gate" type: "Clip" bottom: "p" top: "gate" clip_param { min: 0 max: 1 } }',
    "none": 'layer { name: "gate" type: "Split" bottom: "p" top: "gate" }',
}


def _power(power: float, scale: float = 1, shift: float = 0) -> str:
    settings = f"power: {power} scale: {scale} shift: {shift}"
    return f'layer {{ name: "it" type: "Power" bottom: "gate" top: "it" power_param {{ {settings} }} }}'


def _product(*, stable: bool, three: bool = False) -> str:
    settings = f"operation: PROD stable_prod_grad: {str(stable).lower()}"
    more = 'bottom: "gate"' * three
    bottoms = f'bottom: "gate" bottom: "label" {more}'
    return f'layer {{ name: "it" type: "Eltwise" {bottoms} top: "it" eltwise_param {{ {settings} }} }}'


LAYERS = {
    "cube": _power(3),
    "cube-scaled": _power(3, 2),
    "cube-shifted": _power(3, 2, -1),
    "root": _power(0.5),
    "root-shifted": _power(0.5, 1, 1),
    "inverse-shifted": _power(-1, 2, 1),
    "square": _power(2),
    "same": _power(1, 2),
    "flat": _power(0),
    "product": _product(stable=True),
    "quotient": _product(stable=False),
    "quotient-of-three": _product(stable=False, three=True),
}


def net(gate: str, layer: str) -> str:
    """A Parameter through a gate and the layer, compared with labels."""
    return f"""
layer {{ name: "label" type: "Input" top: "label" input_param {{ shape {{ dim: 1 dim: 6 }} }} }}
layer {{ name: "p" type: "Parameter" top: "p" parameter_param {{ shape {{ dim: 1 dim: 6 }} }} }}
{GATES[gate]} {LAYERS[layer]}
layer {{ name: "loss" type: "EuclideanLoss" bottom: "it" bottom: "label" top: "loss" }}
"""


LABEL = np.array([[1, 2, -1, 0.5, 3, -2]], np.float32)


def learned(gate: str, layer: str) -> np.ndarray:
    """The weights after a step."""
    task = task_of(parse_prototxt(net(gate, layer)))
    task.net.load_state_dict({"p.weight": torch.from_numpy(WEIGHTS.copy())})
    (loss,) = task.losses_of({"label": torch.from_numpy(LABEL)}).values()
    if loss.requires_grad:
        loss.backward()
    (blob,) = task.net.parameters()
    return WEIGHTS if blob.grad is None else WEIGHTS - RATE * blob.grad.numpy()


NO_NUMBER = {
    ("cube", "none"): [2],
    ("cube", "relu"): [0, 1, 2],
    ("cube", "clip"): [0, 1, 2],
    ("cube-shifted", "relu"): [4],
    ("root", "none"): [0, 1, 2],
    ("root", "relu"): [0, 1, 2],
    ("root-shifted", "none"): [0],
    ("root-shifted", "relu"): [],
    ("square", "none"): [],
    ("product", "relu"): [],
    ("quotient", "none"): [2],
    ("quotient", "relu"): [0, 1, 2],
    ("quotient-of-three", "clip"): [0, 1, 2],
}
"""The places of WEIGHTS that are no number after a step of Caffe's (`test_it_learns_what_caffe_does`)."""


@pytest.mark.parametrize(("layer", "gate"), NO_NUMBER)
def test_a_slope_divided_by_zero_is_no_number(layer: str, gate: str) -> None:
    """power_layer.cpp:54-78, eltwise_layer.cpp:127, and 0 times that: relu_layer.cpp:31, clip_layer.cpp:37."""
    found = learned(gate, layer)[0]
    assert np.flatnonzero(~np.isfinite(found)).tolist() == NO_NUMBER[layer, gate]


@pytest.mark.oracle
@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("layer", LAYERS)
def test_it_learns_what_caffe_does(oracle: Oracle, gate: str, layer: str) -> None:
    text = net(gate, layer)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "weights")
        write_caffemodel(CaffeModel(parse_prototxt(text), {"p": (WEIGHTS,)}), path)
        solver = f'base_lr: {RATE} lr_policy: "fixed"'
        done = oracle.solve(solver, text, {"label": LABEL[None]}, weights=path)
    caffes = np.array(parse_caffemodel(done.model).blobs["p"][0])
    np.testing.assert_allclose(learned(gate, layer), caffes, rtol=tolerance("oracle-live"))
    if (layer, gate) in NO_NUMBER:
        assert np.flatnonzero(~np.isfinite(caffes[0])).tolist() == NO_NUMBER[layer, gate]


@pytest.mark.parametrize("layer", ["cube-shifted", "root-shifted", "quotient"])
@pytest.mark.parametrize("gate", ["relu", "clip"])
def test_as_functions_of_pytorch(gate: str, layer: str) -> None:
    """`torch.func` takes them: gradients of a batch of inputs at once, and directional ones, are those of autograd."""
    from converters.layers import slopes

    act = slopes.relu if gate == "relu" else (lambda x: slopes.clamp(x, 0.0, 1.0))
    made = {
        "cube-shifted": lambda x: slopes.power(act(x), 3, 2, -1),
        "root-shifted": lambda x: slopes.power(act(x), 0.5, 1, 1),
        "quotient": lambda x: slopes.product([act(x) + 1, act(x), x]),
    }[layer]
    x = torch.tensor([[-1.5, 0.25, 0.5, 2.0], [3.0, -0.5, 0.75, 0.125]])
    learned = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(made(learned).sum(), learned)
    batched = torch.func.vmap(torch.func.grad(lambda row: made(row).sum()))(x)
    torch.testing.assert_close(batched, expected, equal_nan=True)
    _, along = torch.func.jvp(lambda x: made(x * torch.ones(4, requires_grad=True)), (x,), (torch.ones_like(x),))
    torch.testing.assert_close(along, expected, equal_nan=True)
