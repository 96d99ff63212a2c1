"""Every way to change the weights of a net is noticed, and a net that nobody changed stays the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import nn

from fcn_port.fastpath import glance as glance_module
from fcn_port.fastpath.glance import Glance, RecordLayout, record_layout
from fcn_port.fastpath.watch import WeightsWatch


def net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(2, 3, 1, bias=False), nn.Sequential(nn.BatchNorm2d(3), nn.ReLU()))


def put_data(net: nn.Sequential) -> None:
    net[0].weight.data = net[0].weight.data.clone()


def put_tensor(net: nn.Sequential) -> None:
    net[0].weight = nn.Parameter(net[0].weight.detach())


def write(net: nn.Sequential) -> None:
    with torch.no_grad():
        net[0].weight[0] = 0


def add_bias(net: nn.Sequential) -> None:
    net[0].bias = nn.Parameter(torch.zeros(3))


def put_module(net: nn.Sequential) -> None:
    net[1][1] = nn.Tanh()


def add_module(net: nn.Sequential) -> None:
    net[1].append(nn.Conv2d(3, 3, 1))


def write_buffer(net: nn.Sequential) -> None:
    net[1][0].running_mean.add_(1)


def load(net: nn.Sequential) -> None:
    net.load_state_dict(net.state_dict())


def assign(net: nn.Sequential) -> None:
    net.load_state_dict({key: value.clone() for key, value in net.state_dict().items()}, assign=True)


def widen(net: nn.Sequential) -> None:
    net.double()


def remove(net: nn.Sequential) -> None:
    """The last value that there is."""
    del net[1][0].num_batches_tracked


def turn(net: nn.Sequential) -> None:
    """The same numbers in another order: the transpose of a square one, for example."""
    net[0].weight.data = net[0].weight.detach().as_strided((3, 2, 1, 1), (1, 3, 1, 1))


def step(net: nn.Sequential) -> None:
    """Of an optimizer whose writing PyTorch does not count."""
    weight = net[0].weight
    weight.grad, version = torch.ones_like(weight), weight._version
    torch.optim.SGD(net.parameters(), lr=1.0, fused=True).step()
    assert weight._version == version


def step_by_data(net: nn.Sequential) -> None:
    class Old(torch.optim.Optimizer):
        def step(self, closure: object = None) -> None:
            self.param_groups[0]["params"][0].data.mul_(2)

    Old([net[0].weight], {}).step()


CHANGES = [
    turn,
    step,
    step_by_data,
    put_data,
    put_tensor,
    write,
    add_bias,
    put_module,
    add_module,
    write_buffer,
    load,
    assign,
    widen,
    remove,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_change_is_noticed(change: Callable[[nn.Sequential], None]) -> None:
    changed = net()
    watch = WeightsWatch(changed)
    assert watch.is_same()
    change(changed)
    assert not watch.is_same()
    assert WeightsWatch(changed).is_same()


def test_reading_is_no_change() -> None:
    read = net().eval()
    watch = WeightsWatch(read)
    read(torch.zeros(1, 2, 4, 4)).sum().backward()
    read.requires_grad_(False)
    assert watch.is_same()


def test_the_step_of_another_net_is_no_change() -> None:
    """As of the one that learns from this one."""
    watched, other = net(), net()
    watch = WeightsWatch(watched)
    glance = watch.glance()
    step(other)
    assert watch.is_same() and glance is not None and glance.is_same()


def test_tensors_without_a_version() -> None:
    with torch.inference_mode():
        made = net()
    watch = WeightsWatch(made)
    assert watch.is_same()
    made[0].weight = nn.Parameter(torch.zeros(3, 2, 1, 1), requires_grad=False)
    assert not watch.is_same()


def test_other_weights_in_tensors_without_a_version() -> None:
    """As where everything is done in inference mode, and one file of weights after the other is loaded."""
    with torch.inference_mode():
        made = net()
        watch = WeightsWatch(made)
        made.load_state_dict(made.state_dict())
        assert watch.is_same()
        for tensor in (*made.parameters(), made[1][0].running_var):
            before = tensor.clone()
            tensor.mul_(1.5).add_(0.5)
            assert not watch.is_same()
            tensor.copy_(before)
            assert watch.is_same()


def test_weights_without_a_version_that_lie_otherwise() -> None:
    """One number for all, which has less memory than values; and every second one, of which half were looked at."""
    with torch.inference_mode():
        one, several = torch.ones(1, 1, 1, 1), torch.ones(3, 4, 1, 1)
        for memory, weight in ((one, one.expand(3, 2, 1, 1)), (several, several[:, ::2])):
            made = net()
            made[0].weight = nn.Parameter(weight, requires_grad=False)
            watch = WeightsWatch(made)
            assert watch.is_same()
            memory[-1] = 2
            assert not watch.is_same()


def layout() -> RecordLayout:
    """Where the records of this PyTorch have their words, which is found wherever the tests run."""
    found = record_layout()
    assert found is not None
    return found


def shift_data(net: nn.Sequential) -> None:
    both = torch.zeros(12)
    net[0].weight.data = both[:6].view(3, 2, 1, 1)
    net.seen = both


def swap(net: nn.Sequential) -> None:
    torch.utils.swap_tensors(net[0].weight, nn.Parameter(torch.zeros(3, 2, 1, 1)))


@pytest.mark.parametrize("change", [*CHANGES, shift_data, swap], ids=lambda change: change.__name__)
def test_a_glance_sees_a_change(change: Callable[[nn.Sequential], None]) -> None:
    changed = net()
    watch = WeightsWatch(changed)
    glance = watch.glance()
    assert glance is not None and glance.is_same()
    change(changed)
    assert not glance.is_same() and watch.glance() is None
    again = WeightsWatch(changed).glance()
    assert again is not None and again.is_same()


def test_a_glance_sees_numbers_that_lie_further_on_in_the_same_storage() -> None:
    changed, both = net(), torch.zeros(12)
    changed[0].weight.data = both[:6].view(3, 2, 1, 1)
    glance = WeightsWatch(changed).glance()
    changed[0].weight.data = changed[0].weight.detach().as_strided((3, 2, 1, 1), (2, 1, 1, 1), 6)
    assert glance is not None and not glance.is_same()


def test_a_glance_at_what_is_read() -> None:
    read = net().eval()
    glance = WeightsWatch(read).glance()
    read(torch.zeros(1, 2, 4, 4)).sum().backward()
    assert glance is not None and glance.is_same()


def test_no_glance_at_a_tensor_whose_strides_lie_elsewhere() -> None:
    made = net()
    made[0].weight = nn.Parameter(torch.zeros(2, 2, 2, 2, 2, 2))
    watch = WeightsWatch(made)
    assert watch.glance() is None and watch.is_same()
    made[0].weight.data = made[0].weight.detach().transpose(0, 1)
    assert not watch.is_same()


def test_no_glance_at_tensors_whose_writings_are_not_counted() -> None:
    with torch.inference_mode():
        assert WeightsWatch(net()).glance() is None


@pytest.mark.parametrize("field", [each.name for each in fields(RecordLayout)])
@pytest.mark.parametrize("words", [-1, 1])
def test_no_glances_with_words_that_do_not_say_it(field: str, words: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a PyTorch whose records are others: what is read there changes never, or in between."""
    size = 4 if field == "count" else 8
    wrong = replace(layout(), **{field: getattr(layout(), field) + words * size})
    if field == "counter":  # no address lies there that may be looked at
        wrong = replace(wrong, counter=layout().counter, count=layout().count - size)
    monkeypatch.setattr(glance_module, "_found", lambda: wrong)
    assert record_layout.__wrapped__() is None


def test_weights_that_are_changed_before_a_glance_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """By another thread: the glance would take them for those that the watch knows."""
    changed = net()
    watch, make = WeightsWatch(changed), Glance.__init__

    def late(self: Glance, *args: Any) -> None:
        write(changed)
        make(self, *args)

    monkeypatch.setattr(Glance, "__init__", late)
    assert watch.glance() is None
