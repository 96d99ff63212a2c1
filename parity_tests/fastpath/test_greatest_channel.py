"""`fast` of ArgMax over channels, as segmentation nets end in: labels, or the greatest values."""

from __future__ import annotations

from math import inf, nan

import pytest
import torch

from fcn_port.fastpath.native import why_not
from fcn_port.fastpath.program import FastNet
from parity_tests.fastpath.flows import net_of

pytestmark = pytest.mark.skipif(why_not() is not None, reason="no C compiler")


@pytest.mark.parametrize("values", ["false", "true"])
@pytest.mark.parametrize("channels", [1, 2, 15, 16, 17, 21, 40])
def test_the_greatest_channel(channels: int, values: str) -> None:
    """Of equal ones the last (argmax_layer.cpp sorts pairs), wherever they lie, and of what is no number."""
    net = net_of(f"ArgMax y: data -> y | argmax_param {{ axis: -3 out_max_val: {values} }}", shape=(1, channels, 5, 7))
    generator = torch.Generator().manual_seed(channels)
    x = torch.randint(-3, 3, (2, channels, 5, 7), generator=generator).float()
    x[1, :, :2] = -inf
    x[0, :, 1:3, 1:3] = torch.tensor([0.0, -0.0])
    x[0, channels // 2, 2, 3] = inf
    x[1, channels // 3, 4, 2:] = nan
    x[1, -1, 4, 3:] = nan
    plan = FastNet(net)
    assert "the greatest channel" in plan.explain((5, 7)) and "PyTorch: " not in plan.explain((5, 7))
    assert torch.equal(plan(x).nan_to_num(99), net(x).nan_to_num(99))
