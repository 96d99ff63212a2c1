"""DeepLab's names for the dilation: hole, or hole_h and hole_w."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from parity_tests.layers.test_layers import make, run, values


@pytest.mark.parametrize(
    "settings", ["dilation: 4", "hole: 4", "hole_h: 4 hole_w: 4"], ids=["dilation", "hole", "hole_h and hole_w"]
)
def test_holes_are_dilation(settings: str) -> None:
    layer = make("Convolution", f"convolution_param {{ num_output: 2 kernel_size: 3 bias_term: false {settings} }}")
    x, weight = values("x", 1, 3, 12, 11), values("w", 2, 3, 3, 3)
    (top,) = run(layer, x, blobs=(weight,))
    expected = sum(
        torch.einsum("oi,nihw->nohw", weight[:, :, i, j], x[:, :, 4 * i : 4 * i + 4, 4 * j : 4 * j + 3])
        for i in range(3)
        for j in range(3)
    )
    np.testing.assert_allclose(top, expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("hole", ["hole_h", "hole_w"])
@pytest.mark.parametrize(("kind", "param"), [("Convolution", "num_output: 2"), ("Pooling", "")])
def test_a_hole_along_one_axis_leaves_the_other_as_it_is(kind: str, param: str, hole: str) -> None:
    layer = make(kind, f"{kind.lower()}_param {{ {param} kernel_size: 3 {hole}: 2 }}")
    assert layer.top_shapes([(1, 2, 9, 9)])[0][2:] == ((5, 7) if hole == "hole_h" else (7, 5))
