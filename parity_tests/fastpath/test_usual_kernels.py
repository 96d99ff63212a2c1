"""A new size keeps to the kernels of the net's own size where no other one makes up for packing weights again."""

from __future__ import annotations

from copy import deepcopy
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from converters import parse_prototxt
from converters.net import NetSpec, infer_blobs
from fcn_port.fastpath.flow import merge, read
from fcn_port.fastpath.native import build
from fcn_port.fastpath.native.packing import pack
from fcn_port.fastpath.program import FastNet, convolutions, decisions, kernels, rounding, self_check, weights
from fcn_port.fastpath.program.choice import KernelChoice, UsualKernel
from fcn_port.fastpath.program.places import BlobPlace
from fcn_port.fastpath.program.program import ArenaPlan
from fcn_port.fastpath.program.runner import Runner
from parity_tests.fastpath.flows import net_of
from parity_tests.fastpath.test_any_net import error, run_blankly

pytestmark = pytest.mark.skipif(self_check.why_not_any() is not None, reason="no C compiler")

TAIL = ("conv", *(f"small_{number}" for number in range(rounding.SHORT)))


def net(window: int, channels: int, side: int = 14) -> NetSpec:
    return parse_prototxt(
        f'input: "data" input_shape {{ dim: [10, {channels}, {side}, {side}] }} layer {{ name: "conv" '
        f'type: "Convolution" bottom: "data" top: "conv" '
        f"convolution_param {{ num_output: {channels} kernel_size: {window} "
        f"pad: {window // 2} bias_term: false }} }}" + "".join(_small(*names) for names in pairwise(TAIL))
    )


def _small(bottom: str, top: str) -> str:
    """One of the layers that make the net a deep one: a shallow one goes by what rounds least."""
    return (
        f' layer {{ name: "{top}" type: "Convolution" bottom: "{bottom}" top: "{top}" '
        "convolution_param { num_output: 1 kernel_size: 1 bias_term: false } }"
    )


def weights_of(spec: NetSpec) -> dict[str, np.ndarray]:
    r = np.random.default_rng(0)
    return {
        f"{layer}.weight": r.standard_normal(shape).astype(np.float32)
        for layer, (shape,) in infer_blobs(spec).items()
    }  # fmt: skip


def names(plan: ArenaPlan) -> list[str]:
    return [each.kernel.name for each in plan.as_usual().values()]


def kernel_at(runner: Runner, side: int, channels: int) -> str:
    return runner.program({"data": (1, channels, side, side)}, 1).explain()[1]


@pytest.mark.parametrize(
    ("window", "channels", "own", "side", "keeps"),
    [(1, 512, 14, 8, True), (3, 256, 14, 8, True), (3, 256, 14, 6, True), (3, 256, 8, 40, False)],
)
def test_another_kernel_is_taken_where_it_pays(window: int, channels: int, own: int, side: int, keeps: bool) -> None:
    """1x1 at 8x8 would be quicker by a hundredth in another form; 3x3 by half, as most of a large tile lies outside,
    but packing takes many passes there; one that fills large tiles at 40x40 makes up for it at once.

    With short registers, which do without Strassen's algorithm twice over, 1x1 has another form from 4x4 down.
    """
    if window == 1 and build.library().lanes() < 16:
        side = 4
    spec = net(window, channels, own)
    flow = merge(read(spec, spec.outputs))
    free, bound = (Runner(flow, weights_of(spec), own=shapes) for shapes in (None, spec.inputs))
    usual, quickest = (kernel_at(free, each, channels) for each in (own, side))
    assert usual != quickest
    assert kernel_at(bound, own, channels) == usual
    assert kernel_at(bound, side, channels) == (usual if keeps else quickest)
    x = np.random.default_rng(1).standard_normal((1, channels, side, side)).astype(np.float32)
    a, b = (runner.run({"data": x}, 1)[TAIL[-1]] for runner in (free, bound))
    assert np.abs(a - b).max() <= 1e-5 * np.abs(a).max() and np.array_equal(a, b) == (not keeps)


