"""Convolutions by columns are convolutions, used where they are meant to be and nowhere else."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from converters.caffe_net import CaffeNet
from converters.layers import columns
from converters.layers.columns import conv2d
from converters.prototxt import parse_prototxt
from fcn_port.nets.parts import Convolution
from fcn_port.nets.record import to_spec
from parity_tests.nets import narrow_net, random_inputs, with_random_weights
from parity_tests.tolerances import tolerance

ONE = (1, 1)


def tensors(channels: int, features: int, kernel: int, side: int, *, batch: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(channels + side)
    x, weight = (
        torch.randn(shape, generator=generator)
        for shape in ((batch, channels, side, side), (features, channels, kernel, kernel))
    )
    return x, weight.requires_grad_(), torch.randn(features, generator=generator)


def by_columns(top: Tensor) -> bool:
    """Whether columns made it, as its gradient knows."""
    assert top.grad_fn is not None
    return {"SlowConv2DBackward0": True, "ConvolutionBackward0": False}[top.grad_fn.name()]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("channels", "features", "kernel", "side", "stride", "pad"),
    [(20, 50, 5, 12, 1, 0), (1, 20, 5, 28, 1, 0), (3, 8, 7, 31, 2, 3), (16, 120, 5, 5, 1, 0), (6, 5, 4, 9, 3, 2)],
)
def test_short_layers(channels: int, features: int, kernel: int, side: int, stride: int, pad: int, bias: bool) -> None:
    """The sum, and its gradients, are those of double precision."""
    x, weight, vector = tensors(channels, features, kernel, side)
    window = ((stride, stride), (pad, pad), ONE, 1)
    found = conv2d(x, weight, vector if bias else None, *window)
    exact = torch.conv2d(x.double(), weight.double(), vector.double() if bias else None, *window)
    assert by_columns(found) and not by_columns(conv2d(x.double(), weight.double(), None, *window))
    assert_close(found, exact)
    ahead = torch.randn(found.shape, generator=torch.Generator().manual_seed(1))
    assert_close(*(torch.autograd.grad(top, weight, ahead.to(top.dtype))[0] for top in (found, exact)))


def assert_close(found: Tensor, exact: Tensor) -> None:
    bound = tolerance("columns") * float(exact.detach().abs().max())
    torch.testing.assert_close(found.double(), exact.double(), rtol=0, atol=bound)


def test_heavy_layers_of_few_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    """fc6 with a line drawn lower: 20x20 positions by columns, 20x21 not; and 1x1 and 3x3 kernels like others."""
    monkeypatch.setattr(columns, "HEAVY", 64 * 72 * 3 * 3)
    monkeypatch.setattr(columns, "SHORT", 0)
    for kernel, heavy in ((3, True), (7, True), (1, False)):
        x, weight, bias = tensors(64, 72, kernel, 19 + kernel)
        found = conv2d(x, weight, bias, ONE, (0, 0), ONE, 1)
        assert found.shape[2:] == (20, 20) and by_columns(found) == heavy
        assert_close(found, torch.conv2d(x.double(), weight.double(), bias.double()))
        wider = torch.cat((x, x[..., :1]), dim=3)
        assert not by_columns(conv2d(wider, weight, bias, ONE, (0, 0), ONE, 1))


def test_everything_else_is_pytorchs() -> None:
    """Batches, groups, dilation, kernels that PyTorch has columns for itself, and layers that are not short."""
    x, weight, _ = tensors(8, 8, 5, 12)
    window = (ONE, (0, 0))
    assert by_columns(conv2d(x, weight, None, *window, ONE, 1))
    assert not by_columns(conv2d(x.expand(2, -1, -1, -1), weight, None, *window, ONE, 1))
    assert not by_columns(conv2d(x, weight[:, :4], None, *window, ONE, 2))
    assert not by_columns(conv2d(x, weight, None, *window, (2, 2), 1))
    x, weight, _ = tensors(64, 64, 5, 30)
    assert not by_columns(conv2d(x, weight, None, *window, ONE, 1))
    x, weight, _ = tensors(64, 8, 3, 30)
    assert not by_columns(conv2d(x, weight, None, *window, ONE, 1))


@pytest.mark.parametrize("name", ["voc-fcn8s", "voc-fcn-alexnet", "voc-fcn-googlenet"])
def test_hand_written_and_executed_nets_choose_alike(name: str) -> None:
    """Equal to the last bit, where a net of nn.Conv2d is not: its short layers are summed in another order."""
    net = with_random_weights(narrow_net(name))
    inputs = random_inputs(net, (75, 122))
    executed = CaffeNet(to_spec(net, {key: tuple(x.shape) for key, x in inputs.items()}, name="net"))
    executed.load_state_dict(net.state_dict())
    plain = copy.deepcopy(net)
    for module in plain.modules():
        if isinstance(module, Convolution):
            module.__class__ = nn.Conv2d
    with torch.no_grad():
        found, expected, other = (each(*inputs.values()) for each in (net, executed, plain))
    assert torch.equal(found, expected) and not torch.equal(found, other)
    assert_close(found, other)


LENET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 1 dim: 28 dim: 28 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
        convolution_param { num_output: 20 kernel_size: 5 } }
"""


def test_compiled_and_exported_programs_have_the_direct_one() -> None:
    net = with_random_weights(CaffeNet(parse_prototxt(LENET)))
    x = torch.randn(1, 1, 28, 28, generator=torch.Generator().manual_seed(2))
    assert by_columns(net(x))
    program = torch.export.export(net, (x,))
    called = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert any("conv2d" in each for each in called) and not any("thnn" in each for each in called), called
    assert_close(torch.compile(net, fullgraph=True, backend="eager")(x), net(x))
