"""The last tile of a row or column of Winograd's filtering goes by as many points as its outputs need."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from converters import CaffeNet
from converters.formats import parse_prototxt
from fcn_port.fastpath.native import why_not
from fcn_port.fastpath.native.build import library
from fcn_port.fastpath.native.division import products_of, with_outputs
from fcn_port.fastpath.points import FORMS, WORTH_CHANNELS, matrices, short_tile, tile_by
from fcn_port.fastpath.program import FastNet
from parity_tests.fastpath.random_nets import filled
from parity_tests.tolerances import tolerance

WHOLE = {name: form for name, form in FORMS.items() if form.pieces == 1}
SHORT = sorted({(form.tile, form.taps, outputs) for form in WHOLE.values() for outputs in range(1, form.tile)})


@pytest.mark.parametrize(("tile", "taps", "outputs"), SHORT)
def test_some_of_the_points_filter(tile: int, taps: int, outputs: int) -> None:
    """One dimension against the sum that defines it, by the kernel's values for all points; another's is noticed."""
    way = short_tile(tile, taps, outputs)
    _, kernel, _ = matrices(tile, taps)
    generator = np.random.default_rng(outputs)
    g, d = generator.normal(size=taps), generator.normal(size=outputs + taps - 1)
    expected = [(d[i : i + taps] * g).sum() for i in range(outputs)]
    values = (kernel @ g)[list(way.points)]
    assert len(way.points) == outputs + taps - 1
    np.testing.assert_allclose(way.output @ (values * (way.data @ d)), expected, rtol=0, atol=1e-13)
    assert not np.allclose(way.output @ (np.roll(values, 1) * (way.data @ d)), expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize(("tile", "taps", "outputs"), SHORT)
def test_no_other_points_round_less(tile: int, taps: int, outputs: int) -> None:
    """By the factor by which the squares of a sum's rounding are enlarged, which POINTS are chosen by, too."""
    kernel = (matrices(tile, taps)[1] ** 2).sum(1)

    def rounding(points: tuple[int, ...]) -> float:
        way = tile_by(points, tile, taps)
        return float(((way.data**2).sum(1) * kernel[list(points)] * (way.output**2).sum(0)).sum())

    found = {points: rounding(points) for points in combinations(range(tile + taps - 1), outputs + taps - 1)}
    assert found[short_tile(tile, taps, outputs).points] == min(found.values())


@pytest.mark.skipif(why_not() is not None, reason="no C compiler")
@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("channels", [WORTH_CHANNELS - 16, WORTH_CHANNELS])
def test_every_remainder(name: str, dilation: int, channels: int) -> None:
    """All numbers of outputs that a last tile may have, down and along, with images behind each other in a block."""
    side = FORMS[name].side
    around = dilation * (side // 2)
    torch.manual_seed(dilation)
    for h, w in ((1, 1), (2, 7), (9, 3), (7, 13), (14, 10), (29, 6)):
        net = filled(CaffeNet(parse_prototxt(f"""
            layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ dim: [2, {channels}, {h}, {w}] }} }} }}
            layer {{ name: "y" type: "Convolution" bottom: "x" top: "y" convolution_param {{
                num_output: 40 kernel_size: {side} pad: {around} dilation: {dilation} }} }}
        """)))  # fmt: skip
        x = torch.randn(2, channels, h, w)
        quick = FastNet(net, prefer=name)
        quick(x)
        assert {task.kind for each in quick.program({"x": tuple(x.shape)}).planned for task in each.tasks or ()} == {
            name
        }
        weight, bias = (value.double() for value in net.state_dict().values())
        expected = F.conv2d(x.double(), weight, bias, padding=around, dilation=dilation)
        assert float((quick(x) - expected).abs().max() / expected.abs().max()) <= tolerance("winograd-layer"), (h, w)


@pytest.mark.skipif(why_not() is not None, reason="no C compiler")
@pytest.mark.parametrize("channels", [WORTH_CHANNELS - 16, WORTH_CHANNELS])
@pytest.mark.parametrize("outputs", [1, 2, 3])
def test_kernels_at_points_that_are_left_out_are_not_read(outputs: int, channels: int) -> None:
    """They are made NaN once they are packed: of few channels, which use all points, NaN comes out."""
    form = FORMS["winograd_3"]
    net = filled(CaffeNet(parse_prototxt(f"""
        layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ dim: [1, {channels}, 9, 9] }} }} }}
        layer {{ name: "y" type: "Convolution" bottom: "x" top: "y" convolution_param {{
            num_output: 32 kernel_size: 3 pad: 1 }} }}
    """)))  # fmt: skip
    quick, x = FastNet(net, prefer="winograd_3"), torch.randn(1, channels, outputs, outputs)
    expected = quick(x)
    (task,) = (task for each in quick.program({"x": tuple(x.shape)}).planned for task in each.tasks or ())
    n, kernels = form.points, task.weights.kernels
    assert kernels is not None
    at = kernels[: n * n * channels * 32].reshape(-1, n, n, channels, library().panel())  # as winograd.c packs them
    left_out = sorted({*range(n)} - {*short_tile(form.tile, form.taps, outputs).points})
    at[:, left_out], at[:, :, left_out] = np.nan, np.nan
    assert torch.equal(quick(x), expected) if channels >= WORTH_CHANNELS else quick(x).isnan().any()


def test_how_many_products_are_left_out() -> None:
    """Counted by hand: 29 outputs are seven tiles of four and one of one, 13 are three and one of one."""
    counted = {(29, 29): (7 * 6 + 3) ** 2, (13, 13): (3 * 6 + 3) ** 2, (8, 6): 12 * (6 + 4), (28, 28): 42**2}
    for size, products in counted.items():
        assert products_of("winograd_3", WORTH_CHANNELS, 1, size) == products
        assert products_of("winograd_3", WORTH_CHANNELS - 1, 2, size) == 2 * 36 * with_outputs("winograd_3", 1, size)
    assert products_of("winograd_3", 256, 1, (29, 29), (2, 2)) == (3 * 6 + 5 + 3 * 6 + 4) ** 2  # phases of 15 and 14
    assert products_of("winograd_7_pieces", 256, 1, (7, 7)) == 121 * with_outputs("winograd_7_pieces", 1, (7, 7))
