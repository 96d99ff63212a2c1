"""Kernels of single steps in plain PyTorch, and the memory that passes lend: where a size is the exception."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from converters.layers.pooling import Pooling
from fcn_port.fastpath.flow import FlowLayer
from fcn_port.fastpath.graph import Step
from fcn_port.fastpath.kernels import HalvingPool, Pointwise, make_kernel
from fcn_port.fastpath.native.kept import KeptMemory
from fcn_port.fastpath.native.memory import empty
from parity_tests.fastpath.flows import convolution_step
from parity_tests.tolerances import tolerance

HALVING = Pooling(method="MAX", kernel=(2, 2), stride=(2, 2), pad=(0, 0), global_pooling=False, ceil=True)


@pytest.mark.parametrize(("stride", "pad"), [(1, 0), (2, 0), (1, 1), (2, 1)])
def test_a_wide_layer_with_few_positions_and_a_window_elsewhere(stride: int, pad: int) -> None:
    """A product of all positions is another thing where some are left out, or lie around the blob."""
    torch.manual_seed(stride)
    module = nn.Conv2d(1024, 1024, 1, stride, pad).requires_grad_(False)
    step, blobs = convolution_step("fc7", module)
    kernel = make_kernel(step, blobs)
    assert isinstance(kernel, Pointwise)
    x = torch.randn(1, 1024, 3, 4)
    torch.testing.assert_close(kernel(x), module(x), rtol=0, atol=tolerance("engines"))
    padded = nn.functional.conv2d(x, module.weight, module.bias, stride, 2)
    torch.testing.assert_close(kernel(x, padding=(2, 2)), padded, rtol=0, atol=tolerance("engines"))


@pytest.mark.parametrize(
    "params",
    [
        HALVING, replace(HALVING, ceil=False), replace(HALVING, pad=(1, 1)), replace(HALVING, pad=(0, 1)),
        replace(HALVING, kernel=(3, 3)), replace(HALVING, kernel=(3, 2), ceil=False), replace(HALVING, stride=(2, 1)),
    ],
    ids=str,
)  # fmt: skip
def test_maxima(params: Pooling) -> None:
    """Two rows and columns at a time where that is all there is to it; one row, or one column, is no two."""
    layer = FlowLayer("p", "layer 'p'", "Pooling", params, ("x",), ("p",))
    kernel = make_kernel(Step("p", layer, ("x",), "p"), ())
    assert isinstance(kernel, HalvingPool) == (params == HALVING)
    for h, w in ((6, 8), (7, 5), (1, 9), (9, 1), (1, 1), (3, 2)):
        x = torch.randn(2, 3, h, w, generator=torch.Generator().manual_seed(h))
        try:
            (expected,) = params.forward((x,), ())
        except RuntimeError:  # no window fits
            continue
        assert torch.equal(kernel(x), expected)


def test_maxima_of_a_part_that_has_its_padding() -> None:
    """A band of rows between others has no edge of the blob's own."""
    params = replace(HALVING, kernel=(3, 3), pad=(1, 1))
    layer = FlowLayer("p", "layer 'p'", "Pooling", params, ("x",), ("p",))
    x = torch.randn(1, 2, 7, 9, generator=torch.Generator().manual_seed(0))
    found = make_kernel(Step("p", layer, ("x",), "p"), ())(x, padding=(0, 0))
    assert torch.equal(found, nn.functional.max_pool2d(x, 3, 2, ceil_mode=True))


def test_lent_memory_is_the_smallest_that_does_and_what_is_passed_over_stays() -> None:
    memory = KeptMemory()
    for size in (300, 120, 100, 200, 99, 500):
        memory.give_back(empty(size))
    assert [memory.take(100).size for _ in range(4)] == [100, 120, 200, 300]
    assert sorted(each.size for each in memory._idle) == [99, 500]  # too small, and more than four times as large
    memory.give_back(empty(150))
    lent = memory.lend(100)
    assert lent.shape == (100,) and len(memory._idle) == 2
    part = lent[10:]
    del lent
    assert len(memory._idle) == 2 and part.size == 90
    del part
    assert sorted(each.size for each in memory._idle) == [99, 150, 500]
