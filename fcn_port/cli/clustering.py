"""The option --ray of `predict`: images done by the workers of a Ray cluster."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .given_net import NetOptions
from .output import echo, note, write_json
from .progress import progress_bar
from .together import given_options

if TYPE_CHECKING:
    from ..nets import Net
    from ..predictor import Predictor

ray_option = click.option(
    "--ray", metavar="ADDRESS",
    help="Share the images out on a Ray cluster: its address, local for this machine, or auto for the one that runs.",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ClusterOptions(NetOptions):
    threshold: float | None
    least_score: float | None
    tile: int | None
    ray: str | None


_TAKEN = frozenset(
    {
        "weights", "images", "out", "ray", "like", "prototxt", "mean", "scale", "channels", "data", "classes",
        "threshold", "least_score", "tile", "device", "padded", "as_json",
    }
)  # fmt: skip
"""The parameters that a run on a cluster takes; each of the others changes what it cannot send to workers."""


def check_goes_with_ray(context: click.Context) -> None:
    """UsageError for options that --ray goes without."""
    wrong = [shown for name, shown in given_options(context).items() if name not in _TAKEN]
    if wrong:
        raise click.UsageError(f"--ray goes without {' and '.join(wrong)}")


def check_is_not_packed(images: tuple[Path, ...]) -> None:
    """UsageError for a tar or a table, which is read with --ray alone."""
    packed = next((path for path in images if path.suffix in (".tar", ".parquet") and path.is_file()), None)
    if packed is not None:
        raise click.UsageError(
            f"{packed}: images in tars and Parquet tables are read with --ray, as in --ray local (this machine's cores)"
        )


def predict_on_ray(
    net: Net, images: tuple[Path, ...], options: ClusterOptions, *, weights: str, out: Path, as_json: bool
) -> int:
    """Do the images of files, folders, lists, tars and tables; the exit status, 1 where an image could not be done."""
    from converters.errors import CaffeFormatError

    from ..cluster import Results, plan, run_on_ray
    from ..errors import ImageError

    assert options.ray is not None
    predictor = _predictor(net, options, weights)
    settings = _settings(predictor, weights)
    del net
    try:
        items = plan(images)
    except (CaffeFormatError, ImageError):
        raise
    except ValueError as error:
        raise click.UsageError(str(error)) from error

    def begun(before: int, workers: int) -> None:
        note(f"{len(items)} images, {before} done before; {workers} workers")

    with progress_bar("images", active=True, kept="what is done is kept; the same command goes on") as progress:
        try:
            problems = run_on_ray(
                items, predictor, out, address=options.ray, settings=settings, begun=begun, progress=progress
            )
        except (CaffeFormatError, ImageError):
            raise
        except ValueError as error:
            raise click.UsageError(str(error)) from error
    table = Results(out).table
    if as_json:
        write_json({"images": len(items), "failed": problems, "results": table})
    else:
        echo(f"{len(items) - len(problems)} of {len(items)} images -> {table}")
    if problems:
        note(f"{len(problems)} of {len(items)} images could not be done:")
        for problem in problems:
            note(f"  {problem}")
    return 1 if problems else 0


def _predictor(net: Net, options: ClusterOptions, weights: str) -> Predictor:
    from ..detection import finds_objects
    from ..predictor import Predictor
    from .bringing import looks_like_a_name
    from .detecting import LEAST_SCORE

    least = LEAST_SCORE if options.least_score is None else options.least_score
    place = weights if looks_like_a_name(weights) or weights.startswith("hf:") else str(Path(weights).absolute())
    return Predictor(
        place,
        prototxt=None if options.prototxt is None else str(options.prototxt.absolute()),
        device=options.device,
        fast=not options.padded,
        threshold=least if finds_objects(net) else options.threshold,
        tile=options.tile,
        card=net.card,
    )


def _settings(predictor: Predictor, weights: str) -> Any:
    """The settings that results depend on, with the hash of a file: it may be trained on under the same name."""
    from converters.escaping import json_text
    from converters.safety import sha256_of

    from ..cluster import Settings

    assert predictor.card is not None
    hashed = f" {sha256_of(Path(weights))}" if Path(weights).is_file() else ""
    card = json_text(predictor.card.to_metadata(), compact=True)
    return Settings(f"{Path(weights).name}{hashed}", card, predictor.threshold, predictor.tile)
