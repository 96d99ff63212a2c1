"""A new size keeps to the kernels of the net's own size where these are nearly as quick: their weights are packed."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from converters import parse_prototxt
from converters.net import NetSpec, infer_blobs
from fcn_port.fastpath.flow import merge, read
from fcn_port.fastpath.program import decisions, kernels, rounding, self_check
from fcn_port.fastpath.program.runner import Runner

pytestmark = pytest.mark.skipif(self_check.why_not_any() is not None, reason="no C compiler")

TAIL = ("conv", *(f"small_{number}" for number in range(rounding.SHORT)))


def net(window: int, channels: int) -> NetSpec:
    return parse_prototxt(
        f'input: "data" input_shape {{ dim: [10, {channels}, 14, 14] }} layer {{ name: "conv" type: "Convolution" '
        f'bottom: "data" top: "conv" convolution_param {{ num_output: {channels} kernel_size: {window} '
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


def kernel_at(runner: Runner, side: int, channels: int) -> str:
    return runner.program({"data": (1, channels, side, side)}, 1).explain()[1]


@pytest.mark.parametrize(("window", "channels", "keeps"), [(1, 512, True), (3, 256, False)])
def test_what_is_nearly_as_quick_is_kept(window: int, channels: int, keeps: bool) -> None:
    """1x1 at 8x8 would be quicker by a hundredth in another form; 3x3 by half, as most of a large tile lies outside."""
    spec = net(window, channels)
    flow = merge(read(spec, spec.outputs))
    free, bound = (Runner(flow, weights_of(spec), own=own) for own in (None, spec.inputs))
    usual, quickest = (kernel_at(free, side, channels) for side in (14, 8))
    assert usual != quickest
    assert kernel_at(bound, 14, channels) == usual
    assert kernel_at(bound, 8, channels) == (usual if keeps else quickest)
    x = np.random.default_rng(1).standard_normal((1, channels, 8, 8)).astype(np.float32)
    a, b = (runner.run({"data": x}, 1)[TAIL[-1]] for runner in (free, bound))
    assert np.abs(a - b).max() <= 1e-5 * np.abs(a).max() and np.array_equal(a, b) == (not keeps)


def test_it_is_the_net_that_says_which_and_not_what_came_before() -> None:
    spec = net(1, 512)
    flow = merge(read(spec, spec.outputs))
    late, early = (Runner(flow, weights_of(spec), own=spec.inputs) for _ in range(2))
    kernel_at(late, 14, 512)
    assert kernel_at(late, 8, 512) == kernel_at(early, 8, 512)


def test_a_size_that_the_net_does_not_take_has_no_usual_kernels() -> None:
    spec = net(1, 512)
    flow = merge(read(spec, spec.outputs))
    assert decisions.usual_kernels(flow, {"data": (1, 3, 8)}) == {}
    assert decisions.usual_kernels(flow, spec.inputs).keys() == set(TAIL)
    assert kernels.NEARLY > 1
