"""Every rule, policy and option of Caffe's solvers, on a net of a few hundred weights (golden/solver/zoo.npz)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from converters import parse_prototxt
from converters.formats.solver import SolverSpec, parse_solver
from fcn_port.training import CaffeSolver, TrainingTask, parameter_groups, task_of
from fcn_port.training.snapshots import restore_solverstate
from parity_tests import solving
from parity_tests.solving import CASES, ELEMENTWISE, Trained
from parity_tests.tolerances import tolerance

Variant = Callable[[TrainingTask, SolverSpec], torch.optim.Optimizer]


def differences(name: str, variant: Variant = solving.solver_for, **changes: object) -> dict[str, float]:
    """How far training in a case is from Caffe's, with `variant` as the optimizer and another spec."""
    spec = replace(parse_solver(CASES[name].solver), **changes)  # type: ignore[arg-type]
    task = solving.zoo_task(CASES[name])
    ours = solving.train(task, spec, solving.zoo_batches(CASES[name]), optimizer=variant(task, spec))
    return solving.differences(ours, solving.zoo(name)[0], elementwise=spec.type in ELEMENTWISE)


@pytest.mark.parametrize("name", CASES)
def test_every_loss_and_every_weight_is_caffes(name: str) -> None:
    assert not differences(name)


@pytest.mark.parametrize("name", CASES)
def test_the_history_is_caffes(name: str) -> None:
    """Blob by blob in the order of a .solverstate. Those of fixed blobs, which nothing reads, are zeros here."""
    case = CASES[name]
    spec = parse_solver(case.solver)
    task = solving.zoo_task(case)
    solver = solving.solver_for(task, spec)
    solving.train(task, spec, solving.zoo_batches(case), optimizer=solver)
    groups = solver.param_groups
    histories = [solver.history(group["params"][0]) for group in groups]
    ours = [histories[i][kind] for kind in range(len(histories[0])) for i in range(len(groups))]
    caffes = solving.zoo(name)[1]
    assert len(ours) == len(caffes)
    for i, (mine, expected) in enumerate(zip(ours, caffes, strict=True)):
        if groups[i % len(groups)]["lr_mult"]:
            assert np.linalg.norm(mine.numpy() - expected) <= tolerance("solver-blob") * np.linalg.norm(expected)


def gone_on(name: str, optimizer: Callable[[TrainingTask, SolverSpec], CaffeSolver]) -> dict[str, float]:
    """How far each blob is, by its norm, from Caffe's after a convolution was fixed that has learned."""
    case, spec = CASES[name], parse_solver(CASES[name].solver)
    task = solving.start(task_of(parse_prototxt(solving.fixed_net(case))), solving.zoo(name)[0].blobs)
    solver = optimizer(task, spec)
    restore_solverstate(solver, solving.fixed_state(name))
    solving.train(task, spec, solving.fixed_batches(case), optimizer=solver)
    expected = solving.fixed(name)
    ours = {key: blob.detach().numpy() for key, blob in task.net.state_dict().items()}
    named = solving.by_layer(ours)
    found = {f"{layer}/{i}": blob for layer, own in named.items() for i, blob in enumerate(own)}
    assert found.keys() == expected.keys()
    return {key: float(np.linalg.norm(found[key] - blob) / np.linalg.norm(blob)) for key, blob in expected.items()}


@pytest.mark.parametrize("name", solving.FIXED)
def test_a_blob_that_is_fixed_goes_on_by_its_momentum(name: str) -> None:
    """sgd_solver.cpp, ComputeUpdateValue: the history of a blob whose lr_mult is 0 now is what it moves by."""
    assert max(gone_on(name, solving.solver_for).values()) <= tolerance("solver-blob")


def test_a_fixed_blob_that_stands_still_is_seen() -> None:
    class Still(CaffeSolver):
        def _learned(self, parameter: torch.Tensor) -> bool:
            return False

    found = gone_on("sgd-step", lambda task, spec: Still(parameter_groups(task.net, task.spec), spec))
    assert found["conv/0"] > 100 * tolerance("solver-blob")


def test_a_blob_that_was_always_fixed_stays() -> None:
    task = solving.zoo_task(CASES["sgd-fixed"])
    solver = solving.solver_for(task, parse_solver(CASES["sgd-fixed"].solver))
    before = task.net.state_dict()["up.weight"].clone()
    solving.train(task, solver.spec, solving.zoo_batches(CASES["sgd-fixed"])[:3], optimizer=solver)
    assert torch.equal(task.net.state_dict()["up.weight"], before)


# Wrong variants


def torch_sgd(task: TrainingTask, spec: SolverSpec) -> torch.optim.Optimizer:
    """PyTorch's SGD with the rates of the policy set before each step, as a torch scheduler would."""
    from fcn_port.training.rates import learning_rate

    groups = [
        {
            "params": group["params"],
            "lr_mult": group["lr_mult"],
            "weight_decay": spec.weight_decay * group["decay_mult"],
        }
        for group in parameter_groups(task.net, task.spec)
    ]
    optimizer = torch.optim.SGD(groups, lr=spec.base_lr, momentum=spec.momentum)
    iteration, step = 0, 0

    def set_rate(*_: object) -> None:
        nonlocal iteration, step
        rate, step = learning_rate(spec, iteration, current_step=step)
        iteration += 1
        for group in optimizer.param_groups:
            group["lr"] = rate * group["lr_mult"]

    optimizer.register_step_pre_hook(set_rate)
    return optimizer


