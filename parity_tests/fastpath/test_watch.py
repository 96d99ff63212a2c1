"""Every way to change the weights of a net is noticed, and a net that nobody changed stays the same."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import pytest
import torch
from torch import nn

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


CHANGES = [put_data, put_tensor, write, add_bias, put_module, add_module, write_buffer, load, assign, widen]


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


def test_lines_of_memory_are_a_hint() -> None:
    """Whole lines, each once, with the records themselves, and the entries of dictionaries, which lie elsewhere."""
    watched = net()
    lines = WeightsWatch(watched).lines()
    assert lines == sorted(set(lines)) and all(line % 64 == 0 for line in lines)
    assert {id(each) // 64 * 64 for each in watched.parameters()} <= set(lines)
    tables = [ctypes.c_uint64.from_address(id(each._parameters) + 32).value for each in watched.modules()]  # ma_keys
    named = [table for table, each in zip(tables, watched.modules(), strict=True) if each._parameters]
    assert len(named) == 2 and {table // 64 * 64 for table in named} <= set(lines)
