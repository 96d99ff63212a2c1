"""Training, the same in Caffe and here: the small nets of golden/solver, their data, and how far results may differ.

``golden/solver/solver-*`` are the recipes of the FCNs on a narrow FCN-8s, ``zoo.npz`` is every rule, policy and option
of Caffe's solvers on a net of a few hundred weights (`CASES`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from converters import parse_prototxt
from converters.execution.state_dict import key_of
from converters.formats.model import Blobs
from converters.formats.solver import SolverSpec
from converters.formats.solverstate import SolverState
from fcn_port.training import CaffeSolver, TrainingTask, parameter_groups, task_of
from parity_tests.fill import fill_state, rs
from parity_tests.goldens import GOLDEN
from parity_tests.tolerances import tolerance

Batches = Sequence[Mapping[str, np.ndarray]]
"""For each step the blobs that are fed, by name."""

ELEMENTWISE = ("SGD", "Nesterov")
"""Rules whose single elements are compared too; the others divide gradients near zero by their own size."""


@dataclass(frozen=True)
class Trained:
    """What a solver did: each loss at each step, and every blob before and after."""

    losses: Mapping[str, np.ndarray]
    init: Blobs
    blobs: Blobs


# golden/solver/solver-*


def fcn_batches(steps: int) -> Batches:
    """The batches of the narrow FCN-8s (golden/README.md)."""
    batches = []
    for step in range(steps):
        r = rs(f"batch/{step}")
        data = (r.standard_normal((1, 3, 40, 56)) * 50).astype(np.float32)
        label = r.randint(0, 7, (1, 1, 40, 56)).astype(np.float32)
        label[:, :, :5] = label[..., -3:] = 255
        batches.append({"data": data, "label": label})
    return batches


# golden/solver/zoo.npz


@dataclass(frozen=True)
class Case:
    """A solver and the loss_param of the net's first loss; ten steps."""

    solver: str
    loss: str = "ignore_label: 255"


_SGD = 'base_lr: 0.05 momentum: 0.9 weight_decay: 0.01 lr_policy: "fixed"'
_STEP = 'lr_policy: "step" gamma: 0.3 stepsize: 3'

CASES: Mapping[str, Case] = {
    "sgd-fixed": Case(_SGD),
    "sgd-step": Case(f"base_lr: 0.05 momentum: 0.9 weight_decay: 0.01 {_STEP}"),
    "sgd-multistep": Case('base_lr: 0.05 momentum: 0.9 lr_policy: "multistep" gamma: 0.3 stepvalue: [4, 4, 7]'),
    "sgd-exp": Case('base_lr: 0.05 momentum: 0.9 lr_policy: "exp" gamma: 0.8'),
    "sgd-inv": Case('base_lr: 0.05 momentum: 0.9 lr_policy: "inv" gamma: 0.5 power: 0.75'),
    "sgd-poly": Case('base_lr: 0.05 momentum: 0.9 lr_policy: "poly" power: 0.9 max_iter: 11'),
    "sgd-sigmoid": Case('base_lr: 0.05 momentum: 0.9 lr_policy: "sigmoid" gamma: 0.7 stepsize: 4'),
    "sgd-l1": Case(f'{_SGD} regularization_type: "L1"'),
    "sgd-clip-accumulated": Case(f"{_SGD} clip_gradients: 0.4 iter_size: 3"),
    "nesterov-step": Case(f'type: "Nesterov" base_lr: 0.05 momentum: 0.9 weight_decay: 0.01 {_STEP}'),
    "adagrad-step": Case(f'type: "AdaGrad" base_lr: 0.05 delta: 1e-6 weight_decay: 0.01 {_STEP}'),
    "rmsprop-step": Case(f'type: "RMSProp" base_lr: 0.01 rms_decay: 0.9 delta: 1e-5 weight_decay: 0.01 {_STEP}'),
    "adadelta-step": Case(f'type: "AdaDelta" base_lr: 1 momentum: 0.95 delta: 1e-4 weight_decay: 0.01 {_STEP}'),
    "adam-step": Case(f'type: "Adam" base_lr: 0.01 momentum: 0.9 delta: 1e-4 weight_decay: 0.01 iter_size: 2 {_STEP}'),
    "loss-unnormalised": Case(_SGD.replace("0.05", "1e-3"), "ignore_label: 255 normalize: false"),
    "loss-full": Case(_SGD, "ignore_label: 255 normalization: FULL"),
    "loss-none": Case(_SGD.replace("0.05", "5e-4"), "ignore_label: 255 normalization: NONE"),
    "loss-no-ignored": Case(_SGD, ""),
}
STEPS = 10
ZOO_LOSSES = ("loss", "coarse_loss")
_ZOO_SHAPE = (2, 3, 8, 10)
_CLASSES = 5


