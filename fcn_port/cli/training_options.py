"""Options of `fcn-port train` that choose a loss and vary images, and how their values are read."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import click

from ..training.choices import LossName
from .inspect import SizeParam
from .numbers import Number
from .option_groups import with_options
from .together import only_without


def _class_weights(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[float, ...] | Literal["median"] | None:
    """Numbers of at least 0, parted by commas, or "median"."""
    if value is None:
        return None
    if value == "median":
        return "median"
    try:
        weights = tuple(float(part) for part in value.split(","))
    except ValueError:
        problem = f"'{value}' is neither 'median' nor numbers parted by commas, such as 0.5,2,1"
        raise click.BadParameter(problem, context, parameter) from None
    if not all(0 <= weight < math.inf for weight in weights) or not any(weights):
        raise click.BadParameter(f"'{value}': weights are at least 0, and one is more", context, parameter)
    return weights


def _scales(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[float, float] | None:
    """A factor, or the smallest and the largest one."""
    if value is None:
        return None
    low, mark, high = value.partition("-")
    try:
        found = float(low), float(high if mark else low)
    except ValueError:
        raise click.BadParameter(f"'{value}' is no range such as 0.5-2", context, parameter) from None
    if not 0.05 <= found[0] <= found[1] <= 20:
        problem = f"'{value}': expected two factors from 0.05 to 20, the smaller one first"
        raise click.BadParameter(problem, context, parameter)
    return found


_LOSS = (
    click.option("--loss", type=click.Choice(get_args(LossName)), help="In place of SoftmaxWithLoss."),
    click.option(
        "--class-weights", metavar="NUMBERS", callback=_class_weights,
        help="What a pixel of each class counts: numbers such as 0.5,2,1, or 'median' for median frequency balancing.",
    ),
    click.option("--gamma", type=Number(min=0, max=20), help="The focal loss's exponent.  [default: 2]"),
    click.option(
        "--balance", is_flag=True,
        help="Weigh both sides of a SigmoidCrossEntropyLoss by each other's pixels, as HED's Caffe does.",
    ),
)  # fmt: skip
_VARIATION = (
    click.option("--mirror/--no-mirror", default=None, help="Mirror half of the images, labels too."),
    click.option("--crop", type=click.IntRange(min=0), metavar="SIDE", help="Cut SIDE x SIDE pixels; 0 for none."),
    click.option("--resize", type=SizeParam(), help="Bring images and labels to this size first."),
    click.option("--scales", metavar="FROM-TO", callback=_scales, help="Resize images by a factor of a range: 0.5-2."),
)  # fmt: skip


def loss_options(command: Any) -> Any:
    """The options that choose a loss."""
    return with_options(command, _LOSS)


def variation_options(command: Any) -> Any:
    """The options that vary images."""
    return with_options(command, _VARIATION)


def refuse_idle(*, val_split: str | None, check: bool | None) -> None:
    """UsageError for options about scores where nothing is scored, and about what a look finds where none is taken."""
    if val_split == "none":
        only_without("--val-split none", {"val_data", "val_every", "val_limit"})
    if check is False:
        only_without("--no-check", {"skip_bad"})


def _seed(context: click.Context, parameter: click.Parameter, value: int | None) -> int | None:
    if value is not None and not -(1 << 63) <= value < 1 << 63:
        raise click.BadParameter(f"{value}: seeds are numbers of 64 bits", context, parameter)
    return value


seed_option = click.option(
    "--seed", type=int, callback=_seed, help="Of the order of images, of dropout, and of what begins at random."
)
