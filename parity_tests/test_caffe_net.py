"""CaffeNet executes a net as Caffe does, and is a PyTorch module like any other."""

from __future__ import annotations

import copy
import pickle
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from converters import (
    CaffeNet,
    NetError,
    NetSpec,
    UnknownLayerError,
    parse_prototxt,
    read_caffemodel,
    read_prototxt,
    register_layer,
    to_state_dict,
)
from converters.layers import base, convolution, lrn, pooling, softmax
from parity_tests.fill import INPUT_SCALE, input_blob
from parity_tests.goldens import compare, format_blobs, formats
from parity_tests.tolerances import tolerance

CLAIMS = {
    "layer-zoo-0": "caffenet-zoo",
    "layer-zoo-1": "caffenet-zoo",
    "v1-mini": "format-blobs",
    "v0-mini": "format-blobs",
    "fcn8s-mini": "format-blobs",
}
FLT_MAX = np.finfo(np.float32).max


def load(spec: NetSpec, weights: Path) -> CaffeNet:
    net = CaffeNet(spec)
    net.load_state_dict(to_state_dict(read_caffemodel(weights), spec=spec), strict=True)
    return net


def inputs_of(net: CaffeNet, name: str) -> dict[str, torch.Tensor]:
    """The inputs of a recording; the zoos' are drawn without scale."""
    scale = 1.0 if name.startswith("layer-zoo") else INPUT_SCALE
    return {blob: torch.from_numpy(input_blob(blob, shape, scale=scale)) for blob, shape in net.inputs.items()}


def worst_blob(net: CaffeNet, name: str) -> tuple[float, str]:
    """The largest difference of any blob from Caffe's, relative to the blob's largest magnitude; all must be there."""
    with torch.no_grad():
        found = net.blobs(**inputs_of(net, name))
    assert set(found) == set(format_blobs(name))
    worst = (0.0, "")
    for blob, golden in format_blobs(name).items():
        array = found[blob].numpy()
        empty = np.abs(golden) == FLT_MAX  # windows without a place; beside them every other value would be nothing
        assert array.shape == golden.shape, blob
        assert (array[empty] == golden[empty]).all(), blob
        worst = max(worst, (compare(np.where(empty, 0, array), np.where(empty, 0, golden)), blob))
    return worst


@pytest.mark.parametrize("name", CLAIMS)
def test_every_blob_is_caffes(name: str) -> None:
    """A net from its prototxt, weights from the caffemodel; in-place layers have overwritten their bottoms."""
    net = load(read_prototxt(formats(f"{name}.prototxt")), formats(f"{name}.caffemodel"))
    difference, blob = worst_blob(net, name)
    assert difference <= tolerance(CLAIMS[name]), blob


@pytest.mark.parametrize("name", ["fcn8s-mini", "layer-zoo-0", "layer-zoo-1"])
def test_the_caffemodel_alone_is_enough(name: str) -> None:
    """The net that Caffe wrote into the file has its Split layers in it; their copies are not blobs of ours."""
    model = read_caffemodel(formats(f"{name}.caffemodel"))
    assert model.spec is not None
    net = CaffeNet(model.spec)
    net.load_state_dict(to_state_dict(model))
    difference, blob = worst_blob(net, name)
    assert difference <= tolerance(CLAIMS[name]), blob


@pytest.mark.parametrize("name", ["fcn8s-mini", "layer-zoo-0"])
def test_hdf5_weights_give_the_same_bits(name: str) -> None:
    spec = read_prototxt(formats(f"{name}.prototxt"))
    states = [load(spec, formats(f"{name}{kind}")).state_dict() for kind in (".caffemodel", ".caffemodel.h5")]
    assert list(states[0]) == list(states[1])
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


# Wrong variants: each is a mistake that converters make, and each must show in a recording


class FloorPooling(pooling.Pooling):
    ceil = property(lambda self: False, lambda self, value: None)  # type: ignore[assignment]


class AverageWithoutPad(pooling.Pooling):
    def _average(self, x):
        return nn.functional.avg_pool2d(x, self.kernel, self.stride, self.pad, self.ceil, count_include_pad=False)


class AlphaNotDivided(lrn.LRN):
    def forward(self, bottoms, blobs, *, training=False):
        right = lrn.LRN(self.local_size, self.alpha * self.local_size, self.beta, self.k, self.within_channel)
        return right.forward(bottoms, blobs)


