"""A file of class names, a line each."""

from __future__ import annotations

from pathlib import Path

import click

from converters.safety import open_file

MOST_NAMES_BYTES = 1 << 24


def read_names(path: Path) -> tuple[str, ...]:
    """The names of the classes, one a line, in the order of their labels; empty lines at the end are none."""
    try:
        with open_file(path) as file:
            data = file.read(MOST_NAMES_BYTES + 1)
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise click.BadParameter(f"{path}: not text in UTF-8", param_hint="'--classes'") from error
    names = tuple(line.strip() for line in text.rstrip().splitlines())
    if not names or len(data) > MOST_NAMES_BYTES:
        what = "more than 16 MiB" if names else "no names in it"
        raise click.BadParameter(f"{path}: {what}; expected one a line", param_hint="'--classes'")
    return names
