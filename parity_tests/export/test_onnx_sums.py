"""Sums over whole maps in ONNX: onnxruntime adds up in one row, and what each sum drops must not add up, too."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from converters import CaffeNet, parse_prototxt
from converters.export import build_onnx
from fcn_port.exporting import with_random_weights
from parity_tests.export.onnx_models import arrays_of, blobs_in_onnxruntime, blobs_of

LAYERS = {
    "mvn": 'type: "MVN" mvn_param { across_channels: true }',
    "mvn of a channel": 'type: "MVN"',
    "normalize": 'type: "Normalize" norm_param { across_spatial: true channel_shared: true }',
    "sum of squares": 'type: "Reduction" reduction_param { axis: 1 operation: SUMSQ }',
    "mean": 'type: "Reduction" reduction_param { axis: 0 operation: MEAN }',
    "sum of magnitudes": 'type: "Reduction" reduction_param { axis: 2 operation: ASUM }',
}


@pytest.mark.parametrize("case", LAYERS)
def test_a_sum_over_a_map_of_numbers_that_are_alike_is_exact(case: str) -> None:
    """As behind a TanH: 18,000 numbers near 1 were off by 2e-5, and the export was said to be wrong."""
    net = with_random_weights(
        CaffeNet(
            parse_prototxt(f"""input: "data" input_shape {{ dim: 1 dim: 3 dim: 200 dim: 300 }}
            layer {{ name: "it" bottom: "data" top: "it" {LAYERS[case]} }}""")
        ).eval()
    )
    signs = np.random.default_rng(0).choice([-0.9918, 0.9917] if case != "mean" else [0.9918], (1, 3, 200, 300))
    x = {"data": torch.from_numpy(signs.astype(np.float32))}
    found = blobs_in_onnxruntime(build_onnx(net.spec, arrays_of(net)), x)["it"]
    exact = blobs_of(net.double(), {"data": x["data"].double()})["it"]
    np.testing.assert_allclose(found, exact, rtol=2e-6, atol=0)
