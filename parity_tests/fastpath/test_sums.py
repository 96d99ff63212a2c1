"""merge_sums: a convolution adds what the net adds to its result."""

from __future__ import annotations

import pytest

from fcn_port.fastpath.flow.affine import merge_affine
from fcn_port.fastpath.flow.sums import merge_sums
from parity_tests.fastpath.flows import assert_same, flow_of, net_of, outline

BLOCK = ("Convolution a: data -> a", "BatchNorm n: a -> a", "Convolution b: a -> b", "BatchNorm m: b -> b")


def test_a_residual_block() -> None:
    net = net_of(*BLOCK, "Eltwise e: a b -> e")
    flow = merge_sums(merge_affine(flow_of(net)))
    assert outline(flow) == ["a n", "b m e"]
    assert flow.operations[1].addend == "a (2)" and flow.operations[1].bottoms == ("a (2)", "a (2)")
    assert_same(flow, net)


def test_two_convolutions_of_which_one_adds_the_other() -> None:
    net = net_of("Convolution a: data -> a", "Convolution b: data -> b", "Eltwise e: b a -> e", "ReLU r: e -> e")
    flow = merge_sums(flow_of(net))
    assert outline(flow) == ["a", "b e", "r"] and flow.operations[1].addend == "a"
    assert_same(flow, net)


def test_sums_of_sums() -> None:
    net = net_of(
        "Convolution a: data -> a", "Convolution b: a -> b", "Eltwise e: a b -> e", "Convolution c: e -> c",
        "Eltwise f: e c -> f",
    )  # fmt: skip
    flow = merge_sums(flow_of(net))
    assert outline(flow) == ["a", "b e", "c f"]
    assert_same(flow, net)


@pytest.mark.parametrize(
    "layers",
    [
        ("Eltwise e: a a -> e",),
        ("Eltwise e: a data -> e | eltwise_param { coeff: 1 coeff: 2 }",),
        ("Eltwise e: a data -> e | eltwise_param { operation: MAX }",),
        ("Eltwise e: a data -> e", "ReLU r: a -> r"),
        ("ReLU r: a -> a", "Eltwise e: a data -> e"),
        ("Eltwise e: a data data -> e",),
    ],
)
def test_others_stay(layers: tuple[str, ...]) -> None:
    flow = merge_sums(flow_of(net_of("Convolution a: data -> a", *layers)))
    assert len(flow.operations) == 1 + len(layers)
