"""merge_activations: ReLU and PReLU where results are made."""

from __future__ import annotations

import pytest

from fcn_port.fastpath.flow import merge
from fcn_port.fastpath.flow.activations import merge_activations
from parity_tests.fastpath.flows import assert_same, flow_of, net_of, outline


@pytest.mark.parametrize(
    "before",
    [
        "Convolution a: data -> a",
        "InnerProduct a: data -> a | inner_product_param { num_output: 5 }",
        "Eltwise a: data data -> a",
        "Eltwise a: data data -> a | eltwise_param { operation: PROD }",
    ],
)
@pytest.mark.parametrize(
    "layer",
    [
        "ReLU r: a -> a", "ReLU r: a -> r", "PReLU r: a -> a", "ELU r: a -> a", "Sigmoid r: a -> r", "TanH r: a -> a",
        "ReLU6 r: a -> a", "Mish r: a -> a", "HardTanH r: a -> a", "Clip r: a -> a | clip_param { min: -1 max: 0.5 }",
    ],
)  # fmt: skip
def test_they_join_what_makes_their_bottom(before: str, layer: str) -> None:
    net = net_of(before, layer)
    flow = merge_activations(flow_of(net))
    assert outline(flow) == ["a r"] and flow.operations[0].activation is not None
    assert_same(flow, net)


def test_behind_factors_and_sums() -> None:
    net = net_of(
        "Convolution a: data -> a", "Bias b: a -> a", "Eltwise e: a data -> e", "ReLU r: e -> e", "ReLU q: e -> e"
    )
    flow = merge(flow_of(net))
    assert outline(flow) == ["a b e r", "q"]
    assert_same(flow, net)


@pytest.mark.parametrize(
    "layers",
    [
        ("Convolution a: data -> a", "ReLU r: a -> r", "Eltwise e: a r -> e | eltwise_param { operation: MAX }"),
        ("Pooling a: data -> a | pooling_param { kernel_size: 2 }", "ReLU r: a -> a"),
        ("Convolution a: data -> a", "Atan r: a -> a"),
        ("Convolution a: data -> a", "ReLU6 r: a -> a | relu_param { negative_slope: 0.1 }"),
    ],
)
def test_others_stay(layers: tuple[str, ...]) -> None:
    assert len(merge_activations(flow_of(net_of(*layers))).operations) == len(layers)
