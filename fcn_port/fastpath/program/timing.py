"""The time of each step of a plan, by itself: for people who look where a net's time goes."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter

import numpy as np

from converters.errors import NetError
from converters.execution import CaffeNet
from converters.net import Shape

from ...nets.net import Net
from ..native.memory import empty
from .fast_net import FastNet


def step_seconds(net: Net, inputs: Mapping[str, Shape]) -> list[tuple[str, float]]:
    """The steps of the plan of a net's definition for inputs of these shapes, by name, and the seconds that each took.

    One pass over random inputs, each step waited for. NetError where the net cannot be planned.
    """
    own = net if isinstance(net, CaffeNet) else _as_caffe_net(net)
    fast = FastNet(own)
    state = fast.state()
    if not state.is_planned:
        raise NetError("this net is not run by a plan: its weights are not float32 on the processor")
    try:
        plan = fast.program(dict(inputs))
    except (ArithmeticError, LookupError, NotImplementedError, RuntimeError, ValueError) as error:
        raise NetError(f"there is no plan for this net: {error}") from error
    generator = np.random.default_rng(0)
    values = {name: 50 * generator.standard_normal(shape, np.float32) for name, shape in inputs.items()}
    return plan.timed(values, empty(plan.floats), clock=perf_counter)


def _as_caffe_net(net: Net) -> CaffeNet:
    made = CaffeNet(net.spec).eval()
    made.load_state_dict(net.state_dict())
    return made
