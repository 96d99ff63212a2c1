"""Gradients that get in Caffe what is not theirs, or lose what is: refused, and asked of it live."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from converters import NetError, parse_prototxt
from converters.formats import parse_caffemodel
from converters.net import without_unheard_stops
from fcn_port.training import task_of
from parity_tests.fill import rs
from parity_tests.oracle.client import Oracle

NET = """
layer {{ name: "data" type: "Input" top: "data" top: "label"
  input_param {{ shape {{ dim: [4, 6] }} shape {{ dim: [4] }} }} }}
layer {{ name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param {{ num_output: 3 }} }}
{beside}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "{score}" bottom: "label" top: "loss" }}
"""
HINGE = 'layer {{ name: "idle" type: "HingeLoss" bottom: "ip" bottom: "label" top: "idle" {} }}'
SCALE = (
    'layer {{ name: "idle" type: "Scale" bottom: "ip" top: "scaled" {} }} '
    'layer {{ name: "sum" type: "Eltwise" bottom: "ip" bottom: "scaled" top: "sum" }}'
)
STOP = "propagate_down: false"
STRAY = {
    "hinge without weight": (HINGE.format("loss_weight: 0"), "ip"),
    "hinge stopped": (HINGE.format(f"{STOP} {STOP}"), "ip"),
    "scale stopped": (SCALE.format(STOP), "sum"),
}
WITHOUT = {
    "hinge without weight": ("", "ip"),
    "hinge stopped": ("", "ip"),
    "scale stopped": (SCALE.format(f"{STOP} param {{ lr_mult: 0 }}"), "sum"),
}
"""The same nets with layers in their place that leave nothing; `ip` is to learn the same."""
HEARD = {
    "hinge counts": (HINGE.format(""), "ip"),
    "hinge alone": (HINGE.format("loss_weight: 0").replace('"ip"', '"other"'), "ip"),
    "scale of numbers": (SCALE.format(f"{STOP} scale_param {{ axis: 0 num_axes: -1 }}"), "sum"),
    "bias": (SCALE.replace('"Scale"', '"Bias"').format(STOP), "sum"),
}
OTHER = (
    'layer { name: "other" type: "InnerProduct" bottom: "data" top: "other" inner_product_param { num_output: 3 } } '
)


def net(case: tuple[str, str]) -> str:
    """The net of a case; a blob of its own for a layer beside that reads one."""
    beside, score = case
    return NET.format(beside=(OTHER if "other" in beside else "") + beside, score=score)


@pytest.mark.parametrize("name", STRAY)
def test_what_leaves_numbers_in_a_gradient_is_refused(name: str) -> None:
    with pytest.raises(NetError, match=r"layer 'idle'.*it is to tell 'ip' nothing"):
        task_of(parse_prototxt(net(STRAY[name])))
    task_of(parse_prototxt(f"force_backward: true {net(STRAY[name])}"))
    task_of(parse_prototxt(net(WITHOUT[name])))


@pytest.mark.parametrize("name", HEARD)
def test_what_leaves_nothing_is_trained(name: str) -> None:
    task_of(parse_prototxt(net(HEARD[name])))


@pytest.mark.oracle
@pytest.mark.parametrize("name", STRAY)
def test_caffe_learns_what_is_left(oracle: Oracle, name: str) -> None:
    r = rs("stray")
    fed = {
        "data": r.standard_normal((1, 4, 6)).astype(np.float32),
        "label": r.randint(0, 3, (1, 4)).astype(np.float32),
    }
    learned = []
    for case in (STRAY[name], WITHOUT[name]):
        done = oracle.solve('base_lr: 1 lr_policy: "fixed"', net(case), fed, filling="zoo")
        learned.append(parse_caffemodel(done.model).blobs["ip"][0])
    assert not np.allclose(learned[0], learned[1], rtol=0, atol=1e-3)


@pytest.mark.parametrize("kind", ["LSTM", "RNN"])
def test_a_recurrent_layer_hears_no_stop(kind: str) -> None:
    """recurrent_layer.cpp, Reshape: the gradient of its first bottom is the inner net's, which computes all."""
    text = f"""
layer {{ name: "data" type: "Input" top: "data" top: "cont" top: "label"
  input_param {{ shape {{ dim: [3, 2, 4] }} shape {{ dim: [3, 2] }} shape {{ dim: [3, 2, 4] }} }} }}
layer {{ name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param {{ num_output: 4 axis: 2 }} }}
layer {{ name: "row" type: "{kind}" bottom: "ip" bottom: "cont" top: "row" {STOP} {STOP}
  recurrent_param {{ num_output: 4 }} }}
layer {{ name: "sum" type: "Eltwise" bottom: "ip" bottom: "row" top: "sum" }}
layer {{ name: "loss" type: "EuclideanLoss" bottom: "sum" bottom: "label" top: "loss" }}
"""
    spec = parse_prototxt(text)
    assert not without_unheard_stops(spec).layer("row").message.propagate_down
    alone = parse_prototxt(text.replace('bottom: "ip" bottom: "row"', 'bottom: "row" bottom: "row"'))
    assert list(without_unheard_stops(alone).layer("row").message.propagate_down) == [False, False]


