"""InnerProduct over very many inputs: as near to double precision as Caffe is, whatever PyTorch adds up in one go."""

from __future__ import annotations

import numpy as np
import pytest

from converters.layers.inner_product import LONG, InnerProduct
from parity_tests.without_torch import needs_torch

INPUTS = 750_000
"""Of an image of 3 x 500 x 500, which BVLC's examples/hdf5_classification is taken to have."""


@needs_torch
@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_a_long_sum_loses_little(bias: bool, transpose: bool) -> None:
    import torch

    lost = []
    for seed in range(3):
        random = np.random.default_rng(seed)
        x = random.standard_normal((1, 3, 500, 500), np.float32)
        weight = random.standard_normal((2, INPUTS), np.float32) * np.float32((2 / INPUTS) ** 0.5)
        shift = random.standard_normal(2, np.float32)
        blobs = [torch.from_numpy(np.ascontiguousarray(weight.T) if transpose else weight), torch.from_numpy(shift)]
        (top,) = InnerProduct(2, bias, 1, transpose).forward([torch.from_numpy(x)], blobs[: 1 + bias])
        exact = x.reshape(1, -1).astype(np.float64) @ weight.T.astype(np.float64) + bias * shift
        assert top.shape == exact.shape
        lost.append(np.abs(top.numpy() - exact).max() / np.abs(exact).max())
    assert max(lost) < 6e-6, lost  # 1e-5 and more in one go, with MKL; Caffe's 4e-7


@needs_torch
@pytest.mark.parametrize("inputs", [LONG, LONG + 1])
def test_a_sum_is_cut_without_losing_any(inputs: int) -> None:
    import torch

    x = torch.zeros(2, 3, inputs, dtype=torch.float64)
    x[..., 0], x[1, 2, -1] = 1, 10
    (top,) = InnerProduct(1, True, 2, False).forward([x], [torch.ones(1, inputs).double(), torch.ones(1).double()])
    assert top.flatten().tolist() == [2, 2, 2, 2, 2, 12]
