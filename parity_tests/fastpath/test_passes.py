"""Passes of FCNs in native code: bands of any height give the same, and memory is kept and never in two hands."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.utils import parametrize, prune

import fcn_port
from fcn_port.fastpath.geometry import Interval
from fcn_port.fastpath.lossless import Lossless
from fcn_port.fastpath.native import NativeUpsampling, is_by_channel, kept, tape
from fcn_port.fastpath.native.kept import KeptMemory
from fcn_port.fastpath.native.memory import Floats, address
from fcn_port.fastpath.passes import passes
from fcn_port.fastpath.passes.early import EarlyTape
from fcn_port.fastpath.passes.layers import Fills
from fcn_port.fastpath.program.places import BlobPlace
from fcn_port.nets import FCN, FCN8s, FCNAlexNet, SiftFlowFCN8s
from parity_tests.narrow import image, named, narrow, same
from parity_tests.tolerances import tolerance

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")

SIZES = [(1, 1), (40, 55), (101, 64), (130, 97)]


def fast(net: FCN) -> Lossless:
    found = fcn_port.fast(net)
    assert isinstance(found, Lossless) and found.state().passes is not None
    return found


def all_same(net: FCN) -> bool:
    quick = fast(net)
    found = []
    for size in SIZES:
        inputs = image(net, size, batch=2)
        outputs, expected = named(quick(**inputs)), named(net(**inputs))
        found += [same(outputs[name], expected[name]) for name in expected]
    return all(found)


@pytest.mark.parametrize("make", [FCN8s, SiftFlowFCN8s, FCNAlexNet])
@pytest.mark.parametrize("band_bytes", [1, 1 << 14])
def test_bands_of_any_height(make: type[FCN], band_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one row, and of a few, each of which has room in the memory for all."""
    right = EarlyTape._strip

    def with_a_look(self: EarlyTape, name: str, rows: Interval) -> BlobPlace:
        strip = right(self, name, rows)
        assert rows.size == strip.shape[2] <= self._strips[name].shape[2]
        return strip

    monkeypatch.setattr(EarlyTape, "_strip", with_a_look)
    monkeypatch.setattr(passes, "BAND_BYTES", band_bytes)
    assert all_same(narrow(make))


def _nothing_around(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fills, "write", lambda *_: None)


def _short_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    right = tape.arrange
    monkeypatch.setattr(tape, "arrange", lambda sizes, lives: right(sizes, [(first, first) for first, _ in lives]))


@pytest.mark.parametrize("break_it", [_nothing_around, _short_lives])
def test_a_wrong_variant_is_seen(
    break_it: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes, "BAND_BYTES", 1 << 14)
    break_it(monkeypatch)
    assert not all_same(narrow(FCN8s))


def held_outputs_stay(net: FCN) -> bool:
    """Outputs of several passes, and a view of one that is gone, are what they were when others have run."""
    quick, held = fast(net), []
    for size in (*SIZES, *SIZES):
        outputs = list(named(quick(**image(net, size))).values())
        held += [(x, x.clone()) for x in (*outputs[1:], outputs[0][:, 1:, ::2])]
    return all(torch.equal(x, before) for x, before in held)


@pytest.mark.parametrize("make", [FCN8s, SiftFlowFCN8s])
def test_an_output_is_nobody_elses_while_any_of_it_is_held(make: type[FCN]) -> None:
    assert held_outputs_stay(narrow(make))


def test_memory_in_two_hands_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of the output before is taken again; never what a pass has itself, whose threads would wait for ever."""
    right, before = KeptMemory.lend, list[Floats]()

    def held_or_not(self: KeptMemory, floats: int) -> Floats:
        if before:
            self.give_back(before.pop())
        before.append(right(self, floats))
        return before[0]

    monkeypatch.setattr(KeptMemory, "lend", held_or_not)
    assert not held_outputs_stay(narrow(FCN8s))


def test_later_passes_take_no_new_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as no output is held; the arena and one output are kept."""
    net = narrow(FCN8s)
    quick, inputs = fast(net), image(net, (64, 64))
    first = quick(**inputs)
    expected = first.clone()
    monkeypatch.setattr(kept, "empty", lambda floats: pytest.fail(f"{floats} new floats"))
    del first
    for _ in range(3):
        assert torch.equal(quick(**inputs), expected)


