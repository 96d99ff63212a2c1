"""The settings of `fcn-port predict`, and which of them change nothing of what a net gives: wrong use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from .clustering import ClusterOptions
from .refining import check_crf
from .threshold import check_threshold
from .together import given_options, only_with

if TYPE_CHECKING:
    from ..any_net import LoadedNet
    from ..predictor import Shard


@dataclass(frozen=True, kw_only=True)
class PredictOptions(ClusterOptions):
    scores: bool
    probabilities: bool
    flip: bool
    scales: str | None
    resize: tuple[int, int] | None
    crf: bool
    batch: int
    verbose: bool
    geotiff: bool
    polygons: bool
    every_frame: bool
    frames: int | None
    classes: Path | None
    anchors: tuple[float, ...] | None
    data: Path | None
    split: str | None
    areas: Path | None
    coco: Path | None
    blobs: str | None
    shard: Shard | None
    json_lines: bool


Gives = Literal["pixels", "objects", "classes"]
"""The things that nets tell of: pixels, objects, or images as a whole."""
_GIVES: dict[Gives, str] = {
    "pixels": "says something of pixels", "objects": "finds objects", "classes": "names images as a whole",
}  # fmt: skip
_OF: dict[Gives, frozenset[str]] = {
    "pixels": frozenset({
        "scores", "probabilities", "areas", "flip", "scales", "resize", "geotiff", "polygons", "crf", "tile",
        "threshold",
    }),
    "objects": frozenset({"least_score", "anchors"}),
    "classes": frozenset(),
}  # fmt: skip
_OF_PIXELS_AND_OBJECTS = frozenset({"coco"})
_HOW_IT_IS_RUN = frozenset({"engine", "precision", "low_memory"})
"""Options that detectors do not take: `fast` runs those that end in rows, and others run as they are written."""


def refuse_idle(*, data: bool, videos: bool) -> None:
    """UsageError for options on what is not there: a data set that is not given, or a video among images."""
    if not data:
        only_with("--data", {"describe"})
    if not videos:
        only_with("a video or a camera", {"frames"})


def refuse_of_others(gives: Gives) -> None:
    """UsageError for options that are for nets that give something else."""
    given = given_options(click.get_current_context())
    for other, names in _OF.items():
        wrong = [shown for name, shown in given.items() if name in names]
        if wrong and other != gives:
            raise click.UsageError(f"the net {_GIVES[gives]}; {', '.join(wrong)} is for one that {_GIVES[other]}")
    wrong = [shown for name, shown in given.items() if name in _OF_PIXELS_AND_OBJECTS]
    if wrong and gives == "classes":
        raise click.UsageError(f"the net {_GIVES[gives]}; {', '.join(wrong)} is for pixels and objects")
    wrong = [shown for name, shown in given.items() if name in _HOW_IT_IS_RUN]
    if wrong and gives == "objects":
        raise click.UsageError(f"the net {_GIVES[gives]}, and goes without {', '.join(wrong)}")


def refuse_of_pictures(net: LoadedNet, options: PredictOptions) -> None:
    """UsageError for what videos cannot have, and for nets that say nothing of pixels."""
    from ..predict.meaning import names_images

    if names_images(net):
        raise click.UsageError("a video needs a net that labels pixels or finds objects; give this net its frames")
    of_frames = {"--scores": options.scores, "--probabilities": options.probabilities}
    wrong = [name for name, value in of_frames.items() if value and not options.every_frame]
    if wrong:
        raise click.UsageError(f"of a video, {', '.join(wrong)} goes with --every-frame")
    of_images = {
        "--json-lines": options.json_lines, "--areas": options.areas, "--coco": options.coco,
        "--geotiff": options.geotiff, "--polygons": options.polygons,
    }  # fmt: skip
    tables = [name for name, value in of_images.items() if value]
    if tables:
        raise click.UsageError(f"{', '.join(tables)} is for images; --json has the areas of a video")


def check_tiles(net: LoadedNet, weights: str, tile: int | None) -> None:
    """UsageError for a net that takes several images, and for tiles that it cannot have."""
    from ..predict.tiles import tiling_of

    assert net.preprocessing is not None
    names = ", ".join(each.name for each in net.preprocessing.inputs)
    if ", " in names:
        raise click.UsageError(f"{weights} looks at several images at once ({names}); predict takes nets with one")
    if tile is not None:
        _lift_bound_on_size()
        try:
            least = max(tiling.least for tiling in tiling_of(net))
        except ValueError as error:
            raise click.UsageError(f"--tile: {error}") from error
        if tile < least:
            raise click.UsageError(f"--tile {tile} is too small for this net; {least} is the least")


def check_results(net: LoadedNet, options: PredictOptions) -> None:
    """UsageError where results are asked for that no output of the net can give."""
    from ..predict.meaning import outputs_of

    check_threshold(net, options.threshold)
    refined = options.flip or options.scales or options.resize or options.crf
    if options.tile is not None and refined:
        raise click.UsageError("--tile goes without --flip, --scales, --resize, --crf, which look at the whole image")
    kinds = {each.kind for each in outputs_of(net).expected.values()}
    if "labels" in kinds and refined:
        raise click.UsageError("the net gives labels and no scores, with which --flip, --scales, --resize, --crf begin")
    check_crf(net, wanted=options.crf)
    if kinds == {"labels"} and (options.scores or options.probabilities):
        raise click.UsageError("the net gives labels and no scores: --scores and --probabilities have nothing to write")
    of_classes = options.areas or options.coco or options.geotiff or options.polygons
    if kinds == {"map"} and (options.probabilities or (options.threshold is None and of_classes)):
        raise click.UsageError("the net gives a map of values and no classes; --threshold VALUE makes two of it")


def _lift_bound_on_size() -> None:
    """Pillow refuses images of more than 179 million pixels, which are what tiles are for."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None
