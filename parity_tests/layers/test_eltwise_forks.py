"""What forks added to Eltwise, worked in loops from jeffdonahue's and Synopsys' eltwise_layer.cpp."""

from __future__ import annotations

import numpy as np
import pytest

from converters import NetError
from parity_tests.layers.test_layers import make, run, values


@pytest.mark.parametrize("axes", [1, 2])
def test_coefficients_of_each_item(axes: int) -> None:
    """coeff_blob: term i of item j counts coeff(i) * factors[i * num + j] times, num being the items."""
    x, y = values("x", 2, 3, 4), values("y", 2, 3, 4)
    factors = values("f", 2, *x.shape[:axes])
    settings = "eltwise_param { operation: SUM coeff: 0.5 coeff: -2 coeff_blob: true }"
    num, memory = int(np.prod(x.shape[:axes])), factors.numpy().ravel()
    expected = np.zeros((num, x.numel() // num))
    for i, (term, c) in enumerate(((x, 0.5), (y, -2))):
        for j in range(num):
            expected[j] += c * memory[i * num + j] * term.numpy().reshape(num, -1)[j]
    top = run(make("Eltwise", settings, bottoms=3), x, y, factors)[0]
    np.testing.assert_allclose(top, expected.reshape(x.shape), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("operation", ["MIN", "4", "DIV", "3"])
def test_operations_of_synopsys(operation: str) -> None:
    x, y = values("x", 2, 3), values("y", 2, 3)
    found = run(make("Eltwise", f"eltwise_param {{ operation: {operation} }}", bottoms=2), x, y)[0]
    for place in np.ndindex(2, 3):
        a, b = x.numpy()[place], y.numpy()[place]
        assert found[place] == ((a if a < b else b) if operation in ("MIN", "4") else np.float32(a / b))


def test_one_bottom_counts_its_coefficient() -> None:
    x = values("x", 2, 3)
    assert np.array_equal(run(make("Eltwise", "eltwise_param { coeff: -2 }"), x)[0], -2 * x.numpy())
    assert np.array_equal(run(make("Eltwise", "eltwise_param { operation: MAX }"), x)[0], x.numpy())


@pytest.mark.parametrize(
    ("settings", "bottoms", "problem"),
    [
        ("operation: PROD coeff_blob: true", 3, "coeff_blob needs operation SUM"),
        ("coeff_blob: true", 1, "a bottom of coefficients after the others"),
        ("coeff_blob: true coeff: 1 coeff: 2 coeff: 3", 3, "3 coefficients for 2 bottoms"),
        ("operation: DIV", 3, "a division of 3 bottoms"),
        ("operation: 4 coeff: 1 coeff: 2", 2, "only a sum takes coefficients"),
    ],
)
def test_what_the_forks_refuse(settings: str, bottoms: int, problem: str) -> None:
    with pytest.raises(NetError, match=problem):
        make("Eltwise", f"eltwise_param {{ {settings} }}", bottoms=bottoms)


def test_coefficients_of_another_shape_are_refused() -> None:
    layer = make("Eltwise", "eltwise_param { coeff_blob: true }", bottoms=3)
    with pytest.raises(ValueError, match=r"coefficients of shape \(3, 2\)"):
        layer.top_shapes([(2, 5), (2, 5), (3, 2)])
