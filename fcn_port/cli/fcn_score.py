"""`fcn-port fcn-score`"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from weights.catalogue import datasets
from weights.records import Score

from .bringing import here
from .device import device_option, find_device
from .engine import RunOptions, engine_option, low_memory_option, padded_option, precision_option, run_as_told
from .given_net import prototxt_option
from .net_choice import net_options, tell_idle_shapes
from .numbers import WORKERS
from .output import echo, json_option, note, write_columns, write_json
from .own_data import refuse_to_replace_files
from .progress import GOES_ON, NO_CACHE, progress_bar
from .registering import register_option

if TYPE_CHECKING:
    from ..data.records import DataSet
    from ..evaluation.generated import FCNScore
    from ..nets import Net

_Folder = click.Path(file_okay=False, path_type=Path)


@dataclass(frozen=True, kw_only=True)
class FcnScoreOptions(RunOptions):
    generated: Path
    cityscapes: Path | None
    data: Path | None
    weights: str
    prototxt: Path | None
    split: str | None
    as_published: bool
    limit: int | None
    workers: int
    skip_bad: bool
    save_labels: Path | None
    cache: Path | None
    no_cache: bool
    as_json: bool
    device: str


@click.command("fcn-score")
@click.option("--generated", type=_Folder, required=True, help="The generated images: "
              "<city>_<shot>_<frame>_leftImg8bit.png, 256x256 as a rule.")  # fmt: skip
@click.option("--cityscapes", type=_Folder, help="Cityscapes' folder, with gtFine in it.")
@click.option("--data", type=_Folder, help="In place of Cityscapes: another data set with labels; images are <id>.png.")
@click.option("--weights", required=True, help="The net: fcn-8s-cityscapes.caffemodel, another file or a release.")
@prototxt_option
@click.option("--split", help="The split whose labels the images are made from; val for Cityscapes.")
@click.option("--as-published/--plain", default=True, show_default=True, help="Count as the published script does, "
              "quirks and all, beside the plain values; or only plainly.")  # fmt: skip
@click.option("--limit", type=click.IntRange(min=1), help="Only the first images of the split.")
@click.option("--workers", type=WORKERS, default=2, show_default=True, help="Threads that decode ahead.")
@click.option("--skip-bad", is_flag=True, help="Score without images that are missing or damaged, and list them.")
@click.option("--save-labels", type=_Folder, help="Write the predicted label maps there.")
@click.option("--cache", type=_Folder, help="Where results are kept for the next run.")
@click.option("--no-cache", is_flag=True, help="Compute every image, and keep nothing.")
@engine_option
@padded_option
@low_memory_option
@precision_option
@device_option
@json_option
@register_option
@net_options
def command(**given: Any) -> int:
    """Score generated street scenes with a segmentation net, as pix2pix and CycleGAN report it.

    Every image is enlarged to its label map (1024x2048) and segmented; the published numbers are of images of 256x256,
    scored by fcn-8s-cityscapes. The published script counts pixels predicted as a 20th class for another class, and
    drops frames with such pixels on bicycles; both ways of counting are printed.
    """
    options = FcnScoreOptions(**given)
    if options.cityscapes is not None and options.data is not None:
        raise click.UsageError("--cityscapes and --data: one of them")
    if options.cityscapes is None and options.data is None:
        raise click.UsageError("where are the labels? --cityscapes DIR, or --data DIR for another data set")
    if options.no_cache and options.cache is not None:
        raise click.UsageError("--cache and --no-cache: one of them")
    data = _labels(options)
    data = replace(data, ids=data.ids[: options.limit])
    net = _net(options)
    score, skipped = _score(net, data, options)
    if options.as_json:
        write_json(_as_json(score, data, options, skipped))
    else:
        _print(score, data, options)
    for reason in skipped.values():
        note(f"skipped: {reason.splitlines()[0]}")
    return 0


def _labels(options: FcnScoreOptions) -> DataSet:
    from ..data.opening import open_dataset

    if options.cityscapes is not None:
        return open_dataset(options.cityscapes, split=options.split, kind="cityscapes")
    assert options.data is not None
    return open_dataset(options.data, split=options.split)


def _net(options: FcnScoreOptions) -> Net:
    from ..loading import load

    net = load(here(options.weights), find_device(options.device), prototxt=options.prototxt)
    tell_idle_shapes(net)
    return run_as_told(net, options)


def _score(net: Net, data: DataSet, options: FcnScoreOptions) -> tuple[FCNScore, dict[str, str]]:
    from ..data.errors import DataError
    from ..data.generated import doubts, generated_images, missing_images, without
    from ..evaluation.cache import cache_dir
    from ..evaluation.generated import head_of, outputs_of, score_of
    from ..evaluation.running import EvaluationPlan, evaluate

    images = generated_images(data, options.generated, outputs=outputs_of(net, data))
    refuse_to_replace_files(options.save_labels, images, data)
    absent = missing_images(images)
    if absent and not options.skip_bad:
        raise DataError(
            f"{len(absent)} of {len(images.ids)} images are missing, the first {images.generated.path(absent[0]).name}",
            path=options.generated,
            hint="the score is over all images of the split; --skip-bad goes without these, and says so",
        )
    for doubt in doubts(images):
        note(f"note: {doubt}")
    if net.preprocessing is None:
        note(f"{options.weights} does not say how its inputs are made; taking those of {data.title}")
    plan = EvaluationPlan(
        workers=options.workers,
        cache=None if options.no_cache else options.cache or cache_dir(),
        save_labels=options.save_labels,
        skip_bad=options.skip_bad,
    )
    kept = NO_CACHE if options.no_cache else GOES_ON
    with progress_bar(options.weights, active=True, kept=kept) as progress:
        found = evaluate(net, without(images, absent), name=options.weights, plan=plan, progress=progress)
    skipped = {id_: f"{images.generated.path(id_)}: there is no such file" for id_ in absent} | dict(found.skipped)
    return score_of(found, classes=data.classes[head_of(data)]), skipped


def _print(score: FCNScore, data: DataSet, options: FcnScoreOptions) -> None:
    from ..evaluation.generated import rows

    echo(
        f"{options.weights} on {options.generated}: {score.images} images for the labels of {data.title}, {data.split}"
    )
    echo()
    header = ("", "as published", "plain") if options.as_published else ("", "plain")
    write_columns(rows(score, plain_only=not options.as_published), header=header, right=(1, 2))
    if options.as_published:
        echo()
        echo(_quirks(score))
    published = _published(data)
    if published:
        echo()
        table = [
            (each.model or "", *(f"{(value or 0) / 100:.2f}" for value in _three(each)), each.source)
            for each in published
        ]
        write_columns(table, header=("published", "per-pixel", "per-class", "IOU", "source"), right=(1, 2, 3))


def _published(data: DataSet) -> list[Score]:
    """The scores of generated images that were published for a data set's labels; none for somebody's own."""
    known = datasets().get(data.name)
    return [each for each in known.scores if each.split == "generated val"] if known is not None else []


def _three(score: Score) -> tuple[float | None, ...]:
    return score.overall_accuracy, score.mean_accuracy, score.mean_iu


def _quirks(score: FCNScore) -> str:
    dropped = f"{len(score.dropped)} frames left out" if score.dropped else "no frame left out"
    return (
        f"as published: {dropped}, {score.spilled} pixels of a prediction beyond the classes counted for another class"
    )


def _as_json(score: FCNScore, data: DataSet, options: FcnScoreOptions, skipped: dict[str, str]) -> dict[str, Any]:
    ways = {"as_published": score.as_published, "plain": score.plain}
    if not options.as_published:
        del ways["as_published"]
    return {
        "weights": options.weights,
        "generated": options.generated,
        "dataset": data.name,
        "split": data.split,
        "images": score.images,
        "classes": score.classes,
        **{name: {**vars(each), "histogram": each.histogram.tolist()} for name, each in ways.items()},
        "dropped": score.dropped,
        "spilled": score.spilled,
        "skipped": skipped,
        "published": [vars(each) for each in _published(data)],
    }
