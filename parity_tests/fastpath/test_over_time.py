"""`fast` of layers over time: LSTM, RNN and junhyukoh's Lstm, and that their steps are not taken for images."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from converters import CaffeNet
from converters.formats import parse_prototxt
from fcn_port.fastpath.native import why_not
from fcn_port.fastpath.program import FastNet, over_time
from parity_tests.fastpath.random_nets import filled
from parity_tests.tolerances import tolerance

pytestmark = pytest.mark.skipif(why_not() is not None, reason="no C compiler")

KINDS = {
    "LSTM": ("LSTM", "x cont", "recurrent_param {{ num_output: {units} }}"),
    "LSTM with a static bottom": ("LSTM", "x cont static", "recurrent_param {{ num_output: {units} }}"),
    "LSTM with forget_bias": ("LSTM", "x cont", "recurrent_param {{ num_output: {units} forget_bias: 1 }}"),
    "RNN": ("RNN", "x cont", "recurrent_param {{ num_output: {units} }}"),
    "RNN with a static bottom": ("RNN", "x cont static", "recurrent_param {{ num_output: {units} }}"),
    "Lstm": ("Lstm", "x", "lstm_param {{ num_output: {units} }}"),
    "Lstm with cont": ("Lstm", "x cont", "lstm_param {{ num_output: {units} }}"),
    "Lstm of one stream": ("Lstm", "x", "inner_product_param {{ num_output: {units} bias_term: false }}"),
    "Lstm of rows": ("Lstm", "rows", "lstm_param {{ num_output: {units} batch_size: 3 }}"),
}
BOTTOMS = {"x": "{time}, {streams}, 30", "cont": "{time}, {streams}", "static": "{streams}, 5, 2", "rows": "9, 30"}


def net_of(kind: str, *, units: int, time: int, streams: int) -> CaffeNet:
    name, bottoms, settings = KINDS[kind]
    shapes = {bottom: BOTTOMS[bottom].format(time=time, streams=streams) for bottom in bottoms.split()}
    inputs = [f'input: "{bottom}" input_shape {{ dim: [{shape}] }}' for bottom, shape in shapes.items()]
    wires = " ".join(f'bottom: "{bottom}"' for bottom in shapes)
    own = settings.format(units=units)
    text = "\n".join([*inputs, f'layer {{ name: "it" type: "{name}" {wires} top: "it" {own} }}'])
    return filled(CaffeNet(parse_prototxt(text))).eval()


def drawn(net: CaffeNet) -> dict[str, torch.Tensor]:
    """Inputs: streams that begin anew, go on, or keep a part of the step before."""
    generator = torch.Generator().manual_seed(2)
    found = {name: torch.randn(shape, generator=generator) for name, shape in net.inputs.items()}
    if "cont" in found:
        choices = torch.tensor([0, 1, 1, 0.5])
        found["cont"] = choices[torch.randint(4, found["cont"].shape, generator=generator)]
    return found


def check(net: CaffeNet, again: CaffeNet, threads: int) -> FastNet:
    inputs = drawn(net)
    plain, exact = net(**inputs), again.double()(**{name: x.double() for name, x in inputs.items()})
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        quick = FastNet(net)
        plan = quick.program({name: tuple(x.shape) for name, x in inputs.items()})
        for _ in range(2):
            arena = np.full(plan.floats, np.nan, np.float32)
            (found,) = plan({name: x.numpy() for name, x in inputs.items()}, arena).values()
            error = float((torch.from_numpy(found) - exact).abs().max())
            assert error <= 2 * float((plain - exact).abs().max()) + tolerance("fast-net") * float(exact.abs().max())
    finally:
        torch.set_num_threads(before)
    assert [each.how for each in plan.planned] == ["step by step over time"]
    return quick


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("units", "time", "streams"), [(7, 5, 1), (16, 1, 3), (40, 6, 5), (33, 3, 8)])
@pytest.mark.parametrize("kind", KINDS)
def test_as_the_layer(
    kind: str, units: int, time: int, streams: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Step by step by all threads together, and all steps by one."""
    for least in (0, 1 << 40):
        monkeypatch.setattr(over_time, "LEAST_SHARED", least)
        nets = [net_of(kind, units=units, time=time, streams=streams) for _ in range(2)]
        check(nets[0], nets[1], threads)


def test_steps_are_no_images() -> None:
    """One net of one step, given several: the plan is not one of a step for each, one after the other."""
    one, whole = (net_of("Lstm", units=8, time=time, streams=1) for time in (1, 5))
    x = torch.randn(5, 1, 30, generator=torch.Generator().manual_seed(6))
    found = FastNet(one)(x)
    assert float((found - whole(x)).abs().max()) <= tolerance("fast-net")


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("kind", ["LSTM", "RNN"])
def test_part_of_a_concatenation(kind: str, axis: int) -> None:
    """Outputs that lie where the concatenation wants them: of streams beside others' too, so that no step follows."""
    layers = "\n".join(
        f'layer {{ name: "{top}" type: "{kind}" bottom: "x" bottom: "cont" top: "{top}"'
        " recurrent_param { num_output: 9 } }"
        for top in "ab"
    )
    text = f"""
        input: "x" input_shape {{ dim: [4, 3, 30] }} input: "cont" input_shape {{ dim: [4, 3] }}
        {layers}
        layer {{ name: "both" type: "Concat" bottom: "a" bottom: "b" top: "both" concat_param {{ axis: {axis} }} }}
    """
    net = filled(CaffeNet(parse_prototxt(text))).eval()
    inputs, quick = drawn(net), FastNet(net)
    assert float((quick(**inputs) - net(**inputs)).abs().max()) <= tolerance("fast-net")
    plan = quick.program({name: tuple(x.shape) for name, x in inputs.items()})
    assert [each.how for each in plan.planned[:2]] == ["step by step over time"] * 2


@pytest.mark.parametrize("kind", ["LSTM", "RNN"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_spreads_as_in_the_layer(value: float, kind: str) -> None:
    """Of cont before the first step, too, whose state is of zeros."""
    net = net_of(kind, units=8, time=3, streams=2)
    inputs = drawn(net)
    inputs["cont"][0, 0] = value
    plan = FastNet(net).program({name: tuple(x.shape) for name, x in inputs.items()})
    found = plan({name: x.numpy() for name, x in inputs.items()}, np.empty(plan.floats, np.float32))
    (found_top,), expected = found.values(), net(**inputs)
    assert np.array_equal(np.isnan(found_top), expected.isnan().numpy())