def zoo_net(case: Case) -> str:
    """The net of a case: two losses with weights, biases that learn faster, and a deconvolution that does not learn."""
    n, c, h, w = _ZOO_SHAPE
    param = "param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 }"
    return f"""
name: "solver-zoo"
layer {{ name: "data" type: "Input" top: "data" top: "label" top: "coarse"
  input_param {{ shape {{ dim: {n} dim: {c} dim: {h} dim: {w} }} shape {{ dim: {n} dim: 1 dim: {h} dim: {w} }}
    shape {{ dim: {n} dim: 1 dim: {h} dim: {w} }} }} }}
layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv" {param}
  convolution_param {{ num_output: 6 kernel_size: 3 pad: 1 }} }}
layer {{ name: "relu" type: "ReLU" bottom: "conv" top: "conv" }}
layer {{ name: "score" type: "Convolution" bottom: "conv" top: "score" {param}
  convolution_param {{ num_output: {_CLASSES} kernel_size: 1 }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss"
  loss_param {{ {case.loss} }} }}
layer {{ name: "score_coarse" type: "Convolution" bottom: "conv" top: "score_coarse"
  convolution_param {{ num_output: 3 kernel_size: 1 }} }}
layer {{ name: "up" type: "Deconvolution" bottom: "score_coarse" top: "up" param {{ lr_mult: 0 }}
  convolution_param {{ num_output: 3 kernel_size: 3 pad: 1 bias_term: false }} }}
layer {{ name: "coarse_loss" type: "SoftmaxWithLoss" bottom: "up" bottom: "coarse" top: "coarse_loss" loss_weight: 0.3
  loss_param {{ ignore_label: 1 }} }}
"""


def zoo_batches(case: Case, *, steps: int = STEPS) -> Batches:
    """Images of noise, and labels of which some are ignored where the case ignores any."""
    n, _, h, w = _ZOO_SHAPE
    batches = []
    for step in range(steps):
        r = rs(f"zoo/{step}")
        data = r.standard_normal(_ZOO_SHAPE).astype(np.float32)
        label = r.randint(0, _CLASSES, (n, 1, h, w)).astype(np.float32)
        coarse = r.randint(0, 3, (n, 1, h, w)).astype(np.float32)
        if "ignore_label" in case.loss:
            label[0, :, :3] = 255
        batches.append({"data": data, "label": label, "coarse": coarse})
    return batches


def zoo_init() -> dict[str, tuple[np.ndarray, ...]]:
    """The weights that every case begins with."""
    convolutions = {"conv": (6, 3, 3, 3), "score": (_CLASSES, 6, 1, 1), "score_coarse": (3, 6, 1, 1)}
    params = {layer: [shape, shape[:1]] for layer, shape in convolutions.items()} | {"up": [(3, 3, 3, 3)]}
    types = dict.fromkeys(convolutions, "Convolution") | {"up": "Deconvolution"}
    return fill_state(params, types, deconvolution="random")


@functools.cache
def zoo(name: str) -> tuple[Trained, tuple[np.ndarray, ...]]:
    """What Caffe did in a case of the zoo, and the history blobs of its snapshot."""
    with np.load(GOLDEN / "solver" / "zoo.npz") as arrays:
        own = {key.removeprefix(f"{name}/"): arrays[key] for key in arrays.files if key.startswith(f"{name}/")}
    init = zoo_init()
    blobs = {layer: tuple(own[f"{layer}/{i}"] for i in range(len(blobs))) for layer, blobs in init.items()}
    history = tuple(own[f"history/{i}"] for i in range(sum(key.startswith("history/") for key in own)))
    return Trained({loss: own[loss] for loss in ZOO_LOSSES}, init, MappingProxyType(blobs)), history


# golden/solver/fixed.npz

FIXED = ("sgd-step", "nesterov-step", "adagrad-step", "adam-step")
"""Cases that go on after their ten steps with a convolution that learns no more, but has its history."""
FIXED_STEPS = 4


