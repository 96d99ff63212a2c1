"""The option --register, shared by the verbs that take nets: layer types of one's own."""

from __future__ import annotations

import runpy
import traceback
from pathlib import Path
from typing import Any

import click

from converters.safety import open_file


def _run(context: click.Context, parameter: click.Parameter, value: tuple[Path, ...]) -> None:
    """Run each file, so that its `@register_layer` classes are known."""
    for path in value:
        with open_file(path):  # a pipe would be waited for
            pass
        try:
            runpy.run_path(str(path))
        except Exception as error:  # whatever a program of somebody's own raises
            own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
            where = f"{path}, line {own[-1].lineno}" if own else str(path)
            problem = f"{where}: {type(error).__name__}: {error}"
            raise click.BadParameter(problem, param_hint="'--register'") from error


def register_option(command: Any) -> Any:
    """The option on a verb; files run before the verb looks at anything."""
    return click.option(
        "--register",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        multiple=True,
        expose_value=False,
        callback=_run,
        is_eager=True,
        help="A Python file of your own that is run first, for its @register_layer classes; may be given again.",
    )(command)