@pytest.mark.parametrize(("passes", "keeps"), [(convolutions.PASSES, True), (1000, False)])
def test_the_passes_that_pay_for_packing(passes: int, keeps: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifteen passes would make up for it; a rule that does not ask what packing takes is told apart."""
    monkeypatch.setattr(convolutions, "PASSES", passes)
    spec = net(3, 256)
    runner = Runner(merge(read(spec, spec.outputs)), weights_of(spec), own=spec.inputs)
    assert (kernel_at(runner, 6, 256) == kernel_at(runner, 14, 256)) == keeps


@pytest.mark.parametrize(("side", "expected"), [(14, 0), (11, 0), (7, 0), (6, 1), (15, 1)])
def test_sizes_like_the_own_are_not_asked(side: int, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a quarter of the outputs up to as many, what kernels would take is not reckoned for any layer; no clock."""
    spec = net(3, 256)
    runner = Runner(merge(read(spec, spec.outputs)), weights_of(spec), own=spec.inputs)
    kernel_at(runner, 14, 256)
    asked = []

    def ask(*args: Any, **named: Any) -> Any:
        asked.append(named["usual"])
        return convolutions.quickest_convolution(*args, **named)

    monkeypatch.setattr(kernels, "quickest_convolution", ask)
    runner.program({"data": (1, 256, side, side)}, 2)  # by other threads than there were, so that it is made anew
    assert len(asked) == expected * len(TAIL)


@pytest.mark.parametrize(
    ("window", "pads", "own", "side"), [(3, "pad_type: 1", 14, 13), (1, "pad_b: 1 pad_r: 1", 13, 12)]
)
def test_what_the_usual_kernel_cannot_do(window: int, pads: str, own: int, side: int) -> None:
    """As many outputs, but the first window begins elsewhere, or the last one lies behind the blob's end."""
    settings = f"convolution_param {{ num_output: 64 kernel_size: {window} stride: 2 {pads} }}"
    layer = net_of("ReLU r: data -> r", f"Convolution conv: r -> conv | {settings}", shape=(1, 64, own, own))
    quick = FastNet(layer)
    assert ("without zeros" in quick.program({"data": (1, 64, own, own)}).explain()[2]) == (window == 1)
    for size in (own, side):
        x = torch.randn(1, 64, size, size)
        exact = {"conv": deepcopy(layer).double()(x.double())}
        assert exact["conv"].shape == (1, 64, 7, 7)
        assert error(run_blankly(quick, {"data": x}), exact) <= 1e-6, size


def test_amx_is_compared_at_any_size() -> None:
    """What it costs by itself is the more, the fewer outputs there are: with few others pay, as they did not before."""
    place = BlobPlace(0, 0, (1, 32, 8, 8), (2048, 1, 256, 32))
    operation = merge(read(net(3, 32, 8), ("conv",))).operations[0]
    places = {"data": place, "conv": place}
    usual = {name: UsualKernel(KernelChoice(name, (3, 3), pad=(1, 1)), 4096) for name in ("product", "amx")}
    assert [convolutions.stays(each, operation, places) for each in usual.values()] == [True, False]


@pytest.mark.parametrize(("bound", "expected"), [(True, 0), (False, 1)])
def test_nothing_is_packed_again(bound: bool, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights that a new size packs, with the rule and without it; no clock."""
    spec = net(3, 256)
    runner = Runner(merge(read(spec, spec.outputs)), weights_of(spec), own=spec.inputs if bound else None)
    kernel_at(runner, 14, 256)
    packed = []

    def count(weight: np.ndarray, kernel: str, *args: Any, **named: Any) -> Any:
        packed.append(kernel)
        return pack(weight, kernel, *args, **named)

    monkeypatch.setattr(weights, "pack", count)
    kernel_at(runner, 8, 256)
    assert len(packed) == expected


def test_the_own_plan_says_what_would_be_asked() -> None:
    """A plan for one image of the net's own size knows the usual kernels, and gives what asking for them gives."""
    spec = net(3, 256)
    flow = merge(read(spec, spec.outputs))
    asked, told = (Runner(flow, weights_of(spec), own={"data": (1, 256, 14, 14)}) for _ in range(2))
    kernel_at(told, 14, 256)
    assert "_usual" in vars(told) and "_usual" not in vars(asked)
    assert told._usual == asked._usual == decisions.usual_kernels(flow, {"data": (1, 256, 14, 14)})


def test_layers_called_alike_have_usual_kernels_of_their_own() -> None:
    """By the layer's name the first had the kernel of the last. (`prepare` names layers with weights apart.)"""
    layers = (
        f' layer {{ name: "p" type: "Convolution" bottom: "{bottom}" top: "{top}" convolution_param '
        f"{{ num_output: 512 kernel_size: 1 stride: {stride} bias_term: false }} }}"
        for bottom, top, stride in (("data", "conv", 1), ("conv", "apart", 7), ("apart", "small_0", 1))
    )
    tail = "".join(_small(*names) for names in pairwise(TAIL[1:]))
    spec = parse_prototxt('input: "data" input_shape { dim: [1, 512, 14, 14] }' + "".join(layers) + tail)
    found = decisions.usual_kernels(merge(read(spec, spec.outputs)), spec.inputs)
    assert found["conv",] != found["small_0",]


def test_it_is_the_net_that_says_which_and_not_what_came_before() -> None:
    spec = net(1, 512)
    flow = merge(read(spec, spec.outputs))
    late, early = (Runner(flow, weights_of(spec), own=spec.inputs) for _ in range(2))
    kernel_at(late, 14, 512)
    assert kernel_at(late, 8, 512) == kernel_at(early, 8, 512)


def test_nor_does_a_batch_that_came_before() -> None:
    """The plan of the ten images that a definition names has other kernels than one image's, which are the usual."""
    spec = net(3, 256, 7)
    flow = merge(read(spec, spec.outputs))
    late, early = (Runner(flow, weights_of(spec), own=spec.inputs) for _ in range(2))
    assert names(late.program(spec.inputs, 1)) != names(late.program({"data": (1, 256, 7, 7)}, 1))
    assert kernel_at(late, 6, 256) == kernel_at(early, 6, 256)
    assert late._usual == early._usual


def test_a_size_that_the_net_does_not_take_has_no_usual_kernels() -> None:
    spec = net(1, 512)
    flow = merge(read(spec, spec.outputs))
    assert decisions.usual_kernels(flow, {"data": (1, 3, 8)}) == {}
    assert decisions.usual_kernels(flow, spec.inputs).keys() == {(name,) for name in TAIL}
    assert convolutions.NEARLY > 1
