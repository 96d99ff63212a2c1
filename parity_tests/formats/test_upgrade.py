"""Caffe's upgrade rules, against what Caffe's own upgrader wrote, and what must survive them that Caffe would lose."""

from __future__ import annotations

from typing import Any

import pytest

from converters import NetError, parse_prototxt, read_prototxt
from converters.formats.prototxt import format_prototxt
from converters.formats.text_format import parse_text
from converters.formats.upgrade import V1_TYPES, fork_type, upgrade_net
from converters.formats.upgrade_v0 import V0_TYPES
from converters.net.layer import UnknownField
from converters.schema import NetParameter, V1LayerParameter
from parity_tests.goldens import GOLDEN, formats

UPGRADE = GOLDEN / "upgrade"


def net(text: str) -> Any:
    return parse_text(text, NetParameter).message


# Against Caffe's upgrader


@pytest.mark.parametrize("name", ["v0-every-field", "v1-every-field"])
def test_every_type_and_every_field_is_upgraded_as_by_caffe(name: str) -> None:
    upgraded = format_prototxt(read_prototxt(UPGRADE / f"{name}.prototxt"))
    expected = (UPGRADE / f"{name}.upgraded.prototxt").read_text()
    assert upgraded == expected.replace('  type: ""\n', "")  # V1's NONE; we write no empty names


@pytest.mark.parametrize("name", ["v0-every-field", "v1-every-field"])
def test_an_upgraded_net_is_left_as_it_is(name: str) -> None:
    message = net((UPGRADE / f"{name}.upgraded.prototxt").read_text())
    upgraded = upgrade_net(message)
    assert upgraded.message == message
    assert (upgraded.sources, upgraded.notes) == (tuple(range(len(message.layer))), ())


def test_every_type_of_caffe_is_known() -> None:
    assert set(V1_TYPES) == {value.name for value in V1LayerParameter.LayerType.DESCRIPTOR.values}
    assert set(V0_TYPES.values()) < set(V1_TYPES)


def test_wrong_variant_a_forgotten_field_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(V0_TYPES, "pool", "CONVOLUTION")
    upgraded = format_prototxt(read_prototxt(UPGRADE / "v0-every-field.prototxt"))
    assert upgraded != (UPGRADE / "v0-every-field.upgraded.prototxt").read_text()


def test_a_v0_field_that_means_nothing_to_its_type_is_told_of() -> None:
    notes = read_prototxt(UPGRADE / "v0-every-field.prototxt").notes
    assert "layer 'relu': type 'relu' has no 'pad'; left out, as in Caffe" in notes
    assert notes[-1] == "upgraded 24 layers from the form of 2013 (V0)"
    assert not [note for note in notes if "'conv' has no 'pad'" in note]


# Where layers come from


@pytest.mark.parametrize(
    ("text", "sources"),
    [
        (formats("v0-mini.prototxt").read_text(), (None, 1, 2, 3, 4, 5, 6, 7)),  # the padding layer, 0, is gone
        (formats("v1-mini.prototxt").read_text(), (None, 0, 1, 2, 3, 4, 5, 6, 7)),
        (formats("v1-mini.upgraded.prototxt").read_text(), tuple(range(9))),
        ('input: "a" layer { name: "b" }', (None, 0)),
    ],
    ids=["v0", "v1", "v2", "input"],
)
def test_each_layer_says_where_it_comes_from(text: str, sources: tuple[int | None, ...]) -> None:
    message = net(text)
    before = message.SerializeToString(deterministic=True)
    upgraded = upgrade_net(message)
    assert upgraded.sources == sources
    assert message.SerializeToString(deterministic=True) == before
    old = message.layers or message.layer
    for layer, source in zip(upgraded.message.layer, sources, strict=True):
        if source is not None:
            assert layer.name == (old[source].name or old[source].layer.name)


def test_unknown_fields_go_with_their_layer() -> None:
    spec = parse_prototxt(
        'input: "d" layers { layer { name: "p" type: "padding" pad: 1 } bottom: "d" top: "e" }\n'
        'layers { layer { name: "c" type: "conv" fork: 3 weight_filler { odd: 1 } } bottom: "e" top: "f" other: 4 }\n'
        'layers { layer { name: "n" type: "local_norm" } bottom: "f" top: "f" }'
    )
    assert [(layer.name, layer.type, layer.line, layer.extra) for layer in spec.layers] == [
        ("input", "Input", None, ()),
        (
            *("c", "Convolution", 2),
            (UnknownField("fork", 3, 2), UnknownField("weight_filler.odd", 1, 2), UnknownField("other", 4, 2)),
        ),
        ("n", "LocalNorm", 3, ()),
    ]
    assert spec.layer("c").bottoms == ("d",) and spec.layer("c").to_message().convolution_param.pad == [1]


