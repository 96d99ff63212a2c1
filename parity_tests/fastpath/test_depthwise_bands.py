"""Depthwise layers go band by band where a line of a cache is more than a vector, so that it is fetched once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fcn_port.fastpath.native import division
from fcn_port.fastpath.program import FastNet, self_check
from parity_tests.fastpath.flows import net_of
from parity_tests.fastpath.test_any_net import run_blankly

pytestmark = pytest.mark.skipif(self_check.why_not_any() is not None, reason="no C compiler")


class Registers:
    def __init__(self, floats: int) -> None:
        self.floats = floats

    def lanes(self) -> int:
        return self.floats


@pytest.mark.parametrize(
    ("floats", "stride", "side", "is_cut"),
    [(8, 1, 112, True), (8, 2, 112, True), (4, 1, 112, True), (8, 1, 14, False), (16, 1, 112, False)],
)
def test_a_band_stays_in_the_first_cache(
    floats: int, stride: int, side: int, is_cut: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 32 KB; by one thread all rows were one band, and a shared cache was read once for each vector of a line."""
    monkeypatch.setattr(division, "library", lambda: Registers(floats))
    rows = side // stride
    found = division.divide_depthwise(
        kernel_h=3, stride_h=stride, in_w=side, channels=96, h=rows, images=1, threads=1
    )  # fmt: skip
    assert (found.block < rows) == is_cut
    assert not is_cut or 64 * side * stride * (found.block - 2) <= 32 << 10


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("stride", [1, 2])
def test_bands_change_no_bit(stride: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = f"convolution_param {{ num_output: 40 group: 40 kernel_size: 3 stride: {stride} pad: 1 }}"
    net = net_of(f"Convolution conv: data -> conv | {settings}", shape=(2, 40, 33, 31))
    x, before = torch.randn(2, 40, 33, 31), torch.get_num_threads()
    found = []
    try:
        torch.set_num_threads(threads)
        for band in (32 << 10, 1):
            monkeypatch.setattr(division, "DEPTHWISE_BAND", band)
            found.append(run_blankly(FastNet(net), {"data": x})["conv"].numpy())
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(found[0], found[1])
