"""Compiling winograd.c where it runs: once for a machine, in a second, and kept in the cache folder.

`$FCN_PORT_NATIVE=0` forbids it; `$CC` names the compiler, `cc` is the default.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import platformdirs

from ..processor import processor
from ..winograd import POINTS, matrices

_SOURCE = Path(__file__).with_name("winograd.c")
_FLAGS = ("-O3", "-march=native", "-fno-signed-zeros", "-fno-trapping-math", "-fPIC", "-shared")
_SECONDS = 120


class NotBuilt(RuntimeError):
    """There is no compiler, it does not compile this, or nobody wants it to; says which."""


@cache
def library() -> ctypes.CDLL:
    """The compiled functions, from the cache folder or made now; NotBuilt where that fails."""
    if os.environ.get("FCN_PORT_NATIVE") == "0":
        raise NotBuilt("FCN_PORT_NATIVE=0 forbids it")
    command = shlex.split(os.environ.get("CC", "cc"))
    if not command or shutil.which(command[0]) is None:
        raise NotBuilt(f"there is no C compiler '{' '.join(command)}'; set CC to one")
    try:
        return _loaded(command)
    except (OSError, AttributeError, subprocess.SubprocessError) as error:
        raise NotBuilt(f"{' '.join(command)}: {_first_error(error)}") from error


def cache_folder() -> Path:
    """Where compiled code is kept."""
    return platformdirs.user_cache_path("fcn-port", appauthor=False) / "native"


def _loaded(command: list[str]) -> ctypes.CDLL:
    """What is kept, or made now where nothing is kept or it is damaged."""
    path = _path(command)
    if path.is_file():
        try:
            return _declared(ctypes.CDLL(str(path)))
        except (OSError, AttributeError):
            path.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="fcn-port-") as folder:
        made = _compile(command, Path(folder))
        _keep(made, path)
        return _declared(ctypes.CDLL(str(path if path.is_file() else made)))


def _path(command: list[str]) -> Path:
    """The library for this source, this compiler and this processor."""
    version = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=_SECONDS, check=True)
    parts = [_SOURCE.read_text(), _points_header(), *command, *_FLAGS, version.stdout, processor()]
    return cache_folder() / f"winograd-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:16]}.so"


def _keep(made: Path, path: Path) -> None:
    """Copy to `path`, which is whole or not there, whoever else does the same; not where nothing can be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            Path(shutil.copy(made, folder)).replace(path)
    except OSError:  # compiled again by the next process, which takes a second
        pass


def _compile(command: list[str], folder: Path) -> Path:
    """Compile in `folder`, with OpenMP where the compiler has it (PyTorch's own runtime, which is loaded by then)."""
    (folder / "points.h").write_text(_points_header())
    made = folder / "winograd.so"
    for openmp in (("-fopenmp",), ()):
        done = subprocess.run(
            [*command, *_FLAGS, *openmp, f"-I{folder}", "-o", str(made), str(_SOURCE)],
            capture_output=True, text=True, timeout=_SECONDS,
        )  # fmt: skip
        if done.returncode == 0:
            return made
    raise OSError(done.stderr.strip() or f"exit status {done.returncode}")


def _points_header() -> str:
    """The matrices as C."""
    lines = []
    for n in POINTS:
        r = {6: 3, 8: 7}[n]
        output, kernel, data = matrices(n - r + 1, r)
        for name, kind, matrix in (("OUTPUT", "float", output), ("DATA", "float", data), ("KERNEL", "double", kernel)):
            numbers = ", ".join(value.hex() for value in matrix.flatten().tolist())
            lines.append(f"static const {kind} {name}_{n}[] = {{{numbers}}};\n")
    return "".join(lines)


def _declared(found: ctypes.CDLL) -> ctypes.CDLL:
    pointer, number = ctypes.c_void_p, ctypes.c_int
    for n in POINTS:
        for name, arguments in (
            (f"convolve_{n}", [pointer]),
            (f"pack_{n}", [pointer, number, number, number, pointer]),
        ):
            function = getattr(found, name)
            function.argtypes, function.restype = arguments, None
    return found


def _first_error(error: Exception) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return next((line for line in lines if "error" in line), lines[0])