SHARED = """
layer {{ name: "data" type: "Input" top: "label" input_param {{ shape {{ dim: [{n}, 3] }} }} }}
layer {{ name: "one" {one} param {{ name: "shared" }} }}
layer {{ name: "two" {two} param {{ name: "shared" }} }}
layer {{ name: "sum" type: "Eltwise" bottom: "one" bottom: "two" top: "sum" }}
layer {{ name: "loss" type: "EuclideanLoss" bottom: "sum" bottom: "label" top: "loss" }}
"""
PARAMETER = 'type: "Parameter" top: "{}" parameter_param {{ shape {{ dim: [{}, 3] }} }}'
SCALE_OF = 'type: "Scale" bottom: "{}" top: "{}"'


def shared(kind: str, n: int) -> str:
    """Two layers that share a blob of 3, or n times 3, numbers, and their sum."""
    if kind == "Parameter":
        return SHARED.format(n=n, one=PARAMETER.format("one", n), two=PARAMETER.format("two", n))
    return SHARED.format(n=n, one=SCALE_OF.format("label", "one"), two=SCALE_OF.format("label", "two"))


@pytest.mark.parametrize(("kind", "n", "lost"), [("Parameter", 2, True), ("Scale", 1, True), ("Scale", 2, False)])
def test_a_gradient_that_is_written_over_that_of_others_is_refused(kind: str, n: int, *, lost: bool) -> None:
    label = torch.ones(n, 3)
    if kind == "Parameter":
        with pytest.raises(NetError, match=r"layer 'one'.*its blob is shared"):
            task_of(parse_prototxt(shared(kind, n)))
        return
    task = task_of(parse_prototxt(shared(kind, n)))
    task.net.train()
    if lost:
        with pytest.raises(NetError, match=r"layer 'one'.*its blob is shared"):
            task.losses_of({"label": label})
        with torch.no_grad():
            assert task.losses_of({"label": label})
    else:
        task.losses_of({"label": label})["loss"].backward()
        (weight,) = task.net.parameters()
        assert torch.equal(weight.grad, 2 * (2 * weight.detach() - 1))


@pytest.mark.oracle
@pytest.mark.parametrize(("kind", "n", "lost"), [("Parameter", 2, True), ("Scale", 1, True), ("Scale", 2, False)])
def test_caffe_learns_by_one_of_two_layers_that_share_a_blob(oracle: Oracle, kind: str, n: int, *, lost: bool) -> None:
    label = rs("shared").standard_normal((n, 3)).astype(np.float32)
    rule = 'base_lr: 0.1 lr_policy: "fixed"'
    before, after = (
        np.array(
            parse_caffemodel(oracle.solve(r, shared(kind, n), {"label": label[None]}, filling="zoo").model).blobs[
                "one"
            ][0]
        )
        for r in (rule.replace("0.1", "0"), rule)
    )
    x = label if kind == "Scale" else np.ones_like(label)
    slope = (x * (2 * before * x - label) / n).sum(0) if kind == "Scale" else (2 * before - label) / n
    np.testing.assert_allclose(after, before - 0.1 * slope * (1 if lost else 2), rtol=1e-5, atol=1e-6)


OWN = """
layer {{ name: "data" type: "Input" top: "x" top: "label" input_param {{ shape {{ dim: [2, 3] }} }} }}
layer {{ name: "it" type: "Scale" bottom: "x" top: "y" scale_param {{ axis: {axis} bias_term: true }}
  param {{ name: "shared" }} param {{ name: "shared" }} }}
layer {{ name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "label" top: "loss" }}
"""


@pytest.mark.oracle
@pytest.mark.parametrize("axis", [0, 1])
def test_a_scale_whose_bias_is_its_scale(oracle: Oracle, axis: int) -> None:
    """y = w x + w, along all axes or all but the first: with all, Caffe learns by the scale alone."""
    r = rs("own")
    x, label = (r.standard_normal((2, 3)).astype(np.float32) for _ in range(2))
    text = OWN.format(axis=axis) if axis else OWN.format(axis="0 num_axes: 2")
    before, after = (
        np.array(parse_caffemodel(done.model).blobs["it"][0])
        for rate in (0, 0.1)
        for done in [
            oracle.solve(
                f'base_lr: {rate} lr_policy: "fixed"', text, {"x": x[None], "label": label[None]}, filling="zoo"
            )
        ]
    )
    off = (before * x + before - label) / 2
    slope = off * x if not axis else (off * (x + 1)).sum(0)
    np.testing.assert_allclose(after, before - 0.1 * slope, rtol=1e-5, atol=1e-6)
    task = task_of(parse_prototxt(text))
    task.net.train()
    blobs = {"x": torch.from_numpy(x), "label": torch.from_numpy(label)}
    if axis:
        task.losses_of(blobs)
    else:
        with pytest.raises(NetError, match=r"layer 'it'.*its blob is shared"):
            task.losses_of(blobs)


@pytest.mark.parametrize("kind", ["Softmax", "Reshape", "Concat", "Scale", "HingeLoss", "Parameter", "Eltwise", "LRN"])
@pytest.mark.parametrize("wires", ["", 'bottom: "x"', 'top: "y"', 'bottom: "x" top: "x" top: "y"'])
def test_layers_without_bottoms_or_tops_are_our_own_errors(kind: str, wires: str) -> None:
    for more in ("loss_weight: 1", "loss_weight: 0", f"{STOP} loss_weight: 1"):
        with pytest.raises(NetError):
            task_of(parse_prototxt(f'layer {{ name: "l" type: "{kind}" {wires} {more} }}'))
