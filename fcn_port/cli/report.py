"""`fcn-port report`"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from weights.catalogue import releases
from weights.records import METRICS

from .blob_pictures import check_blobs
from .bringing import here
from .device import device_option, find_device
from .given_net import change_inputs, changed_for, check_inputs, prototxt_option
from .input_options import input_change, input_options
from .inspect import SizeOption, SizeParam, input_shapes
from .like import card_like
from .names import classes_option, with_classes
from .net_choice import net_options
from .output import json_option, note, refuse_to_replace, write_json
from .own_data import DATA_PATH, describe_option, looked_at, strict_option, void_option
from .progress import progress_bar
from .refining import check_crf, refine_options, refinement
from .registering import register_option
from .threshold import check_threshold, threshold_option
from .together import only_with, only_without

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from ..data.inputs import InputChange
    from ..data.records import DataSet
    from ..evaluation.predicting import Refinement
    from ..evaluation.results import Evaluation
    from ..nets import Net
    from ..report.page import Page

_File = click.Path(dir_okay=False, path_type=Path)


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    results: Path | None
    folder: Path | None
    split: str | None
    golden: Path | None
    like: str | None
    size: SizeOption
    images: int
    limit: int | None
    image: Path | None
    blobs: str | None
    threshold: float | None
    prototxt: Path | None
    inputs: InputChange
    refinement: Refinement
    classes: Path | None
    void: tuple[int, ...]
    strict: bool
    skip_bad: bool
    device: str
    as_json: bool


@click.command("report")
@click.argument("weights")
@click.option("-o", "--out", type=_File, default="report.html", show_default=True, help="The page to write.")
@click.option("--results", type=_File, help="What `fcn-port evaluate ... --json` wrote.")
@click.option("--data", "folder", type=DATA_PATH, help="The data set's folder or .toml, for pictures, and scores.")
@describe_option
@void_option
@strict_option
@click.option("--skip-bad", is_flag=True, help="Leave out images that cannot be read.")
@click.option("--split", help="A list in the data set, or the path of one; else the one of the results.")
@click.option("--golden", type=_File, help="An .npz with every blob of a forward pass that Caffe made.")
@click.option("--like", metavar="RELEASE", help="Make inputs as for RELEASE, and compare with its published numbers.")
@click.option("--size", type=SizeParam(), help="The image to draw the trace for, height first; else the net's own.")
@click.option("--images", type=click.IntRange(min=0), default=4, show_default=True, help="So many best and worst.")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first images of the split.")
@threshold_option
@click.option(
    "--image", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="The image to show --blobs of."
)
@click.option("--blobs", metavar="NAME,NAME...", help="Show these blobs of --image as feature maps; or 'all'.")
@prototxt_option
@input_options
@refine_options
@classes_option
@device_option
@json_option
@register_option
@net_options
def command(weights: str, out: Path, **given: Any) -> None:
    """Write one HTML page about WEIGHTS, the name of a release or net, or a file.

    The trace is drawn to scale. With --golden, every blob's distance from Caffe's. With --results or --data, the scores
    beside the published ones, the confusion matrix, and with --data the best and worst images. What `evaluate` has
    computed is not computed again. The page needs neither network nor server.
    """
    from converters.safety import whole_file

    from ..report.page import to_html

    _refuse_idle(data=given["folder"] is not None, results=given["results"] is not None)
    options = ReportOptions(inputs=input_change(given), refinement=refinement(given), **given)
    read = (weights, options.prototxt, options.golden, options.results, options.image, options.classes, options.folder)
    refuse_to_replace(out, read, data=options.folder)
    page = _page(weights, options)
    with whole_file(out) as file:
        file.write(to_html(page).encode())
    if options.as_json:
        write_json(_as_json(page, out))
    else:
        note(f"-> {out}")


def _refuse_idle(*, data: bool, results: bool) -> None:
    """UsageError for options about images where none are looked at, or none are scored."""
    of_views = {"threshold", "flip", "scales", "resize", "crf"}
    of_images = {"describe", "void", "strict", "split", "images", "classes"}
    if results:
        only_without("--results", {"limit", "skip_bad"})
    if not data:
        only_with("--data", {*of_views, *of_images, "limit", "skip_bad"})


def _as_json(page: Page, out: Path) -> dict[str, Any]:
    """The numbers that are on the page, None for what was not asked for."""
    found, parity = page.evaluation, page.parity
    scores = None
    if found is not None:
        scores = {each.title: {name: getattr(found.scores(each), name) for name in METRICS} for each in found.tasks}
    return {
        "page": out,
        "net": None if page.spec is None else page.spec.name,
        "parity": None if parity is None else {"worst": max(parity.errors.values()), "allowed": parity.tolerance},
        "images": None if found is None else len(found.images),
        "scores": scores,
        "best": [each.id for each in page.best],
        "worst": [each.id for each in page.worst],
    }


def _page(weights: str, options: ReportOptions) -> Page:
    from ..predict.palettes import voc_palette
    from ..report.page import Page

    folder, golden = options.folder, options.golden
    needed = (folder, golden, options.image)
    has_more = any(each is not None for each in (*needed, options.results))
    spec = _definition(weights if options.prototxt is None else str(options.prototxt), has_more=has_more)
    if spec is not None:
        input_shapes(spec, options.size)  # the net runs at that size
    page = Page(Path(weights).name, spec, options.size, voc_palette())
    if (options.image is None) != (options.blobs is None):
        raise click.UsageError("--blobs NAMES and --image FILE go together")
    net = _load(weights, options) if any(each is not None for each in needed) else None
    if golden is not None:
        assert net is not None
        page = _with_parity(page, net, golden)
    if options.image is not None and options.blobs is not None:
        assert net is not None
        page = _with_blobs(page, net, options.image, options.blobs, weights)
    evaluation = None
    if options.results is not None:
        from ..evaluation.results import read_evaluation

        evaluation = read_evaluation(options.results)
    if folder is None:
        return replace(page, evaluation=evaluation)
    assert net is not None
    return _with_pictures(page, net, _open(folder, weights, evaluation, options), evaluation, weights, options)


def _definition(weights: str, *, has_more: bool) -> Any:
    """The net as a definition, None for a file that has none, where the page has more to show."""
    from converters.errors import CaffeFormatError, ChoiceError

    from .sources import read_runnable

    try:
        return read_runnable(weights)
    except ChoiceError:
        raise
    except CaffeFormatError as error:
        if not has_more:
            raise
        note(f"the trace is left out: {error}")
        return None


def _load(weights: str, options: ReportOptions) -> Net:
    from ..any_net import attach
    from ..loading import load
    from ..nets import definition

    net = load(here(weights), find_device(options.device), prototxt=options.prototxt)
    if options.like is not None:
        attach(net, card_like(options.like, definition(net), own=net.card))
    if options.folder is None:  # with a data set, what it says is changed
        change_inputs(net, options.inputs)
    return net


def _with_parity(page: Page, net: nn.Module, golden: Path) -> Page:
    from ..recording import GOLDEN_TOLERANCE, golden_errors
    from ..report.page import Parity

    return replace(page, parity=Parity(golden.name, golden_errors(net, golden), GOLDEN_TOLERANCE))


def _with_blobs(page: Page, net: Net, image: Path, wanted: str, weights: str) -> Page:
    from ..report.page import BlobPictures
    from .blob_pictures import blob_pictures

    check_inputs(net, weights)
    return replace(page, blobs=BlobPictures(image.name, blob_pictures(net, image, check_blobs(net, wanted))))


def _open(folder: Path, weights: str, evaluation: Evaluation | None, options: ReportOptions) -> DataSet:
    from ..data.opening import open_dataset

    known = releases().get(options.like or weights)
    dataset = evaluation.dataset if evaluation is not None else known.dataset.name if known else None
    split = options.split or (evaluation.split if evaluation is not None else None)
    data = open_dataset(folder, split=split, dataset=dataset)
    return with_classes(data, options.classes).with_void(*options.void)


def _evaluated(net: nn.Module, data: DataSet, weights: str, options: ReportOptions) -> Evaluation:
    from ..evaluation.cache import cache_dir
    from ..evaluation.running import EvaluationPlan, evaluate

    release = options.like or getattr(net, "release", None)
    plan = EvaluationPlan(
        limit=options.limit, cache=cache_dir(), threshold=options.threshold, refinement=options.refinement,
        skip_bad=options.skip_bad,
    )  # fmt: skip
    with progress_bar(weights, active=True) as progress:
        return evaluate(net, data, name=Path(weights).name, release=release, plan=plan, progress=progress)


def _with_pictures(
    page: Page, net: Net, data: DataSet, evaluation: Evaluation | None, weights: str, options: ReportOptions
) -> Page:
    from ..fastpath.lossless import fast
    from ..report.examples import best_and_worst

    data = looked_at(data.with_void(*net.card.void), strict=options.strict)
    changed_for(net, data, options.inputs)
    check_threshold(net, options.threshold)
    check_crf(net, wanted=options.refinement.crf is not None)
    net = fast(net)  # as evaluate runs it, so that what it kept counts here
    found = _evaluated(net, data, weights, options) if evaluation is None else evaluation
    best, worst = best_and_worst(
        net, data, found, count=options.images, threshold=options.threshold, refinement=options.refinement
    )
    colours = _colours(data, found)
    return replace(page, palette=colours, evaluation=found, best=best, worst=worst, ignore_label=data.ignore_label)


def _colours(data: DataSet, found: Evaluation) -> np.ndarray:
    """The colours of the first task's classes, the data set's own where it has some, as `predict` draws them."""
    from ..predict.palettes import palette, visible_palette, voc_palette

    colours = palette(data.colours)
    return visible_palette(voc_palette() if colours is None else colours, found.tasks[0].classes if found.tasks else ())
