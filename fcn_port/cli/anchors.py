"""The option --anchors, for YOLO nets that end before their boxes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..any_net import takes_arrays

if TYPE_CHECKING:
    from ..any_net import LoadedNet


def _numbers(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    if value is None:
        return None
    try:
        return tuple(float(part) for part in value.split(","))
    except ValueError:
        problem = f"'{value}' is no list of numbers such as 1.32,1.73,3.19,4.01"
        raise click.BadParameter(problem, context, parameter) from None


anchors_option = click.option(
    "--anchors", metavar="W,H,...", callback=_numbers,
    help="Of a YOLO whose net ends before its boxes: width and height of each anchor, as its .cfg lists them.",
)  # fmt: skip


def with_given_anchors(net: LoadedNet, anchors: tuple[float, ...] | None) -> LoadedNet:
    """The net with its heads made boxes; UsageError for anchors that do not fit."""
    if anchors is None or takes_arrays(net):
        return net
    from ..detection import with_anchors

    try:
        return with_anchors(net, anchors)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="'--anchors'") from error
