"""survive_forks: threads of GNU's OpenMP end before a process forks, so that the child makes its own.

A child has its parent's list of threads and none of the threads, and the next loop of several waits for them for ever,
in our C code and in PyTorch, which shares the runtime (Linux). Other runtimes see to it themselves.
"""

from __future__ import annotations

import ctypes
import os
from functools import partial

_SOFT = 1
"""OpenMP 5's omp_pause_soft: what the program chose, such as a number of threads, stays."""


def survive_forks(library: ctypes.CDLL) -> None:
    """Have each fork end the team of the thread that forks; the next pass in parent or child makes it again.

    Nothing is done where the compiled library has no OpenMP, another's than GNU's, or one from before 2019.
    """
    is_gnu = hasattr(library, "GOMP_parallel") and not hasattr(library, "__kmpc_fork_call")
    if is_gnu and hasattr(library, "omp_pause_resource_all") and hasattr(os, "register_at_fork"):
        os.register_at_fork(before=partial(library.omp_pause_resource_all, _SOFT))
