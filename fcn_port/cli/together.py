"""Options that do something only with another one, or not with it: wrong use, and not passed over in silence."""

from __future__ import annotations

from collections.abc import Collection

import click
from click.core import ParameterSource


def given_options(context: click.Context) -> dict[str, str]:
    """The options and arguments that were given, by parameter: the way in which an option is written."""
    given = context.params  # click 8.2 has arguments of which there are none, (), as given
    return {
        name: parameter.opts[0] if isinstance(parameter, click.Option) else parameter.human_readable_name
        for parameter in context.command.params
        if (name := parameter.name or "")
        and context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        and given.get(name) != ()
    }


def only_with(option: str, names: Collection[str]) -> None:
    """UsageError where one of the parameters was given, for a verb that was run without the option that they need."""
    if wrong := _given_of(names):
        raise click.UsageError(f"{' and '.join(wrong)} {'goes' if len(wrong) == 1 else 'go'} with {option}")


def only_without(option: str, names: Collection[str]) -> None:
    """UsageError where one of the parameters was given beside an option that has no use for them."""
    if wrong := _given_of(names):
        raise click.UsageError(f"{option} goes without {' and '.join(wrong)}")


def _given_of(names: Collection[str]) -> list[str]:
    """Those of the parameters that were given, as they are written."""
    return [shown for name, shown in given_options(click.get_current_context()).items() if name in names]
