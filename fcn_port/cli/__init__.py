"""The program `fcn-port`, from its first moment to its exit status.

This file imports nothing but the standard library's core: what a second of imports brings (`program.py`, the verbs)
comes after signals and standard streams are looked after. The verbs are in `program.py`, one file for each.
"""

from __future__ import annotations

import atexit
import os
import sys
import warnings
from contextlib import suppress
from typing import NoReturn

from . import signals, streams

THREADS_LOOK = "10000"
"""The number of times that PyTorch's threads look for more work before they sleep: for 0.1 ms, not for 3.

Beside other busy programs the time in which they look is taken from those that compute (docs/performance.md)."""


def main(argv: list[str] | None = None) -> NoReturn:
    """Run the program and leave with its exit status."""
    ended: list[int] = []
    atexit.register(_leave_threads, ended)  # the first of all, which is the last to be called
    os.environ.setdefault("GOMP_SPINCOUNT", THREADS_LOOK)  # read when PyTorch is imported, which nobody has done yet
    warnings.formatwarning = _told
    signals.listen()
    try:
        streams.make_safe()
        status = run(argv)
    except BaseException:
        number = signals.received()
        if number is None:
            raise
        status = _say(signals.words(number), signals.status(number))
    try:
        streams.flush()
    except OSError as error:
        status = _say(f"{error.filename}: {str(error.strerror).lower()}", max(status, 1))
    signals.finish()
    ended.append(status)
    sys.exit(status)


def _told(message: Warning | str, *_about: object, **_more: object) -> str:
    """A warning as people read it, without the line of Python that it comes from."""
    return f"fcn-port: {message}\n"


def _leave_threads(ended: list[int]) -> None:
    """End the process where daemon threads are left, such as a server's whose nets still compute for nobody.

    Python would take itself down beside them, and one that comes back from PyTorch then ends the process by SIGABRT: it
    cannot have Python's lock any more, and may not be unwound through PyTorch's C++.
    """
    threading = sys.modules.get("threading")
    if ended and threading is not None and any(thread.daemon for thread in threading.enumerate()):
        with suppress(OSError):
            streams.flush()
        os._exit(ended[0])


def run(argv: list[str] | None = None) -> int:
    """Run the program on `argv` (default: the command line's) and return its exit status; signals stay as they are."""
    from .program import answer

    return answer(argv)


def _say(message: str, status: int) -> int:
    print(f"fcn-port: {message}", file=sys.stderr)
    return status


__all__ = ["main", "run"]
