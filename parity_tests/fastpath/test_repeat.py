"""A pass like the last one, which `fast` makes in a way of its own: the same bits, and every difference is seen."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

import fcn_port
from converters import CaffeNet
from converters.formats import parse_prototxt
from fcn_port.fastpath.compiler import NotBuilt
from fcn_port.fastpath.native import division, steps
from fcn_port.fastpath.program.fast_net import FastNet
from fcn_port.fastpath.program.repeat import Repeat

TEXT = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [1, 3, 19, 23] } } }
layer { name: "a" type: "Convolution" bottom: "data" top: "a" convolution_param { num_output: 40 kernel_size: 3 } }
layer { name: "r" type: "ReLU" bottom: "a" top: "a" }
layer { name: "b" type: "Convolution" bottom: "a" top: "b" convolution_param { num_output: 7 kernel_size: 1 } }
layer { name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 5 kernel_size: 1 } }
"""


@pytest.fixture
def net() -> CaffeNet:
    made = CaffeNet(parse_prototxt(TEXT)).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for each in made.parameters():
            each.copy_(torch.randn(each.shape, generator=generator))
    return made


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each pass that was asked whether it is like the last one, whether it was."""
    found: list[bool] = []
    real = Repeat.__call__

    def watched(self: Repeat, x: Tensor) -> dict[str, Tensor] | None:
        result = real(self, x)
        found.append(result is not None)
        return result

    monkeypatch.setattr(Repeat, "__call__", watched)
    return found


def picture(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape or (1, 3, 19, 23), generator=torch.Generator().manual_seed(seed))


def alike(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_the_same_bits_in_memory_of_their_own(net: CaffeNet, taken: list[bool]) -> None:
    fast = fcn_port.fast(net)
    pictures = [picture(seed) for seed in range(4)]
    found = [fast(each) for each in pictures]
    assert taken == [True, True, True]
    for each, outputs in zip(pictures, found, strict=True):
        alike(outputs, fcn_port.fast(copy.deepcopy(net))(each))
    alike(fast(data=pictures[2]), found[2])
    assert taken == [True, True, True, True]


INNER = 'layer { name: "y" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 7 } }'
OUTER = """
layer { name: "p" type: "Convolution" bottom: "x" top: "p" convolution_param { num_output: 5 kernel_size: 3 } }
layer { name: "y" type: "Pooling" bottom: "p" top: "y" pooling_param { kernel_size: 2 stride: 2 } }"""
IN_ORDER = {(1, 1, 28, 28): OUTER, (1, 30): INNER, (1, 5, 1, 1): INNER, (1, 1, 4, 9): INNER}
APART = {(1, 5, 9, 9): OUTER, (2, 30): INNER}


@pytest.mark.parametrize("shape", [*IN_ORDER, *APART])
def test_inputs_that_are_no_pictures(shape: tuple[int, ...], taken: list[bool]) -> None:
    """Grey images and vectors lie in the arena as they do in a tensor; numbers of several channels have to be moved."""
    top = f'layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ dim: {list(shape)} }} }} }}'
    text = top + {**IN_ORDER, **APART}[shape]
    net = CaffeNet(parse_prototxt(text)).requires_grad_(False)
    for each in net.parameters():
        each.copy_(torch.randn(each.shape, generator=torch.Generator().manual_seed(1)))
    fast, inputs = fcn_port.fast(net), [picture(seed, *shape) for seed in range(3)]
    found = [fast(each) for each in inputs]
    assert taken == [True] * 2 * (shape in IN_ORDER)
    for each, mine in zip(inputs, found, strict=True):
        assert torch.equal(mine, fcn_port.fast(copy.deepcopy(net))(each))
        torch.testing.assert_close(mine, net(each), atol=1e-4, rtol=1e-4)


class Named(Tensor):
    pass


def unaligned(x: Tensor) -> Tensor:
    memory = torch.zeros(4 * x.numel() + 1, dtype=torch.uint8)
    memory[1:] = x.reshape(-1).view(torch.uint8)
    return torch.frombuffer(memory.numpy(), dtype=torch.float32, offset=1, count=x.numel()).view(x.shape)


OTHERS: dict[str, Callable[[Tensor], Tensor]] = {
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "turned": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    "negative": lambda x: torch._neg_view(-x),
    "of a class": lambda x: x.as_subclass(Named),
    "a parameter": torch.nn.Parameter,
    "unaligned": unaligned,
}


@pytest.mark.parametrize("other", OTHERS)
def test_the_same_values_in_other_tensors(other: str, net: CaffeNet, taken: list[bool]) -> None:
    fast = fcn_port.fast(net)
    expected, x = fast(picture(1)), OTHERS[other](picture(1))
    assert x.shape == (1, 3, 19, 23) and torch.equal(x, picture(1))
    found = fast(x)
    assert taken == [False]
    assert all(torch.allclose(found[name], expected[name], atol=1e-4) for name in expected)


TRANSFORMED: dict[str, Callable[[torch.nn.Module, Tensor], Tensor]] = {
    "vmap": lambda net, x: torch.func.vmap(net)(torch.stack([x, 2 * x]))["b"],
    "grad": lambda net, x: torch.func.grad(lambda each: net(each)["b"].square().mean())(x),
    "vmap of grad": lambda net, x: torch.func.vmap(torch.func.grad(lambda each: net(each)["b"].square().mean()))(
        x[None]
    ),
    "grad of a named input": lambda net, x: torch.func.grad(lambda each: net(data=each)["b"].square().mean())(x),
    "jvp": lambda net, x: torch.func.jvp(lambda each: net(each)["b"], (x,), (x,))[1],
}


@pytest.mark.parametrize("how", TRANSFORMED)
def test_a_tensor_of_a_transformation(how: str, net: CaffeNet) -> None:
    """Gradients of the image were zeros."""
    fast, transform = fcn_port.fast(net), TRANSFORMED[how]
    fast(picture(0))
    found, expected = transform(fast, picture(1)), transform(net, picture(1))
    assert expected.abs().max() > 0.1 and torch.allclose(found, expected, atol=1e-4)


def test_an_image_that_has_no_numbers(net: CaffeNet) -> None:
    """Shapes come of it, as of the plain net."""
    fast, x = fcn_port.fast(net), picture(1).to("meta")
    assert {name: (value.shape, value.device) for name, value in fast(x).items()} == {
        name: (value.shape, value.device) for name, value in net(x).items()
    }


WITHOUT_MEMORY: dict[str, Callable[[Tensor], Tensor]] = {
    "zeros that were never written": lambda x: torch._efficientzerotensor(x.shape),
    "negative": lambda x: torch._neg_view(x.clone()),
}


@pytest.mark.parametrize("kind", WITHOUT_MEMORY)
def test_numbers_that_do_not_lie_in_memory(kind: str, net: CaffeNet) -> None:
    """Of an input, whose address was read though it is 0; and of a weight, at which `fast` failed."""
    fast, of = fcn_port.fast(net), WITHOUT_MEMORY[kind]
    fast(picture(0))
    for name, value in net(of(picture(1))).items():
        torch.testing.assert_close(fast(of(picture(1)))[name], value, atol=1e-4, rtol=0)
    net.a.weight = torch.nn.Parameter(of(net.a.weight.detach()), requires_grad=False)
    for name, value in net(picture(1)).items():
        torch.testing.assert_close(fast(picture(1))[name], value, atol=1e-4, rtol=0)


def test_weights_of_another_owner_that_lie_where_the_others_did(net: CaffeNet, taken: list[bool]) -> None:
    """A glance sees another storage there; PyTorch, asked then, says that it is the same, and the next glance knows."""
    numbers = net.a.weight.detach().numpy()
    fast = fcn_port.fast(net)
    expected = fast(picture(1))
    state = fast.state()
    before, net.a.weight.data = state._glance, torch.from_numpy(numbers)
    assert before is not None and not before.is_same()
    alike(fast(picture(1)), expected)
    assert taken == [True] and fast.state() is state
    assert state._glance is not before and state._glance is not None and state._glance.is_same()


def test_another_layout_is_the_net_s_own_error(net: CaffeNet) -> None:
    fast, x = fcn_port.fast(net), picture(1).to_sparse()
    with pytest.raises(RuntimeError) as its:
        net(x)
    with pytest.raises(RuntimeError) as mine:
        fast(x)
    assert str(mine.value) == str(its.value)


def test_weights_of_a_transformation(net: CaffeNet) -> None:
    """Of two nets at once; and their gradients, which would be zeros if the net was run without them."""
    fast, x = fcn_port.fast(net), picture(1)
    expected = fast(x)
    weights = dict(fast.named_parameters())
    two = {name: torch.stack([value.detach(), 1.1 * value.detach()]) for name, value in weights.items()}
    found = torch.func.vmap(lambda each: torch.func.functional_call(fast, each, (x,)))(two)
    again = torch.func.functional_call(net, {name.removeprefix("net."): value[1] for name, value in two.items()}, (x,))
    for number, wanted in enumerate((expected, again)):
        assert all(torch.allclose(found[name][number], wanted[name], atol=1e-4) for name in wanted)
    given = {name: value.detach().clone() for name, value in weights.items()}
    mine = torch.func.grad(lambda each: torch.func.functional_call(fast, each, (x,))["b"].square().mean())(given)
    net(x)["b"].square().mean().backward()
    for name, value in weights.items():
        if value.grad is not None:
            assert torch.allclose(mine[name], value.grad, atol=1e-4) and value.grad.abs().max() > 1e-2
    alike(fast(x), expected)


def test_weights_that_are_loaded_in_inference_mode(net: CaffeNet, taken: list[bool]) -> None:
    with torch.inference_mode():
        own, other = CaffeNet(net.spec).eval(), {name: 0.9 * value for name, value in net.state_dict().items()}
        own.load_state_dict(net.state_dict())
        fast = fcn_port.fast(own)
        fast(picture(0)), fast(picture(1))
        own.load_state_dict(other)
        found = fast(picture(2))
        assert taken == [True, False] and all(value.is_inference() for value in own.parameters())
        assert all(torch.allclose(found[name], value, atol=1e-4) for name, value in own(picture(2)).items())


def test_other_inputs(net: CaffeNet, taken: list[bool]) -> None:
    """Another size, several images, and the errors of the net itself; what comes behind them is right again."""
    fast = fcn_port.fast(net)
    expected = fast(picture(0))
    for shape in ((2, 3, 19, 23), (1, 3, 23, 19), (1, 3, 20, 23)):
        with torch.no_grad():
            plain = net(picture(5, *shape))
        assert all(torch.allclose(value, plain[name], atol=1e-4) for name, value in fast(picture(5, *shape)).items())
        alike(fast(picture(0)), expected)
    for wrong in (picture(0).double(), picture(0, 1, 4, 19, 23), picture(0, 3, 19, 23)):
        with pytest.raises((RuntimeError, ValueError)):
            fast(wrong)
    for named in ({"other": picture(0)}, {}):
        with pytest.raises(Exception) as mine:
            fast(**named)
        with pytest.raises(Exception) as its:
            net(**named)
        assert str(mine.value) == str(its.value)
    alike(fast(picture(0)), expected)


def in_place(net: CaffeNet) -> None:
    with torch.no_grad():
        next(net.parameters()).mul_(2)


def in_data(net: CaffeNet) -> None:
    each = next(net.parameters())
    each.data = 2 * each.data


def moved(net: CaffeNet) -> None:
    net.load_state_dict({name: 2 * value for name, value in net.state_dict().items()}, assign=True)


@pytest.mark.parametrize("change", [in_place, in_data, moved], ids=lambda change: change.__name__)
def test_weights_that_somebody_changes(change: Callable[[CaffeNet], None], net: CaffeNet) -> None:
    fast = fcn_port.fast(net)
    before = [fast(picture(0)) for _ in range(2)][-1]
    change(net)
    alike(fast(picture(0)), fcn_port.fast(copy.deepcopy(net))(picture(0)))
    assert not torch.equal(fast(picture(0))["b"], before["b"])


def test_old_weights_are_let_go(net: CaffeNet) -> None:
    """Both at once would be twice the memory, while the new ones are packed."""
    fast = fcn_port.fast(net)
    assert isinstance(fast, FastNet)
    fast(picture(0))
    in_place(net)
    fast.state()
    assert fast._repeat is None


def test_another_number_of_threads(net: CaffeNet, taken: list[bool]) -> None:
    fast, before = fcn_port.fast(net), torch.get_num_threads()
    expected = fast(picture(0))
    try:
        torch.set_num_threads(before + 1)
        alike(fast(picture(0)), expected)
    finally:
        torch.set_num_threads(before)
    assert taken == [False]


def test_training_and_tracing_are_the_nets_own(net: CaffeNet, taken: list[bool]) -> None:
    fast = fcn_port.fast(net)
    fast(picture(0))
    net.train()
    fast(picture(0))
    assert taken == []
    net.eval()
    for traced in (torch.jit.trace(fast, picture(0), strict=False), make_fx(fast)(picture(0))):
        with torch.no_grad():
            assert torch.allclose(traced(picture(3))["b"], net(picture(3))["b"], atol=1e-4)


def test_copies_have_passes_of_their_own(net: CaffeNet) -> None:
    fast = fcn_port.fast(net)
    fast(picture(0))
    other = copy.deepcopy(fast)
    in_place(other.net)
    alike(fast(picture(0)), fcn_port.fast(net)(picture(0)))
    alike(other(picture(0)), fcn_port.fast(copy.deepcopy(other.net))(picture(0)))


def test_threads_share_it(net: CaffeNet) -> None:
    fast = fcn_port.fast(net)
    pictures = [picture(seed) for seed in range(8)]
    expected = [fast(each) for each in pictures]
    wrong: list[int] = []

    def work(number: int) -> None:
        for turn in range(100):
            at = (number + turn) % len(pictures)
            found = fast(pictures[at])
            if not all(torch.equal(found[name], expected[at][name]) for name in found):
                wrong.append(at)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not wrong


def test_where_there_is_no_native_code_after_all(net: CaffeNet, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a net that was pickled elsewhere: the net itself runs."""
    fast = copy.deepcopy(fcn_port.fast(net))

    def missing() -> None:
        raise NotBuilt("no compiler")

    for module in (division, steps):
        monkeypatch.setattr(module, "library", missing)
    with torch.no_grad():
        alike(fast(picture(0)), net(picture(0)))