class FlippedKernel(convolution.Deconvolution):
    def _convolve(self, x, weight, bias):
        return super()._convolve(x, weight.flip(2, 3), bias)


class TransposedKernel(convolution.Deconvolution):
    def _convolve(self, x, weight, bias):
        return super()._convolve(x, weight.transpose(2, 3), bias)


class FirstOfTies(softmax.ArgMax):
    def _largest(self, x, axis):
        values, places = x.topk(self.top_k, axis)
        return values, places.to(x.dtype)


WRONG = [
    ("Pooling", FloorPooling, "fcn8s-mini"),
    ("Pooling", FloorPooling, "layer-zoo-1"),
    ("Pooling", AverageWithoutPad, "layer-zoo-0"),
    ("LRN", AlphaNotDivided, "layer-zoo-0"),
    ("LRN", AlphaNotDivided, "v1-mini"),
    ("Deconvolution", FlippedKernel, "layer-zoo-0"),
    ("Deconvolution", TransposedKernel, "fcn8s-mini"),
    ("ArgMax", FirstOfTies, "layer-zoo-1"),
]


@pytest.mark.parametrize(("kind", "variant", "name"), WRONG, ids=lambda value: getattr(value, "__name__", value))
def test_a_wrong_layer_is_noticed(kind: str, variant: type, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(base._types, kind, variant)
    try:
        net = load(read_prototxt(formats(f"{name}.prototxt")), formats(f"{name}.caffemodel"))
        difference, _ = worst_blob(net, name)
    except (AssertionError, ValueError):
        return  # other shapes
    assert difference > 10 * tolerance(CLAIMS[name])


# A module like any other

CONV = "convolution_param { num_output: 2 kernel_size: 3 pad: 1 }"
INPUT = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 9 } } }\n'


def net_of(*layers: str, given: str = INPUT) -> CaffeNet:
    """A net with every parameter drawn at random."""
    torch.manual_seed(0)
    net = CaffeNet(parse_prototxt(given + "\n".join(f"layer {{ {layer} }}" for layer in layers)))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.uniform_(0.5, 1.5)
    return net


@pytest.fixture
def mini() -> CaffeNet:
    return load(read_prototxt(formats("fcn8s-mini.prototxt")), formats("fcn8s-mini.caffemodel"))


def test_any_size_and_batch(mini: CaffeNet) -> None:
    x = torch.from_numpy(input_blob("batch", (2, 3, 47, 66)))
    with torch.no_grad():
        score = mini(x)
        assert score.shape == (2, 7, 47, 66)
        alone = torch.cat([mini(item[None]) for item in x])
    torch.testing.assert_close(score, alone, rtol=0, atol=float(5e-6 * score.abs().max()))


def test_eval_by_default_and_dropout_in_training(mini: CaffeNet) -> None:
    assert not mini.training
    x = torch.from_numpy(input_blob("data", (1, 3, 40, 40)))
    with torch.no_grad():
        assert torch.equal(mini(x), mini(x))
        mini.train()
        assert not torch.equal(mini(x), mini(x))


def test_gradients_reach_every_parameter() -> None:
    net = net_of(
        f'name: "conv" type: "Convolution" bottom: "data" top: "conv" {CONV}',
        'name: "bn" type: "BatchNorm" bottom: "conv" top: "conv"',
        'name: "scale" type: "Scale" bottom: "conv" top: "conv" scale_param { bias_term: true }',
        'name: "relu" type: "ReLU" bottom: "conv" top: "conv"',
    )
    net(torch.randn(2, 3, 8, 9)).sum().backward()
    trained = {name for name, parameter in net.named_parameters() if parameter.grad is not None}
    assert trained == {"conv.weight", "conv.bias", "scale.weight", "scale.bias"}
    assert {name for name, parameter in net.named_parameters() if parameter.requires_grad} == trained


def test_copies_and_pickles(mini: CaffeNet) -> None:
    x = torch.from_numpy(input_blob("data", (1, 3, 40, 40)))
    with torch.no_grad():
        expected = mini(x)
        for twin in (copy.deepcopy(mini), pickle.loads(pickle.dumps(mini))):
            assert torch.equal(twin(x), expected)
            next(twin.parameters()).zero_()
            assert not torch.equal(twin(x), expected)
        assert torch.equal(mini(x), expected)
        double = mini.double()(x.double())
    torch.testing.assert_close(double.float(), expected, rtol=0, atol=float(5e-6 * expected.abs().max()))


