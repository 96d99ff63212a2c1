"""Texts that people write, line by line."""

from __future__ import annotations

import io
import os

from .opening import open_file


def read_lines(path: str | os.PathLike[str], *, errors: str = "strict") -> list[str]:
    """The lines of a text in UTF-8 of a person's own, with or without a byte order mark.

    Raises what `open_file` raises, and UnicodeDecodeError unless `errors` says otherwise.
    """
    with open_file(path) as file:
        return lines_of(file.read().decode("utf-8-sig", errors))


def lines_of(text: str) -> list[str]:
    """The lines of a text, whichever system ended them.

    Other letters that `str.splitlines` takes for ends, as U+0085 and U+2028, may be in the name of a file.
    """
    return io.StringIO(text, newline=None).read().removesuffix("\n").split("\n") if text else []
