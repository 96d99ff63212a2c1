"""Convolutions by columns are convolutions, used where they are meant to be and nowhere else."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor, nn

from converters.execution.caffe_net import CaffeNet
from converters.formats.prototxt import parse_prototxt
from converters.layers import im2col as columns
from converters.layers.im2col import conv2d, is_faster_by_im2col
from fcn_port.fastpath.kernels import make_kernel
from fcn_port.nets.parts import Conv
from fcn_port.nets.record import to_spec
from parity_tests.fastpath.flows import convolution_step
from parity_tests.nets import narrow_net, random_inputs, with_random_weights
from parity_tests.tolerances import tolerance

ONE, ZERO = (1, 1), (0, 0)
Pair = tuple[int, int]


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def made_by_im2col(top: Tensor) -> bool:
    """Whether columns made it, as its gradient knows."""
    assert top.grad_fn is not None
    return {"TransposeBackward0": True, "ConvolutionBackward0": False}[top.grad_fn.name()]


def assert_close(found: Tensor, exact: Tensor) -> None:
    bound = tolerance("columns") * float(exact.detach().abs().max())
    torch.testing.assert_close(found.double(), exact.double(), rtol=0, atol=bound)


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "plain": lambda x: x,
    "a crop of a larger image": lambda x: nn.functional.pad(x, (2, 1, 1, 2), value=9.0)[:, :, 1:-2, 2:-1],
    "channels last": lambda x: x.to(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    "one row many times": lambda x: x[:, :, :1].expand_as(x),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("shape", "features", "kernel", "stride", "pad"),
    [
        ((1, 20, 12, 12), 50, (5, 5), (1, 1), (0, 0)),
        ((1, 3, 31, 28), 8, (7, 4), (2, 1), (0, 3)),
        ((2, 6, 9, 11), 5, (3, 5), (1, 3), (2, 1)),
        ((3, 16, 5, 5), 12, (5, 5), (1, 1), (0, 0)),
    ],
)
def test_the_sum_and_its_gradients_are_those_of_double_precision(
    shape: tuple[int, ...], features: int, kernel: Pair, stride: Pair, pad: Pair, bias: bool, layout: str
) -> None:
    x, weight = random(*shape).requires_grad_(), random(features, shape[1], *kernel).requires_grad_()
    vector = random(features).requires_grad_() if bias else None
    wanted = [each for each in (x, weight, vector) if each is not None]
    window = (stride, pad, ONE, 1)
    found = conv2d(LAYOUTS[layout](x), weight, vector, *window)
    doubles = (LAYOUTS[layout](x.double()), weight.double(), None if vector is None else vector.double())
    exact = conv2d(*doubles, *window)
    assert made_by_im2col(found) and not made_by_im2col(exact)
    assert_close(found, exact)
    ahead = random(*found.shape)
    for own, its in zip(
        torch.autograd.grad(found, wanted, ahead), torch.autograd.grad(exact, wanted, ahead.double()), strict=True
    ):
        assert_close(own, its)


def test_heavy_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """As fc6 and fc7 are, with a line drawn lower."""
    monkeypatch.setattr(columns, "HEAVY", 4096)
    for shape, kernel in (((1, 64, 9, 14), 1), ((2, 64, 10, 8), 3)):
        x, weight, bias = random(*shape), random(144, 64, kernel, kernel).requires_grad_(), random(144)
        found = conv2d(x, weight, bias, ONE, ZERO, ONE, 1)
        assert made_by_im2col(found)
        assert_close(found, torch.conv2d(x.double(), weight.double(), bias.double()))


FC6, FC7 = (4096, 512, 7, 7), (4096, 4096, 1, 1)


@pytest.mark.parametrize(
    ("shape", "weight", "stride", "pad", "expected"),
    [
        ((1, 512, 26, 26), FC6, ONE, ZERO, True),  # 20x20 positions
        ((1, 512, 26, 27), FC6, ONE, ZERO, False),
        ((1, 512, 6, 26), FC6, ONE, ZERO, False),  # no window
        ((8, 512, 11, 16), FC6, ONE, ZERO, True),  # 8 images of 5x10
        ((8, 512, 11, 17), FC6, ONE, ZERO, False),
        ((0, 512, 26, 26), FC6, ONE, ZERO, False),
        ((1, 512, 45, 26), FC6, (2, 1), ZERO, True),
        ((1, 512, 26, 46), FC6, (2, 1), ZERO, True),
        ((1, 512, 26, 47), FC6, (2, 1), ZERO, False),
        ((1, 512, 24, 26), FC6, ONE, (1, 0), True),
        ((1, 512, 25, 26), FC6, ONE, (1, 0), False),
        ((1, 4096, 20, 20), FC7, ONE, ZERO, True),
        ((1, 4096, 20, 21), FC7, ONE, ZERO, False),
        ((1, 2048, 5, 5), (4096, 2048, 1, 1), ONE, ZERO, True),  # 2^23 weights
        ((1, 2047, 5, 5), (4096, 2047, 1, 1), ONE, ZERO, False),
        ((1, 4096, 17, 15), (256, 4096, 3, 3), ONE, (1, 1), True),  # 255 positions, 256 features
        ((1, 4096, 16, 16), (256, 4096, 3, 3), ONE, (1, 1), False),
        ((1, 20, 12, 12), (50, 20, 5, 5), ONE, ZERO, True),  # LeNet
        ((1, 16, 12, 12), (128, 16, 4, 4), ONE, (2, 1), False),  # 2^15 a position, and too many of them
        ((1, 16, 11, 11), (128, 16, 4, 4), ONE, ZERO, True),  # 64
        ((1, 16, 11, 12), (128, 16, 4, 4), ONE, ZERO, False),
        ((1, 8, 12, 12), (8, 8, 3, 3), ONE, ZERO, False),  # PyTorch's own columns
        ((1, 8, 12, 12), (8, 8, 3, 4), ONE, ZERO, True),
        ((1, 8, 12, 12), (8, 8, 4, 3), ONE, ZERO, True),
        ((1, 9, 12, 12), (8, 8, 5, 5), ONE, ZERO, False),  # does not fit: PyTorch says so
        ((8, 12, 12), (8, 8, 5, 5), ONE, ZERO, False),
    ],
)
def test_where_the_lines_are(
    shape: tuple[int, ...], weight: tuple[int, ...], stride: Pair, pad: Pair, expected: bool
) -> None:
    assert is_faster_by_im2col(torch.empty(shape), torch.empty(weight), stride, pad) == expected


def test_everything_else_is_pytorchs() -> None:
    """Groups, dilation, other types and layouts."""
    x, weight = random(1, 8, 12, 12), random(8, 8, 5, 5).requires_grad_()
    assert made_by_im2col(conv2d(x, weight, None, ONE, ZERO, ONE, 1))
    assert not made_by_im2col(conv2d(x, weight[:, :4], None, ONE, ZERO, ONE, 2))
    assert not made_by_im2col(conv2d(x, weight, None, ONE, ZERO, (2, 2), 1))
    assert not made_by_im2col(conv2d(x.double(), weight.double(), None, ONE, ZERO, ONE, 1))
    assert not made_by_im2col(conv2d(x, weight.to(memory_format=torch.channels_last), None, ONE, ZERO, ONE, 1))
    assert conv2d(x.to("meta"), weight.to("meta"), None, ONE, ZERO, ONE, 1).shape == (1, 8, 8, 8)


@pytest.mark.parametrize("shape", [(1, 9, 9), (2, 1, 9, 9), (1, 1, 4, 9), (1, 2, 9, 9), (9, 9)])
@pytest.mark.parametrize("more", [{}, {"padding": "same"}, {"padding": 2, "padding_mode": "reflect"}])
def test_the_module_takes_and_refuses_what_pytorchs_does(shape: tuple[int, ...], more: dict[str, Any]) -> None:
    torch.manual_seed(0)
    ours, its = Conv(1, 3, 5, **more), nn.Conv2d(1, 3, 5, **more)
    its.load_state_dict(ours.state_dict())

    def result(module: nn.Module) -> Tensor | str:
        try:
            found: Tensor = module(random(*shape))
        except RuntimeError as error:
            return str(error)
        return found

    found, expected = result(ours), result(its)
    if isinstance(expected, str):
        assert found == expected
    else:
        assert isinstance(found, Tensor)
        assert_close(found, expected)


@pytest.mark.parametrize("name", ["voc-fcn8s", "voc-fcn-alexnet", "voc-fcn-googlenet"])
def test_hand_written_and_executed_nets_choose_alike(name: str) -> None:
    """Equal to the last bit, where a net of nn.Conv2d is not: its short layers are summed in another order."""
    net = with_random_weights(narrow_net(name))
    inputs = random_inputs(net, (75, 122))
    executed = CaffeNet(to_spec(net, {key: tuple(x.shape) for key, x in inputs.items()}, name="net"))
    executed.load_state_dict(net.state_dict())
    plain = copy.deepcopy(net)
    for module in plain.modules():
        if isinstance(module, Conv):
            module.__class__ = nn.Conv2d
    with torch.no_grad():
        found, expected, other = (each(*inputs.values()) for each in (net, executed, plain))
    assert torch.equal(found, expected) and not torch.equal(found, other)
    assert_close(found, other)


def test_without_packed_weights_the_fast_net_has_columns_too() -> None:
    """`fast(net, low_memory=True)`: oneDNN's own layout of fc6 would be 411 MB."""
    module, x = Conv(20, 50, 5), random(1, 20, 12, 12)
    step, blobs = convolution_step("conv", module)
    with torch.no_grad():
        assert torch.equal(make_kernel(step, blobs, packed=False)(x), module(x))
        assert not torch.equal(make_kernel(step, blobs, packed=True)(x), module(x))


