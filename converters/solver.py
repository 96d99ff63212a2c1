"""Caffe's solver files: what a solver.prototxt says, and the state that a run leaves (solver.cpp, sgd_solver.cpp)."""

from __future__ import annotations

from .formats.solver import SolverSpec, format_solver, read_solver
from .formats.solverstate import SolverState, read_solverstate, write_solverstate

__all__ = ["SolverSpec", "SolverState", "format_solver", "read_solver", "read_solverstate", "write_solverstate"]