def test_compiles_whole(mini: CaffeNet) -> None:
    """As one graph; `aot_eager` traces all that the default backend does, without a minute of C++."""
    compiled = torch.compile(mini, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        for size in ((40, 50), (61, 33)):
            x = torch.from_numpy(input_blob("data", (1, 3, *size)))
            expected = mini(x)
            torch.testing.assert_close(compiled(x), expected, rtol=0, atol=float(5e-6 * expected.abs().max()))


def test_exports_with_free_height_and_width(mini: CaffeNet) -> None:
    size = torch.export.Dim("h", min=32, max=4096), torch.export.Dim("w", min=32, max=4096)
    example = torch.from_numpy(input_blob("data", (1, 3, 100, 100)))
    program = torch.export.export(mini, (example,), dynamic_shapes={"x": {2: size[0], 3: size[1]}})
    module = program.module()
    with torch.no_grad():
        for shape in ((32, 32), (75, 122), (100, 100), (131, 64)):
            x = torch.from_numpy(input_blob("data", (1, 3, *shape)))
            expected = mini(x)
            torch.testing.assert_close(module(x), expected, rtol=0, atol=float(5e-6 * expected.abs().max()))


@pytest.mark.parametrize("name", ["layer-zoo-0", "layer-zoo-1"])
def test_every_layer_type_can_be_traced(name: str) -> None:
    """But for Filter, whose top's size depends on values."""
    model = read_caffemodel(formats(f"{name}.caffemodel"))
    spec = read_prototxt(formats(f"{name}.prototxt"))
    outputs = [blob for blob in spec.outputs if not blob.startswith("chosen_")]
    net = CaffeNet(spec, outputs=outputs)
    net.load_state_dict(to_state_dict(model, spec=net.spec))
    inputs = inputs_of(net, name)
    program = torch.export.export(net, (), inputs)
    with torch.no_grad():
        found, expected = program.module()(**inputs), net(**inputs)
    for blob in outputs:
        torch.testing.assert_close(found[blob], expected[blob], rtol=1e-5, atol=1e-6, equal_nan=True)


# Keys are Caffe's, whatever the layers are called

ODD_NAMES = ("conv.1", "conv_1_", "conv_1", "train", "weight", "a/b", "_parameters", "spec", "_steps", "", "blobs")


def odd_net() -> CaffeNet:
    return net_of(
        *(f'name: "{name}" type: "Convolution" bottom: "data" top: "t{i}" {CONV}' for i, name in enumerate(ODD_NAMES))
    )


def test_state_dict_has_caffes_names() -> None:
    net = odd_net()
    keys = [f"{name}.{blob}" for name in ODD_NAMES for blob in ("weight", "bias")]
    state = net.state_dict()
    assert list(state) == keys
    twin = odd_net()
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    twin.load_state_dict(state, strict=True)
    x = torch.randn(1, 3, 8, 9)
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(net(x).values(), twin(x).values(), strict=True))
    assert dict(net.named_parameters())["conv_1.weight"] is net.get_submodule("conv_1").weight


def test_state_dict_below_another_module() -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = odd_net()
            self.conv_1 = nn.Linear(1, 1)

    outer = Outer()
    state = {key: value.clone() for key, value in outer.state_dict().items()}
    assert {f"inner.{name}.bias" for name in ODD_NAMES} | {"conv_1.bias"} < set(state)
    outer.load_state_dict({key: value * 2 for key, value in state.items()}, strict=True)
    assert all(torch.equal(outer.state_dict()[key], value * 2) for key, value in state.items())


def test_loading_complains_with_caffes_names() -> None:
    net = odd_net()
    state = net.state_dict()
    state["conv.1.bias"] = torch.zeros(9)
    del state["train.weight"]
    state["nobody.weight"] = torch.zeros(1)
    with pytest.raises(RuntimeError) as caught:
        net.load_state_dict(state)
    said = str(caught.value)
    assert 'Missing key(s) in state_dict: "train.weight"' in said
    assert 'Unexpected key(s) in state_dict: "nobody.weight"' in said
    assert "size mismatch for conv.1.bias" in said


def test_nothing_is_left_uninitialised() -> None:
    """Zeros, but for what would block the net: variances, factors, scales and slopes."""
    spec = read_prototxt(formats("layer-zoo-1.prototxt"))
    state = CaffeNet(spec).state_dict()
    other = {"bn_rows": (0, 1, 1), "bn_batch": (0, 1, 1), "chain_bn": (0, 1, 1), "prelu_shared": (0.25,)}
    for key, value in state.items():
        layer, _, blob = key.rpartition(".")
        position = {"weight": 0, "bias": 1, "blob2": 2}[blob]
        scale = (1, 0) if spec.layer(layer).type == "Scale" and layer != "scale_by_sums" else ()
        expected = (other.get(layer, scale) + (0,) * 3)[position]
        assert (value == expected).all(), key


