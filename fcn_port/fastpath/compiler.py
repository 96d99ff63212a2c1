"""The compiler of our C code, and why there may be none: known without importing torch."""

from __future__ import annotations

import os
import shlex
import shutil


class NotBuilt(RuntimeError):
    """There is no compiler, it does not compile this, or nobody wants it to; says which."""


class ForbiddenError(NotBuilt):
    """`$FCN_PORT_NATIVE=0` forbids native code."""


def compiler() -> list[str]:
    """The command, `$CC` or ``cc``; NotBuilt where it is not there, ForbiddenError where nobody wants its use."""
    if os.environ.get("FCN_PORT_NATIVE") == "0":
        raise ForbiddenError("FCN_PORT_NATIVE=0 forbids it")
    command = words_of("CC", "cc")
    if not command or shutil.which(command[0]) is None:
        raise NotBuilt(f"there is no C compiler '{' '.join(command)}'; set CC to one")
    return command


def words_of(variable: str, otherwise: str = "") -> list[str]:
    """The words of an environment variable, as a shell reads them; NotBuilt where a quotation in it does not end."""
    said = os.environ.get(variable) or otherwise
    try:
        return shlex.split(said)
    except ValueError as error:
        raise NotBuilt(f"{variable} is {said!r}, which a shell cannot read: {str(error).lower()}") from None
