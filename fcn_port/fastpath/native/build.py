"""Compiling the C code where it runs: once for a machine, in some seconds, and kept in the cache folder.

`$FCN_PORT_NATIVE=0` forbids it; `$CC` names the compiler, `cc` is the default, and `$FCN_PORT_CFLAGS` are flags behind
ours. Where there is no compiler, what came compiled with the package is taken (shipped.py). Where others could have put
something into the cache folder, nothing is kept there and nothing loaded from it: each process compiles for itself.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shlex
import signal
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np

from converters.safety import whole_file
from weights.cache import cache_folder as user_cache

from ...private import read_private, why_not_private
from ..compiler import FLAGS, ForbiddenError, NotBuilt, compiler, in_words, unclear_wish, words_of
from ..points import FORMS, SUMMED, WORTH_CHANNELS, WinogradForm, matrices, short_tile
from ..processor import processor
from ..strassen import PANELS_OF, RESULTS, ROWS_OF
from . import shipped
from .forking import survive_forks

_SOURCES = tuple(sorted(Path(__file__).parent.glob("*.[ch]")))
_FLAGS = ("-O3", "-fno-signed-zeros", "-fno-trapping-math", "-fno-math-errno", "-fPIC", "-shared", "-pthread")
_NATIVE = "-march=native"
_SECONDS = 900
"""A compiler may take so long; it needs two, and a hundred times as many on a machine that is busy otherwise."""


@cache
def library() -> ctypes.CDLL:
    """The compiled functions, from the cache folder or made now; NotBuilt where that fails."""
    found = _found()
    survive_forks(found)
    return found


def _found() -> ctypes.CDLL:
    if unclear := unclear_wish():
        warnings.warn(f"{unclear}, and taken for 1", stacklevel=2)
    try:
        command = compiler()
        return _loaded(_name(command), lambda folder: _compile(command, folder))
    except ForbiddenError:
        raise
    except NotBuilt as error:
        reason = error
    except (OSError, AttributeError, subprocess.SubprocessError) as error:
        reason = NotBuilt(f"{in_words(command)}: {_first_error(error)}")
    if FLAGS in str(reason):
        warnings.warn(f"our kernels are not compiled: {reason}", stacklevel=2)
    return _shipped(reason)


def _shipped(reason: NotBuilt) -> ctypes.CDLL:
    """The library that came compiled with the package, for want of a compiler; else the reason is raised."""
    for path in shipped.libraries():
        try:
            ctypes.CDLL(str(path))  # OpenMP's runtime may be missing
            return _loaded(path.stem, lambda _: path)  # noqa: B023 - called before the next one
        except (OSError, AttributeError):
            continue
    raise reason


def cache_folder() -> Path:
    """The folder in which compiled code is kept."""
    return user_cache("native")


def is_kept() -> bool:
    """True where this source was compiled here before, by this compiler for this processor; compiles nothing.

    Raises NotBuilt where there is no compiler, or none that says its version.
    """
    command = compiler()
    try:
        name = _name(command)
    except (OSError, subprocess.SubprocessError) as error:
        raise NotBuilt(f"{shlex.join(command)}: {_first_error(error)}") from None
    folder = cache_folder()
    return why_not_private(folder, make=False) is None and any(folder.glob(f"{name}-*.so"))


def _loaded(name: str, make: Callable[[Path], Path]) -> ctypes.CDLL:
    """The kept library, or one made now where none is kept, it is damaged, or others could have put it there.

    `make` gives the file of one, in a folder that goes away.
    """
    folder = cache_folder()
    is_kept = why_not_private(folder) is None
    for path in sorted(folder.glob(f"{name}-*.so")) if is_kept else ():
        try:
            return _declared(_checked(path))
        except (OSError, AttributeError):
            with suppress(OSError):  # where nothing can be removed either, it is passed over
                path.unlink()
    with tempfile.TemporaryDirectory(prefix="fcn-port-") as temporary:
        made = make(Path(temporary))
        kept = _keep(made, folder / name) if is_kept else None
        if kept is not None:
            try:
                return _declared(ctypes.CDLL(str(kept)))
            except OSError:  # in a file system that nothing may run from
                kept.unlink(missing_ok=True)
        return _declared(ctypes.CDLL(str(made)))


def _name(command: list[str]) -> str:
    """The name of the library for this source, this compiler and this processor, before the digest of its bytes."""
    version = _run([*command, "--version"])
    if version.returncode:
        raise OSError(version.stderr.strip() or f"--version ends with status {version.returncode}")
    parts = [*(path.read_text() for path in _SOURCES), _tables(), *command, *_flags(), version.stdout, processor()]
    return f"steps-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:16]}"


def _checked(path: Path) -> ctypes.CDLL:
    """A library that is kept, seen to be what was compiled before any of it can run.

    Nobody but this user can change it between the look and the load: its folder is private.
    """
    if hashlib.sha256(read_private(path)).hexdigest() != path.stem.rpartition("-")[2]:
        raise OSError(f"{path}: damaged")
    return ctypes.CDLL(str(path))


def _keep(made: Path, beginning: Path) -> Path | None:
    """Keep the library under its name and digest, whole or not at all; None where nothing can be written."""
    content = made.read_bytes()
    path = beginning.with_name(f"{beginning.name}-{hashlib.sha256(content).hexdigest()}.so")
    try:
        with whole_file(path, durable=False, follow=False) as file:
            os.chmod(file.name, 0o700)  # noqa: PTH101 - whatever the umask says
            file.write(content)
    except OSError:  # compiled again by the next process, which takes a second
        return None
    return path


def _compile(command: list[str], folder: Path) -> Path:
    """Compile in `folder`, with OpenMP where the compiler has it (PyTorch's own runtime, which is loaded by then).

    Apple's has none, and its earlier ones no -march=native for arm64, where all processors have the same registers.
    """
    made = folder / "steps.so"
    for openmp, native in ((True, True), (False, True), (False, False)):
        flags = [flag for flag in _flags() if native or flag != _NATIVE]
        done = _run(_call(command, folder, made, flags, openmp=openmp))
        if done.returncode == 0:
            return made
        if _was_killed(done):
            break  # which says nothing about what the compiler can do
    raise OSError(done.stderr.strip() or f"exit status {done.returncode}")


def compile_for(march: str, goal: Path, *, openmp: bool) -> None:
    """Compile for any processor of the compiler's -march=`march`, to `goal`; OSError where that fails."""
    with tempfile.TemporaryDirectory(prefix="fcn-port-") as folder:
        flags = [*_FLAGS, f"-march={march}", "-s"]
        done = _run(_call(compiler(), Path(folder), goal, flags, openmp=openmp))
    if done.returncode:
        raise OSError(done.stderr.strip() or f"exit status {done.returncode}")


def _call(command: list[str], folder: Path, made: Path, flags: list[str], *, openmp: bool) -> list[str]:
    """The compiler's call; `folder` is for what is written for it."""
    (folder / "tables.h").write_text(_tables())
    files = [str(path) for path in _SOURCES if path.suffix == ".c"]
    return [*command, *flags, *(["-fopenmp"] if openmp else []), f"-I{folder}", "-o", str(made), *files]


def _flags() -> list[str]:
    return [*_FLAGS, _NATIVE, *words_of(FLAGS)]


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run the compiler; once more if it was killed, as on a machine that is short of memory for a moment."""
    for _ in range(2):
        done = _run_once(command)
        if not _was_killed(done):
            break
    return done


def _run_once(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run the compiler, without input; one that never ends goes, with the processes that it began."""
    pipe, english = subprocess.PIPE, {**os.environ, "LC_ALL": "C"}
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True, errors="replace", env=english,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            out, err = process.communicate(timeout=_SECONDS)
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL) if hasattr(os, "killpg") else process.kill()
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def _was_killed(done: subprocess.CompletedProcess[str]) -> bool:
    """True where the compiler, or a process that it began, was ended by a signal; gcc and clang say so in words."""
    in_words = re.search(r"\bKilled\b|\bsignal\b|Cannot allocate memory|virtual memory exhausted", done.stderr)
    return done.returncode < 0 or done.returncode >= 128 or (done.returncode != 0 and in_words is not None)


