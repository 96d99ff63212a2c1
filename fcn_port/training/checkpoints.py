"""Snapshots of a run: Caffe's two files, and a third with what Caffe does not keep.

    NAME_iter_4000.caffemodel    the weights; `fcn_port.load` and Caffe read them
    NAME_iter_4000.solverstate   where the solver is; Caffe goes on from it
    NAME_iter_4000.json          random states, settings, how inputs are made, and the digests of the other two

Each is whole or not there, and the .json comes last: a snapshot exists once it does, and names what belongs to it.
Killed at any moment, a run leaves its earlier snapshots as they were.
"""

from __future__ import annotations

import base64
import glob
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from converters.errors import CaffeFormatError, MismatchError, place
from converters.escaping import json_text
from converters.execution import from_state_dict, state_misfit, to_state_dict
from converters.formats import read_caffemodel, read_solverstate, write_caffemodel, write_solverstate
from converters.safety import read_json, sha256_of, to_record, unlinked, whole_file
from converters.version import VERSION
from weights.card import Card

from ..nets import definition
from .snapshots import restore_solverstate, to_solverstate
from .solver import CaffeSolver
from .task import TrainingTask

FORMAT = 1
"""Of the .json."""

_GOING = ".pruned"
"""The ending of a snapshot's .json while the files that belong to it are deleted."""


