"""The option --shard of `predict`: the part of the images that a machine does, and of that what is not done yet."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .output import note

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..predict.image_lists import ImageSource
    from ..predictor import Shard
    from .segmenting import Noted


def _parsed(context: click.Context, parameter: click.Parameter, value: str | None) -> Shard | None:
    from ..predictor import Shard

    try:
        return None if value is None else Shard.parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error), context, parameter) from error


SETTINGS = ".shard.json"
"""The file beside results that says what they depend on."""
_OF_THE_RUN = frozenset({
    "images", "split", "out", "shard", "scores", "probabilities", "as_json", "json_lines", "verbose", "batch",
    "device", "engine", "low_memory",
})  # fmt: skip
"""The parameters that change no result that is there, or whose results are looked for."""

shard_option = click.option(
    "--shard", metavar="K/N", callback=_parsed, help="Do the K-th of N parts of the images, and what of it is not done."
)


def still_to_do(sources: tuple[ImageSource, ...], shard: Shard, *, out: Path, options: Any) -> tuple[ImageSource, ...]:
    """The images of a part that are not done, each picture of a file of several where --every-frame asks for them.

    UsageError for results that are one file for all images.
    """
    from ..predictor.shards import DoneImages
    from .filming import every_picture

    wrong = [f"--{name}" for name in ("areas", "coco") if getattr(options, name) is not None]
    if wrong:
        raise click.UsageError(
            f"--shard goes without {' and '.join(wrong)}: parts would write one file over each other"
        )
    files = shard.of(sources)
    own = every_picture(files) if options.every_frame else files
    noted = DoneImages(out, shard)
    _claim(out, have_results=noted.__bool__)
    done = noted.among([source.name for source in own])
    left = tuple(source for source in own if source.name not in done)
    note(
        f"part {shard.number} of {shard.count}: {len(files)} of {len(sources)} images, "
        f"{len(own) - len(left)} done before"
    )
    return left


def noting(shard: Shard | None, out: Path) -> Noted:
    """The function that is told of each image that is done, with its files; of a part it notes them."""
    from ..predictor.shards import DoneImages

    if shard is None:
        return lambda source, files: None
    done = DoneImages(out, shard)
    return lambda source, files: done.add(source.name, files)


def _claim(out: Path, *, have_results: Callable[[], bool]) -> None:
    """Keep the settings of the results beside them; UsageError where some are there, and are of others.

    Files (weights, a prototxt, names of classes) count by what is in them: one may have changed under the same name.
    """
    from converters.errors import CaffeFormatError

    from ..predictor.kept_settings import keep_settings

    settings = {
        name: _told(str(value)) for name, value in click.get_current_context().params.items() if name not in _OF_THE_RUN
    }
    try:
        keep_settings(out / SETTINGS, settings, out=out, have_results=have_results)
    except CaffeFormatError:
        raise
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _told(value: str) -> str:
    """A setting as it is kept: of a file its name and what is in it."""
    from converters.safety import sha256_of

    with suppress(OSError, ValueError):  # too long for a path, or none
        if Path(value).is_file():
            return f"{Path(value).name} {sha256_of(value)}"
    return value
