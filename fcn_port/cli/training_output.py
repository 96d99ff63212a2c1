"""The words of `fcn-port train`: how a run begins, a line of progress now and then, scores, and the log files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from converters.wording import first_of
from weights.records import METRICS, Augmentation, InputRecipe

from ..data.records import DataSet
from ..training.events import Begun, Event, Improved, Report, Saved, Tested, Updated, Validated
from ..training.feed import Feed
from ..training.initial import Beginning
from ..training.logs import Curves, JsonLines, TensorBoard
from ..training.losses import FocalLoss, Loss
from ..training.prepare import Prepared
from ..training.source import TrainingSource
from ..training.translation import equal_memory
from .net_choice import idle_shapes
from .output import duration, note


@contextmanager
def reporting(folder: Path, *, display: int, tensorboard: bool, active: bool) -> Iterator[Report]:
    """Shows events on standard error and keeps them in `folder`: log.jsonl, curves.png, `tensorboard` if asked for."""
    if not active:
        yield lambda event: None
        return
    # First, as it may not be installed: a log that is there would say that a run began.
    board = [TensorBoard(folder / "tensorboard")] if tensorboard else []
    keepers: list[Any] = [JsonLines(folder / "log.jsonl"), Curves(folder / "log.jsonl", tell=note), *board]

    def report(event: Event) -> None:
        for keeper in keepers:
            keeper(event)
        line = to_line(event, display=display)
        if line:
            note(line)

    try:
        yield report
    finally:
        for keeper in keepers:
            keeper.close()


def to_line(event: Event, *, display: int) -> str:
    """An event in words; "" for the updates between those that are shown."""
    if isinstance(event, Begun):
        where = f", going on from {event.resumed_from}" if event.resumed_from else ""
        return f"iteration {event.iteration} of {event.max_iter}{where}"
    if isinstance(event, Updated):
        if event.iteration % display and event.iteration != event.max_iter:
            return ""
        parts = [f"{name} {value:.5g}" for name, value in event.losses.items()] if len(event.losses) > 1 else []
        words = [f"loss {event.smoothed:.5g}", *parts, f"rate {event.rate:g}", f"{event.seconds:.2g} s"]
        left = f"{duration(event.seconds_left)} left"
        return f"iteration {event.iteration} of {event.max_iter}: {', '.join([*words, left])}"
    if isinstance(event, Validated):
        return "\n".join(
            f"iteration {event.iteration}, {event.images} images, {title}: "
            + ", ".join(f"{name} {100 * found[metric]:.2f}" for metric, name in METRICS.items())
            for title, found in event.scores.items()
        )
    if isinstance(event, Improved):
        return f"iteration {event.iteration}: the best so far, mean IU {100 * event.mean_iu:.2f}: {event.path}"
    if isinstance(event, Tested):
        outputs = ", ".join(f"{name} {value:.5g}" for name, value in event.outputs.items())
        return f"iteration {event.iteration}, TEST net #{event.net}, {event.batches} batches: {outputs}"
    assert isinstance(event, Saved)
    return f"iteration {event.iteration}: saved {event.path}"


def describe(prepared: Prepared, data: DataSet, source: TrainingSource, *, resumed: bool) -> Iterator[str]:
    """The beginning of a run, for people to read."""
    if source.recipe is not None:
        yield f"{source.name}: {source.recipe.about}\n  after {source.recipe.source}"
    feed = prepared.feed
    inputs = "; ".join(_input(each, feed) for each in feed.preprocessing.inputs)
    yield f"{data.title}, {data.split}: {len(data.ids)} images, {feed.order}, seed {feed.seed}; {inputs}"
    if varied := list(_varied(feed.augmentation)):
        yield f"images {', '.join(varied)}"
    if not resumed:
        yield from _beginning(prepared.beginning)
    yield from _learning(prepared, source)
    if source.net is None:
        yield from idle_shapes(prepared.task.net)


def _input(recipe: InputRecipe, feed: Feed) -> str:
    """An input's making in words."""
    mean = feed.reading.means.get(recipe.name)
    less = _numbers(recipe.mean) if mean is None else f"a mean image of {mean.shape[1]}x{mean.shape[2]}"
    order = "BGR" if recipe.channels == "bgr" else "grey" if len(recipe.mean) == 1 else "as stored"
    kind = f"{recipe.kind}, {order},"
    return f"{recipe.name}: {kind} less {less}" + (f", times {recipe.scale:g}" if recipe.scale != 1 else "")


def _varied(how: Augmentation) -> Iterator[str]:
    """The variation of images in words."""
    if how.resize:
        yield "resized to {}x{}".format(*how.resize)
    if how.scales != (1, 1):
        yield "scaled by {:g} to {:g}".format(*how.scales)
    if how.crop_size:
        yield f"cut to {how.crop_size}x{how.crop_size}"
    if how.mirror:
        yield "mirrored by chance"


def _beginning(beginning: Beginning) -> Iterator[str]:
    changes = beginning.surgery.changes
    words = [beginning.surgery.summary()] if changes else []
    if beginning.random:
        words.append(f"at random: {_names(beginning.random)}")
    yield f"first weights: {'; '.join(words)}"
    for change in changes:
        if change.fate == "dropped":
            yield f"  not used: {change.source}: {change.why}"


def _learning(prepared: Prepared, source: TrainingSource) -> Iterator[str]:
    spec, gathering, rate = prepared.solver.spec, prepared.gathering, prepared.rate
    fixed = tuple(group["name"] for group in prepared.solver.param_groups if not group["lr_mult"])
    images = f"{gathering.images} images an update ({gathering.batch_size} x {gathering.iter_size})"
    yield f"{spec.type}, momentum {spec.momentum:g}, weight decay {spec.weight_decay:g}; fixed: {_names(fixed)}"
    divided = " and ".join(dict.fromkeys(loss.normalization for loss in prepared.task.losses))
    yield f"{images if gathering.images > 1 else '1 image an update'}, loss divided by {divided}"
    if told := [said for loss in prepared.task.losses if (said := _loss(loss))]:
        yield "; ".join(told)
    if rate.reason:
        memory = equal_memory(spec.momentum, source.gathering, gathering)
        yield f"learning rate {rate.rate:.4g}, translated from {rate.source:g}: {rate.reason}"
        if source.gathering.images != gathering.images and spec.momentum:
            yield f"  momentum stays at {spec.momentum:g}; {memory:.4g} would remember as many images as before"
    else:
        yield f"learning rate {rate.rate:g} ({spec.lr_policy})"
    if spec.snapshot_format != "BINARYPROTO":
        yield f"snapshots are a .caffemodel and a .solverstate, which Caffe reads too, not {spec.snapshot_format}"


def _loss(loss: Loss) -> str:
    """A loss in words, "" for SoftmaxWithLoss without weights."""
    weights = getattr(loss, "class_weights", ())
    parts = [f"class weights {', '.join(f'{value:.4g}' for value in weights[:30])}"] if weights else []
    parts += ["weighed by the counts of labels"] if getattr(loss, "by_label_counts", False) else []
    parts += ["both sides balanced"] if getattr(loss, "balanced", False) else []
    parts += [f"gamma {loss.gamma:g}"] if isinstance(loss, FocalLoss) else []
    kind = type(loss).__name__
    return ", ".join([f"{loss.name}: {kind}", *parts]) if parts or kind != "SoftmaxWithLoss" else ""


def _names(names: tuple[str, ...]) -> str:
    return first_of(names, 5) or "none"


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)
