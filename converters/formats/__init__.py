"""Caffe's files: bytes and text to messages, nets and blobs, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_attributes
from ..safety.opening import open_file
from .binaryproto import read_mean
from .caffemodel import parse_caffemodel, read_caffemodel, write_caffemodel
from .model import Blobs, CaffeModel, with_lent
from .prototxt import format_prototxt, has_weights, parse_prototxt, read_prototxt, write_prototxt

if TYPE_CHECKING:
    from .datum import Datum, read_datum
    from .hdf5 import write_hdf5
    from .hdf5_data import count_rows, read_row, read_rows
    from .leveldb_file import LevelDbFolder, is_leveldb, read_leveldb
    from .lmdb_file import LmdbFile, is_lmdb, read_lmdb
    from .solver import SolverSpec, format_solver, read_solver
    from .solverstate import SolverState, read_solverstate, write_solverstate

__all__ = [
    "Blobs",
    "CaffeModel",
    "Datum",
    "LevelDbFolder",
    "LmdbFile",
    "SolverSpec",
    "SolverState",
    "count_rows",
    "format_prototxt",
    "format_solver",
    "has_weights",
    "is_leveldb",
    "is_lmdb",
    "open_file",
    "parse_caffemodel",
    "parse_prototxt",
    "read_caffemodel",
    "read_datum",
    "read_leveldb",
    "read_lmdb",
    "read_mean",
    "read_prototxt",
    "read_row",
    "read_rows",
    "read_solver",
    "read_solverstate",
    "with_lent",
    "write_caffemodel",
    "write_hdf5",
    "write_prototxt",
    "write_solverstate",
]

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        "write_hdf5": "hdf5",
        **dict.fromkeys(("count_rows", "read_row", "read_rows"), "hdf5_data"),
        **dict.fromkeys(("Datum", "read_datum"), "datum"),
        **dict.fromkeys(("LevelDbFolder", "is_leveldb", "read_leveldb"), "leveldb_file"),
        **dict.fromkeys(("LmdbFile", "is_lmdb", "read_lmdb"), "lmdb_file"),
        **dict.fromkeys(("SolverSpec", "format_solver", "read_solver"), "solver"),
        **dict.fromkeys(("SolverState", "read_solverstate", "write_solverstate"), "solverstate"),
    },
)
