""".solverstate and .solverstate.h5: where Caffe's solver was when it saved a net; read both, written the first.

A state holds the number of updates, the name of the .caffemodel that was saved with it, and the history blobs of the
solver: one for each learnable blob of the net, in order, and with AdaDelta and Adam, after all of these, a second one
for each. Source: caffe.proto (SolverState), sgd_solver.cpp (SnapshotSolverState..., RestoreSolverState...).
"""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ..errors import CaffeFormatError, WireError, place
from ..safety.files import whole_file
from ..safety.opening import open_file
from ..safety.utf8 import path_text
from ..schema import message_type
from . import sniff
from .blob import read_blob
from .caffemodel import blob_parts
from .hdf5_file import Hdf5File, member, names, opened_hdf5, read_text, read_values
from .wire import BYTES, VARINT, Message, expect, read_int, write_tag, write_varint

_NUMBERS = {field.name: field.number for field in message_type("SolverState").fields}


@dataclass(frozen=True)
class SolverState:
    """A solver after `iteration` updates.

    `learned_net` is the path of the weights as the file says it, `history` the blobs of the solver, read-only and in
    the file's own shapes, `current_step` the steps that policy `multistep` (and `step`) has taken.
    """

    iteration: int
    learned_net: str
    history: tuple[np.ndarray, ...]
    current_step: int = 0
    path: str | None = None

    def weights_file(self) -> Path:
        """The file of the weights: as the state says, else of that name beside it, where a moved snapshot has it.

        Raises FileNotFoundError.
        """
        beside = Path(self.path or ".").parent / Path(self.learned_net).name
        for candidate in (Path(self.learned_net), beside):
            if self.learned_net and candidate.is_file():
                return candidate
        raise FileNotFoundError(2, f"there is no such file; {self.path} goes with it", str(beside))


def read_solverstate(path: str | os.PathLike[str]) -> SolverState:
    """The state in a .solverstate or .solverstate.h5, told apart by content; blobs are views of the mapped file.

    Raises FileNotFoundError, and CaffeFormatError for everything that is wrong with the file.
    """
    with open_file(path) as file:
        kind = sniff.sniff(file.read(4096))
        try:
            if kind == sniff.HDF5:
                return _read_hdf5(path)
            if kind != sniff.PROTOBUF:
                raise sniff.not_a("a .solverstate or .solverstate.h5", kind)
            message = Message.whole(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            kind = sniff.kind_of_message(message)
            if kind != sniff.SOLVER_STATE:
                raise sniff.not_a("a .solverstate or .solverstate.h5", kind)
            return _read_message(message, os.fspath(path))
        except CaffeFormatError as error:
            raise error.in_file(path) from None


def write_solverstate(state: SolverState, path: str | os.PathLike[str]) -> None:
    """Write a .solverstate as Caffe 1.0 does: a file that Caffe wrote comes out with the same bytes."""
    with whole_file(path) as file:
        file.write(write_varint(_NUMBERS["iter"] << 3 | VARINT) + write_varint(state.iteration))
        name = state.learned_net.encode(errors="surrogateescape")
        file.write(write_tag(_NUMBERS["learned_net"], len(name)) + name)
        for blob in state.history:
            header, values, trailer = blob_parts(blob)
            length = len(header) + values.nbytes + len(trailer)
            file.write(write_tag(_NUMBERS["history"], length) + header)
            file.write(values.data)
            file.write(trailer)
        file.write(write_varint(_NUMBERS["current_step"] << 3 | VARINT) + write_varint(state.current_step))


# Protobuf


def _read_message(message: Message, path: str) -> SolverState:
    iteration, current_step, learned_net = 0, 0, ""
    history: list[np.ndarray] = []
    for field in message.fields():
        if field.number == _NUMBERS["iter"]:
            iteration = _count(read_int(message.buffer, field), "iter")
        elif field.number == _NUMBERS["current_step"]:
            current_step = _count(read_int(message.buffer, field), "current_step")
        elif field.number == _NUMBERS["learned_net"]:
            learned_net = path_text(bytes(message.buffer[expect(field, BYTES).value : field.end]))
        elif field.number == _NUMBERS["history"]:
            with place(f"history blob {len(history)}"):
                history.append(read_blob(message.inside(field)))
    return SolverState(iteration, learned_net, tuple(history), current_step, path)


def _count(value: int, name: str) -> int:
    if not 0 <= value < 1 << 31:
        raise WireError(f"{name} is {value}; expected a number of updates")
    return value


# HDF5


def _read_hdf5(path: str | os.PathLike[str]) -> SolverState:
    with opened_hdf5(path) as file:
        root = file.root
        group = member(root, "history", file)
        if not isinstance(group, h5py.Group) or member(root, "iter", file) is None:
            hint = "weights (/data/<layer>/<position>) are a .caffemodel.h5" if "data" in names(root) else None
            raise WireError("there are no 'iter' and 'history' in it, so this is no solver's state", hint=hint)
        found = names(group)
        expected = [str(i) for i in range(len(found))]
        if sorted(found) != sorted(expected):
            raise WireError(f"datasets {sorted(found)[:8]}; expected 0, 1, 2 and so on", where="'/history'")
        history = []
        for key in expected:
            with place(f"history blob {key}"):
                history.append(read_values(member(group, key, file), file))
        step = 0 if member(root, "current_step", file) is None else _integer(file, "current_step")
        return SolverState(_integer(file, "iter"), _string(file), tuple(history), step, os.fspath(path))


def _integer(file: Hdf5File, name: str) -> int:
    dataset: Any = member(file.root, name, file)
    with place(f"'/{name}'"):
        if not isinstance(dataset, h5py.Dataset) or dataset.shape not in ((), (1,)):
            raise WireError(f"expected a whole number; found {dataset}")
        return _count(int(read_values(dataset, file, kind="i").item()), name)


def _string(file: Hdf5File) -> str:
    dataset = member(file.root, "learned_net", file)
    if dataset is None:
        return ""
    with place("'/learned_net'"):
        return path_text(read_text(dataset))
