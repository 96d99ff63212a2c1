"""Standard streams on which writing ends no work: closed, without a reader, or in an encoding that lacks a character.

A stream that is closed is the null device, so that no file that is opened later gets its number and the messages of
others. Output that nobody reads any more, as behind `| head`, is dropped, and the work goes on to its own exit status.
A character that the stream's encoding lacks is written as its escape. What cannot be written on standard output for
another reason, a full disk, is an error that names it; messages that cannot be written are dropped.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import suppress
from typing import Any, TextIO

STANDARD_OUTPUT = "standard output"
"""The file name of an error about it."""

_READER_GONE = {errno.EPIPE, errno.ESHUTDOWN, errno.ECONNRESET}


def make_safe() -> None:
    """Set up `sys.stdin`, `sys.stdout` and `sys.stderr` of a program that begins."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, _null_device(number))
        elif number and isinstance(stream, io.TextIOWrapper) and _is_plain_file(stream, number):
            setattr(sys, name, _safe(stream, number))


def flush() -> None:
    """Write what is pending on both streams; OSError where standard output cannot be written, and no second time."""
    sys.stderr.flush()
    sys.stdout.flush()


def _null_device(number: int) -> TextIO:
    """The null device under the number of a stream that was closed."""
    with suppress(OSError):
        os.fstat(number)  # taken by something else, which keeps it
        number = -1
    opened = os.open(os.devnull, os.O_WRONLY if number else os.O_RDONLY)
    if number >= 0 and opened != number:
        os.dup2(opened, number)
        os.close(opened)
        opened = number
    return open(opened, "w" if number else "r", encoding="utf-8", errors="backslashreplace", closefd=False)


def _is_plain_file(stream: io.TextIOWrapper, number: int) -> bool:
    """True if a stream is the process's own, and no console of Windows or what a test put in its place."""
    raw = getattr(stream.buffer, "raw", stream.buffer)
    return isinstance(raw, io.FileIO) and raw.fileno() == number


def _safe(stream: io.TextIOWrapper, number: int) -> TextIO:
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Dropping(number)),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


class _Dropping(io.FileIO):
    """A stream that drops everything once it could not be written, so that no flush at the end fails again."""

    def __init__(self, number: int) -> None:
        super().__init__(number, "w", closefd=False)
        self.name = ("<stdin>", "<stdout>", "<stderr>")[number]
        self._number, self._lost = number, False

    def write(self, data: Any, /) -> int:
        """Write, or drop; OSError that names standard output where it fails and somebody may still read it."""
        if not self._lost:
            try:
                return super().write(data)
            except OSError as error:
                self._lost = True
                if self._number == 1 and error.errno not in _READER_GONE:
                    raise OSError(error.errno, error.strerror, STANDARD_OUTPUT) from error
        return memoryview(data).nbytes
