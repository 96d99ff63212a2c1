"""The compiler of our C code, and why there may be none: known without importing torch."""

from __future__ import annotations

import os
import shlex
import shutil

from converters.given import found_in_words, means_no, means_yes


class NotBuilt(RuntimeError):
    """There is no compiler, it does not compile this, or nobody wants it to; says which."""


class ForbiddenError(NotBuilt):
    """`$FCN_PORT_NATIVE=0` forbids native code."""


NATIVE, FLAGS = "FCN_PORT_NATIVE", "FCN_PORT_CFLAGS"


def compiler() -> list[str]:
    """The command, `$CC` or ``cc``; NotBuilt where it is not there, ForbiddenError where nobody wants its use."""
    wanted = os.environ.get(NATIVE, "")
    if means_no(wanted):
        raise ForbiddenError(f"{NATIVE}={wanted.strip()} forbids it")
    command = words_of("CC", "cc")
    if not command or shutil.which(command[0]) is None:
        raise NotBuilt(f"there is no C compiler '{' '.join(command)}'; set CC to one")
    return command


def unclear_wish() -> str | None:
    """Words for a `$FCN_PORT_NATIVE` that neither forbids nor allows native code; None where it does."""
    wanted = os.environ.get(NATIVE, "")
    if not wanted.strip() or means_no(wanted) or means_yes(wanted):
        return None
    return f"{NATIVE} is {found_in_words(wanted)}, which is neither 0 nor 1"


def in_words(command: list[str]) -> str:
    """The compiler's command, and the user's flags for our code where there are some."""
    flags = os.environ.get(FLAGS, "").strip()
    return f"{shlex.join(command)} with {FLAGS}={flags}" if flags else shlex.join(command)


def words_of(variable: str, otherwise: str = "") -> list[str]:
    """The words of an environment variable, as a shell reads them; NotBuilt where a quotation in it does not end."""
    said = os.environ.get(variable) or otherwise
    try:
        return shlex.split(said)
    except ValueError as error:
        raise NotBuilt(f"{variable} is {said!r}, which a shell cannot read: {str(error).lower()}") from None
