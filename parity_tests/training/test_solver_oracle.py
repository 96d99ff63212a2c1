"""Live: Caffe's solvers do what golden/solver says, and Caffe and we go on from each other's snapshots."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import converters
from converters.formats.solver import parse_solver
from converters.formats.solverstate import read_solverstate, write_solverstate
from fcn_port.training.snapshots import restore_solverstate, to_solverstate
from parity_tests import solving
from parity_tests.goldens import GOLDEN
from parity_tests.oracle.client import Oracle
from parity_tests.oracle.record_solver import solve, solve_fixed
from parity_tests.solverstate_h5 import write_solverstate_hdf5
from parity_tests.tolerances import tolerance

pytestmark = pytest.mark.oracle


@pytest.mark.parametrize("name", solving.CASES)
def test_caffe_solves_the_zoo_as_recorded(oracle: Oracle, name: str) -> None:
    with np.load(GOLDEN / "solver" / "zoo.npz") as arrays:
        recorded = {key: arrays[key] for key in arrays.files if key.startswith(f"{name}/")}
    found = {f"{name}/{key}": array for key, array in solve(oracle, solving.CASES[name]).items()}
    assert found.keys() == recorded.keys()
    for key, expected in recorded.items():
        assert np.linalg.norm(found[key] - expected) <= tolerance("oracle-live") * np.linalg.norm(expected), key


@pytest.mark.parametrize("name", solving.FIXED)
def test_caffe_goes_on_with_a_fixed_layer_as_recorded(oracle: Oracle, name: str) -> None:
    found, recorded = solve_fixed(oracle, name), solving.fixed(name)
    assert found.keys() == recorded.keys()
    for key, expected in recorded.items():
        assert np.linalg.norm(found[key] - expected) <= tolerance("oracle-live") * np.linalg.norm(expected), key


@pytest.mark.parametrize("hdf5", [False, True], ids=["solverstate", "solverstate.h5"])
@pytest.mark.parametrize("name", ["sgd-multistep", "nesterov-step", "rmsprop-step", "adadelta-step", "adam-step"])
def test_caffe_goes_on_where_we_stopped(oracle: Oracle, name: str, hdf5: bool, tmp_path: Path) -> None:
    """Five steps here, the snapshot written here, five steps in Caffe: the ten steps of Caffe alone."""
    case = solving.CASES[name]
    task, spec, batches = solving.zoo_task(case), parse_solver(case.solver), solving.zoo_batches(case)
    solver = solving.solver_for(task, spec)
    solving.train(task, spec, batches[:5], optimizer=solver)
    net = converters.parse_prototxt(solving.zoo_net(case))
    model = converters.CaffeModel(net, solving.by_layer({k: v.numpy() for k, v in task.net.state_dict().items()}))
    converters.write_caffemodel(model, tmp_path / "weights")
    write = write_solverstate_hdf5 if hdf5 else write_solverstate
    write(to_solverstate(solver, learned_net="weights"), tmp_path / "state")

    rest = {blob: np.stack([batch[blob] for batch in batches[5:]]) for blob in batches[0]}
    state = (tmp_path / "state").read_bytes()
    done = oracle.solve(
        case.solver, solving.zoo_net(case), rest, weights=tmp_path / "weights", restore=state, hdf5=hdf5,
        losses=solving.ZOO_LOSSES,
    )  # fmt: skip
    expected, _ = solving.zoo(name)
    (tmp_path / "done").write_bytes(done.model)
    found = solving.Trained(
        {loss: np.concatenate([expected.losses[loss][:5], done.losses[loss]]) for loss in done.losses},
        expected.init,
        converters.read_caffemodel(tmp_path / "done").blobs,
    )
    assert not solving.differences(found, expected, elementwise=spec.type in solving.ELEMENTWISE)


def test_we_go_on_where_caffe_stopped(oracle: Oracle, tmp_path: Path) -> None:
    case = solving.CASES["adam-step"]
    batches = solving.zoo_batches(case)
    first = {blob: np.stack([batch[blob] for batch in batches[:5]]) for blob in batches[0]}
    done = oracle.solve(case.solver, solving.zoo_net(case), first, filling="random", losses=solving.ZOO_LOSSES)
    (tmp_path / "snapshot_iter_5.caffemodel").write_bytes(done.model)
    (tmp_path / "snapshot_iter_5.solverstate").write_bytes(done.state)
    state = read_solverstate(tmp_path / "snapshot_iter_5.solverstate")
    task, spec = solving.zoo_task(case), parse_solver(case.solver)
    solving.start(task, converters.read_caffemodel(state.weights_file()).blobs)
    solver = solving.solver_for(task, spec)
    restore_solverstate(solver, state)
    ours = solving.train(task, spec, batches[5:], optimizer=solver)
    expected, _ = solving.zoo("adam-step")
    found = replace(ours, losses={k: np.concatenate([done.losses[k], v]) for k, v in ours.losses.items()})
    assert not solving.differences(found, expected, elementwise=False)


def test_gradients_in_a_snapshot_are_no_weights(oracle: Oracle, tmp_path: Path) -> None:
    """The same training, the same blobs read from a longer file."""
    case = solving.CASES["sgd-fixed"]
    inputs = {name: blob[None] for name, blob in solving.zoo_batches(case, steps=1)[0].items()}
    found = []
    for more in ("", "snapshot_diff: true"):
        path = tmp_path / f"{bool(more)}.caffemodel"
        done = oracle.solve(f"{case.solver} {more}", solving.zoo_net(case), inputs, filling="random")
        path.write_bytes(done.model)
        found.append((len(done.model), converters.read_caffemodel(path).blobs))
    assert found[0][0] < found[1][0] and found[0][1].keys() == found[1][1].keys()
    for layer, blobs in found[0][1].items():
        for blob, other in zip(blobs, found[1][1][layer], strict=True):
            np.testing.assert_array_equal(blob, other)
