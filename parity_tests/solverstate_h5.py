"""A .solverstate.h5 as Caffe 1.0 writes it, for tests of the reader; the program itself writes a .solverstate."""

from __future__ import annotations

import os

import h5py
import numpy as np

from converters.formats.solverstate import SolverState
from converters.safety import whole_file


def write_solverstate_hdf5(state: SolverState, path: str | os.PathLike[str]) -> None:
    """Write a .solverstate.h5 as Caffe 1.0 does."""
    with whole_file(path) as out, h5py.File(out, "w", libver="earliest") as file:
        file.create_dataset("iter", data=np.array([state.iteration], np.int32))
        _write_string(file, "learned_net", state.learned_net)
        file.create_dataset("current_step", data=np.array([state.current_step], np.int32))
        history = file.create_group("history")
        for i, blob in enumerate(state.history):
            dtype = np.float64 if blob.dtype == np.float64 else np.float32
            history.create_dataset(str(i), data=np.asarray(blob, dtype))


def _write_string(file: h5py.File, name: str, text: str) -> None:
    """A string as C has it, of fixed length and with its 0, which h5py does not write by itself."""
    value = np.bytes_(text.encode() + b"\0")
    kind = h5py.h5t.C_S1.copy()
    kind.set_size(len(text.encode()) + 1)
    dataset = h5py.h5d.create(file.id, name.encode(), kind, h5py.h5s.create(h5py.h5s.SCALAR))
    dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, np.array(value, f"S{kind.get_size()}"), mtype=kind)
