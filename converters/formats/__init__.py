"""Caffe's files: bytes and text to messages, nets and blobs, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_attributes
from ..safety.files import open_file
from .binaryproto import read_mean
from .caffemodel import parse_caffemodel, read_caffemodel, write_caffemodel
from .model import Blobs, CaffeModel
from .prototxt import format_prototxt, parse_prototxt, read_prototxt, write_prototxt

if TYPE_CHECKING:
    from .hdf5 import write_hdf5
    from .solver import SolverSpec, format_solver, read_solver
    from .solverstate import SolverState, read_solverstate, write_solverstate

__all__ = [
    "Blobs",
    "CaffeModel",
    "SolverSpec",
    "SolverState",
    "format_prototxt",
    "format_solver",
    "open_file",
    "parse_caffemodel",
    "parse_prototxt",
    "read_caffemodel",
    "read_mean",
    "read_prototxt",
    "read_solver",
    "read_solverstate",
    "write_caffemodel",
    "write_hdf5",
    "write_prototxt",
    "write_solverstate",
]

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        "write_hdf5": "hdf5",
        **dict.fromkeys(("SolverSpec", "format_solver", "read_solver"), "solver"),
        **dict.fromkeys(("SolverState", "read_solverstate", "write_solverstate"), "solverstate"),
    },
)
