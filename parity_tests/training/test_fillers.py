"""Fillers: the spread, the ends and the zeros of what they give, beside what real Caffe's give."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from google.protobuf import text_format

from converters.schema import FillerParameter
from fcn_port.training.fillers import fill
from parity_tests.oracle.client import Oracle

INPUTS, OUTPUTS = 600, 40
FILLERS = {
    'type: "gaussian" std: 0.5 mean: 0.25': (0.25, 0.5, 1),
    'type: "gaussian" std: 2 sparse: 10': (0, 2 * (10 / OUTPUTS) ** 0.5, 10 / OUTPUTS),
    'type: "gaussian" sparse: 0': (0, 0, 0),
    'type: "uniform" min: -1 max: 3': (1, 4 / 12**0.5, 1),
    'type: "xavier"': (0, INPUTS**-0.5, 1),
    'type: "xavier" variance_norm: FAN_OUT': (0, OUTPUTS**-0.5, 1),
    'type: "msra"': (0, (2 / INPUTS) ** 0.5, 1),
    'type: "positive_unitball"': (1 / INPUTS, 1 / INPUTS / 3**0.5, 1),
    'type: "constant" value: 0.75': (0.75, 0, 1),
}
"""Mean, spread and the share that is not 0 of a matrix (OUTPUTS, INPUTS), by the formulas of filler.hpp."""


def looked_at(matrix: np.ndarray) -> tuple[float, float, float]:
    values = matrix.astype(np.float64)
    return float(values.mean()), float(values.std()), np.count_nonzero(values) / values.size


def assert_near(matrix: np.ndarray, text: str) -> None:
    mean, spread, share = FILLERS[text]
    found = looked_at(matrix)
    assert abs(found[0] - mean) <= 5 * spread / matrix.size**0.5 + 1e-6
    assert found[1] == pytest.approx(spread, rel=0.03, abs=1e-6)
    assert found[2] == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("text", FILLERS)
def test_values_are_spread_as_said(text: str) -> None:
    filler = text_format.Parse(text, FillerParameter())
    assert_near(fill(filler, (OUTPUTS, INPUTS), torch.Generator().manual_seed(1)).numpy(), text)


@pytest.mark.oracle
@pytest.mark.parametrize("text", FILLERS)
def test_caffe_s_are_spread_alike(oracle: Oracle, text: str) -> None:
    """An InnerProduct of the unit matrix gives its weights."""
    net = f"""input: "x" input_shape {{ dim: {INPUTS} dim: {INPUTS} }}
        layer {{ name: "it" type: "InnerProduct" bottom: "x" top: "it"
                 inner_product_param {{ num_output: {OUTPUTS} weight_filler {{ {text} }} }} }}"""
    assert_near(oracle.forward(net, inputs={"x": np.eye(INPUTS, dtype=np.float32)}).blobs["it"].T, text)
