"""Caffe's files: bytes and text to messages, nets and blobs, and back."""

from __future__ import annotations

from ..safety.files import open_file
from .binaryproto import read_mean
from .caffemodel import read_caffemodel, write_caffemodel
from .hdf5 import write_hdf5
from .model import Blobs, CaffeModel
from .prototxt import format_prototxt, parse_prototxt, read_prototxt, write_prototxt
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
