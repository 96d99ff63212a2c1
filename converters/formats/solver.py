"""Solver files: what a solver.prototxt says, read into one frozen record, and back.

    spec = read_solver("solver.prototxt")      # spec.base_lr, spec.lr_policy, spec.train_net ...

What Caffe's solvers refuse to start with is refused here, with the line. Source: caffe.proto (SolverParameter),
solver.cpp, sgd_solver.cpp and the constructors in sgd_solvers.hpp, upgrade_proto.cpp (solver_type).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ..errors import CaffeFormatError, NetError, PrototxtError
from ..net.spec import PHASES, NetSpec
from ..schema import NetParameter, NetState, SolverParameter
from .prototxt import format_prototxt, net_inside, read_prototxt, read_text
from .text_format import ParsedText, format_text, parse_text

TYPES = ("SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam")
POLICIES = ("fixed", "step", "exp", "inv", "multistep", "poly", "sigmoid")
REGULARIZATIONS = ("L2", "L1")


@dataclass(frozen=True)
class SolverNetState:
    """A state of a net in a solver (caffe.proto, NetState): stages that are added; level and phase, None for none."""

    stages: tuple[str, ...] = ()
    level: int | None = None
    phase: str | None = None


@dataclass(frozen=True)
class SolverSpec:
    """The settings of a training; every name and every default is Caffe's (caffe.proto, SolverParameter).

    `train_net` and `test_nets` are paths as they stand in the file, relative to the folder that Caffe was started in
    (`net_file` finds them), `train_net_param` and `test_net_params` nets that are written in the solver itself; further
    tests are of the net that is trained where `for_tests` says so: Caffe's `net` and `net_param` do, `train_net` and
    `train_net_param` do not. `train_state` and `test_states`, one for each TEST net, are added to the nets' own;
    `read_net` and `read_test_nets` give the nets. `weights` names files to begin with (`weights_files`). `path` is the
    solver's own file. Raises NetError where Caffe would refuse the settings.
    """

    base_lr: float
    lr_policy: str = "fixed"
    type: str = "SGD"
    gamma: float = 0.0
    power: float = 0.0
    stepsize: int = 0
    stepvalue: tuple[int, ...] = ()
    momentum: float = 0.0
    momentum2: float = 0.999
    rms_decay: float = 0.99
    delta: float = 1e-8
    weight_decay: float = 0.0
    regularization_type: str = "L2"
    clip_gradients: float = -1.0
    iter_size: int = 1
    max_iter: int = 0
    display: int = 0
    average_loss: int = 1
    snapshot: int = 0
    snapshot_prefix: str = ""
    snapshot_format: str = "BINARYPROTO"
    test_interval: int = 0
    test_iter: tuple[int, ...] = ()
    test_initialization: bool = True
    random_seed: int = -1
    train_net: str | None = None
    test_nets: tuple[str, ...] = ()
    train_net_param: NetSpec | None = None
    test_net_params: tuple[NetSpec, ...] | None = None
    for_tests: bool = True
    train_state: SolverNetState = SolverNetState()
    test_states: tuple[SolverNetState, ...] = ()
    weights: tuple[str, ...] = ()
    path: str | None = None

    def __post_init__(self) -> None:
        for problem, refused in _refusals(self).items():
            if refused:
                raise NetError(problem, path=self.path)

    def net_file(self, name: str | None = None) -> Path:
        """The file of the net to train, or of the test net `name`: beside the solver, else where Caffe would look.

        Raises NetError where the solver names none, FileNotFoundError where there is no such file.
        """
        name = name or self.train_net
        if name is None:
            raise NetError("the solver names no net", path=self.path, hint='give one: train_net: "train.prototxt"')
        return self._named(name, "as its net")

    def weights_files(self) -> tuple[Path, ...]:
        """The files of the weights to begin with, in Caffe's order, of which a later one counts (solver.cpp).

        Several stand in one text, with commas, or in several (LoadNetWeights). Raises as `net_file` does.
        """
        names = [name.strip() for text in self.weights for name in text.split(",")]
        if not all(names):
            raise NetError(f"weights: {', '.join(map(repr, self.weights))} names no file", path=self.path)
        return tuple(self._named(name, "as its weights") for name in names)

    def _named(self, name: str, what: str) -> Path:
        """The file that the solver names: beside the solver, else where Caffe would look."""
        beside = Path(self.path or ".").parent / name
        for candidate in (beside, Path(name)):
            if candidate.is_file():
                return candidate
        raise FileNotFoundError(2, f"there is no such file; {self.path} names it {what}", str(beside))

    def read_net(self) -> NetSpec:
        """The net to train, of its file or of the solver's own text, in the state of `train_state` (solver.cpp).

        Raises what `net_file` and `read_prototxt` do.
        """
        return _in_state(self.train_net_param or read_prototxt(self.net_file()), self.train_state, "TRAIN")

    def read_test_nets(self) -> tuple[NetSpec, ...]:
        """The TEST nets, one for each of `test_iter`, each in its state, in Caffe's order (solver.cpp, InitTestNets).

        Those of test_net_param come first, then those of test_net, then the net that is trained, where it is for tests.
        Raises NetError where Caffe would refuse their numbers, and what `read_net` does.
        """
        named = len(self.test_net_params or ()) + len(self.test_nets)
        if self.test_iter and self.test_interval <= 0:
            raise NetError(f"test_interval is {self.test_interval}; tests need a positive one", path=self.path)
        if len(self.test_iter) < named or (len(self.test_iter) > named and not self.for_tests):
            problem = f"{len(self.test_iter)} test_iter for {named} test nets; test_iter is missing or too many"
            raise NetError(problem, path=self.path, hint="give it once for each test net")
        if self.test_states and len(self.test_states) != len(self.test_iter):
            problem = f"{len(self.test_states)} test_state for {len(self.test_iter)} tests"
            raise NetError(problem, path=self.path, hint="give one for each test net, or none")
        nets = [*(self.test_net_params or ()), *(read_prototxt(self.net_file(name)) for name in self.test_nets)]
        if rest := len(self.test_iter) - named:
            nets += [self.train_net_param or read_prototxt(self.net_file())] * rest
        states = self.test_states or (SolverNetState(),) * len(nets)
        return tuple(_in_state(net, state, "TEST") for net, state in zip(nets, states, strict=True))


def _in_state(net: NetSpec, state: SolverNetState, phase: str) -> NetSpec:
    """A net whose own state is merged with a solver's: stages are added, a level takes the place of its own.

    Raises NetError where its own state has the other phase, in which Caffe's solver would run it (solver.cpp).
    """
    message = NetParameter.FromString(net.definition)
    if state.phase is None and message.state.HasField("phase") and PHASES[message.state.phase] != phase:
        problem = (
            f"the net's own state has the phase {PHASES[message.state.phase]}, in which a solver's {phase} net is run"
        )
        raise NetError(problem, path=net.path, hint=f"take it out, or write {phase.lower()}_state {{ phase: {phase} }}")
    if state == SolverNetState():
        return net
    message.state.stage.extend(state.stages)
    if state.level is not None:
        message.state.level = state.level
    return replace(net, definition=message.SerializeToString(deterministic=True))


def read_solver(path: str | os.PathLike[str]) -> SolverSpec:
    """The solver in a prototxt file. Raises CaffeFormatError with the place, and FileNotFoundError."""
    return parse_solver(read_text(path), path=path)


def parse_solver(text: str, *, path: str | os.PathLike[str] | None = None) -> SolverSpec:
    """The solver that a text says; `path` is named in errors."""
    path = None if path is None else os.fspath(path)
    try:
        parsed = parse_text(text, SolverParameter)
        _refuse_unknown(parsed)
        tests = [
            net_inside(parsed, f"test_net_param[{number}]", path=path)
            for number in range(len(parsed.message.test_net_param))
        ]
        own = _own_net(parsed, path)
        return replace(
            _from_message(parsed.message), train_net_param=own, test_net_params=tuple(tests) or None, path=path
        )
    except CaffeFormatError as error:
        if path is not None:
            error.in_file(path)
        raise


def format_solver(spec: SolverSpec) -> str:
    """The solver as a prototxt: what differs from Caffe's defaults, the learning rate and its policy."""
    message = SolverParameter(base_lr=spec.base_lr, lr_policy=spec.lr_policy)
    for field in fields(SolverSpec):
        name, value = _IN_CAFFE.get(field.name, field.name), getattr(spec, field.name)
        if field.name in (*_APART, "path", "base_lr", "lr_policy") or value == field.default:
            continue
        if field.name == "train_net" and spec.for_tests:
            message.net = value
        elif isinstance(value, tuple):
            getattr(message, name).extend(value)
        elif field.name == "snapshot_format":
            message.snapshot_format = SolverParameter.SnapshotFormat.Value(value)
        else:
            setattr(message, name, value)
    if spec.train_state != SolverNetState():
        message.train_state.MergeFrom(_state_message(spec.train_state))
    message.test_state.extend(map(_state_message, spec.test_states))
    own = {"net_param" if spec.for_tests else "train_net_param": spec.train_net_param}
    nets = [(name, net) for name, net in own.items() if net is not None]
    nets += [("test_net_param", net) for net in spec.test_net_params or ()]
    return format_text(message) + "".join(_net_text(name, net) for name, net in nets)