@dataclass(frozen=True)
class RandomStates:
    """The states of PyTorch's generators, of each process in order of rank; dropout draws from them."""

    cpu: tuple[bytes, ...]
    cuda: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class RunProgress:
    """The rest of a snapshot, beside weights and solver: random states, the latest losses, and the run's settings.

    `settings` are plain values; a run that is resumed with others says so.
    """

    random: RandomStates | None = None
    losses: tuple[float, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    card: Card = field(default_factory=Card)


@dataclass(frozen=True)
class Snapshot:
    """A snapshot on disk: its .json (Caffe's .solverstate for one of Caffe's) and the files that belong to it."""

    path: Path
    iteration: int
    weights: Path
    state: Path
    progress: RunProgress


def save(folder: Path, name: str, task: TrainingTask, solver: CaffeSolver, progress: RunProgress) -> Snapshot:
    """Write a snapshot into `folder` under the solver's iteration; it is there when this returns."""
    path = snapshot_path(folder, name, solver.iteration)
    weights, state = path.with_suffix(".caffemodel"), path.with_suffix(".solverstate")
    path.unlink(missing_ok=True)  # from here on what was saved at this iteration before is no snapshot
    net = task.spec if task.spec is not None else definition(task.net, name=type(task.net).__name__)
    write_caffemodel(from_state_dict(task.net.state_dict(), net), unlinked(weights))
    write_solverstate(to_solverstate(solver, learned_net=weights.name), unlinked(state))
    record = {
        "format": FORMAT,
        "tool": f"fcn-port {VERSION}",
        "iteration": solver.iteration,
        "files": {file.name: {"bytes": file.stat().st_size, "sha256": sha256_of(file)} for file in (weights, state)},
        "random": None if progress.random is None else _encode(progress.random),
        "losses": list(progress.losses),
        "settings": dict(progress.settings),
        "card": progress.card.to_metadata(),
    }
    with whole_file(path) as file:
        file.write(json_text(record, indent=1).encode())
    return Snapshot(path, solver.iteration, weights, state, progress)


def snapshot_path(folder: Path, name: str, iteration: int) -> Path:
    """The .json of a run's snapshot."""
    return folder / f"{name}_iter_{iteration}.json"


def snapshots(folder: Path, name: str) -> list[Path]:
    """The .json files of the snapshots in `folder`, the latest last."""
    pattern = f"{glob.escape(name)}_iter_*.json"
    found = [path for path in folder.glob(pattern) if path.stem.rpartition("_")[2].isdecimal()]
    return sorted(found, key=lambda path: int(path.stem.rpartition("_")[2]))


def read_snapshot(path: Path) -> Snapshot:
    """A snapshot by one of its files: ours by any of the three, Caffe's by its .solverstate.

    Raises FileNotFoundError, and CaffeFormatError where a file is damaged or is not the one that was saved.
    """
    record = path if path.suffix == ".json" else path.with_suffix(".json")
    if path.suffix != ".json" and not record.exists():
        state = read_solverstate(path)
        return Snapshot(path, state.iteration, state.weights_file(), path, RunProgress())
    try:
        snapshot, digests = _snapshot(record, to_record(read_json(record), _Stored, ignore_unknown=True))
    except CaffeFormatError as error:
        problem = ": ".join(filter(None, ("no snapshot of a run", error.where, error.problem)))
        raise CaffeFormatError(problem, path=record, hint="resume from an earlier one") from None
    for file, digest in zip((snapshot.weights, snapshot.state), digests, strict=True):
        if not file.is_file():
            raise FileNotFoundError(2, f"there is no such file; it belongs to {record.name}", str(file))
        if sha256_of(file) != digest:
            raise CaffeFormatError(f"not the file that {record.name} was saved with", path=file)
    return snapshot


@dataclass(frozen=True)
class _FileDigest:
    sha256: str


@dataclass(frozen=True)
class _StoredRandom:
    """Random states in base64."""

    cpu: tuple[str, ...]
    cuda: tuple[str, ...]


@dataclass(frozen=True)
class _Stored:
    """The .json; a loss that is not finite is null there."""

    format: int
    iteration: int
    files: Mapping[str, _FileDigest]
    random: _StoredRandom | None
    losses: tuple[float | None, ...]
    settings: Mapping[str, Any]
    card: Mapping[str, Any]


def _snapshot(record: Path, stored: _Stored) -> tuple[Snapshot, list[str]]:
    """The snapshot that a record describes, and the digests of its two files."""
    if stored.format != FORMAT:
        raise CaffeFormatError(f"expected {FORMAT}, found {stored.format}", where="format")
    if stored.iteration < 0:
        raise CaffeFormatError(f"expected a count, found {stored.iteration}", where="iteration")
    files = [_file_of(record, name) for name in stored.files if Path(name).name]
    if len(files) != 2 or any(len(os.fsencode(file.name)) > 255 or "\0" in file.name for file in files):
        raise CaffeFormatError("expected the names of two files, .caffemodel and .solverstate", where="files")
    with place("card"):
        card = Card.from_metadata(stored.card)
    progress = RunProgress(
        random=None if stored.random is None else _decode(stored.random),
        losses=tuple(math.nan if loss is None else loss for loss in stored.losses),
        settings=stored.settings,
        card=card,
    )
    digests = [file.sha256 for file in stored.files.values()]
    return Snapshot(record, stored.iteration, files[0], files[1], progress), digests


def _file_of(record: Path, name: str) -> Path:
    """The file beside a record that it calls `name`: in JSON a name that is not UTF-8 is written in other letters."""
    own = record.with_suffix(Path(name).suffix)
    return own if json_text(own.name) == json_text(name) else record.with_name(Path(name).name)


def restore(snapshot: Snapshot, task: TrainingTask, solver: CaffeSolver) -> None:
    """Give net and solver what they had. Raises MismatchError where the snapshot is of another net or solver."""
    state = to_state_dict(read_caffemodel(snapshot.weights), spec=task.spec)
    try:
        task.net.load_state_dict(state)
    except RuntimeError as error:
        raise MismatchError(
            f"of another net: {state_misfit(task.net, state) or error}", path=snapshot.weights
        ) from error
    restore_solverstate(solver, read_solverstate(snapshot.state))


def prune(folder: Path, name: str, *, keep: int) -> None:
    """Delete all but the `keep` latest snapshots, by iteration.

    Each one's .json goes first, to another name, so that none is ever half there; what a run that was killed here left
    is deleted by the next.
    """
    for path in snapshots(folder, name)[:-keep]:
        path.replace(path.with_suffix(_GOING))
    for path in folder.glob(f"{glob.escape(name)}_iter_*{_GOING}"):
        for file in (path.with_suffix(".solverstate"), path.with_suffix(".caffemodel"), path):
            file.unlink(missing_ok=True)


# Random states


def random_states() -> tuple[bytes, bytes | None]:
    """The states of this process's generators: the CPU's, and the current GPU's if one is used."""
    cuda = _to_bytes(torch.cuda.get_rng_state()) if _cuda_is_used() else None
    return _to_bytes(torch.get_rng_state()), cuda


def set_random_states(states: RandomStates, *, rank: int) -> None:
    """Go on drawing where process number `rank` was."""
    try:
        torch.set_rng_state(_from_bytes(states.cpu[rank]))
        if states.cuda and _cuda_is_used():
            torch.cuda.set_rng_state(_from_bytes(states.cuda[rank]))
    except (RuntimeError, TypeError, IndexError) as error:
        problem = f"the snapshot's random states do not fit this PyTorch or this many processes: {error}"
        raise MismatchError(
            problem, hint="resume with the version and the number of processes it was saved with"
        ) from None


def _cuda_is_used() -> bool:
    return bool(torch.cuda.is_initialized())


def _to_bytes(state: torch.Tensor) -> bytes:
    return state.numpy().tobytes()


def _from_bytes(state: bytes) -> torch.Tensor:
    return torch.from_numpy(np.frombuffer(state, np.uint8).copy())


def _encode(states: RandomStates) -> dict[str, list[str]]:
    return {
        "cpu": [base64.b64encode(state).decode() for state in states.cpu],
        "cuda": [base64.b64encode(state).decode() for state in states.cuda],
    }


def _decode(found: _StoredRandom) -> RandomStates:
    try:
        cpu, cuda = (
            tuple(base64.b64decode(state, validate=True) for state in states) for states in (found.cpu, found.cuda)
        )
    except ValueError as error:
        raise CaffeFormatError(f"expected base64: {error!s:.80}", where="random") from None
    return RandomStates(cpu, cuda)
