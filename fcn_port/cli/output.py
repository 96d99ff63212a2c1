"""Output of the verbs: aligned columns and JSON on standard output, messages and progress on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from converters.escaping import json_text, shortened, terminal, terminal_lines, terminal_message
from converters.safety import is_one_of
from weights.download import human_bytes

json_option = click.option("--json", "as_json", is_flag=True, help="Write JSON for programs to read.")
json_lines_option = click.option(
    "--json-lines", is_flag=True, help="Write a line of JSON for each image as soon as it is done."
)


def echo(line: object = "") -> None:
    """A line of data on standard output, whatever names are in it: a new line in one of them is seen as \\n."""
    click.echo(terminal(line))


def echo_lines(text: str) -> None:
    """Lines of data on standard output that are ours; names in them have been through `terminal`."""
    click.echo(terminal_lines(text.removesuffix("\n")))


def note(message: object) -> None:
    """A message for people, on standard error."""
    click.echo(terminal_message(message), err=True)


def write_json(data: Any) -> None:
    """One JSON document on standard output."""
    click.echo(json_text(data, indent=2, default=_plain))


def write_json_line(data: Any) -> None:
    """One JSON document on a line of standard output, at once: a program that reads a pipe has it."""
    click.echo(json_text(data, compact=True, default=_plain))


def _plain(value: Any) -> Any:
    """The form in JSON of what `json` does not know: records become objects under their field names, all else text."""
    if isinstance(value, Mapping):
        return dict(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, np.generic):
        return value.item()
    return str(value)


def write_columns(rows: Sequence[Sequence[str]], *, header: Sequence[str] = (), right: Sequence[int] = ()) -> None:
    """Rows as aligned columns; the columns numbered in `right` are set to the right."""
    for line in columns(rows, header=header, right=right):
        echo(line)


def columns(rows: Sequence[Sequence[str]], *, header: Sequence[str] = (), right: Sequence[int] = ()) -> Iterator[str]:
    """The lines that `write_columns` prints."""
    table = [[shortened(value) for value in row] for row in ([header, *rows] if header else rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = (
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()


WORDS = "fcn_port.words"
"""The key under which a context has the words of the command line behind the verb."""

OF_RESULTS = frozenset((".html", ".md", ".gz", ".tgz"))
"""Endings that no file of a data set has, as class_dict.csv does: in its folder, these may be written again."""


def refuse_to_replace(
    out: Path | None, read: Iterable[str | Path | None] = (), *, option: str = "--out", data: Path | None = None
) -> None:
    """Wrong use, before anything is read, where the file to write is one of those that are.

    Also one that another word of the command line names, whatever it is for, and a file of the data set in `data`.
    """
    if out is None or not out.exists():
        return
    if is_one_of(out, read) or sum(_names(word, out) for word in _words()) > 1:
        raise click.UsageError(f"{out}: this file is read, and would be replaced; choose another with {option}")
    if data is not None and out.suffix.lower() not in OF_RESULTS and data.resolve() in out.resolve().parents:
        raise click.UsageError(f"{out}: this file of the data set would be replaced; choose another with {option}")


def _names(word: str, path: Path) -> bool:
    """True for a word that is a path of this file; most are none, such as long texts."""
    with suppress(OSError, ValueError):
        return bool(word) and is_one_of(path, (word,))
    return False


def _words() -> Iterator[str]:
    """Each part of the command line that may be a path: -o FILE, -oFILE and --out=FILE."""
    context = click.get_current_context(silent=True)
    for word in () if context is None else context.meta.get(WORDS, ()):
        name, _, value = word.partition("=")
        is_short = word.startswith("-") and not word.startswith("--")
        yield value if name.startswith("--") else word[2:] if is_short else word


@contextmanager
def bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar over bytes on standard error; yields a callback (done, total). Quiet where nobody watches."""
    if not sys.stderr.isatty():  # what draws takes longer to import than a small file to convert
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(terminal(label), total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


__all__ = [
    "bar",
    "columns",
    "echo",
    "echo_lines",
    "human_bytes",
    "json_option",
    "note",
    "write_columns",
    "write_json",
]


def duration(seconds: float) -> str:
    """A time in words: 45 s, 12 min, 3.5 h or 2.1 days."""
    for unit, length in (("days", 86400.0), ("h", 3600.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