def _net_text(name: str, net: NetSpec) -> str:
    text = "".join(f"  {line}\n" for line in format_prototxt(net).splitlines())
    return f"{name} {{\n{text}}}\n"


def _state_message(state: SolverNetState) -> Any:
    message = NetState(stage=state.stages)
    if state.level is not None:
        message.level = state.level
    if state.phase is not None:
        message.phase = PHASES.index(state.phase)
    return message


_APART = ("train_net_param", "test_net_params", "for_tests", "train_state", "test_states")
"""The fields that are not Caffe's as they are."""
_IN_CAFFE: Mapping[str, str] = {"test_nets": "test_net"}
_IGNORED = {"solver_mode", "device_id", "debug_info", "test_compute_loss"}
_IGNORED |= {"layer_wise_reduce", "snapshot_after_train", "snapshot_diff", "solver_type"}
"""The fields that change no weight: where to compute, what to print and when, what is scored on the way, and whether
gradients are written beside the weights."""
_NETS = ("net", "net_param", "train_net", "train_net_param")
"""The fields that give the net to train; Caffe wants one of them (solver.cpp, InitTrainNet)."""


def _from_message(message: Any) -> SolverSpec:
    given = {descriptor.name for descriptor, _ in message.ListFields()}
    if "base_lr" not in given:
        raise NetError("base_lr is missing", hint="give one, such as base_lr: 1e-10; Caffe would take 0")
    if "lr_policy" not in given:
        raise NetError("lr_policy is missing", hint=f"one of {', '.join(POLICIES)}")
    if {"solver_type", "type"} <= given:
        raise NetError("both type and the old solver_type are given", hint="keep type")
    values = {
        field.name: getattr(message, _IN_CAFFE.get(field.name, field.name))
        for field in fields(SolverSpec)
        if _IN_CAFFE.get(field.name, field.name) in given
    }
    if "solver_type" in given:
        values["type"] = TYPES[message.solver_type]
    if "net" in given:
        values["train_net"] = message.net
    if "snapshot_format" in given:
        values["snapshot_format"] = SolverParameter.SnapshotFormat.Name(message.snapshot_format)
    for name in ("stepvalue", "test_nets", "test_iter", "weights"):
        if name in values:
            values[name] = tuple(values[name])
    if "train_state" in given:
        values["train_state"] = _state_of(message.train_state, "TRAIN")
    values["test_states"] = tuple(_state_of(each, "TEST") for each in message.test_state)
    values["for_tests"] = not {"train_net", "train_net_param"} & given
    understood = {_IN_CAFFE.get(field.name, field.name) for field in fields(SolverSpec)} | _IGNORED | {*_NETS}
    strange = sorted(given - understood - {"test_state", "test_net_param"})
    if strange:
        raise NetError(f"{', '.join(strange)}: not understood here", hint="take it out")
    several = [name for name in _NETS if name in given]
    if len(several) > 1:
        raise NetError(f"{' and '.join(several)}: a solver trains one net", hint="keep one of them")
    return SolverSpec(**{name: value for name, value in values.items() if name != "train_net_param"})


