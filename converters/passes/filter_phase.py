"""The layers of one phase, level and set of stages (net.cpp, FilterNet).

Needs nothing. Ensures that every layer's include and exclude rules admit the state; the rules stay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ..errors import NetError
from ..net.layer import LayerSpec
from ..net.spec import PHASES, NetSpec
from ..schema import NetParameter, NetState

Phase = Literal["TRAIN", "TEST"]


def filter_phase(spec: NetSpec, *, phase: Phase = "TEST", level: int = 0, stages: Sequence[str] = ()) -> NetSpec:
    """The layers whose include and exclude rules (and enable, in old forks) admit this state; the rules stay.

    As Caffe's Net does when it opens a file, `phase` and `level` replace the ones in the net's own `state`, and
    `stages` are added to its own. Raises NetError for a layer with both kinds of rules. Source: net.cpp, FilterNet.
    """
    state = NetState(phase=phase, level=level)
    state.stage.extend([*NetParameter.FromString(spec.definition).state.stage, *stages])
    return spec.replace_layers(tuple(layer for layer in spec.layers if _is_included(layer, state, spec)))


def level_of(spec: NetSpec) -> int:
    """The level in the net's own `state`, which a solver keeps where it says no other (solver.cpp, InitTrainNet)."""
    return int(NetParameter.FromString(spec.definition).state.level)


def stages_of(spec: NetSpec) -> list[str]:
    """The stages that the rules of the net name, in order."""
    rules = [rule for layer in spec.layers for rule in (*layer.message.include, *layer.message.exclude)]
    return list(dict.fromkeys(stage for rule in rules for stage in (*rule.stage, *rule.not_stage)))


def _is_included(layer: LayerSpec, state: Any, spec: NetSpec) -> bool:
    message = layer.message
    if message.include and message.exclude:
        raise NetError("both include and exclude rules", path=spec.path, where=layer.place, hint="keep one kind")
    if message.include:
        return any(_meets(state, rule) for rule in message.include)
    enabled = [field.children() for field in layer.extra if field.name == "enable"]
    if enabled:
        return any(_meets_fork(state, rule) for rule in enabled)
    return not any(_meets(state, rule) for rule in message.exclude)


def _meets_fork(state: Any, rule: Mapping[str, Sequence[Any]]) -> bool:
    """True where a state meets a rule `enable` of the forks of 2014: its phase, and no solver (vsubhashini/caffe).

    `solver: true` is for a net inside a solver, which one that is read here is not.
    """
    phases, solver = rule.get("phase", ()), rule.get("solver", ())
    of_phase = not phases or str(phases[-1]) == PHASES[state.phase]
    return of_phase and (not solver or str(solver[-1]).lower() in ("false", "f", "0"))


def _meets(state: Any, rule: Any) -> bool:
    """True where a state meets every condition of a rule (net.cpp, StateMeetsRule)."""
    return (
        (not rule.HasField("phase") or rule.phase == state.phase)
        and (not rule.HasField("min_level") or state.level >= rule.min_level)
        and (not rule.HasField("max_level") or state.level <= rule.max_level)
        and set(rule.stage) <= set(state.stage)
        and not set(rule.not_stage) & set(state.stage)
    )
