"""Two layers with weights and one name, which Caffe builds, get names of their own."""

from __future__ import annotations

from converters import CaffeNet
from converters.passes import prepare
from parity_tests.passes.texts import CONV, INPUT, layer, net


def test_each_layer_with_weights_has_a_name_of_its_own() -> None:
    spec = net(
        INPUT,
        layer("conv", "Convolution", "data", "a", CONV),
        layer("conv", "ReLU", "a", "a"),
        layer("conv", "Convolution", "a", "b", CONV),
        layer("conv_2", "InnerProduct", "b", "c", "inner_product_param { num_output: 2 }"),
    )
    found = prepare(spec)
    assert [each.name for each in found.layers] == ["data", "conv", "conv_3", "conv_4", "conv_2"]
    assert any("the second 'conv' is 'conv_3', the second 'conv' is 'conv_4'" in note for note in found.notes)
    assert [*CaffeNet(spec).state_dict()] == [
        f"{name}.{blob}" for name in ("conv", "conv_4", "conv_2") for blob in ("weight", "bias")
    ]


def test_one_name_without_weights_stays() -> None:
    spec = net(INPUT, layer("r", "ReLU", "data", "a"), layer("r", "ReLU", "a", "b"))
    assert prepare(spec).layers == spec.layers
