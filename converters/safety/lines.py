"""Texts that people write, line by line."""

from __future__ import annotations

import os

from .files import open_file


def read_lines(path: str | os.PathLike[str], *, errors: str = "strict") -> list[str]:
    """The lines of a text in UTF-8 of a person's own, with or without a byte order mark, whatever ends them.

    Raises what `open_file` raises, and UnicodeDecodeError unless `errors` says otherwise.
    """
    with open_file(path) as file:
        return file.read().decode("utf-8-sig", errors).splitlines()
