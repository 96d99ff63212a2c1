"""NormFace's InnerProduct and Normalize, worked in loops from happynear/caffe-windows (branch ms)."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest

from converters import NetError
from parity_tests.layers.test_layers import make, run, values

EPS = 1e-6


def test_rows_of_the_weight_have_length_one() -> None:
    """inner_product_layer.cpp, Forward_cpu: each row is divided by sqrt(row . row + 1e-6) first."""
    x, weight, bias = values("x", 2, 3, 2, 2), 0.001 * values("w", 4, 12), values("b", 4)
    layer = make("InnerProduct", "inner_product_param { num_output: 4 normalize: true }")
    expected = np.zeros((2, 4))
    for i in range(2):
        for o in range(4):
            row = weight[o].double().numpy()
            expected[i, o] = x[i].flatten().double().numpy() @ row / sqrt(row @ row + EPS) + float(bias[o])
    np.testing.assert_allclose(run(layer, x, blobs=(weight, bias))[0], expected, rtol=1e-5, atol=1e-6)
    without_eps = weight / weight.norm(dim=1, keepdim=True)  # the wrong variant, which small weights tell
    assert np.abs((x.flatten(1) @ without_eps.T + bias).numpy() - expected).max() > 0.01


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_weights_that_are_a_bottom(transpose: bool, bias: bool) -> None:
    """The memory of the second bottom is the weight: N rows of K numbers, or with transpose K rows of N."""
    x, weight, offset = values("x", 2, 5, 3), values("w", 4, 3), values("b", 4)
    settings = f"inner_product_param {{ axis: 2 transpose: {str(transpose).lower()} bias_term: {str(bias).lower()} }}"
    layer = make("InnerProduct", settings, bottoms=3 if bias else 2)
    memory = weight.numpy().ravel()
    expected = np.zeros((2, 5, 4))
    for i in range(2):
        for j in range(5):
            for n in range(4):
                terms = (x[i, j, k] * memory[k * 4 + n if transpose else n * 3 + k] for k in range(3))
                expected[i, j, n] = sum(terms) + (offset[n] if bias else 0)
    bottoms = (x, weight, offset) if bias else (x, weight)
    np.testing.assert_allclose(run(layer, *bottoms)[0], expected, rtol=1e-5, atol=1e-6)


def test_a_bias_without_its_bottom_is_refused() -> None:
    """There Forward_cpu reads blobs_[1] of one blob."""
    with pytest.raises(NetError, match="bias_term is true with 2 bottoms"):
        make("InnerProduct", "inner_product_param { num_output: 4 }", bottoms=2)
    with pytest.raises(NetError, match="rows of the wrong axis"):
        make("InnerProduct", "inner_product_param { num_output: 4 normalize: true transpose: true }")


@pytest.mark.parametrize("kind", ["L1", "L2"])
@pytest.mark.parametrize("shape", [(2, 3, 2, 4), (2, 3)])
def test_channels_of_norm_one(kind: str, shape: tuple[int, ...]) -> None:
    """normalize_layer.cpp, Forward_cpu; the second top is the norm of each place."""
    x = 0.003 * values("x", *shape)
    layer = make("Normalize", f'normalize_param {{ normalize_type: "{kind}" bp_norm: true }}', tops=2)
    image = x.numpy().reshape(*shape, *[1] * (4 - len(shape))).astype(np.float64)
    expected, norms = np.zeros(image.shape), np.zeros((image.shape[0], 1, *image.shape[2:]))
    for n, h, w in np.ndindex(image.shape[0], *image.shape[2:]):
        column = image[n, :, h, w]
        norm = abs(column).sum() + EPS if kind == "L1" else sqrt((column**2).sum() + EPS)
        expected[n, :, h, w], norms[n, 0, h, w] = column / norm, norm
    top, norm_top = run(layer, x)
    np.testing.assert_allclose(top, expected, rtol=1e-5)
    np.testing.assert_allclose(norm_top, norms, rtol=1e-5)


def test_a_kind_of_norm_that_nobody_knows_is_refused() -> None:
    with pytest.raises(NetError, match="normalize_type is L3"):
        make("Normalize", 'normalize_param { normalize_type: "L3" }')
