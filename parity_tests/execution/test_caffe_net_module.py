"""CaffeNet is a PyTorch module like any other: keys, copies, compilers, inputs, outputs, layers from outside."""

from __future__ import annotations

import copy
import pickle
import sys
import warnings
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from converters import CaffeNet, NetError, UnknownLayerError, parse_prototxt, read_prototxt, register_layer
from converters.layers import base
from fcn_port import blobs, fast
from parity_tests.execution.test_caffe_net import load
from parity_tests.fill import input_blob
from parity_tests.goldens import formats

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


def test_a_blob_that_is_shared_and_is_not_there_is_refused() -> None:
    """As in Caffe, which counts the params of a layer (net.cpp, Init); an unread param more than blobs does no harm."""
    scale = 'name: "a" type: "Scale" bottom: "data" top: "a" param { name: "w" } param { name: "b" }'
    conv = f'name: "c" type: "Convolution" bottom: "data" top: "c" param {{}} param {{ name: "b" }} {CONV}'
    with pytest.raises(NetError, match=r"layer 'c'.*: blob 1 is shared with blob 1 of 'a', which has no such"):
        net_of(scale, conv)


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


def test_an_input_may_be_called_x() -> None:
    given = INPUT.replace("data", "x") + INPUT.replace("data", "y")
    net = net_of('name: "cat" type: "Concat" bottom: "x" bottom: "y" top: "cat"', given=given)
    x, y = torch.randn(1, 3, 8, 9), torch.randn(1, 3, 8, 9)
    assert torch.equal(blobs(net, x=x, y=y)["cat"], net(x, y))


@pytest.mark.parametrize("name", ["self", "net", "input", "module", "args", "kwargs", "named", "inputs", "x", "cls"])
def test_inputs_may_have_the_words_of_python_and_pytorch(name: str) -> None:
    """PyTorch's own call of a module, which runs its hooks, takes `self` for the module."""
    layer = f'name: "cat" type: "Concat" bottom: "data" bottom: "{name}" top: "cat"'
    net = net_of(layer, given=TWO_INPUTS.replace("depth", name))
    data, other = torch.randn(1, 3, 8, 9), torch.randn(1, 1, 8, 9)
    right, seen = net(data, other), []
    for each in (net, fast(net)):
        each.register_forward_pre_hook(lambda module, given: seen.append(len(given)))
        assert torch.equal(each(**{name: other, "data": data}), right)
        assert torch.equal(each(data, **{name: other}), right)
        assert torch.equal(blobs(each, **{name: other, "data": data})["cat"], right)
        with pytest.raises(NetError, match=f"expected the inputs data, {name}; found without a name, without a name, "):
            each(data, other, **{name: other})
    assert len(seen) >= 4


def test_a_net_with_an_input_called_self_compiles_whole() -> None:
    net = net_of('name: "a" type: "AbsVal" bottom: "self" top: "a"', given=INPUT.replace("data", "self"))
    x = torch.randn(1, 3, 8, 9)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x), net(self=x))
    assert torch.equal(torch.export.export(net, (x,)).module()(x), x.abs())


def test_a_power_compiles_whole() -> None:
    """NumPy said whether it is a constant, where torch.compile ended the graph, or the program by fullgraph."""
    net = net_of('name: "p" type: "Power" bottom: "data" top: "p" power_param { power: 2 scale: 0.5 shift: 1 }')
    x = torch.randn(1, 3, 8, 9)
    assert torch.equal(torch.compile(net, fullgraph=True, backend="aot_eager")(x), net(x))


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
    small = net_of(
        'name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 2 kernel_size: 5 }'
    )
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
        'name: "boxes" type: "NobodysType" bottom: "b" top: "boxes"',
    )
    spec = parse_prototxt(INPUT + "\n".join(f"layer {{ {layer} }}" for layer in layers))
    with pytest.raises(UnknownLayerError, match=r"layer 'boxes' \(NobodysType, line 5\)"):
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


@register_layer("ScaledSum")
@dataclass(frozen=True)
class ScaledSum(base.Layer):
    """A layer of somebody's own, like SENet's Axpy."""

    factor: float

    @classmethod
    def parse(cls, spec):
        return cls(float(spec.extra_message("sum_param").children().get("factor", [1.0])[-1]))

    def top_shapes(self, bottoms):
        return (bottoms[1],)

    def forward(self, bottoms, blobs, *, training=False):
        scale, x, y = bottoms
        return (self.factor * scale * x + y,)


def test_a_registered_layer_is_executed() -> None:
    net = net_of(
        'name: "pool" type: "Pooling" bottom: "data" top: "pool" pooling_param { pool: AVE global_pooling: true }',
        'name: "s" type: "ScaledSum" bottom: "pool" bottom: "data" bottom: "data" top: "s" sum_param { factor: 3 }',
    )
    x = torch.randn(2, 3, 8, 9)
    torch.testing.assert_close(net(x), 3 * x.mean((2, 3), keepdim=True) * x + x)