def test_kept_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MOST_IDLE", 4 * 250)
    memory = KeptMemory()
    lent = [memory.lend(100) for _ in range(10)]
    assert len({address(each) for each in lent}) == 10
    part = lent[3][20:].reshape(4, 20)
    where = address(lent[3])
    del lent
    assert len(memory._idle) == 2
    assert where not in {address(memory.take(100)) for _ in range(3)} and part.shape == (4, 20)
    memory.give_back(kept.empty(200))
    assert [each.size for each in memory._idle] == [200]
    assert memory.take(10).size == 10  # what is kept is far too large for that
    memory.give_back(kept.empty(300))
    assert not memory._idle


@pytest.mark.parametrize(
    ("kernel", "stride"), [((4, 4), (2, 2)), ((16, 16), (8, 8)), ((3, 64), (1, 32)), ((2, 2), (4, 1))]
)
@pytest.mark.parametrize("bias", [True, False])
def test_upsampling_of_each_channel_by_itself(kernel: tuple[int, int], stride: tuple[int, int], bias: bool) -> None:
    generator = torch.Generator().manual_seed(kernel[1])
    weight = torch.eye(5)[:, :, None, None] * torch.randn(5, 1, *kernel, generator=generator)
    constants = torch.randn(5, generator=generator) if bias else None
    assert is_by_channel(weight, stride)
    upsampling = NativeUpsampling(weight, constants, stride)
    for h, w in ((1, 1), (2, 7), (9, 3)):
        x = torch.randn(2, 5, h, w, generator=generator)
        expected = F.conv_transpose2d(x, weight, constants, stride)
        torch.testing.assert_close(upsampling(x), expected, rtol=0, atol=1e-5)


def test_other_upsamplings_go_another_way() -> None:
    weight = torch.zeros(3, 3, 4, 4)
    assert is_by_channel(weight, (2, 2)) and not is_by_channel(weight, (3, 3))
    assert not is_by_channel(weight.double(), (2, 2)) and not is_by_channel(weight[:2], (2, 2))
    weight[0, 1, 2, 2] = float("nan")
    assert not is_by_channel(weight, (2, 2))


@pytest.mark.parametrize("mixes", [False, True])
def test_nets_with_either_kind(mixes: bool) -> None:
    net = narrow(FCN8s)
    with torch.no_grad():
        for name, weight in net.named_parameters():
            if name.startswith("upscore"):
                weight.copy_(weight * torch.eye(*weight.shape[:2])[:, :, None, None] + mixes * 0.1)
    quick = fast(net)
    kinds = [isinstance(quick.state().kernels[name], NativeUpsampling) for name in ("upscore2", "upscore8")]
    assert kinds == [not mixes] * 2 and all_same(net)


def test_inputs_of_any_strides() -> None:
    net = narrow(FCN8s)
    quick, x = fast(net), image(net, (40, 55), batch=2)["data"]
    expected = quick(x)

    def check(y: Tensor) -> None:
        assert torch.equal(quick(y), expected)

    check(x.contiguous(memory_format=torch.channels_last))
    check(torch.cat([x, x], 3)[..., :55])
    check(x.clone().requires_grad_(True))


