"""Bands of rows: every bit is that of whole blobs, at any size and by any number of threads, in less memory."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch

from converters import CaffeNet
from converters.formats import parse_prototxt
from fcn_port.fastpath.native import why_not
from fcn_port.fastpath.native.memory import Floats
from fcn_port.fastpath.points import WORTH_CHANNELS
from fcn_port.fastpath.program import FastNet, bands, find_bands
from fcn_port.fastpath.program.bands import Bands, HeldRows
from fcn_port.fastpath.program.choice import KernelChoice
from fcn_port.fastpath.program.places import BlobPlace
from fcn_port.fastpath.program.program import ArenaPlan
from parity_tests.fastpath.flows import net_of
from parity_tests.fastpath.random_nets import filled, random_net

pytestmark = pytest.mark.skipif(why_not() is not None, reason="no C compiler")

EDGES = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [1, 3, 80, 60] } } }
layer { name: "a" type: "Convolution" bottom: "data" top: "a" convolution_param {
    num_output: %(channels)d kernel_size: 3 pad: 9 } }
layer { name: "b" type: "ReLU" bottom: "a" top: "a" }
layer { name: "c" type: "Convolution" bottom: "a" top: "c" convolution_param {
    num_output: %(channels)d kernel_size: 3 pad: 1 } }
layer { name: "d" type: "ReLU" bottom: "c" top: "c" }
layer { name: "e" type: "Convolution" bottom: "c" top: "e" convolution_param { num_output: 1 kernel_size: 1 } }
layer { name: "f" type: "Crop" bottom: "e" bottom: "data" top: "f" crop_param { axis: 2 offset: 8 } }
layer { name: "g" type: "Pooling" bottom: "c" top: "g" top: "places" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "h" type: "Convolution" bottom: "g" top: "h" convolution_param {
    num_output: %(channels)d kernel_size: 3 pad: 1 } }
layer { name: "i" type: "Upsample" bottom: "h" bottom: "places" top: "i" upsample_param {
    upsample_h: %(height)d upsample_w: 76 } }
layer { name: "j" type: "Convolution" bottom: "i" top: "j" convolution_param {
    num_output: 40 kernel_size: 3 pad: 2 dilation: 2 } }
layer { name: "j" type: "LRN" bottom: "j" top: "k" lrn_param { local_size: 3 alpha: 0.5 } }
layer { name: "j" type: "Softmax" bottom: "k" top: "l" }
"""
"""HED's beginning and SegNet's end; layers of one name, too."""


def edges(height: int = 80, channels: int = 64) -> CaffeNet:
    return filled(CaffeNet(parse_prototxt(EDGES % {"height": height + 16, "channels": channels})))


def plan_of(net: CaffeNet, shapes: Mapping[str, tuple[int, ...]], threads: int = 1) -> ArenaPlan:
    quick = FastNet(net)
    return ArenaPlan(quick.flow, shapes, quick.state().runner.weights, threads=threads)


def result(plan: ArenaPlan) -> dict[str, Floats]:
    """The outputs of a pass over memory full of NaN."""
    random = np.random.default_rng(0)
    inputs = {
        name: random.standard_normal(plan.shapes[name]).astype(np.float32) for name in plan.flow.inputs
    }  # fmt: skip
    found = plan(inputs, np.full(plan.floats, np.nan, np.float32))
    return {name: value.copy() for name, value in found.items()}


def both(
    net: CaffeNet, shapes: Mapping[str, tuple[int, ...]], monkeypatch: pytest.MonkeyPatch, threads: int = 1
) -> tuple[ArenaPlan, ArenaPlan]:
    """The plan with bands, and without."""
    whole = plan_of(net, shapes, threads)
    with monkeypatch.context() as patch:
        patch.setattr(find_bands, "LARGE", 1)
        patch.setattr(find_bands, "BAND", 1)
        return plan_of(net, shapes, threads), whole


