"""read: a value for each blob that a layer makes, none for layers that do nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from converters.net import LayerSpec
from fcn_port.fastpath.flow import merge, read
from parity_tests.fastpath.flows import assert_same, flow_of, net_of, outline
from parity_tests.fastpath.random_nets import random_net


def test_in_place_layers_make_new_values_and_idle_ones_none() -> None:
    net = net_of(
        "Convolution a: data -> a", "ReLU r: a -> a", "Dropout d: a -> a", "Split s: a -> b c", "Power p: b -> p",
        "Eltwise e: p c -> e",
    )  # fmt: skip
    flow = flow_of(net)
    assert outline(flow) == ["a", "r", "p", "e"]
    assert [operation.tops for operation in flow.operations] == [("a",), ("a (2)",), ("p",), ("e",)]
    assert flow.operations[-1].bottoms == ("p", "a (2)")
    assert_same(flow, net)


def test_a_blob_follows_the_memory_that_it_shares() -> None:
    layers = ("Convolution a: data -> a", "Flatten f: a -> f", "ReLU r: f -> f")
    assert outline(flow_of(net_of(*layers))) == ["a", "f", "r"]
    net = net_of(*layers, "Pooling p: a -> p | pooling_param { kernel_size: 2 }")
    flow = flow_of(net)
    assert outline(flow) == ["a", "f", "r", "r: a (2)", "p"]
    assert flow.operations[-1].bottoms == ("a (2)",)
    assert_same(flow, net)


def test_a_blob_follows_a_layer_that_does_nothing() -> None:
    """Dropout in place was the last change of the memory, and its followers were lost with it."""
    layers = ("Convolution a: data -> a", "Flatten f: a -> f", "ReLU r: f -> f", "Dropout d: f -> f")
    net = net_of(*layers, "Pooling p: a -> p | pooling_param { kernel_size: 2 }")
    flow = flow_of(net)
    assert outline(flow) == ["a", "f", "r", "d: a (2)", "p"]
    assert flow.operations[-1].bottoms == ("a (2)",)
    assert_same(flow, net)


def test_a_blob_that_is_called_as_a_second_value() -> None:
    spec = net_of("Convolution a: data -> a", "TanH r: a -> a", "TanH s: a -> s", "Eltwise e: a s -> e").spec
    named = {"s": "a (2)"}
    bottoms = [tuple(named.get(name, name) for name in layer.bottoms) for layer in spec.layers]
    tops = [tuple(named.get(name, name) for name in layer.tops) for layer in spec.layers]
    layers = tuple(map(_wired, spec.layers, bottoms, tops))
    flow = read(replace(spec, layers=layers), ("e",))
    assert [operation.tops for operation in flow.operations] == [("a",), ("a (3)",), ("a (2)",), ("e",)]
    assert flow.operations[-1].bottoms == ("a (3)", "a (2)")


def _wired(layer: LayerSpec, bottoms: tuple[str, ...], tops: tuple[str, ...]) -> LayerSpec:
    return replace(layer, bottoms=bottoms, tops=tops)


@pytest.mark.parametrize("seed", range(20))
def test_passes_keep_the_order_that_values_need(seed: int) -> None:
    net = random_net(seed, pieces=14)
    flow = merge(flow_of(net))
    assert len(flow.operations) < len(net.spec.layers)
    made = set(flow.inputs)
    for operation in flow.operations:
        assert made.issuperset(operation.bottoms)
        made |= set(operation.tops)
    assert_same(flow, net)