def test_torchs_sgd_is_caffes_while_the_rate_stays() -> None:
    assert not differences("sgd-fixed", torch_sgd)


@pytest.mark.parametrize("name", ["sgd-step", "sgd-multistep", "sgd-exp", "sgd-inv", "sgd-poly", "sgd-sigmoid"])
def test_torchs_sgd_differs_as_soon_as_the_rate_changes(name: str) -> None:
    assert differences(name, torch_sgd)["conv.weight norm"] > 100


def one_multiplier(task: TrainingTask, spec: SolverSpec) -> torch.optim.Optimizer:
    return CaffeSolver(task.net.parameters(), spec)


def decayed_biases(task: TrainingTask, spec: SolverSpec) -> torch.optim.Optimizer:
    return CaffeSolver([{**g, "decay_mult": 1.0} for g in parameter_groups(task.net, task.spec)], spec)


@pytest.mark.parametrize(
    ("name", "variant", "changes", "seen"),
    [
        ("sgd-fixed", one_multiplier, {}, "up.weight norm"),
        ("sgd-fixed", decayed_biases, {}, "conv.bias norm"),
        ("sgd-l1", solving.solver_for, {"regularization_type": "L2"}, "conv.weight norm"),
        ("sgd-multistep", solving.solver_for, {"stepvalue": (4, 7)}, "conv.weight norm"),
        ("sgd-clip-accumulated", solving.solver_for, {"clip_gradients": -1.0}, "conv.weight norm"),
        ("sgd-clip-accumulated", solving.solver_for, {"clip_gradients": 1.2}, "conv.weight norm"),
        ("nesterov-step", solving.solver_for, {"type": "SGD"}, "conv.weight norm"),
        ("adagrad-step", solving.solver_for, {"type": "RMSProp"}, "conv.weight norm"),
        ("adam-step", solving.solver_for, {"momentum2": 0.99}, "conv.weight norm"),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_a_wrong_variant_is_seen(name: str, variant: Variant, changes: dict[str, object], seen: str) -> None:
    """A clip of 1.2 is one of 0.4 after the division by iter_size, which is the wrong order."""
    assert seen in differences(name, variant, **changes)


@pytest.mark.parametrize(
    ("name", "normalization"),
    [("loss-unnormalised", "NONE"), ("loss-full", "VALID"), ("loss-none", "BATCH_SIZE"), ("sgd-fixed", "FULL")],
)
def test_another_normalisation_is_seen(name: str, normalization: str) -> None:
    case = CASES[name]
    task = solving.zoo_task(case)
    first, second = task.losses
    wrong = replace(task, losses=(replace(first, normalization=normalization), second))  # type: ignore[arg-type]
    ours = solving.train(wrong, parse_solver(case.solver), solving.zoo_batches(case))
    assert "loss loss" in solving.differences(ours, solving.zoo(name)[0], elementwise=True)


def test_the_weight_of_a_second_loss_is_seen() -> None:
    task = solving.zoo_task(CASES["sgd-fixed"])
    wrong = replace(task, losses=(task.losses[0], replace(task.losses[1], weight=1.0)))
    ours = solving.train(wrong, parse_solver(CASES["sgd-fixed"].solver), solving.zoo_batches(CASES["sgd-fixed"]))
    assert "score_coarse.weight norm" in solving.differences(ours, solving.zoo("sgd-fixed")[0], elementwise=True)


# The same solver again


def test_a_solver_goes_on_from_its_state_dict() -> None:
    """Six steps, a new solver from the state of the old, and four more are ten, to the last bit."""
    name = "adam-step"
    case, spec = CASES[name], parse_solver(CASES[name].solver)
    batches = solving.zoo_batches(case)
    whole = solving.train(solving.zoo_task(case), spec, batches)
    task = solving.zoo_task(case)
    first = solving.solver_for(task, spec)
    solving.train(task, spec, batches[:6], optimizer=first)
    second = solving.solver_for(task, spec)
    second.load_state_dict(first.state_dict())
    assert (second.iteration, second.current_step, second.rate) == (6, 1, pytest.approx(0.01 * 0.3**2))
    resumed = solving.train(task, spec, batches[6:], optimizer=second)
    _equal(resumed, whole)


def _equal(ours: Trained, expected: Trained) -> None:
    for key, blob in solving.by_key(expected.blobs).items():
        np.testing.assert_array_equal(solving.by_key(ours.blobs)[key], blob)


def test_a_torch_scheduler_is_refused() -> None:
    solver = CaffeSolver([torch.nn.Parameter(torch.ones(1))], SolverSpec(base_lr=1.0))
    with pytest.raises(KeyError, match="lr"):
        torch.optim.lr_scheduler.StepLR(solver, 1)


def test_a_step_makes_no_copy_of_a_gradient() -> None:
    """Gradients become what was applied, in their own memory, like Caffe's diffs; fc6's are 411 MB."""
    weight = torch.nn.Parameter(torch.tensor([2.0, -4.0]))
    weight.grad = gradient = torch.tensor([6.0, 8.0])
    CaffeSolver([weight], SolverSpec(base_lr=0.5, weight_decay=0.25, iter_size=2)).step()
    assert weight.grad is gradient and gradient.tolist() == [3.5, 3.0] and weight.tolist() == [0.25, -5.5]
