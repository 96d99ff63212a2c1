"""The program in processes of its own without a second of imports for each: a server imports all, and forks for a run.

    with Forks() as forks:
        done = forks.run(["inspect", "x.caffemodel"], out="closed")

As real as a process that a shell starts from where signals are listened to; what comes before has tests of its own.
"""

from __future__ import annotations

import base64
import io
import json
import os
import resource
import signal
import subprocess
import sys
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Done:
    """A run that has ended: its status (negative for a signal), and what it wrote."""

    status: int
    out: bytes
    err: str


class Forks:
    """The server; used as a context."""

    def __enter__(self) -> Forks:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "parity_tests.forks"],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *error: object) -> None:
        self._server.communicate(timeout=30)

    def run(self, argv: list[str], *, seconds: float = 300, **conditions: Any) -> Done:
        """Run the program in this folder and wait.

        `stdin`, `out`, `err` are "kept" (None for stdin), "closed", "no reader" or the path of what to open; `encoding`
        that of the streams; `prepare` a module, a function of it and its arguments, called before; `file_size` the
        largest file in bytes; `variables` are set. After `seconds` it is killed: status -9.
        """
        assert self._server.stdin is not None and self._server.stdout is not None
        wanted = {"argv": argv, "cwd": os.getcwd(), "seconds": seconds, **conditions}  # noqa: PTH109
        self._server.stdin.write(json.dumps(wanted) + "\n")
        self._server.stdin.flush()
        told = json.loads(self._server.stdout.readline())
        return Done(told["status"], base64.b64decode(told["out"]), base64.b64decode(told["err"]).decode("latin-1"))


def _serve() -> None:
    from importlib.util import find_spec

    import torch

    import fcn_port.cli.program
    import fcn_port.exporting
    import fcn_port.porting
    import fcn_port.predict.prediction
    import fcn_port.report
    import fcn_port.training.run  # noqa: F401

    if find_spec("cv2"):
        import cv2  # noqa: F401
    torch.set_num_threads(1)
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        wanted = json.loads(line)
        (out, out_end), (err, err_end) = os.pipe(), os.pipe()  # no files: their size may be limited
        child = os.fork()
        if child == 0:
            _become(wanted, out_end, err_end)
        os.close(out_end)
        os.close(err_end)
        status, texts = _wait(child, wanted["seconds"], (out, err))
        told = {name: base64.b64encode(text).decode() for name, text in zip(("out", "err"), texts, strict=True)}
        answers.write(json.dumps({"status": status, **told}) + "\n")
        answers.flush()


def _wait(child: int, seconds: float, pipes: tuple[int, int]) -> tuple[int, list[bytes]]:
    """The status of a child, and what it wrote into the pipes, which are closed."""
    texts, deadline = dict.fromkeys(pipes, b""), time.monotonic() + seconds
    for pipe in pipes:
        os.set_blocking(pipe, False)
    found = 0
    while not found:
        found, status = os.waitpid(child, os.WNOHANG)
        if not found and time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
        for pipe in pipes:
            with suppress(BlockingIOError):
                while piece := os.read(pipe, 1 << 16):
                    texts[pipe] += piece
        time.sleep(0 if found else 0.005)
    for pipe in pipes:
        os.close(pipe)
    return os.waitstatus_to_exitcode(status), list(texts.values())


def _become(wanted: dict[str, Any], out: int, err: int) -> None:
    """Run the program in this fork, which ends."""
    status = 99
    try:
        os.chdir(wanted["cwd"])
        os.environ.update(wanted.get("variables", {}))
        for number, name, kept in ((0, "stdin", None), (1, "out", out), (2, "err", err)):
            _open(number, wanted.get(name, "kept"), kept)
        encoding = wanted.get("encoding", "utf-8")
        for number, name in enumerate(("stdin", "stdout", "stderr")):
            setattr(sys, name, _stream(number, encoding, "backslashreplace" if number == 2 else "strict"))
        if "file_size" in wanted:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (wanted["file_size"],) * 2)
        if "prepare" in wanted:
            module, function, *values = wanted["prepare"]
            getattr(import_module(module), function)(*values)
        from fcn_port.cli import main

        try:
            main(wanted["argv"])
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        os.write(err, traceback.format_exc().encode())
    finally:
        os._exit(status)


def _open(number: int, how: str, kept: int | None) -> None:
    if how == "closed":
        os.close(number)
    elif how == "no reader":
        reader, writer = os.pipe()
        os.dup2(writer, number)
        os.close(writer)
        os.close(reader)
    elif how != "kept" or kept is None:
        path = os.devnull if how == "kept" else how
        opened = os.open(path, os.O_WRONLY if number else os.O_RDONLY)
        os.dup2(opened, number)
        os.close(opened)
    else:
        os.dup2(kept, number)


def _stream(number: int, encoding: str, errors: str) -> io.TextIOWrapper | None:
    """A standard stream as Python opens it."""
    try:
        os.fstat(number)
    except OSError:
        return None
    raw = io.FileIO(number, "w" if number else "r", closefd=False)
    buffer = io.BufferedWriter(raw) if number else io.BufferedReader(raw)
    return io.TextIOWrapper(buffer, encoding=encoding, errors=errors)  # type: ignore[type-var]


if __name__ == "__main__":
    _serve()
