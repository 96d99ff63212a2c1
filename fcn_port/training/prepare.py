"""From a recipe or a solver.prototxt, a data set and what a person changed, to everything that a run takes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from converters.errors import CaffeFormatError, NetError
from converters.execution import to_state_dict
from converters.formats import SolverSpec, format_solver, read_caffemodel

from ..data.records import DataSet
from ..inspection import trace
from ..nets import definition
from ..surgery import StateDict
from .building import groups_of, net_and_losses, preprocessing_for, reading_for, variation_of
from .changes import NO_CHANGES, Changes
from .checkpoints import Snapshot
from .distributed import DistributedGroup
from .errors import TrainingError
from .feed import Feed
from .initial import Beginning, begin
from .losses import Loss
from .measuring import measure_scores
from .room import check_room
from .solver import CaffeSolver
from .source import TrainingSource, ignored_labels
from .task import TrainingTask
from .translation import Gathering, Translation, pixels_of, translate


@dataclass(frozen=True, eq=False)
class Prepared:
    """Arguments of `train`, and what a person should be told: how the weights begin, and what became of the rate."""

    name: str
    task: TrainingTask
    solver: CaffeSolver
    feed: Feed
    beginning: Beginning
    rate: Translation
    gathering: Gathering
    settings: Mapping[str, Any]


def prepare(
    source: TrainingSource,
    data: DataSet,
    *,
    sources: Sequence[StateDict] = (),
    expand_scores: bool = False,
    changes: Changes = NO_CHANGES,
    group: DistributedGroup = DistributedGroup(),  # noqa: B008
    workers: int = 2,
    skip_bad: bool = False,
    resume: Snapshot | None = None,
) -> Prepared:
    """Build the net with its first weights, its losses, its solver and its feed.

    `sources` are the state dicts of other nets to begin with, none to begin from nothing. A run that goes on from
    `resume` needs none: what a recipe takes from them, the net and the rates of score layers, its snapshot says.
    Raises TrainingError, CaffeFormatError and DataError where net, data and weights do not fit each other, or images
    not into the memory.
    """
    if resume is not None:
        sources = _of_snapshot(resume, source)
    normalization = changes.normalization or source.gathering.normalization
    data = data.with_void(*ignored_labels(source))
    task = net_and_losses(source, data, changes=changes, weights=sources)
    seed = source.seed if changes.seed is None else changes.seed
    spec = task.spec or definition(task.net, name=type(task.net).__name__)
    try:
        beginning = begin(task.net, spec, *sources, seed=seed, expand_scores=expand_scores)
    except CaffeFormatError as error:
        raise error if resume is None else error.in_file(resume.weights) from None
    task.net.to(group.device)

    batch_size = changes.batch_size or source.gathering.batch_size
    goal = Gathering(batch_size * group.size, changes.iter_size or source.gathering.iter_size, normalization)
    rate = _rate(source, goal, data, changes)
    solver = _solver(source, goal, rate, changes)
    feed = Feed(
        data=data,
        preprocessing=preprocessing_for(source, task, data, changes),
        losses=task.losses,
        order=changes.order or source.order,
        seed=seed,
        batch_size=batch_size,
        rank=group.processes.rank,
        size=group.size,
        workers=workers,
        variation=variation_of(source, changes, task.inputs),
        reading=reading_for(source, task, changes),
        skip_bad=skip_bad,
    )
    _check_fit(task, feed)
    groups = groups_of(task, source.recipe.multipliers if source.recipe else {})
    if not groups:
        raise TrainingError(f"{source.name} has no weights, and nothing to learn")
    check_room(feed, iter_size=goal.iter_size)
    settings = _settings(source, feed, goal, solver)
    if source.recipe is not None and source.recipe.measured_scores:
        earlier = {} if resume is None else resume.progress.settings
        settings[_RATES] = _score_rates(earlier) or measure_scores(task, feed, group=group)
        groups = [_with_measured_rate(blob, settings[_RATES], solver) for blob in groups]
    return Prepared(
        name=source.name,
        task=task,
        solver=CaffeSolver(groups, solver),
        feed=feed,
        beginning=beginning,
        rate=rate,
        gathering=goal,
        settings=settings,
    )


_RATES = "score_rates"
"""The setting that holds the measured rates of score layers: a run that goes on measures no others."""


def _solver(source: TrainingSource, goal: Gathering, rate: Translation, changes: Changes) -> SolverSpec:
    """The source's solver with the translated rate, the gathering and the length of this run."""
    solver = replace(
        source.solver,
        base_lr=rate.rate,
        iter_size=goal.iter_size,
        max_iter=source.solver.max_iter if changes.max_iter is None else changes.max_iter,
    )
    if solver.max_iter < 1:
        raise TrainingError("the length of the training is missing: give max_iter in the solver, or --max-iter")
    return solver


def _of_snapshot(resume: Snapshot, source: TrainingSource) -> Sequence[StateDict]:
    """The weights of a snapshot, where a recipe builds a net by weights or measures rates with them."""
    recipe = source.recipe
    if recipe is None or not (recipe.net_of_init or recipe.measured_scores):
        return ()
    return (to_state_dict(read_caffemodel(resume.weights)),)


def _score_rates(settings: Mapping[str, Any]) -> dict[str, float]:
    """The rates that an earlier part of a run measured; none of a snapshot that does not say them all."""
    found = settings.get(_RATES)
    if not isinstance(found, Mapping) or not all(isinstance(rate, int | float) for rate in found.values()):
        return {}
    return {str(name): float(rate) for name, rate in found.items()}


