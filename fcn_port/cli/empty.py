"""Options and arguments that are given empty text, as a shell does of a variable that is not set: wrong use."""

from __future__ import annotations

from collections.abc import Sequence

import click


def refuse_empty(command: click.Command, arguments: Sequence[str], parent: click.Context) -> None:
    """UsageError for a parameter of a verb whose value is no text at all; other mistakes are click's to tell."""
    context = click.Context(command, parent, info_name=command.name, resilient_parsing=True)
    try:
        found, _, given = command.make_parser(context).parse_args(args=list(arguments))
    except click.UsageError:
        return
    for parameter in given:
        value = found.get(parameter.name or "")
        if "" in (value if isinstance(value, (list, tuple)) else (value,)):
            raise click.BadParameter("it is empty; is a variable of the shell not set?", context, parameter)
