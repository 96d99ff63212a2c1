"""The blobs that a net learns, in Caffe's order, each with its lr_mult and decay_mult (net.cpp, AppendParam)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from converters.errors import MismatchError, NetError
from converters.execution import key_of, split_key
from converters.net import NetSpec, forces_backward

from ..nets import definition

RECURRENT = ("LSTM", "RNN")
_MULTIPLIERS = ("lr_mult", "decay_mult")


def parameter_groups(net: nn.Module, spec: NetSpec | None = None) -> list[dict[str, Any]]:
    """One group for each learnable blob, in the order in which Caffe's solver keeps them, as CaffeSolver takes them.

    A group has `params`, `name` (the state dict key), `lr_mult`, `decay_mult` and `forced`. The multipliers are those
    of `spec`, by default of the net itself: what its prototxt says for a CaffeNet, the release's for a hand-written net
    (biases learn twice as fast and do not decay, deconvolutions are fixed). A blob that does not require a gradient has
    an lr_mult of 0. With force_backward of the net fixed blobs are `forced`: they have gradients, which clip_gradients
    counts (net.cpp, Init), and so are those of a recurrent layer, whose inner net computes them all
    (recurrent_layer.cpp, Backward_cpu). Raises MismatchError where `spec` lacks a blob of the net, NetError where
    layers that share a blob contradict each other.
    """
    if spec is None:
        spec = definition(net, name=type(net).__name__)
    state = net.state_dict(keep_vars=True)
    parameters = {key: value for key, value in state.items() if isinstance(value, nn.Parameter)}
    groups: list[dict[str, Any]] = []
    for key, found in multipliers(spec, parameters).items():
        groups.append({"params": [parameters[key]], "name": key, **found})
        if not parameters[key].requires_grad:
            groups[-1]["lr_mult"] = 0.0
    everywhere, recurrent = forces_backward(spec), _recurrent(spec, groups)
    for group in groups:
        forced = everywhere or split_key(group["name"])[0] in recurrent
        group["forced"] = forced and parameters[group["name"]].requires_grad and not group["lr_mult"]
    return groups


def _recurrent(spec: NetSpec, groups: Iterable[Mapping[str, Any]]) -> set[str]:
    """The recurrent layers through which a gradient goes: to a blob of their own that learns, or to one before."""
    learning = {split_key(group["name"])[0] for group in groups if group["lr_mult"]}
    learned: set[str] = set()
    found = set()
    for layer in spec.layers:
        if layer.name in learning or learned.intersection(layer.bottoms):
            learned.update(layer.tops)
            if layer.type in RECURRENT:
                found.add(layer.name)
    return found


def multipliers(spec: NetSpec, keys: Iterable[str]) -> dict[str, dict[str, float]]:
    """The lr_mult and decay_mult of each blob in `keys` (state dict keys), in the order of the layers of `spec`.

    A blob that layers share counts once, where the first of them has it; one of them may give its multipliers.
    """
    wanted: dict[str, list[str]] = {}
    for key in keys:
        wanted.setdefault(split_key(key)[0], []).append(key)
    given: dict[str, dict[str, float]] = {}
    owners: dict[str, str] = {}
    for layer in spec.layers:
        params = layer.to_message().param
        last = max((split_key(key)[1] for key in wanted.get(layer.name, ())), default=-1)
        own = [key_of(layer.name, i) for i in range(max(len(params), last + 1))]
        for position, key in enumerate(own):
            param = params[position] if position < len(params) else None
            owner = owners.setdefault(param.name, key) if param is not None and param.name else key
            if owner not in wanted.get(split_key(owner)[0], ()):
                continue
            found = given.setdefault(owner, {})
            for name in _MULTIPLIERS:
                if param is not None and param.HasField(name):
                    value = float(getattr(param, name))
                    if found.setdefault(name, value) != value:
                        problem = f"{name} is {value}; layers that share {owner} have {found[name]}"
                        raise NetError(problem, where=layer.place)
    missing = [key for own in wanted.values() for key in own if key not in given]
    if missing:
        raise MismatchError(f"the net definition has no blob for {', '.join(missing[:5])}", path=spec.path)
    return {key: {name: found.get(name, 1.0) for name in _MULTIPLIERS} for key, found in given.items()}
