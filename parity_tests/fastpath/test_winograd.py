"""Winograd's convolutions are convolutions, and round little."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fcn_port.fastpath import points, winograd
from fcn_port.fastpath.kernels import make_kernel
from fcn_port.fastpath.points import FORMS, TILES, matrices
from fcn_port.fastpath.winograd import WinogradConvolution, is_worth_it
from parity_tests.fastpath.flows import convolution_step
from parity_tests.tolerances import tolerance


def layer(channels: int, features: int, side: int, *, bias: bool = True) -> nn.Conv2d:
    torch.manual_seed(channels + features)
    module = nn.Conv2d(channels, features, side, bias=bias)
    nn.init.kaiming_normal_(module.weight)
    return module.requires_grad_(False)


@pytest.mark.parametrize(("side", "tile"), TILES.items())
def test_the_matrices_filter(side: int, tile: int) -> None:
    """One dimension, one tile, against the sum that defines it."""
    output, kernel, data = map(torch.from_numpy, matrices(tile, side))
    generator = torch.Generator().manual_seed(side)
    g, d = (torch.randn(n, generator=generator, dtype=torch.float64) for n in (side, tile + side - 1))
    expected = torch.stack([(d[i : i + side] * g).sum() for i in range(tile)])
    torch.testing.assert_close(output @ ((kernel @ g) * (data @ d)), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", FORMS)
def test_the_pieces_of_a_kernel(name: str) -> None:
    """One dimension, a few tiles: each window is evaluated once, for the pieces of all tiles that read it."""
    form = FORMS[name]
    output, kernel, data = map(torch.from_numpy, matrices(form.tile, form.taps))
    generator, tiles = torch.Generator().manual_seed(form.side), 3
    windows = tiles + form.pieces - 1
    length = (windows - 1) * form.tile + form.points
    g, d = (torch.randn(n, generator=generator, dtype=torch.float64) for n in (form.side, length))
    values = [data @ d[i * form.tile : i * form.tile + form.points] for i in range(windows)]
    starts = [i * form.tile for i in range(form.pieces)]
    cut = [g[start : start + (form.taps if start == starts[-1] else form.tile)] for start in starts]
    at_points = [kernel[:, : len(piece)] @ piece for piece in cut]
    assert sum(int((each != 0).sum()) for each in at_points) ** 2 == form.products
    sums = [sum(values[tile + i] * at_points[i] for i in range(form.pieces)) for tile in range(tiles)]
    found = torch.cat([output @ each for each in sums])
    expected = torch.stack([(d[i : i + form.side] * g).sum() for i in range(tiles * form.tile)])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("count", points.POINTS)
def test_points_come_in_pairs(count: int) -> None:
    """The C code computes what is even and what is odd of a and -a once for both; float32 holds every entry of B^T."""
    first, *others = points.POINTS[count]
    assert first == 0 and all(a == -b for a, b in zip(others[::2], others[1::2], strict=True))
    for tile, side in ((count - side + 1, side) for side in TILES if side < count):
        output, _, data = matrices(tile, side)
        assert all(np.array_equal(matrix.astype(np.float32), matrix) for matrix in (output, data))


@pytest.mark.parametrize("side", TILES)
@pytest.mark.parametrize(("h", "w", "pad"), [(9, 9, 0), (13, 22, 0), (8, 31, 1), (7, 7, 3)])
@pytest.mark.parametrize("bias", [True, False])
def test_any_size_padding_and_batch(side: int, h: int, w: int, pad: int, bias: bool) -> None:
    """In double precision it is the convolution; chunks of one row of tiles each."""
    module = layer(24, 40, side, bias=bias).double()
    x = torch.randn(2, 24, h, w, dtype=torch.float64)
    expected = F.conv2d(x, module.weight, module.bias, padding=pad).relu()
    for chunk in (1, 1 << 30):
        winograd.CHUNK_BYTES, before = chunk, winograd.CHUNK_BYTES
        try:
            found = WinogradConvolution(module, relu=True)(x, padding=(pad, pad))
        finally:
            winograd.CHUNK_BYTES = before
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize(("channels", "features", "side", "size"), [(256, 256, 3, 20), (128, 128, 7, 16)])
def test_rounding(channels: int, features: int, side: int, size: int) -> None:
    module = layer(channels, features, side)
    x = torch.randn(1, channels, size, size).relu()
    expected = F.conv2d(x.double(), module.weight.double(), module.bias.double())
    found = WinogradConvolution(module, relu=False)(x)
    assert float((found - expected).abs().max() / expected.abs().max()) <= tolerance("winograd-layer")


def test_the_usual_points_would_round_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """0, 1, -1, 2, -2, as in most implementations: the test of rounding is not a formality."""
    module = layer(256, 256, 3)
    x = torch.randn(1, 256, 20, 20).relu()
    expected = F.conv2d(x.double(), module.weight.double(), module.bias.double())

    def error() -> float:
        found = WinogradConvolution(module, relu=False)(x)
        return float((found - expected).abs().max() / expected.abs().max())

    ours = error()
    monkeypatch.setitem(points.POINTS, 6, tuple(map(Fraction, (0, 1, -1, 2, -2))))
    matrices.cache_clear()
    try:
        assert error() > 1.5 * ours
    finally:
        matrices.cache_clear()


def test_where_it_is_used() -> None:
    with torch.device("meta"):
        assert is_worth_it(nn.Conv2d(64, 128, 3)) and is_worth_it(nn.Conv2d(512, 4096, 7))
        for other in (nn.Conv2d(64, 64, 3), nn.Conv2d(512, 512, 1), nn.Conv2d(256, 256, 3, stride=2),
                      nn.Conv2d(256, 256, 3, groups=2), nn.Conv2d(256, 256, 3, dilation=2)):  # fmt: skip
            assert not is_worth_it(other)
    step, blobs = convolution_step("conv4_1", layer(64, 128, 3), relu=True)
    assert isinstance(make_kernel(step, blobs, choice="torch"), WinogradConvolution)
    assert not isinstance(make_kernel(step, blobs), WinogradConvolution)