def is_same(banded: ArenaPlan, whole: ArenaPlan) -> bool:
    found, expected = result(banded), result(whole)
    assert list(found) == list(expected) and not any(np.isnan(value).any() for value in expected.values())
    return all(np.array_equal(found[name], value) for name, value in expected.items())


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("height, images, channels", [(80, 1, 64), (81, 1, 64), (67, 2, WORTH_CHANNELS), (48, 1, 64)])
def test_every_bit_is_that_of_whole_blobs(
    height: int, images: int, channels: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    banded, whole = both(edges(height, channels), {"data": (images, 3, height, 60)}, monkeypatch, threads)
    assert len(banded._bands[0].numbers) >= 4 and len(banded._bands) == 2 and not whole._bands
    assert is_same(banded, whole)
    assert banded.floats < whole.floats


def test_random_nets(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = 0
    for seed in range(30):
        net = random_net(seed)
        batch, height = 1 + seed % 2, (70, 33, 64)[seed % 3]
        shapes = {name: (batch, shape[1], height, 11) for name, shape in net.inputs.items()}
        banded, whole = both(net, shapes, monkeypatch, 1 + seed // 2 % 2)
        seen += len(banded._bands)
        assert is_same(banded, whole), (seed, banded.explain())
    assert seen > 20


@pytest.mark.parametrize("dilation", [1, 2])
def test_kernels_in_pieces(dilation: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of three rows, whose later pieces read what lies behind their own windows."""
    settings = f"num_output: 40 kernel_size: 7 pad: {3 * dilation} dilation: {dilation}"
    layers = "".join(
        f"""layer {{ name: "{top}" type: "Convolution" bottom: "{bottom}" top: "{top}"
            convolution_param {{ {settings} }} }}"""
        for bottom, top in (("x", "a"), ("a", "b"), ("b", "c"))
    )
    shape = "shape { dim: [1, 40, 100, 17] }"
    data = f'layer {{ name: "x" type: "Input" top: "x" input_param {{ {shape} }} }}'
    net = filled(CaffeNet(parse_prototxt(data + layers)))
    banded, whole = both(net, {"x": (1, 40, 100, 17)}, monkeypatch)
    assert sum(", in pieces" in line for line in whole.explain()) == 3 and len(banded._bands) == 1
    assert is_same(banded, whole)


def _late(place: BlobPlace, rows: int) -> BlobPlace:
    return place._replace(offset=place.offset + rows * place.strides[2])


def _a_row_late(patch: pytest.MonkeyPatch) -> None:
    rows = Bands.rows
    patch.setattr(Bands, "rows", lambda self, place, lo, hi, band: _late(
        rows(self, place, lo, hi, band), int(place.buffer in self.held and band == 2 and lo % 2)
    ))  # fmt: skip


def _no_whole_tiles(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(find_bands, "tile_rows", lambda kernel: 1)


def _seams_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(bands, "_moves", lambda *_: ())


def _places_in_the_band(patch: pytest.MonkeyPatch) -> None:
    some = bands._some_rows
    patch.setattr(bands, "_some_rows", lambda *args: [task._replace(parameters=()) for task in some(*args)])


def _rows_given_up_early(patch: pytest.MonkeyPatch) -> None:
    hold = find_bands._hold

    def one_less(*args):
        found = hold(*args)
        return found and (HeldRows(found[0].first, found[0].count - 1), found[1])

    patch.setattr(find_bands, "_hold", one_less)


@pytest.mark.parametrize(
    "wrong", [_a_row_late, _no_whole_tiles, _seams_forgotten, _places_in_the_band, _rows_given_up_early]
)
def test_wrong_bands_are_seen(wrong, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        wrong(patch)
        banded, whole = both(edges(), {"data": (1, 3, 80, 60)}, monkeypatch)
    assert not is_same(banded, whole)


def test_the_arena_is_smaller_by_what_is_not_kept() -> None:
    """At a published size, by the rule as it is: of two blobs of 64 channels, some rows; small blobs stay whole."""
    net = edges()
    big = plan_of(net, {"data": (1, 3, 300, 300)})
    first = big._bands[0]
    assert [big.flow.operations[number].name for number in first.numbers] == ["a", "c", "e", "g"]
    a_and_c = {big.places.values[name].buffer for name in ("a (2)", "c (2)")}
    assert set(first.held) == a_and_c
    assert all(4 * each.count * 316 * 64 <= 1.5 * find_bands.BAND for each in first.held.values())
    assert "in 7 bands of rows with c, e, g" in big.explain()[1]
    small = plan_of(net, {"data": (1, 3, 120, 120)})
    assert not small._bands and "bands" not in "".join(small.explain())


def test_kernels_that_look_at_all_rows_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Averages over padding, global poolings, Strassen's products, and sums of a value and what comes of it."""
    monkeypatch.setattr(find_bands, "LARGE", 1)
    whole = KernelChoice("pool_average", (2, 2), (2, 2), (1, 1))
    net = edges()
    plan = plan_of(net, {"data": (1, 3, 80, 60)})
    pool = next(each for each in plan.flow.operations if each.name == "g")
    is_fine = find_bands._goes_by_rows
    assert is_fine(pool, plan._choices, plan.places)
    for wrong in (
        whole, KernelChoice("strassen_1"), KernelChoice("pool_max", (96, 76)), KernelChoice("unpool"),
        KernelChoice("deconvolution", (2, 2)),
    ):  # fmt: skip
        assert not is_fine(pool, {pool.tops: wrong}, plan.places), wrong


def test_a_net_as_users_run_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find_bands, "LARGE", 1)
    monkeypatch.setattr(find_bands, "BAND", 1)
    net = edges()
    quick = FastNet(net)
    x = torch.randn(1, 3, 80, 60, generator=torch.Generator().manual_seed(0))
    found, expected = quick(x), net(x)
    assert isinstance(found, dict) and isinstance(expected, dict)
    for name, value in expected.items():
        assert torch.allclose(found[name], value, atol=1e-4), name
    assert "bands" in quick.explain((80, 60))


TALL = (1, 8, 100, 17)


@pytest.mark.parametrize("settings", [
    "stride_h: 2 stride_w: 1 kernel_size: 3 pad: 1", "stride_h: 1 stride_w: 2 kernel_size: 3 pad: 1",
    "kernel_h: 5 kernel_w: 3", "kernel_h: 3 kernel_w: 5", "kernel_size: 5 pad_h: 0 pad_w: 2",
    "kernel_size: 5 pad_h: 2 pad_w: 0", "kernel_size: 3 dilation: 3 dilation: 1",
    "kernel_size: 3 dilation: 1 dilation: 3",
])  # fmt: skip
def test_bands_go_by_the_settings_of_rows(settings: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net = net_of(
        "Convolution a: data -> a", f"Convolution b: a -> b | convolution_param {{ num_output: 8 {settings} }}",
        "Convolution c: b -> c", shape=TALL,
    )  # fmt: skip
    banded, whole = both(net, {"data": TALL}, monkeypatch)
    assert [len(each.numbers) for each in banded._bands] == [3] and is_same(banded, whole)


def test_a_value_is_kept_for_the_one_that_reads_it_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second bottom of a maximum, which three convolutions lie before."""
    more = ("Convolution b: a -> b", "Convolution c: b -> c", "Convolution d: c -> d", "Convolution e: d -> e")
    maximum = "Eltwise m: e a -> m | eltwise_param { operation: MAX }"
    net = net_of("Convolution a: data -> a", *more, maximum, shape=TALL)
    banded, whole = both(net, {"data": TALL}, monkeypatch)
    assert [len(each.numbers) for each in banded._bands] == [6] and is_same(banded, whole)


def test_what_reads_an_operation_that_is_left_out_is_left_out_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """`c` reads and makes an output, of which all rows are kept: so it gets no bands, nor does what reads it."""
    net = net_of(
        "Convolution a: data -> a", "Convolution b: a -> b", "Convolution c: b -> c",
        "Eltwise d: c a -> d | eltwise_param { operation: MAX }", shape=TALL,
    )  # fmt: skip
    net = filled(CaffeNet(net.spec, outputs=["b", "c", "d"]))
    assert is_same(*both(net, {"data": TALL}, monkeypatch))


def test_the_parts_of_a_concatenation_share_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which have other channels each."""
    wide = "convolution_param { num_output: 20 kernel_size: 3 pad: 1 }"
    net = net_of(
        "Convolution a: data -> a", f"Convolution b: a -> b | {wide}", "Concat c: a b -> c", "Convolution d: c -> d",
        shape=TALL,
    )  # fmt: skip
    banded, whole = both(net, {"data": TALL}, monkeypatch)
    assert [len(each.numbers) for each in banded._bands] == [4] and is_same(banded, whole)


@pytest.mark.parametrize("dims", ["[-1]", "[80, 60]"])
def test_a_large_blob_that_has_other_axes_too(dims: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A view of fewer axes was looked at as an image, and `fast` left the whole net to PyTorch."""
    pool = 'type: "Pooling" pooling_param { kernel_size: 3 pad: 1 }'
    text = f"""
layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: [1, 1, 80, 60] }} }} }}
layer {{ name: "a" bottom: "data" top: "a" {pool} }}
layer {{ name: "b" bottom: "a" top: "b" {pool} }}
layer {{ name: "c" type: "Reshape" bottom: "a" top: "c" reshape_param {{ shape {{ dim: {dims} }} }} }}
layer {{ name: "d" type: "Atan" bottom: "c" top: "d" }}"""
    banded, whole = both(CaffeNet(parse_prototxt(text)), {"data": (1, 1, 80, 60)}, monkeypatch)
    assert is_same(banded, whole)