def fixed_net(case: Case) -> str:
    """The net of a case whose first convolution is fixed."""
    free = 'top: "conv" param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 }'
    assert zoo_net(case).count(free) == 1
    return zoo_net(case).replace(free, 'top: "conv" param { lr_mult: 0 decay_mult: 1 } param { lr_mult: 0 }')


def fixed_batches(case: Case) -> Batches:
    """The batches after those of the zoo."""
    return zoo_batches(case, steps=STEPS + FIXED_STEPS)[STEPS:]


def fixed_state(name: str) -> SolverState:
    """The state that Caffe's solver had after the ten steps of a case."""
    return SolverState(STEPS, "weights", zoo(name)[1], 0)


def fixed(name: str) -> Mapping[str, np.ndarray]:
    """The blobs of each layer that Caffe had after the further steps."""
    with np.load(GOLDEN / "solver" / "fixed.npz") as arrays:
        return {key.removeprefix(f"{name}/"): arrays[key] for key in arrays.files if key.startswith(f"{name}/")}


# Training here


def zoo_task(case: Case) -> TrainingTask:
    """The net of a case with the weights that it begins with."""
    return start(task_of(parse_prototxt(zoo_net(case))), zoo_init())


def start(task: TrainingTask, init: Blobs) -> TrainingTask:
    """`task` with these weights."""
    task.net.load_state_dict({key: torch.from_numpy(blob.copy()) for key, blob in by_key(init).items()})
    return task


def solver_for(task: TrainingTask, spec: SolverSpec) -> CaffeSolver:
    return CaffeSolver(parameter_groups(task.net, task.spec), spec)


def train(
    task: TrainingTask,
    spec: SolverSpec,
    batches: Batches,
    *,
    optimizer: torch.optim.Optimizer | None = None,
    after_step: Callable[[], None] = lambda: None,
) -> Trained:
    """Train `task` from the weights that it has; each step sees its batch on every one of its iter_size passes."""
    init = {key: value.numpy().copy() for key, value in task.net.state_dict().items()}
    optimizer = optimizer or solver_for(task, spec)
    losses: dict[str, list[float]] = {loss.name: [] for loss in task.losses}
    for batch in batches:
        blobs = {name: torch.from_numpy(blob) for name, blob in batch.items()}
        found: Mapping[str, Tensor] = {}
        for _ in range(spec.iter_size):
            found = task.losses_of(blobs)
            torch.stack(list(found.values())).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        after_step()
        for loss in task.losses:
            losses[loss.name].append(found[loss.name].item() / loss.weight)
    final = {key: value.numpy() for key, value in task.net.state_dict().items()}
    return Trained({name: np.array(values) for name, values in losses.items()}, by_layer(init), by_layer(final))


def by_key(blobs: Blobs) -> dict[str, np.ndarray]:
    return {key_of(layer, i): blob for layer, own in blobs.items() for i, blob in enumerate(own)}


def by_layer(state: Mapping[str, np.ndarray]) -> dict[str, tuple[np.ndarray, ...]]:
    layers: dict[str, tuple[np.ndarray, ...]] = {}
    for key, blob in state.items():
        layer = key.rpartition(".")[0]
        layers[layer] = (*layers.get(layer, ()), blob)
    return layers


# Comparing


def differences(ours: Trained, caffes: Trained, *, elementwise: bool) -> dict[str, float]:
    """Everything that is further from Caffe than the table allows, by what it is; empty where all is well."""
    found = {}
    for name, expected in caffes.losses.items():
        found[f"loss {name}"] = float(np.abs(ours.losses[name] / expected - 1).max()) / tolerance("solver-loss")
    init, before, after = by_key(caffes.init), by_key(ours.blobs), by_key(caffes.blobs)
    for key, blob in after.items():
        change, off = blob - init[key], before[key] - blob
        found[f"{key} norm"] = _ratio(np.linalg.norm(off), np.linalg.norm(change)) / tolerance("solver-blob")
        if elementwise:
            found[f"{key} element"] = _ratio(np.abs(off).max(), np.abs(change).max()) / tolerance("solver-element")
    return {name: times for name, times in found.items() if not times <= 1}


def _ratio(off: float, change: float) -> float:
    """off / change; a blob that must not change must be the same."""
    return float(off / change) if change else (0.0 if off == 0 else np.inf)
