"""Loading a state dict: torch's result and torch's words, in time that grows with the net."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from converters.execution import CaffeNet
from converters.execution.loading import load_state_dict
from converters.formats.prototxt import parse_prototxt

HEAD = 'name: "x" input: "data" input_shape { dim: 1 dim: 3 dim: 4 dim: 4 }\n'


def _chain(names: list[str]) -> CaffeNet:
    tops = ["data", *(f"c{i}" for i in range(len(names)))]
    layers = "".join(
        f'layer {{ name: "{name}" type: "Convolution" bottom: "{tops[i]}" top: "{tops[i + 1]}" '
        "convolution_param { num_output: 3 kernel_size: 1 } }\n"
        for i, name in enumerate(names)
    )
    return CaffeNet(parse_prototxt(HEAD + layers))


class _Nested(nn.Module):
    """Modules in modules: a buffer, a normalisation with a counter, and a CaffeNet with odd names."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Sequential(nn.Linear(2, 2)))
        self.net = _chain(["a/b", "a.b", "plain", "class"])
        self.register_buffer("seen", torch.zeros(2))
        self.nothing = None


def _drawn(state: Mapping[str, Any]) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(3)
    return {
        key: torch.rand(value.shape, generator=generator).to(value.dtype) if value.ndim else value + 7
        for key, value in state.items()
    }


def _spoilt(state: dict[str, Any], how: str) -> dict[str, Any]:
    first, *_ = [key for key in state if key.endswith("weight")]
    if how == "missing":
        del state[first]
    if how == "unexpected":
        state |= {"more.weight": torch.ones(1), "x": torch.ones(1), f"{first}.more": torch.ones(1)}
    if how == "shape":
        state[first] = torch.ones(9, 9)
    if how == "counter":
        state = {key: value for key, value in state.items() if "num_batches" not in key}
    return state


def _outcome(load: Callable[[], Any]) -> tuple[str, Any]:
    try:
        return "loaded", load()
    except RuntimeError as error:
        return "error", str(error)


@pytest.mark.parametrize("make", [_Nested, lambda: _chain(["a/b", "a_b", "c"]), lambda: nn.Linear(2, 2)])
@pytest.mark.parametrize("how", ["fits", "missing", "unexpected", "shape", "counter"])
@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("assign", [True, False])
def test_it_does_and_says_what_torch_does(make: Callable[[], nn.Module], how: str, strict: bool, assign: bool) -> None:
    ours = make()
    theirs = deepcopy(ours)
    state = _spoilt(_drawn(ours.state_dict()), how)
    found = _outcome(lambda: load_state_dict(ours, state, strict=strict, assign=assign))
    expected = _outcome(lambda: nn.Module.load_state_dict(theirs, state, strict=strict, assign=assign))
    assert found == expected
    for (key, value), (other, wanted) in zip(ours.state_dict().items(), theirs.state_dict().items(), strict=True):
        assert key == other and torch.equal(value, wanted)
        assert (value.data_ptr() in {each.data_ptr() for each in state.values()}) == (
            wanted.data_ptr() in {each.data_ptr() for each in state.values()}
        )


class _Key(str):
    """A key that counts how often it is looked at."""

    looks: ClassVar[Counter[str]] = Counter()

    def startswith(self, *arguments: Any) -> bool:
        self.looks["all"] += 1
        return super().startswith(*arguments)


def test_time_grows_with_the_net() -> None:
    """Of 8,000 keys torch looks at each 4,000 times: of a file of 2 MB, for minutes."""
    looks = []
    for layers in (100, 200):
        net = _chain([f"c{i}" for i in range(layers)])
        _Key.looks.clear()
        net.load_state_dict({_Key(key): value for key, value in net.state_dict().items()})
        looks.append(_Key.looks["all"])
    assert 0 < looks[1] <= 2 * looks[0]


def test_hooks_are_called() -> None:
    net, called = _chain(["a"]), []
    net.register_load_state_dict_post_hook(lambda module, keys: called.append(keys))
    net.load_state_dict(net.state_dict())
    assert len(called) == 1