# Programs made of a net have the direct convolution


LENET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 1 dim: 28 dim: 28 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
        convolution_param { num_output: 20 kernel_size: 5 } }
"""


def exported(net: nn.Module, x: Tensor) -> str:
    return str(torch.export.export(net, (x,)).graph)


def compiled(net: nn.Module, x: Tensor) -> str:
    graphs = []

    def backend(module: torch.fx.GraphModule, example: list[Tensor]) -> Any:
        graphs.append(str(module.graph))
        return module.forward

    torch.compile(net, fullgraph=True, backend=backend)(x)
    return graphs[0]


def traced(net: nn.Module, x: Tensor) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return str(torch.jit.trace(net, x).inlined_graph)


def old_onnx(net: nn.Module, x: Tensor) -> str:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (x,), file, dynamo=False)
    return " ".join(node.op_type for node in onnx.load_from_string(file.getvalue()).graph.node).lower()


def symbolic(net: nn.Module, x: Tensor) -> str:
    return str(torch.fx.symbolic_trace(Conv(1, 20, 5)).graph)


@pytest.mark.parametrize("make", [exported, compiled, traced, old_onnx, symbolic])
def test_programs_made_of_a_net(make: Callable[[nn.Module, Tensor], str]) -> None:
    net, x = with_random_weights(CaffeNet(parse_prototxt(LENET))), random(1, 1, 28, 28)
    assert made_by_im2col(net(x))
    program = make(net, x).replace("im2col.py", "")  # where in our files it was traced
    assert "conv" in program and not any(word in program for word in ("unfold", "im2col", "addmm", "gemm")), program


@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")
def test_what_torch_can_do_with_a_convolution_it_can_do_with_this() -> None:
    """Scripts, forward derivatives, maps over a batch, the count of operations, bfloat16 where it is asked for."""
    from torch.utils.flop_counter import FlopCounterMode

    net, x = Conv(1, 20, 5), random(1, 1, 28, 28)
    assert_close(torch.jit.script(net)(x), net(x))
    _, forward = torch.func.jvp(net, (x,), (x,))
    assert_close(forward, net(x) - net(torch.zeros_like(x)))
    assert_close(torch.func.vmap(net)(x[None])[0], net(x))
    with FlopCounterMode(display=False) as counter:
        net(x)
    assert counter.get_total_flops() == 2 * 20 * 25 * 24 * 24
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert net(x).dtype == torch.bfloat16
