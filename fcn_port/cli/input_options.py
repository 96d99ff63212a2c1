"""Options that say how a net's colour input is made, where neither net nor data set says it rightly."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .numbers import LARGEST, Number
from .option_groups import with_options

if TYPE_CHECKING:
    from ..data.inputs import InputChange


def _means(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    """Numbers parted by commas, or those in a file."""
    if value is None:
        return None
    try:
        means = tuple(float(part) for part in value.split(","))
    except ValueError:
        from ..data.description import mean_of_file

        if not Path(value).is_file():
            problem = f"'{value}' is neither numbers such as 104,117,123 nor a file"
            raise click.BadParameter(problem, context, parameter) from None
        return mean_of_file(Path(value))
    if not all(map(math.isfinite, means)):
        raise click.BadParameter(f"'{value}': means are finite numbers", context, parameter)
    if any(abs(mean) >= LARGEST for mean in means):
        raise click.BadParameter(f"'{value}': one is more than a float32 holds", context, parameter)
    return means


def _scale(context: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    """A factor; that of 0 would make every image the same."""
    if value == 0:
        raise click.BadParameter("0 would make every image the same", context, parameter)
    return value


_USUAL = "default: what the net or the data set says"
_OPTIONS = (
    click.option(
        "--mean", metavar="NUMBERS|FILE", callback=_means,
        help="What is subtracted from pixels of 0 to 255: numbers in the order of the channels, or a mean.binaryproto, "
        f"whose mean is taken; {_USUAL}.",
    ),
    click.option(
        "--scale", type=Number(), callback=_scale, help=f"What the difference is multiplied by; {_USUAL}, else 1."
    ),
    click.option(
        "--channels", type=click.Choice(("bgr", "rgb")), help=f"The order of the channels; {_USUAL}, else bgr."
    ),
)  # fmt: skip


def input_options(command: Any) -> Any:
    """The options on a verb; `input_change` takes what they gave out of its keywords."""
    return with_options(command, _OPTIONS)


def input_change(given: dict[str, Any]) -> InputChange:
    """The change that the options ask for; their values are taken out of `given`."""
    from ..data.inputs import InputChange

    return InputChange(given.pop("mean"), given.pop("scale"), given.pop("channels"))
