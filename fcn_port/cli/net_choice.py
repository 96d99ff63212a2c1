"""The options --input, --phase, --stage, --level and --global-stats, shared by the verbs that take nets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from converters.passes import choosing, chosen

from .option_groups import with_options
from .output import note

if TYPE_CHECKING:
    from ..any_net import AnyNet

_TOLD = "fcn_port.cli.warnings"
"""The key of the warnings that were said, in a verb's context."""


def _input_shapes(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> None:
    shapes = {}
    for text in value:
        name, _, sizes = text.rpartition("=")
        if not name or not re.fullmatch(r"[1-9]\d{0,9}(x[1-9]\d{0,9}){0,7}", sizes):
            raise click.BadParameter(f"'{text}' is not NAME=SHAPE such as data=1x3x300x300", context, parameter)
        shapes[name] = tuple(map(int, sizes.split("x")))
    if shapes:
        context.with_resource(choosing(input_shapes=shapes))


def _phase(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        context.with_resource(choosing(phase=value))


def _stages(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> None:
    if value:
        context.with_resource(choosing(stages=value))


def _level(context: click.Context, parameter: click.Parameter, value: int | None) -> None:
    if value is not None and not -(1 << 31) <= value < 1 << 31:
        raise click.BadParameter(f"{value}: Caffe's levels are numbers of 32 bits", context, parameter)
    if value is not None:
        context.with_resource(choosing(level=value))


def idle_shapes(net: AnyNet) -> Iterator[str]:
    """A note that --input changes nothing, for a net that labels images of any size, each at its own."""
    from converters.export import takes_any_size

    from ..any_net import spec_of

    if chosen().input_shapes and takes_any_size(spec_of(net)):
        yield "note: --input changes nothing here: the net takes images of any size, each at its own"


def tell_idle_shapes(net: AnyNet) -> None:
    """Say what `idle_shapes` notes."""
    for line in idle_shapes(net):
        note(line)


def not_told(notes: Iterable[str]) -> list[str]:
    """The notes of a net that this verb did not say as warnings before."""
    told = click.get_current_context().meta.get(_TOLD, ())
    return [line for line in notes if line not in told]


def _global_stats(context: click.Context, parameter: click.Parameter, value: bool | None) -> None:
    told: set[str] = context.meta.setdefault(_TOLD, set())

    def warn(warning: str) -> None:
        if context.command.name == "export":
            raise click.UsageError(f"{warning}; say which, for the file that is written: --[no-]global-stats", context)
        if warning not in told:
            note(f"warning: {warning}")
        told.add(warning)

    context.with_resource(choosing(global_stats=value, warn=warn))


def net_options(command: Any) -> Any:
    """The options on a verb: they hold for every net that it prepares."""
    return _phase_option(training_net_options(command))


def _phase_option(command: Any) -> Any:
    return click.option(
        "--phase", type=click.Choice(("TEST", "TRAIN"), case_sensitive=False), expose_value=False,
        callback=_phase, help="The phase of the net that is taken (include and exclude rules); default: TEST.",
    )(command)  # fmt: skip


def training_net_options(command: Any) -> Any:
    """The options on the verb that trains, which takes the TRAIN phase always."""
    return with_options(
        command,
        (
            click.option(
                *("--input", "given_inputs"), multiple=True, metavar="NAME=SHAPE", expose_value=False,
                callback=_input_shapes, help="The shape of an input of the net, such as data=1x3x300x300; may be given "
                "again. Default: the net's own, else one that is worked out.",
            ),
            click.option(
                *("--stage", "given_stages"), multiple=True, metavar="NAME", expose_value=False, callback=_stages,
                help="A stage of the net that is taken, such as deploy; may be given again.",
            ),
            click.option(
                "--level", type=int, expose_value=False, callback=_level,
                help="The level of the net that is taken; default: 0.",
            ),
            click.option(
                "--global-stats/--no-global-stats", default=None, expose_value=False, callback=_global_stats,
                help="For weights whose BatchNorm layers say use_global_stats: false: take their stored statistics, or "
                "the batch's own.",
            ),
        ),
    )  # fmt: skip
