"""Activations and Eltwise of what few nets give them: numbers far below 0, zeros with a sign, infinity and NaN."""

from __future__ import annotations

from math import inf, nan

import pytest
import torch

from converters import CaffeNet
from fcn_port.fastpath.native import why_not
from fcn_port.fastpath.program import FastNet
from parity_tests.fastpath.flows import net_of
from parity_tests.fastpath.test_any_net import run_blankly
from parity_tests.tolerances import tolerance

pytestmark = pytest.mark.skipif(why_not() is not None, reason="no C compiler")

SMALLEST = 1.4e-45
"""The distance of two floats below 1.2e-38."""


def found(net: CaffeNet, *rows: list[float]) -> torch.Tensor:
    """The last output for channels of these numbers side by side."""
    x = torch.tensor(rows)[None, :, None, :]
    return list(run_blankly(FastNet(net), {"data": x}).values())[-1]


def of(channels: int, *layers: str) -> CaffeNet:
    return net_of(*layers, shape=(1, channels, 1, 3))


@pytest.mark.parametrize("channels", [2, 19, 70])
def test_the_logarithm_of_small_shares(channels: int) -> None:
    """Caffe says -88, -95, -103.27893 (the smallest float) and -inf; -87 was the least that there was."""
    net = of(channels, "Softmax s: data -> s", "Log l: s -> l")
    rows = [[0.0] * 6, *[[0.0, -20.0, -88.0, -95.0, -103.0, -110.0]] * (channels - 1)]
    result = found(net, *rows)[0, 1, 0]
    exact = torch.log_softmax(torch.tensor(rows).double(), 0)[1]
    assert ((result - exact).abs() <= tolerance("fast-net") + SMALLEST / exact.exp())[:-1].all()
    assert result[-1] == -inf


@pytest.mark.parametrize("layer", ["Sigmoid", "Swish"])
def test_nothing_is_left_far_below_zero(layer: str) -> None:
    """Swish of -1e38 was -1.6, as the sigmoid ended at e^-87; of -inf it is 0 times that, no number."""
    result = found(of(1, f"{layer} a: data -> a"), [-200.0, -1e38, -inf, nan]).flatten()
    assert result[:2].tolist() == [0, 0] and result[3].isnan()
    assert result[2].isnan() if layer == "Swish" else result[2] == 0


@pytest.mark.parametrize(("layer", "signs"), [("AbsVal", [False, False]), ("TanH", [False, True])])
def test_the_sign_of_zero(layer: str, signs: list[bool]) -> None:
    """Which a division shows: 1 / |-0| is inf."""
    result = found(of(1, f"{layer} a: data -> a"), [0.0, -0.0]).flatten()
    assert result.tolist() == [0, 0] and result.signbit().tolist() == signs


def test_the_maximum_of_no_number() -> None:
    """Caffe's Eltwise keeps what is greater than what it has, else that, and of the first two the second (recorded)."""
    slices = "Slice s: data -> a b c", "Eltwise m: a b c -> m | eltwise_param { operation: MAX }"
    rows = [nan, 1.0, -0.0, 5.0, nan], [1.0, nan, 0.0, 2.0, nan], [0.5, 7.0, -1.0, nan, 3.0]
    result = found(of(3, *slices), *map(list, rows)).flatten()
    assert torch.equal(result.nan_to_num(99), torch.tensor([1.0, 99.0, 0.0, 5.0, 99.0]))
    assert not result[2].signbit()