def _tables() -> str:
    """The matrices of both algorithms as C, and the numbers that C code and plans share."""
    lines = ["#pragma once\n", f"#define SUMMED {SUMMED}\n", f"#define WORTH_CHANNELS {WORTH_CHANNELS}\n"]
    for name, form in FORMS.items():
        if form.lean:
            continue
        lines.append(f"#define EVALUATED_{name} {form.evaluated}\n")
        output, kernel, data = matrices(form.tile, form.taps)
        for of, kind, matrix in (("OUTPUT", "float", output), ("DATA", "float", data), ("KERNEL", "double", kernel)):
            lines.append(_table(f"{of}_{name}", kind, matrix))
        lines += _short_tables(name, form)
    for name, kind, table in (
        ("ROWS_OF", "float", ROWS_OF), ("PANELS_OF", "double", PANELS_OF), ("RESULTS", "float", RESULTS)
    ):  # fmt: skip
        numbers = ", ".join(str(value) for row in table for value in row)
        lines.append(f"static const {kind} {name}[] __attribute__((unused)) = {{{numbers}}};\n")
    return "".join(lines)


def _short_tables(name: str, form: WinogradForm) -> Iterator[str]:
    """The same of tiles of fewer outputs, one after the other, with zeros behind each row and each matrix."""
    count, most = form.points, max(form.tile - 1, 1)
    data, output = np.zeros((most, count, count)), np.zeros((most, form.tile, count))
    points = np.zeros((most, count), np.int64)
    for outputs in range(1, form.tile):
        way = short_tile(form.tile, form.taps, outputs)
        used = len(way.points)
        points[outputs - 1, :used] = way.points
        data[outputs - 1, :used, :used], output[outputs - 1, :outputs, :used] = way.data, way.output
    yield _table(f"SHORT_DATA_{name}", "float", data)
    yield _table(f"SHORT_OUTPUT_{name}", "float", output)
    yield _table(f"SHORT_POINTS_{name}", "int", points)


def _table(name: str, kind: str, values: np.ndarray) -> str:
    numbers = ", ".join(str(value) if kind == "int" else value.hex() for value in values.flatten().tolist())
    return f"static const {kind} {name}[] __attribute__((unused)) = {{{numbers}}};\n"


def _declared(found: ctypes.CDLL) -> ctypes.CDLL:
    pointer, number, long, real = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64, ctypes.c_double
    declarations = {
        "run": [pointer, number, pointer, pointer, number, number],
        "work": [pointer, number, pointer, pointer, number],
        "interleave": [pointer, long, long, pointer],
        "is_unchanged": [pointer],
        "planes": [pointer, pointer, pointer, number, pointer],
        "suppress": [pointer, real, real, number, pointer, pointer],
        "pool_regions": [pointer, pointer],
        **{
            f"pack_{name}": [pointer, long, number, pointer]
            for name in ("product", "sparse", "amx", "strassen_1", "strassen_2", *FORMS)
        },
    }
    for name, arguments in declarations.items():
        function = getattr(found, name)
        function.argtypes, function.restype = arguments, None
    found.first_cache.restype = long
    return found


def _first_error(error: Exception) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return next((line for line in lines if "error" in line), lines[0])