def _with_measured_rate(blob: Mapping[str, Any], rates: Mapping[str, float], solver: SolverSpec) -> dict[str, Any]:
    """A group whose rate is the one that was measured for its layer, as a multiple of the solver's; else as it is."""
    rate = rates.get(blob["name"].rpartition(".")[0], 0)
    return {**blob, "lr_mult": rate / solver.base_lr if rate and solver.base_lr else blob["lr_mult"]}


def _shapes(task: TrainingTask, feed: Feed) -> Mapping[str, tuple[int, ...]]:
    """The blobs of the net at the size that images are brought to, else at a small one or, for nets of one, at it."""
    crop = feed.variation.crop
    size = (crop, crop) if crop else feed.variation.size or feed.reading.size
    own = next(((shape[2], shape[3]) for shape in task.net.inputs.values() if len(shape) == 4), None)  # type: ignore[operator]
    try:
        return trace(task.net, size or (64, 64))
    except NetError:
        if size is not None or own is None:
            raise
        return trace(task.net, own)


def _check_fit(task: TrainingTask, feed: Feed) -> None:
    """Refuse a net that does not score the classes of the data set, or reads inputs that cannot be made."""
    with torch.no_grad():
        shapes = _shapes(task, feed)
    for loss in task.losses:
        if missing := [name for name in loss.computed if name not in shapes]:
            raise TrainingError(f"the net has no output '{missing[0]}'")
        if not loss.labelled:
            continue
        if loss.label in task.inputs:
            raise TrainingError(f"loss '{loss.name}' compares with '{loss.label}', which the net reads as an image")
        head = feed.head_of(loss)
        _check_places(loss, shapes, task, feed)
        scored, classes = shapes[loss.score][1], len(feed.data.classes[head])
        weighed = len(getattr(loss, "class_weights", ()))
        if weighed not in (0, classes):
            raise TrainingError(f"{weighed} class weights; {feed.data.title} has {classes} classes")
        if scored != loss.channels(classes) and not loss.scores_classes:
            raise TrainingError(
                f"loss '{loss.name}' compares with one number for each pixel; the net gives {scored} as '{loss.score}'"
            )
        if scored != loss.channels(classes):
            raise TrainingError(
                f"the net scores {scored} classes as '{loss.score}'; {feed.data.title} has {classes}\n"
                "  the names of your own classes go into a file classes.txt in the data set's folder, one a line"
            )
    made = [each.name for each in feed.preprocessing.inputs]
    if set(made) != set(task.inputs):
        raise TrainingError(f"the net reads {', '.join(task.inputs)}; {feed.data.title} gives {', '.join(made)}")


def _check_places(loss: Loss, shapes: Mapping[str, tuple[int, ...]], task: TrainingTask, feed: Feed) -> None:
    """Raise TrainingError for a loss that has one label for an image of many pixels, each of which has its own."""
    pixels = max(shape[-1] * shape[-2] for name in task.inputs if len(shape := shapes[name]) == 4)
    if pixels > 1 and loss.places(shapes[loss.score]) == 1:
        raise TrainingError(
            f"loss '{loss.name}' ({type(loss).__name__}) takes one label for each image; "
            f"{feed.data.title} has one for each pixel\n"
            "  a loop of your own can give them: fcn_port.training.task_of has the net and its losses "
            '(docs/training.md, "In your own loop")'
        )


# Solver


def _rate(source: TrainingSource, goal: Gathering, data: DataSet, changes: Changes) -> Translation:
    if changes.lr is not None:
        return Translation(changes.lr, changes.lr, "")
    measured: list[float] = []

    def pixels() -> float:
        if not measured:
            measured.append(pixels_of(data, normalization=goal.normalization))
        return measured[0]

    return translate(source.solver.base_lr, source.gathering, goal, pixels=pixels)


def _settings(source: TrainingSource, feed: Feed, goal: Gathering, spec: SolverSpec) -> dict[str, Any]:
    """The settings that have to be the same for a run that goes on to come out the same."""
    ids = hashlib.sha256("\n".join(feed.data.ids).encode()).hexdigest()
    return {
        "source": source.name,
        "data": feed.data.title,
        "split": feed.data.split,
        "images": len(feed.data.ids),
        "list": ids,
        "order": feed.order,
        "seed": feed.seed,
        "batch_size": goal.batch_size,
        "crop": feed.variation.crop,
        "mirror": feed.variation.mirror,
        "scales": list(feed.variation.scales),
        "resize": list(feed.variation.size or feed.reading.size or ()),
        "losses": [_said(loss) for loss in feed.losses],
        "normalization": goal.normalization,
        "solver": format_solver(
            replace(spec, path=None, train_net=None, test_nets=(), train_net_param=None, test_net_params=None)
        ),
        "threads": torch.get_num_threads(),
    }


def _said(loss: Loss) -> dict[str, Any]:
    """A loss in JSON's types; a large matrix by its digest."""
    found: dict[str, Any] = {"type": type(loss).__name__, **asdict(loss)}
    for name in ("propagate", "labelled"):
        if found[name]:
            del found[name]  # as before it was said
    if "matrix" in found:
        found["matrix"] = hashlib.sha256(repr(found["matrix"]).encode()).hexdigest()
    return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}


def differences(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The differences of a resumed run from the one before it, for people to read."""
    return [
        f"{name}: {_short(earlier[name])} before, {_short(now[name])} now"
        for name in now
        if name in earlier and earlier[name] != now[name]
    ]


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
