"""Several images at a time: each thread computes some by itself, and nobody can tell."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from converters import CaffeNet
from converters.formats import parse_prototxt
from fcn_port.fastpath.flow import merge, read
from fcn_port.fastpath.native import why_not
from fcn_port.fastpath.native.memory import Floats
from fcn_port.fastpath.program import runner
from fcn_port.fastpath.program.program import ArenaPlan
from fcn_port.fastpath.program.runner import Runner
from parity_tests.fastpath.random_nets import filled
from parity_tests.test_architecture import ROOT

pytestmark = pytest.mark.skipif(why_not() is not None, reason="no C compiler")

Arrays = dict[str, Floats]
NET = """
    input: "data" input_shape { dim: [1, 3, 20, 20] }
    layer { name: "c" type: "Convolution" bottom: "data" top: "c"
            convolution_param { num_output: 40 kernel_size: 3 pad: 1 } }
    layer { name: "r" type: "ReLU" bottom: "c" top: "c" }
    layer { name: "d" type: "Convolution" bottom: "c" top: "d" convolution_param { num_output: 40 kernel_size: 3 } }
    layer { name: "s" type: "Convolution" bottom: "c" top: "s" convolution_param { num_output: 64 kernel_size: 1 } }
    layer { name: "f" type: "InnerProduct" bottom: "d" top: "f" inner_product_param { num_output: 9 } }"""
"""With two outputs, of different ranks."""


def a_net() -> CaffeNet:
    return filled(CaffeNet(parse_prototxt(NET)))


def runner_of(net: CaffeNet) -> Runner:
    state = {name: x.numpy() for name, x in net.state_dict().items()}
    return Runner(merge(read(net.spec, net.outputs)), state)


def some(net: CaffeNet, count: int) -> Arrays:
    random = np.random.default_rng(0)
    return {name: random.random((count, *shape[1:]), np.float32) for name, shape in net.inputs.items()}


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("count", [2, 3, 7])
def test_images_are_divided_among_threads(threads: int, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each thread computes images of its own, to the bit what all threads give together."""
    net = a_net()
    x, by, work = some(net, count), [], ArenaPlan.__call__

    def noted(self: ArenaPlan, inputs: Arrays, arena: Floats) -> Arrays:
        by.append(self.threads)
        return work(self, inputs, arena)

    monkeypatch.setattr(ArenaPlan, "__call__", noted)
    found = runner_of(net).run(x, threads)
    alone = 0 if count < threads or threads == 1 else count - count % threads
    assert sorted(by) == [1] * alone + [threads] * (count - alone)
    monkeypatch.setattr(runner, "ALONE_BYTES", 0)
    together = runner_of(net).run(x, threads)
    assert all(np.array_equal(value, together[name]) for name, value in found.items())
    assert all(not np.array_equal(value[0], value[1]) for value in found.values())


def test_a_thread_that_fails_stops_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    work, left = ArenaPlan.__call__, iter([None])

    def failing(self: ArenaPlan, inputs: Arrays, arena: Floats) -> Arrays:
        if self.threads == 1 and next(left, 0) is None:
            raise ZeroDivisionError("in one thread")
        return work(self, inputs, arena)

    monkeypatch.setattr(ArenaPlan, "__call__", failing)
    with pytest.raises(ZeroDivisionError, match="in one thread"):
        runner_of(net := a_net()).run(some(net, 64), 2)


AT_THE_END = """
import atexit
import numpy as np
from parity_tests.fastpath.test_images_divided import a_net, runner_of, some
net = a_net()
mine, x = runner_of(net), some(net, 5)
expected = mine.run(x, 2)
def last():
    found = mine.run(x, 2)
    print(all(np.array_equal(found[name], expected[name]) for name in expected))
atexit.register(last)
"""


def test_when_python_ends() -> None:
    """No thread can be started then: as in what `atexit` calls."""
    run = subprocess.run([sys.executable, "-c", AT_THE_END], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (run.stdout, run.stderr) == ("True\n", "")
