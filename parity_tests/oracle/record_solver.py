"""Record golden/solver/zoo.npz again, every case of parity_tests/solving.py solved by real Caffe, and two snapshots."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from converters import CaffeModel, parse_prototxt, write_caffemodel
from converters.formats.caffemodel import parse_caffemodel
from converters.formats.solverstate import SolverState, read_solverstate, write_solverstate
from converters.schema import SolverState as Message
from parity_tests import loss_cases, solving
from parity_tests.goldens import GOLDEN
from parity_tests.oracle.client import Oracle, Solved

SNAPSHOT = "sgd-step"
"""The case of which the .solverstate files are kept."""


def ask(oracle: Oracle, case: solving.Case, *, hdf5: bool = False) -> Solved:
    """Let Caffe solve a case from the beginning."""
    batches = solving.zoo_batches(case)
    inputs = {name: np.stack([batch[name] for batch in batches]) for name in batches[0]}
    return oracle.solve(
        case.solver, solving.zoo_net(case), inputs, losses=solving.ZOO_LOSSES, filling="random", hdf5=hdf5
    )


def solve(oracle: Oracle, case: solving.Case) -> dict[str, np.ndarray]:
    """What Caffe does in a case: losses, final blobs and history, under the keys of the recording."""
    done = ask(oracle, case)
    blobs = parse_caffemodel(done.model).blobs
    arrays = {f"{layer}/{i}": np.array(blob) for layer, own in blobs.items() for i, blob in enumerate(own)}
    state = Message.FromString(done.state)
    for i, blob in enumerate(state.history):
        arrays[f"history/{i}"] = np.array(blob.data, np.float32).reshape(tuple(blob.shape.dim))
    return {**done.losses, **arrays}


def record_zoo(oracle: Oracle, *, out: Path) -> Iterator[tuple[str, float, str]]:
    """Write the recordings under `out`; gives each file, its difference from the committed one, and where that is."""
    (out / "solver").mkdir(parents=True, exist_ok=True)
    recorded = {
        f"{name}/{key}": array for name, case in solving.CASES.items() for key, array in solve(oracle, case).items()
    }
    np.savez_compressed(out / "solver" / "zoo.npz", **recorded)  # type: ignore[arg-type]
    yield "solver/zoo.npz", *_furthest(recorded)
    for ending, hdf5 in ((".solverstate", False), (".solverstate.h5", True)):
        path = out / "solver" / f"{SNAPSHOT}{ending}"
        path.write_bytes(ask(oracle, solving.CASES[SNAPSHOT], hdf5=hdf5).state)
        yield f"solver/{path.name}", *_between(read_solverstate(path), GOLDEN / "solver" / path.name)


def solve_loss(oracle: Oracle, case: loss_cases.LossCase) -> dict[str, np.ndarray]:
    """What Caffe does with a loss: its value at each step, and the weights after the last."""
    batches = loss_cases.batches(case)
    inputs = {name: np.stack([batch[name] for batch in batches]) for name in batches[0]}
    files = {loss_cases.MATRIX: loss_cases.matrix()}
    solver = f"{loss_cases.SOLVER} {case.solver}"
    done = oracle.solve(solver, loss_cases.net_of(case), inputs, filling=case.filling, files=files)
    return {"loss": done.losses["loss"], **loss_cases.blobs_of(parse_caffemodel(done.model).blobs)}


def record_losses(oracle: Oracle, *, out: Path) -> tuple[float, str]:
    """Write golden/solver/losses.npz under `out`; its difference from the committed one, and where that is."""
    (out / "solver").mkdir(parents=True, exist_ok=True)
    found = {
        f"{name}/{key}": array
        for name, case in loss_cases.CASES.items()
        for key, array in solve_loss(oracle, case).items()
    }
    np.savez_compressed(out / "solver" / "losses.npz", **found)  # type: ignore[arg-type]
    return _furthest(found, "losses.npz")


def solve_fixed(oracle: Oracle, name: str) -> dict[str, np.ndarray]:
    """What Caffe makes of a case that goes on with a fixed convolution: the blobs of each layer."""
    case, net = solving.CASES[name], parse_prototxt(solving.fixed_net(solving.CASES[name]))
    batches = solving.fixed_batches(case)
    with tempfile.TemporaryDirectory() as folder:
        weights, state = Path(folder, "weights"), Path(folder, "state")
        write_caffemodel(CaffeModel(net, solving.zoo(name)[0].blobs), weights)
        write_solverstate(solving.fixed_state(name), state)
        done = oracle.solve(
            case.solver,
            solving.fixed_net(case),
            {blob: np.stack([batch[blob] for batch in batches]) for blob in batches[0]},
            weights=weights,
            restore=state.read_bytes(),
            losses=solving.ZOO_LOSSES,
        )
    return loss_cases.blobs_of(parse_caffemodel(done.model).blobs)


def record_fixed(oracle: Oracle, *, out: Path) -> tuple[float, str]:
    """Write golden/solver/fixed.npz under `out`; its difference from the committed one, and where that is."""
    (out / "solver").mkdir(parents=True, exist_ok=True)
    found = {f"{name}/{key}": array for name in solving.FIXED for key, array in solve_fixed(oracle, name).items()}
    np.savez_compressed(out / "solver" / "fixed.npz", **found)  # type: ignore[arg-type]
    return _furthest(found, "fixed.npz")


def _furthest(recorded: dict[str, np.ndarray], name: str = "zoo.npz") -> tuple[float, str]:
    """The largest difference, relative to the norm of the committed array, and its key."""
    path = GOLDEN / "solver" / name
    if not path.exists():
        return np.inf, "new"
    with np.load(path) as committed:
        if set(committed.files) != set(recorded):
            return np.inf, "other cases"
        found = {key: _difference(array, committed[key]) for key, array in recorded.items()}
    where = max(found, key=lambda key: found[key])
    return found[where], where


def _between(state: SolverState, committed: Path) -> tuple[float, str]:
    if not committed.exists():
        return np.inf, "new"
    expected = read_solverstate(committed)
    if (state.iteration, state.learned_net, state.current_step, len(state.history)) != (
        *(expected.iteration, expected.learned_net, expected.current_step, len(expected.history)),
    ):
        return np.inf, "another iteration, name or number of blobs"
    found = [_difference(*pair) for pair in zip(state.history, expected.history, strict=True)]
    return max(found), f"history blob {int(np.argmax(found))}"


def _difference(array: np.ndarray, committed: np.ndarray) -> float:
    return float(np.linalg.norm(array - committed) / (np.linalg.norm(committed) or 1))