# Shared blobs


def shared_net(second: str = CONV) -> CaffeNet:
    share = 'param { name: "w" } param { name: "b" }'
    return net_of(
        f'name: "a" type: "Convolution" bottom: "data" top: "a" {share} {CONV}',
        f'name: "b" type: "Convolution" bottom: "data" top: "b" {share} {second}',
    )


def test_shared_blobs_are_one_parameter() -> None:
    net = shared_net()
    assert list(net.state_dict()) == ["a.weight", "a.bias"]
    found = net(torch.randn(1, 3, 8, 9))
    assert torch.equal(found["a"], found["b"])


def test_loading_shared_blobs_keeps_the_last() -> None:
    """Caffe copies layer after layer into one memory; where they differ, we say so."""
    net = shared_net()
    first, last = torch.ones(2, 3, 3, 3), torch.full((2, 3, 3, 3), 2.0)
    bias = torch.zeros(2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net.load_state_dict({"a.weight": first, "a.bias": bias})
        net.load_state_dict({"a.weight": first, "a.bias": bias, "b.weight": first, "b.bias": bias})
    with pytest.warns(UserWarning, match=r"'a\.weight' and 'b\.weight' are shared and differ"):
        net.load_state_dict({"a.weight": first, "a.bias": bias, "b.weight": last, "b.bias": bias})
    assert torch.equal(net.state_dict()["a.weight"], last)


def test_shared_blobs_of_other_shapes_are_refused() -> None:
    with pytest.raises(NetError, match=r"shared with a\.weight of shape \(2, 3, 3, 3\)(?s:.)*PERMISSIVE"):
        shared_net("convolution_param { num_output: 2 kernel_size: 1 }")


# Inputs and outputs


def test_one_output_is_a_tensor_and_several_a_dict() -> None:
    one = net_of('name: "abs" type: "AbsVal" bottom: "data" top: "abs"')
    assert isinstance(one(torch.ones(1, 3, 8, 9)), torch.Tensor)
    two = net_of('name: "cut" type: "Slice" bottom: "data" top: "a" top: "b" slice_param { slice_point: 1 }')
    assert list(two(torch.ones(1, 3, 8, 9))) == ["a", "b"]
    assert two.outputs == ("a", "b")


TWO_INPUTS = INPUT + INPUT.replace("data", "depth").replace("dim: 3", "dim: 1")


def test_several_inputs_by_position_and_by_name() -> None:
    net = net_of('name: "cat" type: "Concat" bottom: "data" bottom: "depth" top: "cat"', given=TWO_INPUTS)
    data, depth = torch.randn(2, 3, 8, 9), torch.randn(2, 1, 8, 9)
    for cat in (net(data, depth), net(data, depth=depth), net(depth=depth, data=data)):
        assert torch.equal(cat, torch.cat((data, depth), 1))
    assert list(net.blobs(data, depth)) == ["data", "depth", "cat"]
    assert dict(net.inputs) == {"data": (1, 3, 8, 9), "depth": (1, 1, 8, 9)}


@pytest.mark.parametrize(
    ("given", "named", "problem"),
    [
        ((), {}, "expected the inputs data, depth; found none"),
        ((1,), {}, "expected the inputs data, depth; found without a name"),
        ((3, 1, 1), {}, "expected the inputs"),
        ((3,), {"data": 3}, "expected the inputs"),
        ((3,), {"hha": 3}, "found without a name, hha"),
        ((3, 3), {}, r"input 'depth': expected \(n, 1, h, w\), found \(1, 3, 8, 9\)"),
    ],
)
def test_wrong_inputs(given: tuple, named: dict, problem: str) -> None:
    net = net_of('name: "cat" type: "Concat" bottom: "data" bottom: "depth" top: "cat"', given=TWO_INPUTS)
    tensors = [torch.zeros(1, channels, 8, 9) for channels in given]
    with pytest.raises(ValueError, match=problem):
        net(*tensors, **{name: torch.zeros(1, channels, 8, 9) for name, channels in named.items()})


def test_an_input_without_batch_is_refused() -> None:
    with pytest.raises(ValueError, match=r"input 'data': expected \(n, 3, h, w\), found \(3, 8, 9\)"):
        net_of('name: "abs" type: "AbsVal" bottom: "data" top: "abs"')(torch.zeros(3, 8, 9))


def test_a_size_that_does_not_fit_names_the_layer(mini: CaffeNet) -> None:
    fixed = net_of('name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 2 }')
    with pytest.raises(ValueError, match=r"layer 'ip' would need blobs \(\(2, 240\), .*it has \(\(2, 216\),"):
        fixed(torch.zeros(1, 3, 8, 10))
    small = net_of('name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param '
                   "{ num_output: 2 kernel_size: 5 }")
    with pytest.raises(NetError, match=r"layer 'c' (?s:.)*too small"):
        small(torch.zeros(1, 3, 4, 9))


# Which layers are executed

TRAINING = """
layer { name: "input" type: "Data" top: "data" top: "label" include { phase: TRAIN } data_param { batch_size: 8 } }
layer { name: "input" type: "Data" top: "data" top: "label" include { phase: TEST } data_param { batch_size: 4 } }
layer { name: "score" type: "Convolution" bottom: "data" top: "score" CONV }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" }
layer { name: "accuracy" type: "Accuracy" bottom: "score" bottom: "label" top: "accuracy" include { phase: TEST } }
""".replace("CONV", CONV)


def test_data_and_loss_layers_are_taken_out() -> None:
    net = CaffeNet(parse_prototxt(TRAINING))
    assert list(net.inputs) == ["data"]
    assert net.outputs == ("score",)
    assert net(torch.zeros(1, 3, 20, 20)).shape == (1, 2, 20, 20)


def test_outputs_can_be_chosen() -> None:
    """Only what they need is executed, so an unknown layer behind them does not matter."""
    layers = (
        f'name: "a" type: "Convolution" bottom: "data" top: "a" {CONV}',
        'name: "relu" type: "ReLU" bottom: "a" top: "a"',
        'name: "b" type: "AbsVal" bottom: "a" top: "b"',
        'name: "boxes" type: "DetectionOutput" bottom: "b" top: "boxes"',
    )
    spec = parse_prototxt(INPUT + "\n".join(f"layer {{ {layer} }}" for layer in layers))
    with pytest.raises(UnknownLayerError, match=r"layer 'boxes' \(DetectionOutput, line 5\)"):
        CaffeNet(spec)
    net = CaffeNet(spec, outputs=["b", "a"])
    assert list(net(torch.zeros(1, 3, 8, 9))) == ["b", "a"]
    with pytest.raises(NetError, match="no blob 'c'"):
        CaffeNet(spec, outputs=["c"])


def test_forward_lets_go_of_blobs_that_nobody_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A VGG-16 at 1000x1000 would else hold gigabytes."""
    alive: list[set[str]] = []
    net = net_of(*(f'name: "n{i}" type: "AbsVal" bottom: "{i - 1 if i else "data"}" top: "{i}"' for i in range(5)))
    original = net._steps[0].params.forward.__func__

    def watch(self, bottoms, blobs, *, training=False):
        alive.append(set(sys._getframe(1).f_locals["blobs"]))
        return original(self, bottoms, blobs, training=training)

    monkeypatch.setattr(type(net._steps[0].params), "forward", watch)
    net(torch.zeros(1, 3, 8, 9))
    assert max(map(len, alive)) == 1


# Layers from outside


@register_layer("Axpy")
@dataclass(frozen=True)
class Axpy(base.Layer):
    """SENet's layer, as its author would add it."""

    factor: float

    @classmethod
    def parse(cls, spec):
        return cls(float(spec.extra_message("axpy_param").children().get("factor", [1.0])[-1]))

    def top_shapes(self, bottoms):
        return (bottoms[1],)

    def forward(self, bottoms, blobs, *, training=False):
        scale, x, y = bottoms
        return (self.factor * scale * x + y,)


def test_a_registered_layer_is_executed() -> None:
    net = net_of(
        'name: "pool" type: "Pooling" bottom: "data" top: "pool" pooling_param { pool: AVE global_pooling: true }',
        'name: "axpy" type: "Axpy" bottom: "pool" bottom: "data" bottom: "data" top: "axpy" axpy_param { factor: 3 }',
    )
    x = torch.randn(2, 3, 8, 9)
    torch.testing.assert_close(net(x), 3 * x.mean((2, 3), keepdim=True) * x + x)
