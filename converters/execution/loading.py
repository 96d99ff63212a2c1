"""A state dict into a module, in time that grows with it: torch's own way looks at every key again for each layer."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from torch.nn.modules.module import _IncompatibleKeys

from ..wording import first_of, shape_text

_NAMED = 5
"""The most names that a state_misfit tells."""


def state_misfit(net: nn.Module, state: Mapping[str, Any]) -> str | None:
    """The difference of a state dict from what a net holds, in a line for people; None where keys and shapes fit.

    Keys of blobs that layers share count under each of their names.
    """
    own, lent = net.state_dict(), getattr(net, "_lent", {})
    found = []
    if other := [
        f"{key} is {shape_text(state[key].shape)} and should be {shape_text(blob.shape)}"
        for key, blob in own.items()
        if key in state and tuple(state[key].shape) != tuple(blob.shape)
    ]:
        found.append(first_of(other, _NAMED))
    kept = {owner for key, owner in lent.items() if key in state}
    if missing := _layers(key for key in own if key not in state and key not in kept):
        found.append(f"the net has layers that the weights are not of: {first_of(missing, _NAMED)}")
    if strange := _layers(key for key in state if key not in own and key not in lent):
        found.append(f"the weights are of layers that the net has not: {first_of(strange, _NAMED)}")
    return "; ".join(found) or None


def _layers(keys: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(key.rpartition(".")[0] or key for key in keys))


@dataclass(frozen=True)
class _Complaints:
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def load_state_dict(
    net: nn.Module, state: Mapping[str, Any], *, strict: bool = True, assign: bool = False
) -> _IncompatibleKeys:
    """Does and says what torch's `load_state_dict` does, in linear time: 20,000 layers take torch minutes.

    Raises RuntimeError with torch's words where keys or shapes do not fit. Modules whose loading somebody hooks into
    are loaded by torch.
    """
    if any(module._load_state_dict_post_hooks for module in net.modules()):
        loaded: _IncompatibleKeys = nn.Module.load_state_dict(net, state, strict=strict, assign=assign)
        return loaded
    found = _Complaints()
    metadata = getattr(state, "_metadata", None) or {}
    _load(net, "", OrderedDict(state), metadata, assign=assign, found=found)
    errors = list(found.errors)
    if strict:
        for what, keys in (("Unexpected", found.unexpected), ("Missing", found.missing)):
            if keys:
                listed = ", ".join(f'"{key}"' for key in keys)
                errors.insert(0, f"{what} key(s) in state_dict: {listed}. ")
    if errors:
        listed = "\n\t".join(errors)
        raise RuntimeError(f"Error(s) in loading state_dict for {type(net).__name__}:\n\t{listed}")
    return _IncompatibleKeys(found.missing, found.unexpected)


def _load(
    module: nn.Module,
    prefix: str,
    state: OrderedDict[str, Any],
    metadata: Mapping[str, Any],
    *,
    assign: bool,
    found: _Complaints,
) -> None:
    """Load a module and all below it from the keys that begin with its prefix."""
    own = {**metadata.get(prefix[:-1], {}), "assign_to_params_buffers": assign}
    module._load_from_state_dict(state, prefix, own, True, found.missing, found.unexpected, found.errors)
    below: dict[str, OrderedDict[str, Any]] = {}
    for key, value in state.items():  # after it, for it may have renamed them
        child, dot, _ = key.removeprefix(prefix).partition(".")
        if dot:
            below.setdefault(child, OrderedDict())[key] = value
    for name, each in module._modules.items():
        if each is not None:
            left = below.get(name, OrderedDict())
            _load(each, f"{prefix}{name}.", left, metadata, assign=assign, found=found)
