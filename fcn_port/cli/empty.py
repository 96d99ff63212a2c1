"""Options and arguments without text, as of a shell's variable that is not set, or "-" for a file: wrong use."""

from __future__ import annotations

from collections.abc import Sequence

import click


def refuse_empty(command: click.Command, arguments: Sequence[str], parent: click.Context) -> None:
    """UsageError for a parameter of a verb whose value is no text at all, or a path "-"; click tells other mistakes."""
    context = click.Context(command, parent, info_name=command.name, resilient_parsing=True)
    try:
        found, _, given = command.make_parser(context).parse_args(args=list(arguments))
    except click.UsageError:
        return
    for parameter in given:
        value = found.get(parameter.name or "")
        values = value if isinstance(value, (list, tuple)) else (value,)
        if "" in values:
            raise click.BadParameter("it is empty; is a variable of the shell not set?", context, parameter)
        if "-" in values and isinstance(parameter.type, click.Path):
            problem = (
                "'-': files are neither read from standard input nor written to standard output; ./- is such a file"
            )
            raise click.BadParameter(problem, context, parameter)
