"""Products by the tiles of Intel's AMX: floats as sums of three bfloat16 numbers, as exact as floats are."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import pytest
import torch

from converters import CaffeNet
from converters.formats import parse_prototxt
from fcn_port.fastpath.native import build, division, why_not
from fcn_port.fastpath.native.division import divide_amx
from fcn_port.fastpath.program import FastNet, self_check
from fcn_port.fastpath.program.choice import KernelChoice
from fcn_port.fastpath.program.convolutions import _able, _cycles
from fcn_port.fastpath.program.places import BlobPlace
from parity_tests.fastpath.native_cases import AVX512
from parity_tests.fastpath.random_nets import filled
from parity_tests.fastpath.test_any_net import in_double
from parity_tests.fastpath.test_kernels import BOTH, RELU, SUM, check, net_of

HAS_TILES = why_not() is None and build.library().has_tiles()
needs_tiles = pytest.mark.skipif(not HAS_TILES, reason="a processor without AMX")
LEAKY = 'layer { name: "r" type: "ReLU" bottom: "y" top: "y" relu_param { negative_slope: 0.1 } }'


def image(channels: int, *size: int, count: int = 2) -> torch.Tensor:
    return torch.randn(count, channels, *size, generator=torch.Generator().manual_seed(channels))


@needs_tiles
@pytest.mark.parametrize("behind", ["", RELU, BOTH, LEAKY], ids=["", "relu", "both", "leaky"])
@pytest.mark.parametrize(
    ("channels", "settings", "size"),
    [
        (64, "num_output: 128 kernel_size: 1", (8, 8)),
        (300, "num_output: 37 kernel_size: 1 bias_term: false", (13, 7)),
        (130, "num_output: 300 kernel_size: 1 stride: 2", (13, 7)),
        (17, "num_output: 5 kernel_size: 1", (1, 9)),
        (40, "num_output: 250 kernel_size: 1 group: 2 stride_h: 1 stride_w: 3", (19, 21)),
        (520, "num_output: 820 kernel_size: 1", (1, 1)),
        (64, "num_output: 160 kernel_size: 1 stride: 2 pad: 1", (9, 8)),
        (3, "num_output: 64 kernel_size: 7 pad: 3 stride: 2", (40, 33)),
        (20, "num_output: 70 kernel_h: 3 kernel_w: 2 pad: 2 stride_h: 1 stride_w: 2 dilation: 2", (12, 9)),
        (33, "num_output: 40 kernel_size: 1", (40, 41)),
    ],
)
def test_sums(channels: int, settings: str, size: tuple[int, int], behind: str) -> None:
    check(net_of(channels, settings, behind), image(channels, *size), "amx", "by AMX")


@needs_tiles
@pytest.mark.parametrize("pads", ["pad_b: 1", "pad_r: 2", "pad_b: 1 pad_r: 3 stride: 2"])
def test_padding_behind_the_blob(pads: str) -> None:
    """A window of one place may lie in it, and there is none before the blob that would tell."""
    check(net_of(64, f"num_output: 64 kernel_size: 1 {pads}", RELU), image(64, 6, 7), "amx", "by AMX")


@needs_tiles
@pytest.mark.parametrize(("channels", "most"), [(32, 0.8), (256, 1), (1024, 1.8), (2048, 2.4), (4096, 3)])
def test_rounds_as_little_as_floats(channels: int, most: float) -> None:
    """By root mean square; without any one of the six products of parts it would be off ten times as much.

    The plain net's own error depends on its threads.
    """
    net, x = net_of(channels, "num_output: 64 kernel_size: 1", ""), image(channels, 12, 12).relu()
    exact = in_double(net, {"x": x})["y"]
    ways = (FastNet(net, prefer=name) for name in ("amx", "product"))
    found, plain = ((each(x).double() - exact).square().mean().sqrt() for each in ways)
    assert found <= most * plain


@needs_tiles
def test_small_and_large_numbers() -> None:
    """Each row by itself, from 1e-30 to 1e30: what is lost is a share of the row's own numbers."""
    net, x = net_of(96, "num_output: 64 kernel_size: 1 bias_term: false", ""), image(96, 1, 61, count=1)
    x *= 10.0 ** torch.arange(-30, 31)
    found, exact = FastNet(net, prefer="amx")(x).double(), in_double(net, {"x": x})["y"]
    assert ((found - exact).abs().amax(1) <= 1e-6 * exact.abs().amax(1)).all()


@needs_tiles
@pytest.mark.parametrize("channels", [5, 16, 20, 48, 70])
def test_what_lies_behind_a_row(channels: int) -> None:
    """Other channels, or memory that nobody wrote: whole vectors of it are read, and nothing comes of it."""
    net = filled(CaffeNet(parse_prototxt(f"""
        layer {{ name: "i" type: "Input" top: "i" input_param {{ shape {{ dim: [1, {channels + 30}, 6, 7] }} }} }}
        layer {{ name: "a" type: "ReLU" bottom: "i" top: "a" }}
        layer {{ name: "s" type: "Slice" bottom: "a" top: "x" top: "z" slice_param {{ slice_point: {channels} }} }}
        layer {{ name: "y" type: "Convolution" bottom: "x" top: "y"
            convolution_param {{ num_output: 70 kernel_size: 1 }} }}""")))  # fmt: skip
    x, found = image(channels + 30, 6, 7), []
    for behind in (0, torch.inf, torch.nan):
        x[:, channels:] = behind
        found.append(FastNet(net, prefer="amx")(x)["y"])
    assert all(torch.equal(each, found[0]) for each in found)