def _state_of(message: Any, phase: str) -> SolverNetState:
    """A train_state or test_state; NetError for one of the other phase."""
    if message.HasField("phase") and PHASES[message.phase] != phase:
        raise NetError(f"{phase.lower()}_state has the phase {PHASES[message.phase]}", hint="take it out")
    level = message.level if message.HasField("level") else None
    return SolverNetState(tuple(message.stage), level, phase if message.HasField("phase") else None)


def _own_net(parsed: ParsedText, path: str | None) -> NetSpec | None:
    """The net that is written in the solver, net_param or train_net_param, with its forks' fields."""
    name = next((name for name in ("train_net_param", "net_param") if parsed.message.HasField(name)), None)
    return None if name is None else net_inside(parsed, name, path=path)


def _refuse_unknown(parsed: ParsedText) -> None:
    names = list(SolverParameter.DESCRIPTOR.fields_by_name)
    for field in parsed.unknown:
        top = field.name.partition(".")[0].partition("[")[0]
        if top in ("net_param", "train_net_param", "test_net_param") and "." in field.name:
            continue  # a fork's field of a net
        if top in ("layer", "layers", "input", "name"):
            raise PrototxtError("this is a net, not a solver", where=f"line {field.line}")
        close = get_close_matches(top, names, n=1)
        hint = f"did you mean '{close[0]}'?" if close else None
        raise PrototxtError(f"Caffe's solver has no field '{top}'", where=f"line {field.line}", hint=hint)


