"""DeepLab's names for the dilation: hole, or hole_h and hole_w."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from converters import CaffeNet
from converters.formats import parse_prototxt
from fcn_port import fast
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


@pytest.mark.parametrize("height", [2, 3])
def test_a_blob_smaller_than_the_hole_may_lie_between_the_places_of_a_window(height: int) -> None:
    """-FLT_MAX and place -1 then (naibaf7/caffe, pooling_layer.cpp, MaxPoolForwardND), in `fast`, too."""
    net = CaffeNet(
        parse_prototxt(
            f'input: "data" input_dim: [1, 2, {height}, 5] layer {{ name: "p" type: "Pooling" bottom: "data" top: "p"'
            ' top: "places" pooling_param { kernel_size: 2 pad: 1 hole_h: 3 } }'
        )
    )
    x = values("x", 1, 2, height, 5)
    padded = torch.nn.functional.pad(x, (1, 1, 1, 3), value=torch.finfo(x.dtype).min)
    windows = padded.unfold(2, 4, 1)[..., ::3].unfold(3, 2, 1).flatten(4)[:, :, : height - 1]
    for made in (net, fast(net)):
        with torch.no_grad():
            found = made(x)
        np.testing.assert_array_equal(found["p"], windows.amax(4))
        np.testing.assert_array_equal(found["places"] == -1, windows.amax(4) == torch.finfo(x.dtype).min)
    assert bool((found["places"] == -1).any()) is (height < 3)
