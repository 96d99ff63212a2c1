"""The program `fcn-port`, from its first moment to its exit status.

This file imports nothing but the standard library's core: what a second of imports brings (`program.py`, the verbs)
comes after signals and standard streams are looked after. The verbs are in `program.py`, one file for each.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from . import signals, streams

THREADS_LOOK = "10000"
"""The number of times that PyTorch's threads look for more work before they sleep: for 0.1 ms, not for 3.

Beside other busy programs the time in which they look is taken from those that compute (docs/performance.md)."""


def main(argv: list[str] | None = None) -> NoReturn:
    """Run the program and leave with its exit status."""
    os.environ.setdefault("GOMP_SPINCOUNT", THREADS_LOOK)  # read when PyTorch is imported, which nobody has done yet
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
    sys.exit(status)


def run(argv: list[str] | None = None) -> int:
    """Run the program on `argv` (default: the command line's) and return its exit status; signals stay as they are."""
    from .program import answer

    return answer(argv)


def _say(message: str, status: int) -> int:
    print(f"fcn-port: {message}", file=sys.stderr)
    return status


__all__ = ["main", "run"]
