"""The option --shard of `predict`: the part of the images that a machine does, and of that what is not done yet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .output import note

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..predict.image_lists import ImageSource
    from ..predictor import Shard


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
    """The images of a part whose results are not there; UsageError for results that are one file for all images."""
    from ..predictor.shards import is_done

    wrong = [f"--{name}" for name in ("areas", "coco") if getattr(options, name) is not None]
    if wrong:
        raise click.UsageError(
            f"--shard goes without {' and '.join(wrong)}: parts would write one file over each other"
        )
    own = shard.of(sources)
    further = {".scores.npz": options.scores, ".probabilities": options.probabilities}
    also = [ending for ending, asked in further.items() if asked]
    _claim(out, sources)
    left = tuple(source for source in own if not is_done(out / source.name, also=also))
    note(
        f"part {shard.number} of {shard.count}: {len(own)} of {len(sources)} images, {len(own) - len(left)} done before"
    )
    return left


def _claim(out: Path, sources: Sequence[ImageSource]) -> None:
    """Keep the settings of the results beside them; UsageError where some are there, and are of others.

    Weights count by what is in them: a file may have been trained on under the same name.
    """
    from converters.errors import CaffeFormatError
    from converters.safety import sha256_of

    from ..predictor.kept_settings import keep_settings
    from ..predictor.shards import is_done

    settings = {
        name: str(value) for name, value in click.get_current_context().params.items() if name not in _OF_THE_RUN
    }
    weights = Path(settings["weights"])
    settings["weights"] = f"{weights.name} {sha256_of(weights)}" if weights.is_file() else settings["weights"]
    try:
        keep_settings(
            out / SETTINGS, settings, out=out,
            have_results=lambda: any(is_done(out / source.name) for source in sources),
        )  # fmt: skip
    except CaffeFormatError:
        raise
    except ValueError as error:
        raise click.UsageError(str(error)) from error
