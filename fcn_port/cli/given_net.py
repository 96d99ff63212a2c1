"""The net that a verb is given: the options --like and --prototxt, and what they and other options make of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from weights.card import Card
from weights.records import InputRecipe, Preprocessing

from .bringing import here
from .described import as_described
from .device import find_device
from .engine import RunOptions
from .like import card_like
from .quick_net import quick_net

if TYPE_CHECKING:
    from ..any_net import LoadedNet
    from ..data.inputs import InputChange
    from ..data.records import DataSet
    from ..nets import Net

_File = click.Path(exists=True, dir_okay=False, path_type=Path)

like_option = click.option(
    "--like", metavar="RELEASE", help="Make inputs, and name as many classes, as for RELEASE, whatever the file says."
)
prototxt_option = click.option(
    "--prototxt", type=_File, help="The net of a file that holds none, or another one for its weights."
)


@dataclass(frozen=True, kw_only=True)
class NetOptions(RunOptions):
    """The settings that these options make, with those of how the net is run."""

    like: str | None
    device: str
    prototxt: Path | None
    inputs: InputChange


def refuse_picture(weights: str) -> None:
    """Wrong use where a picture is given as the net, as by who has the two the other way round."""
    from ..predict.image_lists import ENDINGS

    if weights.lower().endswith(ENDINGS) and Path(weights).is_file():
        raise click.UsageError(f"{weights} is a picture, and no net: WEIGHTS comes first, then the images")


def load_as_told(weights: str, options: NetOptions, *, data: Path | None = None) -> Net:
    """The net of a release or a file, with the card that the options, and the data set `data`, give it."""
    net = _loaded(here(weights), options)
    _give_card(net, weights, options, data)
    return net


def load_to_predict(
    weights: str, options: NetOptions, *, data: Path | None = None, images: int | None = None, quick: bool = True
) -> LoadedNet:
    """The net as `load_as_told` gives it, or, where it is `quick`er for so many images, on NumPy arrays."""
    path = here(weights)
    net: LoadedNet | None = None
    if quick and options.device == "cpu":
        net = quick_net(path, options, prototxt=options.prototxt, images=images)
    net = net or _loaded(path, options)
    _give_card(net, weights, options, data)
    return net


def _loaded(path: Path, options: NetOptions) -> Net:
    from ..loading import load

    return load(path, find_device(options.device), prototxt=options.prototxt)


def _give_card(net: LoadedNet, weights: str, options: NetOptions, data: Path | None) -> None:
    from ..any_net import attach, spec_of

    if options.like is not None:
        attach(net, card_like(options.like, spec_of(net), own=net.card))
    if data is not None:
        as_described(net, data, weights=weights)
    change_inputs(net, options.inputs)


def change_inputs(net: LoadedNet, change: InputChange) -> None:
    """Make a net's inputs as --mean, --scale and --channels say; a net that does not say how needs --mean.

    UsageError where the means are not as many as the net's channels.
    """
    from ..any_net import attach
    from ..data.errors import DataError
    from ..data.inputs import InputChange

    if change == InputChange():
        return
    known = net.card.preprocessing
    if known is None and change.mean is None:
        raise click.UsageError("the net does not say how its inputs are made: --scale and --channels need --mean, too")
    try:
        made = change.applied(_plain(net) if known is None else known)
    except DataError as error:
        said = ", ".join(f"{name} is {tuple(shape)}" for name, shape in net.inputs.items())
        raise click.BadParameter(f"{error.problem}; the net's input {said}", param_hint="'--mean'") from error
    attach(net, replace(net.card, preprocessing=made))


TOLD = frozenset({"im_info", "image_sizes"})
"""The inputs that say of an image how large it is; `detect` makes them."""
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
    given = {"--like": options.like, "--prototxt": options.prototxt, "--mean": options.inputs.mean,
             "--scale": options.inputs.scale, "--channels": options.inputs.channels}  # fmt: skip
    needless = [name for name, value in given.items() if value is not None]
    if needless:
        raise click.UsageError(f"{needless[0]} is for one net; {folder} holds three, whose inputs are known")
    device = find_device(options.device)
    texts = (path.with_suffix(".prototxt") for path in files)
    return [
        load(path, device, prototxt=text if text.is_file() else None) for path, text in zip(files, texts, strict=True)
    ]


def changed_for(net: Net, data: DataSet, change: InputChange) -> None:
    """Make a net's inputs for a data set as --mean, --scale and --channels say, where they say something."""
    from ..any_net import attach
    from ..data.inputs import InputChange
    from ..evaluation.running import preprocessing_of

    if change != InputChange():
        made = change.applied(preprocessing_of(net, data))
        attach(net, replace(getattr(net, "card", Card()), preprocessing=made))


def _plain(net: LoadedNet) -> Preprocessing:
    """The way to make a net's image without a mean: BGR of three channels, grey of one, else every stored channel."""
    images = [(name, shape) for name, shape in net.inputs.items() if len(shape) == 4 and name not in TOLD]
    if len(images) != 1 or len(net.inputs) - len(images) != len(TOLD & set(net.inputs)):
        said = ", ".join(f"{name} {tuple(shape)}" for name, shape in net.inputs.items())
        raise click.BadParameter(f"the net's inputs are {said}; expected one image", param_hint="'--mean'")
    ((name, shape),) = images
    count = int(shape[1])
    kind = "color" if count in (1, 3) else "bands"
    return Preprocessing((InputRecipe(name, kind, "bgr" if count == 3 else "file", (0.0,) * count),))


def check_inputs(net: LoadedNet, weights: str) -> None:
    """UsageError for a net that does not say how its inputs are made."""
    if net.preprocessing is None:
        raise click.UsageError(
            f"{weights} does not say how its inputs are made; add --mean B,G,R (and --scale), such as 104,117,123, or "
            "--like RELEASE, such as voc-fcn8s (whose names and colours are taken only where the classes are as many)"
        )
