"""ColinearConvolution and MaskWeight against the loops of pl8787/exp_caffe."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from converters import NetError
from parity_tests.layers.test_layers import make, run, values


@pytest.mark.parametrize(("quadratic", "linear", "bias"), [(1, 1, 1), (1, 0, 1), (0, 1, 0)])
def test_colinear_convolution(quadratic: int, linear: int, bias: int) -> None:
    """colineconv_layer.cu, QuadraticActivation, then a product that is added to it, then the bias."""
    x = values("x", 1, 2, 5, 6)
    terms = f"quadratic_term: {bool(quadratic)} linear_term: {bool(linear)} bias_term: {bool(bias)}".lower()
    settings = f"num_output: 3 kernel_size: 3 pad: 1 stride: 2 {terms}"
    layer = make("ColinearConvolution", f"colinear_convolution_param {{ {settings} }}")
    blobs = [values(f"b{i}", *shape) for i, shape in enumerate(layer.blob_shapes([(1, 2, 5, 6)]))]
    padded = np.pad(x.numpy(), [(0, 0), (0, 0), (1, 1), (1, 1)])
    expected = np.zeros((1, 3, 3, 3))
    for m in range(3):
        for i in range(3):
            for j in range(3):
                window = padded[0, :, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].ravel()
                if quadratic:
                    expected[0, m, i, j] += window @ blobs[2].numpy()[0, m] @ window
                if linear:
                    expected[0, m, i, j] += window @ blobs[1].numpy()[m].ravel()
                expected[0, m, i, j] += float(blobs[0][m]) * bias
    np.testing.assert_allclose(run(layer, x, blobs=tuple(blobs))[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("field", ["factor: 2", "mask: 1", "symmetric: true", "group: 2"])
def test_what_is_not_supported_is_refused(field: str) -> None:
    with pytest.raises(NetError, match="is not supported"):
        make("ColinearConvolution", f"colinear_convolution_param {{ num_output: 2 kernel_size: 3 {field} }}")


@pytest.mark.parametrize("wider", [0, 2])
@pytest.mark.parametrize("need_bottom", ["true", "false"])
def test_mask_weight(wider: int, need_bottom: str) -> None:
    x, weight, mask = values("x", 1, 3, 6, 7), values("w", 1, 3, 6, 7), torch.ones(1, 1, 6, 7)
    mask[0, 0, 1, 1] = mask[0, 0, 4, 6] = 0
    expected = np.zeros((6, 7))
    for h in range(6):
        for w in range(7):
            near = mask[0, 0, max(h - wider, 0) : h + wider + 1, max(w - wider, 0) : w + wider + 1]
            if (near == 0).any():
                product = x * weight if need_bottom == "true" else weight
                expected[h, w] = float(product[0, :, h, w].sum())
    layer = make("MaskWeight", f"mask_weight_param {{ expand0: {wider} need_bottom: {need_bottom} }}", bottoms=2)
    np.testing.assert_allclose(run(layer, x, mask, blobs=(weight,))[0][0, 0], expected, rtol=1e-5, atol=1e-5)