def _refusals(spec: SolverSpec) -> dict[str, bool]:
    """The checks of Caffe's solvers before and while they train, by what to tell."""
    policy, kind = spec.lr_policy, spec.type
    return {
        f"type: there is no solver '{kind}'; known: {', '.join(TYPES)}": kind not in TYPES,
        f"lr_policy: there is no policy '{policy}'; known: {', '.join(POLICIES)}": policy not in POLICIES,
        f"regularization_type '{spec.regularization_type}' is neither L2 nor L1": (
            spec.weight_decay != 0 and spec.regularization_type not in REGULARIZATIONS
        ),
        f"momentum cannot be used with {kind}": kind in ("AdaGrad", "RMSProp") and spec.momentum != 0,
        f"momentum is {spec.momentum} and momentum2 {spec.momentum2}; Adam divides by 1 - momentum^t, and takes a root "
        "of 1 - momentum2^t": kind == "Adam" and not (abs(spec.momentum) != 1 and abs(spec.momentum2) <= 1),
        f"rms_decay is {spec.rms_decay}; it must be at least 0 and below 1": (
            kind == "RMSProp" and not 0 <= spec.rms_decay < 1
        ),
        f"gamma is {spec.gamma}; it must not be negative": (policy not in ("fixed", "poly") and spec.gamma < 0),
        f"stepsize is {spec.stepsize}; policy '{policy}' needs a positive one": (
            policy in ("step", "sigmoid") and spec.stepsize <= 0
        ),
        f"policy 'poly' needs max_iter; it is {spec.max_iter}": policy == "poly" and spec.max_iter <= 0,
        f"test_iter is {min(spec.test_iter, default=1)}; it must be at least 1": min(spec.test_iter, default=1) < 1,
        f"iter_size is {spec.iter_size}; it must be at least 1": spec.iter_size < 1,
        f"average_loss is {spec.average_loss}; it must be at least 1": spec.average_loss < 1,
    }
