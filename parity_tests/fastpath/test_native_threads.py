"""Several threads go through a plan's steps at once and give what one gives, to the bit.

They are threads of the system that call the C code themselves. `make test-native-sanitized` does so without Python
under a thread sanitizer (native_driver.c), which sees where one thread reads what another writes without having waited
for it, whether or not it goes wrong this time.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from converters import CaffeNet
from converters.formats import parse_prototxt
from fcn_port.fastpath.native import why_not
from fcn_port.fastpath.native.memory import address
from fcn_port.fastpath.program import FastNet, self_check
from fcn_port.fastpath.program.program import ArenaPlan
from parity_tests.fastpath.random_nets import filled, random_net

pytestmark = pytest.mark.skipif(why_not() is not None, reason="no C compiler")

THREADS = 3
WIDE = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: [1, 320, 7, 9] } } }
layer { name: "a" type: "Convolution" bottom: "x" top: "a" convolution_param { num_output: 384 kernel_size: 3 pad: 1 } }
layer { name: "b" type: "Convolution" bottom: "a" top: "b" convolution_param {
    num_output: 40 kernel_size: 3 pad: 2 dilation: 2 } }
layer { name: "c" type: "LRN" bottom: "b" top: "c" }
"""
"""The first layer's kernels are so many bytes that all threads work on the same tiles."""


def plan_of(net: CaffeNet, inputs: dict[str, Tensor], threads: int, prefer: str | None = None) -> ArenaPlan:
    quick = FastNet(net)
    shapes = {name: tuple(x.shape) for name, x in inputs.items()}
    weights = quick.state().runner.weights
    ArenaPlan(quick.flow, shapes, weights, threads=1, prefer=prefer)  # packs, where several threads are OpenMP's
    return ArenaPlan(quick.flow, shapes, weights, threads=threads, prefer=prefer)


def by_threads(plan: ArenaPlan, inputs: dict[str, Tensor], count: int = THREADS) -> dict[str, Tensor]:
    """The outputs, each run of native steps by `count` threads at once; over memory full of NaN."""
    arena = np.full(plan.floats, np.nan, np.float32)
    start = address(arena)
    for run in plan._take({name: x.numpy() for name, x in inputs.items()}, arena):
        if run.native is None:
            found = plan._compute(run.number, {}, arena)
            for name in plan.flow.operations[run.number].tops:
                plan.view(name, arena)[...] = found[name]
            continue
        arena[plan._counters :] = 0
        steps, counters = run.native, start + 4 * plan._counters
        threads = [threading.Thread(target=steps.work, args=(start, counters, number)) for number in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return {name: torch.from_numpy(plan.view(value, arena).copy()) for name, value in plan.flow.outputs.items()}


def check(net: CaffeNet, inputs: dict[str, Tensor], prefer: str | None = None) -> None:
    plan = plan_of(net, inputs, THREADS, prefer)  # for one thread it is cut otherwise, and may round otherwise
    expected = by_threads(plan, inputs, 1)
    for _ in range(3):
        found = by_threads(plan, inputs)
        assert all(torch.equal(found[name], value) for name, value in expected.items()), prefer


@pytest.fixture(autouse=True)
def _no_threads_of_openmp() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    "prefer",
    [
        None,
        "product",
        "strassen_1",
        "strassen_2",
        "winograd_3",
        "winograd_3_lean",
        "winograd_3_small",
        "winograd_7_pieces",
    ],
)
def test_every_kernel(prefer: str | None) -> None:
    net = filled(CaffeNet(parse_prototxt(self_check._NET)))
    generator = torch.Generator().manual_seed(0)
    check(net, {name: torch.randn(shape, generator=generator) for name, shape in net.inputs.items()}, prefer)


@pytest.mark.parametrize(
    ("channels", "features", "side", "prefer", "setting"),
    [(128, 192, 3, "winograd_3", "shared"), (1024, 192, 1, "strassen_1", "group")],
)
def test_threads_that_share_kernels_out(channels: int, features: int, side: int, prefer: str, setting: str) -> None:
    convolution = f"num_output: {features} kernel_size: {side} pad: {side // 2}"
    net = filled(CaffeNet(parse_prototxt(f"""
        layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ dim: [1, {channels}, 7, 9] }} }} }}
        layer {{ name: "y" type: "Convolution" bottom: "x" top: "y" convolution_param {{ {convolution} }} }}
    """)))  # fmt: skip
    inputs = {"x": torch.randn(1, channels, 7, 9, generator=torch.Generator().manual_seed(2))}
    plan = plan_of(net, inputs, THREADS, prefer)
    assert [getattr(task.settings, setting) for task in plan.planned[0].tasks or ()] == [1], "no layer of this kind"
    check(net, inputs, prefer)


@pytest.mark.parametrize("prefer", ["winograd_3", "winograd_3_lean"])
def test_threads_that_share_tiles(prefer: str) -> None:
    net = filled(CaffeNet(parse_prototxt(WIDE)))
    inputs = {"x": torch.randn(1, 320, 7, 9, generator=torch.Generator().manual_seed(1))}
    plan = plan_of(net, inputs, THREADS, prefer)
    assert [task.settings.shared for task in plan.planned[0].tasks or ()] == [1], "no layer of this kind"
    check(net, inputs, prefer)


@pytest.mark.parametrize("seed", range(4))
def test_random_nets(seed: int) -> None:
    net = random_net(seed)
    generator = torch.Generator().manual_seed(seed)
    check(net, {name: torch.randn(1, shape[1], 17, 21, generator=generator) for name, shape in net.inputs.items()})
