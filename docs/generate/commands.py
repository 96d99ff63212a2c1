"""docs/cli.md: every verb of `fcn-port` with its arguments and options, their defaults and help, as click knows them.

Read from the parameters and not from `--help`, whose layout changes with click's version. Needs no torch.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from fcn_port.cli import program

INTRODUCTION = """\
# The program `fcn-port`

Every verb, argument and option. This page is made from the program by `make docs-generated`; change the help in
`fcn_port/cli/` and not this file. `fcn-port VERB --help` says the same on a terminal. Data goes to standard output,
progress and messages to standard error.
"""


def cli_page() -> str:
    """The page, as Markdown."""
    root = click.Context(program.cli, info_name="fcn-port")
    parts = [INTRODUCTION, _statuses(), _contents(program.cli, root), _options(program.cli, root)]
    parts += [_section(command, context, depth=2) for command, context in _commands(program.cli, root)]
    return "\n".join(part.strip() + "\n" for part in parts if part.strip())


def _statuses() -> str:
    """What the program's own docstring says of its exit statuses."""
    text = inspect.cleandoc(program.__doc__ or "")
    return text[text.index("Exit status") :].partition("\n\n")[0]


def _commands(group: click.Group, context: click.Context) -> Iterator[tuple[click.Command, click.Context]]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is not None and not command.hidden:
            yield command, click.Context(command, info_name=name, parent=context)


def _contents(group: click.Group, context: click.Context) -> str:
    rows = [
        f"| [`{name}`](#fcn-port-{name}) | {_cell(program.VERBS.get(name, ''))} |"
        for name in group.list_commands(context)
    ]
    return "\n".join(["| verb | what it does |", "| --- | --- |", *rows])


def _section(command: click.Command, context: click.Context, *, depth: int) -> str:
    title = f"{'#' * depth} {context.command_path}"
    usage = " ".join([context.command_path, *_usage(command)])
    parts = [title, f"`{usage}`", _help(command), _options(command, context)]
    if isinstance(command, click.Group):
        parts += [_section(inner, own, depth=depth + 1) for inner, own in _commands(command, context)]
    return "\n\n".join(part for part in parts if part)


def _usage(command: click.Command) -> Iterator[str]:
    yield "[OPTIONS]"
    for parameter in command.params:
        if isinstance(parameter, click.Argument):
            name = (parameter.metavar or parameter.human_readable_name).strip("[].")
            name += "..." if parameter.nargs != 1 else ""
            yield name if parameter.required else f"[{name}]"


def _help(command: click.Command) -> str:
    """The command's docstring; a paragraph that click must not fill (\\b) is shown as it stands."""
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    shown = []
    for text in paragraphs:
        as_it_stands = text.startswith("\b\n")
        shown.append("```\n" + text.removeprefix("\b\n") + "\n```" if as_it_stands else _plain(text))
    return "\n\n".join(shown)


def _options(command: click.Command, context: click.Context) -> str:
    rows = [
        f"| {_names(parameter)} | {_cell(parameter.help or '')} | {_default(parameter, context)} |"
        for parameter in command.params
        if isinstance(parameter, click.Option) and not parameter.hidden
    ]
    return "\n".join(["| option | what it does | default |", "| --- | --- | --- |", *rows]) if rows else ""


def _names(option: click.Option) -> str:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    if option.is_flag or option.count:
        return names
    return f"{names} {_cell(_values(option))}" + (", again and again" if option.multiple else "")


def _values(option: click.Option) -> str:
    """What the option takes: its own word for it, a choice's values, a range, or the name of the type."""
    kind = option.type
    if option.metavar:
        return f"`{option.metavar}`"
    if isinstance(kind, click.Choice):
        return " or ".join(f"`{value}`" for value in kind.choices)
    name = f"`{kind.name.removesuffix(' range').upper()}`"
    low, high = getattr(kind, "min", None), getattr(kind, "max", None)
    if low is not None and high is not None:
        name += f" from {low:g} to {high:g}"
    elif low is not None:
        name += f" {'above' if getattr(kind, 'min_open', False) else 'from'} {low:g}"
    return name if option.nargs == 1 else " ".join([name] * max(option.nargs, 1))


def _default(option: click.Option, context: click.Context) -> str:
    if option.required:
        return "must be given"
    if isinstance(option.show_default, str):
        return option.show_default
    value = option.to_info_dict()["default"]
    return "" if option.is_flag or value is None or callable(value) or value == () else f"`{value}`"


def _cell(text: str) -> str:
    return _plain(" ".join(text.split())).replace("|", "\\|")


def _plain(text: str) -> str:
    """Text outside of backquotes in which Markdown sees no markup."""
    return "`".join(part if i % 2 else part.replace("<", "\\<") for i, part in enumerate(text.split("`")))


__all__ = ["cli_page"]
