"""Ctrl-C, or a polite kill, as a wish that whatever runs can grant when it is ready."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stopping(say: Callable[[str], None]) -> Iterator[Callable[[], bool]]:
    """A function that tells whether somebody wants to stop; a second Ctrl-C stops at once, as usual.

    Under torchrun, which passes a Ctrl-C on to processes that have it already, only the first one counts.
    """
    wanted: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        if wanted and number == signal.SIGINT and "TORCHELASTIC_RUN_ID" not in os.environ:
            raise KeyboardInterrupt
        if not wanted:
            say("stopping after this update, and saving; Ctrl-C again stops at once")
        wanted.append(number)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(wanted)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
