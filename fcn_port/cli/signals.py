"""Ctrl-C, a polite kill and a terminal that closes: the program ends cleanly, or grants a wish when it is ready."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

_AGAIN_SECONDS = 2.0
"""After this long the same kill is a second one: `timeout` and others send one both to a program and to its group."""
_WORDS = {"SIGINT": "interrupted", "SIGTERM": "terminated", "SIGHUP": "hung up"}
_received: list[int] = []
_kept: list[str] = []


class Ended(BaseException):
    """A signal asks the program to end; what is open is closed and removed on the way out."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def listen() -> None:
    """From here on a signal ends the program with everything cleaned up; one that the parent had ignored stays so."""
    for number in _heard():
        signal.signal(number, _end)
    os.register_at_fork(after_in_child=_by_default) if hasattr(os, "register_at_fork") else None


def received() -> int | None:
    """The first signal that asked the program to end, if any."""
    return _received[0] if _received else None


def words(number: int) -> str:
    """The event in words."""
    return _WORDS[signal.Signals(number).name]


def status(number: int) -> int:
    """The exit status of a program that a signal ended: 130 for Ctrl-C."""
    return 128 + number


def finish() -> None:
    """The work is done: what is left in the making goes; from here on a signal ends the process as it ends any."""
    _remove_parts()
    _by_default()


@contextmanager
def keeping(what: str, say: Callable[[str], None]) -> Iterator[None]:
    """Say what of the work is kept if a signal ends the block, whatever the code that it interrupts makes of it."""
    _kept.append(what)
    try:
        yield
    except BaseException as error:
        if received() is not None or isinstance(error, KeyboardInterrupt):
            say(what)
        raise
    finally:
        _kept.remove(what)


def _heard() -> list[int]:
    numbers = [getattr(signal, name) for name in _WORDS if hasattr(signal, name)]
    return [number for number in numbers if signal.getsignal(number) not in (signal.SIG_IGN, None)]


def _by_default() -> None:
    for number in _heard():
        signal.signal(number, signal.SIG_DFL)


def _end(number: int, frame: FrameType | None) -> None:
    _received.append(number)
    if len(_received) > 1 or _importing(frame):
        _leave_at_once()
    sys.unraisablehook = _lost
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise Ended(number)


def _lost(unraisable: sys.UnraisableHookArgs) -> None:
    """End the program by a signal that a destructor or a callback of C lost; what else they say then is no news."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt | Ended):
        _leave_at_once()


def _importing(frame: FrameType | None) -> bool:
    """True if a module is being imported, where an exception may be printed, lost or turned into another by C code."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _leave_at_once() -> NoReturn:
    """End the process from within; only the parts of files in the making have to be removed."""
    number = _received[0]
    _remove_parts()
    said = "\n".join((*_kept, f"fcn-port: {words(number)}\n"))
    with suppress(OSError):
        os.write(2, said.encode(errors="backslashreplace"))
    os._exit(status(number))


def _remove_parts() -> None:
    files = sys.modules.get("converters.safety.files")  # not yet, or half imported: then there are no parts
    getattr(files, "remove_parts", lambda: None)()


@contextmanager
def stopping(
    say: Callable[[str], None], what: str = "stopping after this update, and saving"
) -> Iterator[Callable[[], bool]]:
    """A function that tells whether somebody wants to stop; a second Ctrl-C or kill stops at once, as usual.

    `say` is told `what` happens then.

    Under torchrun, which passes a Ctrl-C on to processes that have it already, only the first one counts.
    """
    wanted: list[float] = []

    def ask(number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if wanted and "TORCHELASTIC_RUN_ID" not in os.environ:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            if now - wanted[0] > _AGAIN_SECONDS:
                _end(number, frame)
        if not wanted:
            _say_in_between(say, f"{what}; Ctrl-C again stops at once")
        wanted.append(now)

    before = {number: signal.signal(number, ask) for number in _heard()}
    try:
        yield lambda: bool(wanted)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say_in_between(say: Callable[[str], None], message: str) -> None:
    """Say something in the middle of whatever is being done, which may be the writing of another message."""
    try:
        say(message)
    except RuntimeError:  # "reentrant call": that stream takes no second one, and the run must not end by it
        with suppress(OSError):
            os.write(2, f"{message}\n".encode())
