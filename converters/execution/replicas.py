"""The structure of a module a second time: what is done to it, nobody else sees."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

_CONTAINERS = (dict, OrderedDict, set, list)


def replica(net: nn.Module, tensor: Callable[[Tensor], Tensor] | None = None) -> nn.Module:
    """The modules of `net` again, with its very parameters and buffers, or with what `tensor` makes of each.

    Hooks, weights and layers that are put into the replica are not in `net`, to which nothing is written; so threads
    may go on using it. `torch.func.functional_call` is no such thing: it swaps the weights of the module itself.
    """
    return _Copying(tensor).module(net)


class _Copying:
    """One replica in the making; what `net` has twice, the replica has twice too."""

    def __init__(self, tensor: Callable[[Tensor], Tensor] | None) -> None:
        self._make = tensor
        self._modules: dict[int, nn.Module] = {}
        self._tensors: dict[int, Tensor] = {}

    def module(self, module: nn.Module) -> nn.Module:
        if id(module) not in self._modules:
            other = self._modules[id(module)] = module.__new__(type(module))
            vars(other).update((name, _own(value)) for name, value in vars(module).items())
            other._compiled_call_impl = None  # of `module.compile()`, which would run `module`
            for name, child in other._modules.items():
                other._modules[name] = None if child is None else self.module(child)
            for tensors in (other._parameters, other._buffers):
                tensors.update((name, self._tensor(value)) for name, value in tensors.items())
        return self._modules[id(module)]

    def _tensor(self, value: Any) -> Any:
        if value is None or self._make is None:
            return value
        if id(value) not in self._tensors:
            self._tensors[id(value)] = self._make(value.detach())
        return self._tensors[id(value)]


def _own(value: Any) -> Any:
    return copy.copy(value) if type(value) in _CONTAINERS else value
