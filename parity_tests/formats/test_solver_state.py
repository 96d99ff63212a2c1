"""Caffe's .solverstate files: read, written with Caffe's bytes, and understood by Caffe; damage is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converters import CaffeFormatError
from converters.formats.solver import parse_solver
from converters.formats.solverstate import SolverState, read_solverstate, write_solverstate
from converters.schema import SolverState as Message
from fcn_port.training.snapshots import restore_solverstate, to_solverstate
from parity_tests import solving
from parity_tests.goldens import GOLDEN, formats
from parity_tests.solverstate_h5 import write_solverstate_hdf5

CAFFES = GOLDEN / "solver" / "sgd-step.solverstate"


def caffes_h5() -> Path:
    return CAFFES.with_suffix(".solverstate.h5")


@pytest.mark.parametrize("path", [CAFFES, caffes_h5()], ids=lambda path: path.suffix)
def test_a_state_of_caffes_is_read(path: Path) -> None:
    state = read_solverstate(path)
    assert (state.iteration, state.current_step) == (10, 3)
    assert state.learned_net.startswith("snapshot_iter_10.caffemodel")
    for mine, expected in zip(state.history, solving.zoo("sgd-step")[1], strict=True):
        np.testing.assert_array_equal(mine, expected)
        assert not mine.flags.writeable


def test_caffes_bytes_come_out_again(tmp_path: Path) -> None:
    write_solverstate(read_solverstate(CAFFES), tmp_path / "again.solverstate")
    assert (tmp_path / "again.solverstate").read_bytes() == CAFFES.read_bytes()


def test_the_same_datasets_come_out_again(tmp_path: Path) -> None:
    write_solverstate_hdf5(read_solverstate(caffes_h5()), tmp_path / "again.h5")
    assert described(tmp_path / "again.h5") == described(caffes_h5())


def described(path: Path) -> dict[str, tuple]:
    """Every dataset: its exact type in HDF5, its shape and its bytes."""
    found = {}
    with h5py.File(path) as file:

        def visit(name: str, item: object) -> None:
            if isinstance(item, h5py.Dataset):
                found[name] = item.id.get_type().encode(), item.shape, np.asarray(item[()]).tobytes()

        file.visititems(visit)
    return found


@settings(max_examples=40)
@given(
    st.integers(0, 2**31 - 1),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=30),
    st.lists(st.lists(st.integers(0, 3), max_size=4), max_size=4),
    st.integers(0, 50),
)
def test_what_is_written_reads_back(
    tmp_path_factory: pytest.TempPathFactory, iteration: int, name: str, shapes: list[list[int]], step: int
) -> None:
    folder = tmp_path_factory.mktemp("state")
    history = tuple(np.arange(int(np.prod(shape)), dtype=np.float32).reshape(shape) for shape in shapes)
    state = SolverState(iteration, name, history, step)
    for write in (write_solverstate, write_solverstate_hdf5):
        write(state, folder / "state")
        found = read_solverstate(folder / "state")
        assert (found.iteration, found.learned_net, found.current_step) == (iteration, name, step)
        assert [blob.shape for blob in found.history] == [blob.shape for blob in history]
        assert all(np.array_equal(a, b) for a, b in zip(found.history, history, strict=True))


def test_protobuf_reads_what_is_written(tmp_path: Path) -> None:
    write_solverstate(SolverState(7, "a.caffemodel", (np.ones((2, 3), np.float32),), 2), tmp_path / "state")
    message = Message.FromString((tmp_path / "state").read_bytes())
    assert (message.iter, message.learned_net, message.current_step) == (7, "a.caffemodel", 2)
    assert list(message.history[0].shape.dim) == [2, 3] and list(message.history[0].data) == [1] * 6


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty file"),
        (b"base_lr: 1", "this is a text file"),
        (formats("fcn8s-mini.caffemodel").read_bytes(), "net"),
        (formats("fcn8s-mini.caffemodel.h5").read_bytes(), "no 'iter' and 'history'.*\n.*caffemodel.h5"),
        (CAFFES.read_bytes()[:1000], "history blob 0|run past the end"),
        (b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x12\x01a", "iter is -1"),
    ],
    ids=["empty", "text", "net", "weights", "cut", "negative"],
)
def test_what_is_no_state_is_refused(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "x.solverstate").write_bytes(content)
    with pytest.raises(CaffeFormatError, match=f"x.solverstate.*({said})"):
        read_solverstate(tmp_path / "x.solverstate")


@pytest.mark.parametrize("source", [CAFFES, caffes_h5()], ids=lambda path: path.suffix)
@settings(max_examples=40)
@given(data=st.data())
def test_damage_is_an_error_about_the_file_or_nothing(
    source: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    raw = bytearray(source.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "x"
    path.write_bytes(raw[: data.draw(st.integers(1, len(raw)))])
    try:
        read_solverstate(path)
    except CaffeFormatError as error:
        assert "x" in str(error)


def test_the_weights_are_found_beside_a_moved_state(tmp_path: Path) -> None:
    state = SolverState(1, "/gone/snapshot_iter_1.caffemodel", (), 0, str(tmp_path / "x.solverstate"))
    with pytest.raises(FileNotFoundError, match=r"snapshot_iter_1\.caffemodel"):
        state.weights_file()
    (tmp_path / "snapshot_iter_1.caffemodel").touch()
    assert state.weights_file() == tmp_path / "snapshot_iter_1.caffemodel"


# From and to a solver


@pytest.mark.parametrize("name", ["sgd-multistep", "adam-step", "adadelta-step"])
def test_a_solver_goes_on_from_a_solverstate(name: str, tmp_path: Path) -> None:
    """Six steps, a snapshot, and four more are ten, to the last bit."""
    case = solving.CASES[name]
    spec, batches = parse_solver(case.solver), solving.zoo_batches(case)
    whole = solving.train(solving.zoo_task(case), spec, batches)
    task = solving.zoo_task(case)
    first = solving.solver_for(task, spec)
    solving.train(task, spec, batches[:6], optimizer=first)
    write_solverstate(to_solverstate(first, learned_net="x.caffemodel"), tmp_path / "x.solverstate")
    second = solving.solver_for(task, spec)
    restore_solverstate(second, read_solverstate(tmp_path / "x.solverstate"))
    resumed = solving.train(task, spec, batches[6:], optimizer=second)
    for key, blob in solving.by_key(whole.blobs).items():
        np.testing.assert_array_equal(solving.by_key(resumed.blobs)[key], blob)


def test_a_state_of_another_solver_is_refused() -> None:
    case = solving.CASES["adam-step"]
    solver = solving.solver_for(solving.zoo_task(case), parse_solver(case.solver))
    with pytest.raises(CaffeFormatError, match="7 history blobs; solver Adam of a net with 7 blobs has 14"):
        restore_solverstate(solver, read_solverstate(CAFFES))
    state = read_solverstate(CAFFES)
    wrong = replace(state, history=(*state.history[:2], state.history[0], *state.history[3:]))
    solver = solving.solver_for(solving.zoo_task(case), parse_solver(solving.CASES["sgd-step"].solver))
    with pytest.raises(CaffeFormatError, match=r"sgd-step.solverstate: history blob 2: shape \(6, 3, 3, 3\)"):
        restore_solverstate(solver, wrong)


def test_the_path_of_weights_is_of_any_bytes(tmp_path: Path) -> None:
    """Names on old disks are not UTF-8; a training lost what it had learned when it saved under such a name."""
    write_solverstate(SolverState(3, "caf\udce9.caffemodel", (), 0), tmp_path / "a.solverstate")
    assert b"caf\xe9.caffemodel" in (tmp_path / "a.solverstate").read_bytes()
    assert read_solverstate(tmp_path / "a.solverstate").learned_net == "caf\udce9.caffemodel"