# Types and fields of forks


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("CROP", "Crop"),
        ("BN", "BN"),
        ("BATCH_NORM", "BatchNorm"),
        ("PRELU", "PReLU"),
        ("PYTHON", "Python"),
        ("ROI_POOLING", "ROIPooling"),
        ("MULTI_STAGE_MEANFIELD", "MultiStageMeanfield"),
        ("SOFTMAX_WITH_LOSS", "SoftmaxWithLoss"),
        (40, "Crop"),
        (57, "V1Type57"),
    ],
)
def test_v1_types_of_forks_get_a_v2_name(value: str | int, name: str) -> None:
    assert fork_type(value) == name
    spec = parse_prototxt(f'\nlayers {{ name: "x" type: {value} }}')
    assert spec.layers[0].type == name and spec.layers[0].extra == ()
    assert f"line 2: layer type {value} is not BVLC Caffe's; taken as '{name}'" in spec.notes


def test_a_v1_layer_keeps_the_parameters_that_only_v2_layers_have() -> None:
    """Forks gave V1 layers crop_param, prelu_param and others; Caffe's upgrade does not know them."""
    spec = parse_prototxt('layers { name: "x" type: CROP crop_param { axis: 1 offset: 5 offset: 9 tilt: 3 } }')
    param = spec.layers[0].to_message().crop_param
    assert (param.axis, list(param.offset)) == (1, [5, 9])
    assert spec.layers[0].extra == (UnknownField("crop_param.tilt", 3, 1),)
    assert parse_prototxt(format_prototxt(spec)).layers[0].definition == spec.layers[0].definition
    with pytest.raises(NetError, match=r"layer 'x', crop_param on line 2: expected an integer .* found 'far'"):
        parse_prototxt('layers { name: "x" type: CROP\ncrop_param { offset: far } }')


def test_the_type_of_a_binary_v1_layer_comes_as_a_number() -> None:
    message = NetParameter()
    message.layers.add(name="crop")
    upgraded = upgrade_net(message, extras={0: (UnknownField("type", 40), UnknownField("#77", b"?"))})
    assert upgraded.message.layer[0].type == "Crop"
    assert upgraded.extras == {0: (UnknownField("#77", b"?"),)}


# The smaller upgrades, and what Caffe would die of


def test_inputs_without_shapes_are_kept() -> None:
    """Old caffemodels name their inputs only; Caffe drops the names, and the net could not be built."""
    spec = parse_prototxt('input: "a" input: "b" layer { name: "r" type: "ReLU" bottom: "a" top: "c" }')
    assert dict(spec.inputs) == {"a": (), "b": ()}
    assert spec.notes == ("the net gives no shape for its inputs a, b",)


def test_input_dims_beyond_the_inputs_are_told_of() -> None:
    spec = parse_prototxt('input: "a" input_dim: [1, 2, 3, 4, 5, 6, 7, 8] layer { name: "r" }')
    assert dict(spec.inputs) == {"a": (1, 2, 3, 4)}
    assert spec.notes == ("1 inputs but 2 shapes; as in Caffe, the last ones are ignored",)


def test_batch_norms_statistics_are_kept_from_the_solver() -> None:
    text = 'layer { name: "b" type: "BatchNorm" param { lr_mult: 1 } param { name: "s" } param { decay_mult: 3 } }'
    params = parse_prototxt(text).layers[0].param_specs
    assert [(param.name, param.lr_mult, param.decay_mult) for param in params] == [("", 0, 0), ("s", 0, 0), ("", 0, 0)]
    two = parse_prototxt('layer { name: "b" type: "BatchNorm" param { lr_mult: 1 } param { } }').layers[0].param_specs
    assert [param.lr_mult for param in two] == [1, 1]


PAD = 'input: "d" layers { layer { name: "p" type: "padding" pad: 2 } bottom: "d" top: "e" }'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (f'{PAD} layers {{ layer {{ name: "r" type: "relu" }} bottom: "e" }}', "layer 'r': .* padding layer 'p'"),
        (f'{PAD} layers {{ layer {{ name: "c" type: "conv" }} bottom: "e" bottom: "d" }}', "with 2 bottoms"),
        (
            'input: "d" layers { layer { name: "p" type: "padding" } bottom: "d" bottom: "d" top: "e" }'
            'layers { layer { name: "c" type: "conv" } bottom: "e" }',
            "layer 'p': 2 bottoms and 1 tops",
        ),
        ('layers { layer { name: "c" type: "conv" } bottom: "x" }', "layer 'c': its bottom 'x' comes from no layer"),
        ('layers { layer { name: "c" } } layers { name: "d" }', "V0 and V1 layers are mixed"),
        ('layers { layer { name: "i" type: "images" new_height: -1 } }', "layer 'i': new_height is -1"),
        ('input: "a" input_dim: 1 layer { }', "input_dim is given 1 times"),
        ('input: "a" input: "b" input_shape { dim: 1 } layer { }', "2 inputs but 1 shapes"),
    ],
)
def test_what_caffe_would_die_of_is_an_error_that_names_the_layer(text: str, problem: str) -> None:
    with pytest.raises(NetError, match=problem):
        parse_prototxt(text)


def test_a_net_in_two_forms_is_refused_as_caffe_refuses_it() -> None:
    """upgrade_proto.cpp, UpgradeV1Net: "Refusing to upgrade inconsistent NetParameter input"."""
    with pytest.raises(NetError, match=r"both 'layer' \(1\) and 'layers' \(1\) fields; Caffe refuses"):
        parse_prototxt('layer { name: "new" } layers { name: "old" }')