@needs_tiles
def test_numbers_too_small_for_tiles() -> None:
    """What tiles take for 0 is below 2^-126 each time, and the outputs of other rows have all of their digits."""
    net, x = net_of(96, "num_output: 64 kernel_size: 1 bias_term: false", ""), image(96, 1, 61, count=1)
    x[..., 1::2] *= 10.0 ** -torch.arange(31, 61)
    found, exact = FastNet(net, prefer="amx")(x).double(), in_double(net, {"x": x})["y"]
    assert ((found - exact).abs().amax(1) <= 1e-6 * exact.abs().amax(1) + 96 * 6 * 2**-126).all()


@needs_tiles
@pytest.mark.parametrize(("channels", "features", "size"), [(96, 600, (5, 9)), (64, 40, (31, 33)), (520, 64, (7, 7))])
def test_threads_and_images_have_the_same_bits(channels: int, features: int, size: tuple[int, int]) -> None:
    net = net_of(channels, f"num_output: {features} kernel_size: 1", RELU)
    x, before, found = image(channels, *size, count=3), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 5):
            torch.set_num_threads(threads)
            found.append(FastNet(net, prefer="amx")(x))
            found.append(torch.cat([FastNet(net, prefer="amx")(each[None]) for each in x]))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(each, found[0]) for each in found)


@needs_tiles
@pytest.mark.parametrize("odd", [torch.inf, -torch.inf, torch.nan, 3.4e38, -2e38])
@pytest.mark.parametrize(("number", "behind"), [(11, ""), (5, SUM), (27, ""), (199, SUM)])
def test_what_is_not_finite_or_nearly(odd: float, number: int, behind: str) -> None:
    """It makes of its own outputs what it makes of the plain net's, in the weights and in the image; also as the later
    one of two numbers that are taken apart together, and as the last."""
    net, x = net_of(200, "num_output: 70 kernel_size: 1", behind), image(200, 4, 5)
    state = {key: value.clone() for key, value in net.state_dict().items()}
    weight = state["y.weight"][7, number].clone()
    state["y.weight"][7, number] = odd
    net.load_state_dict(state)
    check_what_is_finite(net, x)
    state["y.weight"][7, number] = weight
    net.load_state_dict(state)
    x[0, number, 2, 2] = odd
    check_what_is_finite(net, x)


def check_what_is_finite(net: CaffeNet, x: torch.Tensor) -> None:
    found, plain = FastNet(net, prefer="amx")(x), net(x)
    is_finite = plain.isfinite()
    assert torch.equal(found.isfinite(), is_finite) and torch.equal(found.isnan(), plain.isnan())
    assert torch.allclose(found[is_finite], plain[is_finite], rtol=1e-5, atol=1e-5)


def blob(channels: int, side: int) -> BlobPlace:
    size = (1, channels, side, side)
    return BlobPlace(0, 0, size, (channels * side * side, 1, side * channels, channels))


@pytest.mark.parametrize(
    ("channels", "features", "side", "is_quicker"),
    [
        (1024, 256, 29, True), (512, 2048, 29, True), (2048, 512, 60, True),
        (2048, 512, 7, False), (64, 64, 14, False), (256, 256, 14, False),
    ],
)  # fmt: skip
def test_where_it_pays(channels: int, features: int, side: int, is_quicker: bool) -> None:
    """For many positions, as its kernels are half as large again, and where a processor has tiles."""
    kernel, x, y = KernelChoice("product"), blob(channels, side), blob(features, side)
    for has_tiles in (True, False):
        with patch.object(build, "library", lambda has_tiles=has_tiles: _with(has_tiles)), \
                patch.object(division, "library", lambda has_tiles=has_tiles: _with(has_tiles)):  # fmt: skip
            able = _able(kernel, x, y, channels, own=channels)
            assert ("amx" in able) == has_tiles
            cycles = {name: _cycles(name, kernel, channels, features, y, 0.5) for name in able}
            assert (min(cycles, key=cycles.__getitem__) == "amx") == (is_quicker and has_tiles)


def _with(has_tiles: bool) -> object:
    return AVX512 if has_tiles else type(AVX512)(32, 12, 16)


@pytest.mark.parametrize(
    ("length", "positions", "features", "threads"),
    [
        (1024, 841, 256, 1), (1024, 841, 256, 2), (2048, 49, 512, 2), (64, 3136, 256, 3), (512, 841, 2048, 2),
        (3, 1, 1, 4),
    ],
)  # fmt: skip
def test_pieces_are_shares(length: int, positions: int, features: int, threads: int) -> None:
    """Threads have about the same of them, which fit into a cache of their own, and few rows go with few panels."""
    with patch.object(division, "library", lambda: AVX512):
        cut = divide_amx(length=length, positions=positions, features=features, threads=threads, is_gathered=False)
    pieces = -(-positions // cut.block) * -(-features // (32 * cut.group))
    assert cut.block % 16 == 0 and 4 * cut.scratch <= 3 << 20
    assert pieces >= threads or positions <= 16 or features <= 32
    assert threads == 1 or pieces % threads == 0 or pieces >= 2 * threads or positions <= 16


def test_a_trial_without_tiles_is_none_for_processes_that_have_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system may deny them to one process, which marked the library as tried for all."""
    tried: list[bool] = []
    monkeypatch.setattr(build, "cache_folder", lambda: tmp_path)
    try:
        for has_tiles in (False, False, True, False, True):
            found = SimpleNamespace(_name=str(tmp_path / "steps.so"), has_tiles=lambda has_tiles=has_tiles: has_tiles)
            monkeypatch.setattr(build, "library", lambda found=found: found)
            monkeypatch.setattr(self_check, "_trial", lambda has_tiles=has_tiles: tried.append(has_tiles))
            self_check.why_not_any.cache_clear()
            assert self_check.why_not_any() is None
    finally:
        self_check.why_not_any.cache_clear()
    assert tried == [False, True]
