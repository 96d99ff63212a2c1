"""Activations of forks, against their formulas written down again, one number at a time."""

from __future__ import annotations

from collections.abc import Callable
from math import atan, exp, fabs, log, sin, tanh

import numpy as np
import pytest
import torch

from parity_tests.layers.test_layers import make, run, values

FORMULAS: dict[tuple[str, str], Callable[[float], float]] = {
    ("ReLU6", ""): lambda x: min(max(x, 0), 6),
    ("ReLU6", "relu_param { negative_slope: 0.25 }"): lambda x: min(max(x, 0), 6) + 0.25 * min(x, 0),
    ("ReLU3", ""): lambda x: min(max(x, 0), 3),
    ("ReLU1", ""): lambda x: min(max(x, 0), 1),
    ("ReLU", "relu_param { relu6: true }"): lambda x: min(max(x, 0), 6),
    ("ReLU", "relu_param { relu6: false }"): lambda x: max(x, 0),
    ("ReLU", "relu_param { maximum: 2 minimum: 0.5 }"): lambda x: max(min(max(x, 0), 2), 0.5),
    ("ReLU", "relu_param { negative_slope: 0.5 maximum: 2 }"): lambda x: min(max(x, 0) + 0.5 * min(x, 0), 2),
    ("HardSwish", ""): lambda x: x * min(max(x + 3, 0), 6) / 6,
    ("HardSigmoid", ""): lambda x: min(max(0.2 * x + 0.5, 0), 1),
    ("HardSigmoid", "hard_sigmoid_param { alpha: 0.5 beta: 0.25 }"): lambda x: min(max(0.5 * x + 0.25, 0), 1),
    ("HardTanH", ""): lambda x: min(max(x, -1), 1),
    ("Mish", ""): lambda x: x * tanh(log(1 + exp(x))),
    ("Atan", ""): atan,
    ("Sin", ""): sin,
    ("Softplus", ""): lambda x: log(exp(x) + 1),
    ("Softsign", ""): lambda x: x / (1 + fabs(x)),
    ("SeLU", ""): lambda x: 1.050700987 * (x if x > 0 else 1.67326324 * (exp(x) - 1)),
    ("ThresholdedReLU", ""): lambda x: x if x > 1 else 0,
}


@pytest.mark.parametrize(("kind", "settings"), FORMULAS)
def test_formula(kind: str, settings: str) -> None:
    x = values("activation", 2, 3, 7) * 4
    expected = [FORMULAS[kind, settings](value) for value in x.flatten().tolist()]
    np.testing.assert_allclose(run(make(kind, settings), x)[0].ravel(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1, 1)])
def test_axpy(shape: tuple) -> None:
    """SENet's axpy_layer.cpp: each channel of an item has its factor."""
    a, x, y = values("a", *shape), values("x", 2, 3, 4, 5), values("y", 2, 3, 4, 5)
    expected = y.numpy().copy()
    for n in range(2):
        for c in range(3):
            expected[n, c] += a.numpy().reshape(2, 3)[n, c] * x.numpy()[n, c]
    np.testing.assert_allclose(run(make("Axpy", bottoms=3), a, x, y)[0], expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="one number for each channel"):
        make("Axpy", bottoms=3).top_shapes([(2, 4), (2, 3, 4, 5), (2, 3, 4, 5)])


def test_a_depthwise_convolution_needs_no_group() -> None:
    x, weight = values("x", 1, 3, 5, 5), values("w", 3, 1, 3, 3)
    text = "convolution_param {{ num_output: 3 bias_term: false kernel_size: 3 {} }}"
    given = run(make("Convolution", text.format("group: 3")), x, blobs=(weight,))[0]
    for settings in ("", "group: 3"):
        assert np.array_equal(run(make("ConvolutionDepthwise", text.format(settings)), x, blobs=(weight,))[0], given)
    assert torch.equal(torch.tensor(given.shape), torch.tensor((1, 3, 3, 3)))
