"""A CaffeSolver as Caffe's .solverstate, and back (sgd_solver.cpp, SnapshotSolverState and RestoreSolverState)."""

from __future__ import annotations

import torch
from torch import Tensor

from converters.errors import MismatchError
from converters.formats import SolverState

from .solver import CaffeSolver
from .update_rules import RULES


def to_solverstate(solver: CaffeSolver, *, learned_net: str) -> SolverState:
    """The state of `solver`, as Caffe would save it beside the weights `learned_net`.

    Its groups must be those of `parameter_groups`, in Caffe's order. The history of a fixed blob (lr_mult 0) is zeros,
    into which Caffe decays: it counts only where a rate is given later to a rule that does not multiply by it before.
    """
    history = [
        solver.history(parameter)[kind].detach().cpu().numpy().copy()
        for kind in range(RULES[solver.spec.type].histories)
        for parameter in _parameters(solver)
    ]
    return SolverState(solver.iteration, learned_net, tuple(history), solver.current_step)


def restore_solverstate(solver: CaffeSolver, state: SolverState) -> None:
    """Go on where Caffe's solver was. Raises MismatchError for the state of another net or type of solver."""
    parameters, kinds = _parameters(solver), RULES[solver.spec.type].histories
    if len(state.history) != kinds * len(parameters):
        raise MismatchError(
            f"{len(state.history)} history blobs; solver {solver.spec.type} of a net with {len(parameters)} blobs has "
            f"{kinds * len(parameters)}",
            path=state.path,
            hint="is it a snapshot of this net, made with this solver?",
        )
    with torch.no_grad():
        for i, blob in enumerate(state.history):
            parameter = parameters[i % len(parameters)]
            if blob.size != parameter.numel():
                raise MismatchError(
                    f"shape {blob.shape}; the net's blob has {tuple(parameter.shape)}",
                    path=state.path,
                    where=f"history blob {i}",
                )
            values = torch.from_numpy(blob.reshape(tuple(parameter.shape)).copy())
            solver.history(parameter)[i // len(parameters)].copy_(values)
    solver.iteration, solver.current_step = state.iteration, state.current_step


def _parameters(solver: CaffeSolver) -> list[Tensor]:
    return [parameter for group in solver.param_groups for parameter in group["params"]]
