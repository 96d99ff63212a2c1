"""The net that a verb is given: the options --like, --prototxt, --mean and --scale, and what they make of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from weights.records import InputRecipe, Preprocessing

from .bringing import here
from .device import find_device
from .engine import RunOptions
from .like import card_like

if TYPE_CHECKING:
    from ..nets import Net

_File = click.Path(exists=True, dir_okay=False, path_type=Path)

like_option = click.option(
    "--like", metavar="RELEASE", help="Make inputs and name classes as for RELEASE, where a file does not say."
)
prototxt_option = click.option(
    "--prototxt", type=_File, help="The net of a file that holds none, or another one for its weights."
)
mean_option = click.option(
    "--mean", metavar="B,G,R", help="Make inputs by taking off these values, where a file does not say how."
)
scale_option = click.option(
    "--scale", type=float, default=1.0, show_default=True, help="Multiply inputs by this, with --mean."
)


@dataclass(frozen=True, kw_only=True)
class NetOptions(RunOptions):
    """The settings that these options make, with those of how the net is run."""

    like: str | None
    device: str
    prototxt: Path | None
    mean: str | None
    scale: float


def load_as_told(weights: str, options: NetOptions) -> Net:
    """The net of a release or a file, with the card that the options give it."""
    from ..loading import attach, load
    from ..nets import definition

    net = load(here(weights), find_device(options.device), prototxt=options.prototxt)
    if options.like is not None:
        attach(net, card_like(options.like, definition(net)))
    if options.mean is not None:
        attach(net, replace(net.card, preprocessing=_preprocessing(net, options.mean, options.scale)))
    return net


WEIGHTS = (".caffemodel", ".h5", ".safetensors", ".pth", ".pt")
"""The ends of the names of files with weights."""


def load_cascade(folder: Path, options: NetOptions) -> list[Net]:
    """MTCNN's three nets of a folder, each file with the prototxt of its name beside it, if there is one.

    UsageError where there are not three, or where an option is for one net.
    """
    from ..loading import load

    files = sorted(path for path in folder.iterdir() if path.suffix in WEIGHTS and path.is_file())
    if len(files) != 3:
        raise click.UsageError(
            f"{folder} is a folder with {len(files)} files of weights; expected MTCNN's three, each with its prototxt "
            "beside it where the file holds no net"
        )
    given = {"--like": options.like, "--prototxt": options.prototxt, "--mean": options.mean}
    needless = [name for name, value in given.items() if value is not None]
    if needless:
        raise click.UsageError(f"{needless[0]} is for one net; {folder} holds three, whose inputs are known")
    device = find_device(options.device)
    texts = (path.with_suffix(".prototxt") for path in files)
    return [
        load(path, device, prototxt=text if text.is_file() else None) for path, text in zip(files, texts, strict=True)
    ]


def _preprocessing(net: Net, mean: str, scale: float) -> Preprocessing:
    """The means that --mean gives: a number for each channel of the net's image, BGR where there are three."""
    name, shape = next(iter(net.inputs.items()))
    try:
        numbers = tuple(float(part) for part in mean.split(","))
        recipe = InputRecipe(name, "color", "bgr" if len(numbers) == 3 else "file", numbers, scale=scale)
    except ValueError as error:
        raise click.BadParameter(f"{mean}: expected numbers such as 104,117,123", param_hint="'--mean'") from error
    if len(shape) != 4 or shape[1] != len(numbers):
        raise click.BadParameter(f"{mean}: the net's input {name} is {shape}", param_hint="'--mean'")
    return Preprocessing((recipe,))


def check_inputs(net: Net, weights: str) -> None:
    """UsageError for a net that does not say how its inputs are made."""
    if net.preprocessing is None:
        raise click.UsageError(
            f"{weights} does not say how its inputs are made; add --mean B,G,R (and --scale), such as 104,117,123, or "
            "--like RELEASE, such as voc-fcn8s"
        )
