"""Blobs to state dicts and back: keys, shapes, what does not fit, and that nothing is lost on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from converters import CaffeNet, MismatchError, from_state_dict, read_caffemodel, read_prototxt, to_state_dict
from converters.execution.state_dict import cover, key_of, split_key
from converters.formats.caffemodel import parse_caffemodel
from converters.formats.model import CaffeModel
from converters.formats.prototxt import parse_prototxt
from converters.schema import NetParameter
from parity_tests.fill import fill_blob, input_blob
from parity_tests.goldens import GOLDEN, compare, formats
from parity_tests.small_files import PROTOTXT, small_blobs, small_v0, small_v1, small_v2
from parity_tests.tolerances import tolerance

GOLDENS = sorted(path.name for path in (GOLDEN / "formats").glob("*.caffemodel"))
INPUT = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }\n'


def model_of(prototxt: str, **blobs: tuple[np.ndarray, ...]) -> CaffeModel:
    return CaffeModel(parse_prototxt(prototxt), blobs)


def values(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape)


# Keys


@given(st.text(max_size=20), st.integers(0, 30))
def test_a_key_tells_layer_and_position(layer: str, position: int) -> None:
    assert split_key(key_of(layer, position)) == (layer, position)


@pytest.mark.parametrize("key", ["conv", "c.blob", "c.blob0", "c.blob1", "c.blob02", "c.blob٣", "x.running_mean"])
def test_a_key_of_another_form_is_refused(key: str) -> None:
    with pytest.raises(MismatchError, match=r"expected <layer>.weight"):
        split_key(key)


def test_keys_go_by_position_whatever_the_type() -> None:
    state = to_state_dict(read_caffemodel(formats("layer-zoo-1.caffemodel")))
    found = {key: tuple(value.shape) for key, value in state.items() if key.startswith(("chain_bn", "scale_one"))}
    assert found == {
        "chain_bn.weight": (3,),
        "chain_bn.bias": (3,),
        "chain_bn.blob2": (1,),
        "scale_one.weight": (),
        "scale_one.bias": (),
    }


@pytest.mark.parametrize("name", ["a.b", "inception_3a/1x1", "weight", "x.weight", "a b", "層", "train", "forward"])
def test_names_stay_as_they_are(name: str) -> None:
    prototxt = PROTOTXT.replace('"conv" type', f'"{name}" type')
    blobs = small_blobs()
    model = model_of(prototxt, **{name: blobs["conv"], "fc": blobs["fc"]})
    state = to_state_dict(model)
    assert set(state) == {f"{name}.weight", f"{name}.bias", "fc.weight", "fc.bias"}
    CaffeNet(model.spec).load_state_dict(state, strict=True)
    assert set(from_state_dict(state, model.spec).blobs) == {name, "fc"}


# Shapes


@pytest.mark.parametrize("make", [small_v1, small_v0])
def test_legacy_dims_are_reduced(make: Callable[[], Any]) -> None:
    model = parse_caffemodel(make().SerializeToString())
    assert model.blobs["fc"][0].shape == (1, 1, 2, 144) and model.blobs["conv"][1].shape == (1, 1, 1, 4)
    coverage = cover(model)
    assert [(e.key, e.shape, e.fit) for e in coverage.entries] == [
        ("conv.weight", (4, 3, 3, 3), "as it is"),
        ("conv.bias", (4,), "legacy dims reduced"),
        ("fc.weight", (2, 144), "legacy dims reduced"),
        ("fc.bias", (2,), "legacy dims reduced"),
    ]
    state = to_state_dict(model)
    for name, own in small_blobs().items():
        np.testing.assert_array_equal(state[f"{name}.weight"], own[0])
        np.testing.assert_array_equal(state[f"{name}.bias"], own[1])


CONVOLUTION = INPUT + (
    'layer { name: "fc" type: "Convolution" bottom: "data" top: "fc" '
    "convolution_param { num_output: %d kernel_size: 8 } }"
)
FULLY_CONNECTED = INPUT + (
    'layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: %d } }'
)


@pytest.mark.parametrize("outputs", [1, 5])
@pytest.mark.parametrize(
    ("prototxt", "source", "goal"),
    [
        (CONVOLUTION, (-1, 192), (-1, 3, 8, 8)),
        (CONVOLUTION, (1, 1, -1, 192), (-1, 3, 8, 8)),
        (FULLY_CONNECTED, (-1, 3, 8, 8), (-1, 192)),
    ],
    ids=["matrix to convolution", "legacy matrix to convolution", "convolution to matrix"],
)
def test_fully_connected_and_convolution_are_exchanged(
    prototxt: str, source: tuple[int, ...], goal: tuple[int, ...], outputs: int
) -> None:
    source, goal = (tuple(outputs if d == -1 else d for d in shape) for shape in (source, goal))
    model = model_of(prototxt % outputs, fc=(values(*source), values(outputs)))
    coverage = cover(model)
    assert coverage.entries[0].fit == "fully connected and convolution exchanged"
    weight = to_state_dict(model)["fc.weight"]
    assert weight.shape == goal
    np.testing.assert_array_equal(weight.flatten(), values(outputs * 192))


def test_exchanged_weights_compute_the_same() -> None:
    blobs = {"fc": (fill_blob("fc", "InnerProduct", 0, (5, 192)), fill_blob("fc", "InnerProduct", 1, (5,)))}
    x = torch.from_numpy(input_blob("data", (1, 3, 8, 8)))
    outputs = []
    for prototxt in (FULLY_CONNECTED % 5, CONVOLUTION % 5):
        model = model_of(prototxt, **blobs)
        net = CaffeNet(model.spec)
        net.load_state_dict(to_state_dict(model), strict=True)
        outputs.append(net(x).detach().numpy().ravel())
    assert compare(*outputs) <= tolerance("format-blobs")


@pytest.mark.parametrize(
    "shape", [(5, 191), (192, 5), (5, 3, 8, 9), (5, 8, 8, 3), (5, 1, 192), (5, 3, 64), (5, 192, 1, 1)], ids=str
)
def test_a_shape_that_does_not_fit_is_named(shape: tuple[int, ...]) -> None:
    model = replace(model_of(CONVOLUTION % 5, fc=(values(*shape), values(5))), path="some.caffemodel")
    with pytest.raises(MismatchError) as caught:
        to_state_dict(model)
    message = str(caught.value)
    assert message.startswith("some.caffemodel: layer 'fc' (Convolution, line 2) blob 0: the net needs shape")
    assert str(shape) in message and "(5, 3, 8, 8)" in message


def test_deconvolution_weights_keep_their_axes() -> None:
    """(in, out / group, kh, kw) in Caffe and in PyTorch; exchanged axes must not pass."""
    prototxt = INPUT + (
        'layer { name: "up" type: "Deconvolution" bottom: "data" top: "up" '
        "convolution_param { num_output: 7 kernel_size: 4 stride: 2 bias_term: false } }"
    )
    assert to_state_dict(model_of(prototxt, up=(values(3, 7, 4, 4),)))["up.weight"].shape == (3, 7, 4, 4)
    with pytest.raises(MismatchError):
        to_state_dict(model_of(prototxt, up=(values(7, 3, 4, 4),)))


# What does not belong together


def test_missing_and_superfluous_blobs_are_named() -> None:
    blobs = small_blobs()
    for own in (blobs["conv"][:1], (*blobs["conv"], values(1)), ()):
        with pytest.raises(MismatchError, match=rf"'conv' .*the net has 2 blobs; found {len(own)} in the weights"):
            to_state_dict(model_of(PROTOTXT, conv=own, fc=blobs["fc"]))
    with pytest.raises(MismatchError, match=r"'fc' .*the net has 2 blobs; found 0"):
        to_state_dict(model_of(PROTOTXT, conv=blobs["conv"]))


def test_another_nets_weights_are_recognised() -> None:
    model = replace(read_caffemodel(formats("fcn8s-mini.caffemodel")), path="fcn.caffemodel")
    spec = replace(parse_prototxt(PROTOTXT), path="small.prototxt")
    with pytest.raises(MismatchError) as caught:
        to_state_dict(model, spec=spec)
    assert str(caught.value).startswith("fcn.caffemodel: no layer of the net is in this file, which has conv1_1, ")
    assert "small.prototxt" in str(caught.value)


def test_blobs_of_layers_that_the_net_lacks_are_listed() -> None:
    spec = parse_prototxt(PROTOTXT[: PROTOTXT.index('layer { name: "fc"')])
    coverage = cover(CaffeModel(None, small_blobs()), spec=spec)
    assert coverage.unused == (("fc", 0, (2, 144)), ("fc", 1, (2,)))
    assert [entry.key for entry in coverage.entries] == ["conv.weight", "conv.bias"]


@given(st.sets(st.sampled_from(["conv1", "conv2", "fc1", "fc2"])), st.booleans())
def test_every_blob_is_accounted_for(dropped: set[str], has_net: bool) -> None:
    """Of a net with any layers taken out: entries and unused blobs together are all that is in the file, once."""
    layers = {
        "conv1": 'type: "Convolution" convolution_param { num_output: 2 kernel_size: 1 }',
        "conv2": 'type: "Convolution" convolution_param { num_output: 2 kernel_size: 3 pad: 1 bias_term: false }',
        "fc1": 'type: "InnerProduct" inner_product_param { num_output: 3 }',
        "fc2": 'type: "InnerProduct" inner_product_param { num_output: 3 bias_term: false }',
    }
    prototxt = INPUT + "".join(
        f'layer {{ name: "{name}" bottom: "data" top: "{name}" {rest} }}\n'
        for name, rest in layers.items()
        if name not in dropped
    )
    blobs = {
        "conv1": (values(2, 3, 1, 1), values(2)),
        "conv2": (values(2, 3, 3, 3),),
        "fc1": (values(1, 1, 3, 192), values(1, 1, 1, 3)),
        "fc2": (values(3, 192),),
    }
    model = CaffeModel(None, blobs)
    if has_net and len(dropped) == len(layers):
        with pytest.raises(MismatchError):
            cover(model, spec=parse_prototxt(prototxt))
        return
    coverage = cover(model, spec=parse_prototxt(prototxt) if has_net else None)
    found = [(e.layer, e.position, e.source_shape) for e in coverage.entries] + list(coverage.unused)
    expected = [(name, i, blob.shape) for name, own in blobs.items() for i, blob in enumerate(own)]
    assert sorted(found) == sorted(expected)
    assert {name for name, _, _ in coverage.unused} == (dropped if has_net else set())
    assert bool(coverage.unchecked) is not has_net


def test_a_training_net_says_nothing_about_what_depends_on_its_input() -> None:
    """Its data layer gives no size, so the fully connected weight is taken as it is; all else is checked."""
    train = """
    layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN } data_param { source: "a" } }
    layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TEST } data_param { source: "b" } }
    layer {
      name: "conv" type: "Convolution" bottom: "data" top: "conv"
      convolution_param { num_output: 4 kernel_size: 3 }
    }
    layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc" inner_product_param { num_output: 2 } }
    layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
    """
    coverage = cover(model_of(train, **small_blobs()))
    assert [entry.shape for entry in coverage.entries] == [(4, 3, 3, 3), (4,), (2, 144), (2,)]
    wrong = {**small_blobs(), "conv": (values(4, 3, 5, 5), values(4))}
    with pytest.raises(MismatchError, match=r"'conv' .* needs shape \(4, 3, 3, 3\); found \(4, 3, 5, 5\)"):
        cover(model_of(train, **wrong))


def test_shapes_are_checked_up_to_a_layer_that_nobody_knows() -> None:
    prototxt = PROTOTXT.replace('type: "ReLU"', 'type: "Mystery"')
    coverage = cover(model_of(prototxt, **small_blobs()))
    assert len(coverage.entries) == 4
    assert coverage.unchecked == "layer 'relu' (Mystery, line 8): unsupported layer type 'Mystery'"
    with pytest.raises(MismatchError, match="'conv'"):
        cover(model_of(prototxt, conv=(values(1), values(4)), fc=small_blobs()["fc"]))


# Blobs that layers share


@pytest.mark.parametrize("suffix", ["", ".h5"])
def test_shared_blobs_fit_the_net_from_both_forms(suffix: str) -> None:
    spec = read_prototxt(formats("layer-zoo-1.prototxt"))
    state = to_state_dict(read_caffemodel(formats(f"layer-zoo-1.caffemodel{suffix}")), spec=spec)
    assert ("shared_b.weight" in state) == (suffix == "")
    CaffeNet(spec).load_state_dict(state, strict=True)


def test_shared_blobs_are_written_for_each_layer_as_caffe_does() -> None:
    """Also those that an .h5, or the state dict of a CaffeNet, has once."""
    binary = read_caffemodel(formats("layer-zoo-1.caffemodel"))
    h5 = read_caffemodel(formats("layer-zoo-1.caffemodel.h5"))
    net = CaffeNet(binary.spec)
    net.load_state_dict(to_state_dict(binary), strict=True)
    for state in (to_state_dict(binary), to_state_dict(h5, spec=binary.spec), net.state_dict()):
        model = from_state_dict(state, binary.spec)
        assert model.blobs.keys() == binary.blobs.keys()
        for name, own in binary.blobs.items():
            assert [(b.shape, b.tobytes()) for b in model.blobs[name]] == [(b.shape, b.tobytes()) for b in own], name


def test_a_blob_that_is_not_shared_may_not_be_left_out() -> None:
    h5 = read_caffemodel(formats("layer-zoo-1.caffemodel.h5"))
    spec = parse_prototxt(formats("layer-zoo-1.prototxt").read_text().replace('name: "w" share_mode', "share_mode"))
    with pytest.raises(MismatchError, match=r"'shared_ip' .*the net has 2 blobs; found 1"):
        cover(h5, spec=spec)


# The way back


@pytest.mark.parametrize("name", GOLDENS)
def test_there_and_back_again(name: str) -> None:
    model = read_caffemodel(formats(name))
    state = to_state_dict(model)
    again = from_state_dict(state, model.spec)
    assert again.spec is model.spec
    assert list(again.blobs) == [layer.name for layer in model.spec.layers if layer.name in model.blobs]
    for layer, own in model.blobs.items():
        for found, blob in zip(again.blobs[layer], own, strict=True):
            assert not found.flags.writeable
            assert found.dtype == blob.dtype and found.tobytes() == blob.tobytes()
            assert found.size == blob.size
    assert to_state_dict(again).keys() == state.keys()
    for key, tensor in to_state_dict(again).items():
        assert torch.equal(tensor, state[key])


def test_tensors_are_their_own() -> None:
    model = parse_caffemodel(small_v2().SerializeToString())
    state = to_state_dict(model)
    state["conv.weight"] += 1
    np.testing.assert_array_equal(model.blobs["conv"][0], small_blobs()["conv"][0])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.float32])
def test_types_of_tensors(dtype: torch.dtype) -> None:
    spec = parse_prototxt(PROTOTXT)
    state = {k: v.to(dtype).requires_grad_() for k, v in to_state_dict(CaffeModel(spec, small_blobs())).items()}
    blob = from_state_dict(state, spec).blobs["conv"][0]
    assert blob.dtype == (np.float32 if dtype == torch.bfloat16 else torch.empty(0, dtype=dtype).numpy().dtype)
    np.testing.assert_array_equal(blob, state["conv.weight"].detach().double().numpy())


def test_a_state_dict_of_another_net_is_refused() -> None:
    spec = parse_prototxt(PROTOTXT)
    state = to_state_dict(CaffeModel(spec, small_blobs()))
    with pytest.raises(MismatchError, match=r"the net has no layer for other.weight"):
        from_state_dict({**state, "other.weight": state["fc.weight"]}, spec)
    with pytest.raises(MismatchError, match=r"layer 'conv' has blobs \[1\]; one is missing"):
        from_state_dict({k: v for k, v in state.items() if k != "conv.weight"}, spec)
    with pytest.raises(MismatchError, match=r"'fc' .*the net has 2 blobs; found 0"):
        from_state_dict({k: v for k, v in state.items() if k.startswith("conv")}, spec)
    with pytest.raises(MismatchError, match=r"'conv' .* blob 0: the net needs shape"):
        from_state_dict({**state, "conv.weight": state["fc.weight"]}, spec)


def test_a_layer_whose_settings_have_no_names_in_the_file_is_converted_all_the_same() -> None:
    """A fork's parameters are numbers in a binary file: the net cannot be run from it, but the weights are there."""
    message = NetParameter(name="fork")
    layer = message.layer.add(name="bn", type="BN", bottom=["data"], top=["bn"])
    layer.MergeFromString(b"\xea\x02\x02\x08\x01")  # field 45, which is bn_param in SegNet's and ENet's Caffe
    for _ in range(2):
        layer.blobs.add(data=[1, 2, 3]).shape.dim.extend([1, 3, 1, 1])
    coverage = cover(parse_caffemodel(message.SerializeToString()))
    assert [entry.key for entry in coverage.entries] == ["bn.weight", "bn.bias"]
    assert coverage.unchecked is not None and "bn_param" in coverage.unchecked
