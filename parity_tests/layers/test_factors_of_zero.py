"""Factors of 0 before what is infinite or no number: Caffe's BLAS makes 0 of it, and what is too large is no NaN."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import fcn_port
from converters import CaffeNet, parse_prototxt
from parity_tests.export.onnx_models import blobs_in_onnxruntime, onnx_of
from parity_tests.export.test_export_python import made_from
from parity_tests.fill import rs
from parity_tests.oracle.client import Oracle
from parity_tests.tolerances import tolerance

SHAPE = (2, 3, 4, 5)
Y = rs("factors of zero").standard_normal(SHAPE).astype(np.float32)
X = np.where(np.arange(Y.size).reshape(SHAPE) % 3, Y, np.inf).astype(np.float32)
X[:, 1] *= -1
X[:, 2, 0, 0] = np.nan
LARGE = Y * np.float32(1e25)
CENTRED = np.zeros_like(Y)
FACTORS = {
    "power-scale": ("Power", "power_param { scale: 0 shift: 2 power: 3 }", np.full(SHAPE, 8)),
    "power-0": ("Power", "power_param { power: 0 }", np.ones(SHAPE)),
    "exp-scale": ("Exp", "exp_param { scale: 0 shift: 3 base: 2 }", np.full(SHAPE, 8)),
    "exp-base": ("Exp", "exp_param { base: 1 }", np.ones(SHAPE)),
    "log-scale": ("Log", "log_param { scale: 0 shift: 8 base: 2 }", np.full(SHAPE, 3)),
    "swish-beta": ("Swish", "swish_param { beta: 0 }", X / 2),
    "eltwise-first": ("Eltwise", "eltwise_param { coeff: 0 coeff: 1 }", Y),
    "eltwise-half": ("Eltwise", "eltwise_param { coeff: 0 coeff: 0.5 }", Y / 2),
    "eltwise-none": ("Eltwise", "eltwise_param { coeff: 0 coeff: 0 }", np.zeros(SHAPE)),
    "eltwise-three": ("Eltwise", 'bottom: "y" eltwise_param { coeff: 0 coeff: 0.5 coeff: -1 }', -Y / 2),
    **{
        f"reduction-{operation}": (
            "Reduction",
            f"reduction_param {{ operation: {operation} coeff: 0 axis: 2 }}",
            np.zeros((2, 3)),
        )
        for operation in ("SUM", "ASUM", "SUMSQ", "MEAN")
    },
}
"""Of X, and Y where a layer has more bottoms: the layer, its settings, its top."""


def net(kind: str, settings: str) -> str:
    bottoms = 'bottom: "x" bottom: "y"' if kind == "Eltwise" else 'bottom: "x"'
    others = "" if kind == "Eltwise" else 'layer { name: "quiet" type: "Silence" bottom: "y" }'
    return f"""
layer {{ name: "data" type: "Input" top: "x" top: "y" input_param {{ shape {{ dim: {list(SHAPE)} }} }} }}
layer {{ name: "it" type: "{kind}" {bottoms} top: "it" {settings} }} {others}
"""


@pytest.mark.parametrize("name", FACTORS)
def test_what_is_infinite_times_zero_is_zero(name: str) -> None:
    """In CaffeNet, by `fast`, in exported Python and in onnxruntime."""
    kind, settings, expected = FACTORS[name]
    spec = parse_prototxt(net(kind, settings))
    made = CaffeNet(spec)
    inputs = {blob: torch.from_numpy(array) for blob, array in (("x", X), ("y", Y)) if blob in made.inputs}
    with torch.no_grad():
        found = {"net": made(**inputs), "fast": fcn_port.fast(made)(**inputs), "source": made_from(spec)(**inputs)}
    for where, top in found.items():
        np.testing.assert_allclose(top.numpy(), expected, rtol=tolerance("oracle-live"), err_msg=where)
    found_in = blobs_in_onnxruntime(onnx_of(made), inputs)["it"]
    np.testing.assert_allclose(found_in, expected, rtol=tolerance("oracle-live"))


@pytest.mark.oracle
@pytest.mark.parametrize("name", FACTORS)
def test_it_is_zero_in_caffe(oracle: Oracle, name: str) -> None:
    kind, settings, expected = FACTORS[name]
    caffes = oracle.forward(net(kind, settings), inputs={"x": X, "y": Y}).blobs["it"]
    np.testing.assert_allclose(caffes, expected, rtol=tolerance("oracle-live"))


@pytest.mark.parametrize("across", ["true", "false"])
@pytest.mark.parametrize("learns", [True, False])
def test_a_spread_beyond_float_makes_zeros(across: str, learns: bool) -> None:
    """mvn_layer.cpp, Forward_cpu: the root of an infinite variance divides; it was no number here."""
    made = CaffeNet(parse_prototxt(net("MVN", f"mvn_param {{ across_channels: {across} }}")))
    x = torch.from_numpy(LARGE.copy()).requires_grad_(learns)
    np.testing.assert_array_equal(np.abs(made(x=x).detach().numpy()), CENTRED)


@pytest.mark.oracle
@pytest.mark.parametrize("across", ["true", "false"])
def test_a_spread_beyond_float_makes_zeros_in_caffe(oracle: Oracle, across: str) -> None:
    text = net("MVN", f"mvn_param {{ across_channels: {across} }}")
    np.testing.assert_array_equal(np.abs(oracle.forward(text, inputs={"x": LARGE, "y": Y}).blobs["it"]), CENTRED)


MINUS_ZERO = """
layer { name: "data" type: "Input" top: "x" input_param { shape { dim: [1, 1, 1, 4] } } }
layer { name: "it" type: "Power" bottom: "x" top: "it" power_param { power: -0.5 scale: -4 } }
"""
AROUND_ZERO = np.array([[[[0.0, -0.0, -1.0, -4.0]]]], np.float32)


def test_no_root_of_minus_zero_is_minus_infinity() -> None:
    """C's pow makes infinity of both zeros; PyTorch's of the power -0.5 divided 1 by the root of -0, which is -0."""
    spec = parse_prototxt(MINUS_ZERO)
    made, x = CaffeNet(spec), torch.from_numpy(AROUND_ZERO)
    tops = {"net": made(x), "fast": fcn_port.fast(made)(x), "source": made_from(spec)(x)}
    tops["onnx"] = torch.from_numpy(blobs_in_onnxruntime(onnx_of(made), {"x": x})["it"])
    for where, top in tops.items():
        assert top.flatten().tolist() == [np.inf, np.inf, 0.5, 0.25], where


@pytest.mark.oracle
def test_nor_is_it_in_caffe(oracle: Oracle) -> None:
    found = oracle.forward(MINUS_ZERO, inputs={"x": AROUND_ZERO}).blobs["it"]
    assert found.ravel().tolist() == [np.inf, np.inf, 0.5, 0.25]