class Twice(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


PUT_IN: dict[str, Callable[[nn.Module], object]] = {
    "pruned": lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
    "parametrized": lambda layer: parametrize.register_parametrization(layer, "weight", Twice()),
}

TAKE_OUT: dict[str, Callable[[nn.Module], object]] = {
    "pruned": lambda layer: prune.remove(layer, "weight"),
    "parametrized": lambda layer: parametrize.remove_parametrizations(layer, "weight"),
}


@pytest.mark.parametrize("what", PUT_IN)
def test_weights_that_are_made_anew_for_each_pass(what: str) -> None:
    """By something that was put into a fast net: it is run as it is, as by `fast` of such a net."""
    net = narrow(FCN8s)
    quick, x = fast(net), image(net, (40, 55))["data"]
    before = quick(x)
    PUT_IN[what](net.conv2_1)
    assert torch.equal(quick(x), net(x)) and not same(quick(x), before)
    TAKE_OUT[what](net.conv2_1)
    assert same(quick(x), net(x)) and not torch.equal(quick(x), net(x))


def test_weights_that_are_loaded_in_inference_mode() -> None:
    """Into tensors of which PyTorch does not count what is written into them."""
    with torch.inference_mode():
        net, other = narrow(FCN8s), narrow(FCN8s)
        for value in other.parameters():
            value.mul_(0.9)
        quick, x = fast(net), image(net, (40, 55))["data"]
        assert same(quick(x), net(x)) and all(value.is_inference() for value in net.parameters())
        net.load_state_dict(other.state_dict())
        assert same(quick(x), other(x))


Answer = Callable[[nn.Module, Tensor], Tensor]


def of_two_nets(net: nn.Module, x: Tensor) -> Tensor:
    weights = {name: torch.stack([value, 1.1 * value]) for name, value in net.state_dict().items()}
    return torch.vmap(lambda each: torch.func.functional_call(net, each, (x,)))(weights)


def gradient(net: nn.Module, x: Tensor) -> Tensor:
    weights = {name: value.clone() for name, value in net.state_dict().items()}
    found = torch.func.grad(lambda each: torch.func.functional_call(net, each, (x,)).square().mean())(weights)
    return found[next(name for name in found if name.endswith("conv2_1.weight"))]


def of_a_fake(net: nn.Module, x: Tensor) -> Tensor:
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        found = net(mode.from_tensor(x))
    return torch.ones(found.shape)


ELSEWHERE: dict[str, Answer] = {
    "negated": lambda net, x: net(torch._neg_view(x)),
    "imaginary": lambda net, x: net(torch.complex(x, x).conj().imag),
    "vmap": lambda net, x: torch.vmap(lambda each: net(each[None])[0])(x),
    "vmap of weights": of_two_nets,
    "gradient": gradient,
    "gradient of the image": lambda net, x: torch.func.grad(lambda each: net(each).square().mean())(x),
    "vmap of gradients": lambda net, x: torch.vmap(torch.func.grad(lambda each: net(each[None]).square().mean()))(x),
    "jvp": lambda net, x: torch.func.jvp(net, (x,), (x,))[1],
    "another gradient": lambda net, x: torch.func.grad(lambda each: (each * net(x)).sum())(torch.ones(1)),
    "fake": of_a_fake,
}


@pytest.mark.parametrize("how", ELSEWHERE)
@pytest.mark.parametrize("low_memory", [False, True])
def test_tensors_whose_numbers_lie_nowhere(how: str, low_memory: bool) -> None:
    """Negated when somebody looks, or a function transform's: the net's own numbers, and its gradients."""
    net = narrow(FCN8s)
    quick, x = fcn_port.fast(net, low_memory=low_memory), image(net, (40, 55), batch=2)["data"]
    quick(x)
    found, expected = ELSEWHERE[how](quick, x), ELSEWHERE[how](net, x)
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= 10 * tolerance("lossless") * expected.abs().max()
    assert same(quick(x), net(x))


@pytest.mark.parametrize("low_memory", [False, True])
def test_what_is_no_input_is_refused_as_by_the_net(low_memory: bool) -> None:
    """Also one that is given twice."""
    net = narrow(FCN8s)
    quick, x = fcn_port.fast(net, low_memory=low_memory), image(net, (40, 55))["data"]
    for given, more in (((x,), {"data": x}), ((x, x), {}), ((x.numpy(),), {}), ((), {"image": x})):
        with pytest.raises(TypeError) as its:
            net(*given, **more)
        with pytest.raises(TypeError) as mine:
            quick(*given, **more)
        assert str(mine.value) == str(its.value)


RECORDERS: dict[str, Callable[[Lossless, Tensor], Callable[[Tensor], Tensor]]] = {
    "compile": lambda net, x: torch.compile(net, backend="eager"),
    "trace": lambda net, x: torch.jit.trace(net, x, check_trace=False),
    "export": lambda net, x: torch.export.export(net, (x,)).module(),
    "make_fx": lambda net, x: make_fx(net)(x),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("how", RECORDERS)
def test_a_graph_has_the_net_in_it(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph that somebody makes of it is the net's own: of numbers in memory of ours it would know nothing."""
    net = narrow(FCN8s)
    quick, x = fast(net), image(net, (40, 55))["data"]
    monkeypatch.setattr(passes.NativePasses, "run", lambda *_: pytest.fail("run while it is recorded"))
    graph = RECORDERS[how](quick, x)
    for factor in (1, 0.3):
        assert same(graph(factor * x), net(factor * x))
