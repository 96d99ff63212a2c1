"""From a recipe or a solver.prototxt, a data set and what a person changed, to everything that a run takes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import nn

from converters.escaping import file_name
from converters.formats import SolverSpec, format_solver, read_prototxt
from converters.net import NetSpec
from weights.catalogue import releases
from weights.records import Preprocessing

from ..data.inputs import inputs_of
from ..data.records import DataSet
from ..inspection import trace
from ..nets import NETS, Widths, definition
from ..surgery import StateDict
from .choices import Multiplier, Normalization, Order
from .distributed import DistributedGroup
from .errors import TrainingError
from .feed import Feed
from .initial import Beginning, begin
from .multipliers import parameter_groups
from .recipe import Recipe
from .solver import CaffeSolver
from .task import TrainingTask, task_for, task_of
from .transforms import Transform, transforms_of
from .translation import Gathering, Translation, pixels_of, translate


@dataclass(frozen=True)
class Changes:
    """A person's wishes where they differ from the recipe or solver says; None leaves it as it is.

    `batch_size` is that of one process. `lr` is taken as it is, and not translated.
    """

    batch_size: int | None = None
    iter_size: int | None = None
    normalization: Normalization | None = None
    lr: float | None = None
    max_iter: int | None = None
    order: Order | None = None
    seed: int | None = None


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


@dataclass(frozen=True)
class TrainingSource:
    """The source of a training, as it was found: by a recipe, or by a solver and the prototxt of its net.

    `name` is one component of a path: snapshots are called after it. `net` is the net to train where a prototxt
    defines it. `gathering` is what `solver.base_lr` was meant for.
    """

    name: str
    solver: SolverSpec
    gathering: Gathering
    recipe: Recipe | None = None
    net: NetSpec | None = None
    order: Order = "replacement"
    seed: int = 1337


def source_of_recipe(recipe: Recipe) -> TrainingSource:
    """A recipe as a source."""
    gathering = Gathering(recipe.batch_size, recipe.solver.iter_size, recipe.normalization)
    return TrainingSource(recipe.name, recipe.solver, gathering, recipe=recipe, order=recipe.order, seed=recipe.seed)


def source_of_solver(spec: SolverSpec, recipe: Recipe | None = None) -> TrainingSource:
    """A solver as a source: of the net that it names, or of a recipe's net where it names none.

    The batch is what the net's data layer says; the release's data layers give one image.
    """
    if recipe is not None:
        found = source_of_recipe(replace(recipe, solver=spec))
    else:
        net = read_prototxt(spec.net_file())
        task = task_of(net)
        gathering = Gathering(_batch_size(net), spec.iter_size, task.losses[0].normalization)
        name = file_name(Path(spec.snapshot_prefix).name or net.name or "net")
        found = TrainingSource(name, spec, gathering, net=net)
    return found if spec.random_seed < 0 else replace(found, seed=spec.random_seed)


def prepare(
    source: TrainingSource,
    data: DataSet,
    *,
    sources: Sequence[StateDict] = (),
    expand_scores: bool = False,
    changes: Changes = Changes(),
    group: DistributedGroup = DistributedGroup(),  # noqa: B008
    workers: int = 2,
) -> Prepared:
    """Build the net with its first weights, its losses, its solver and its feed.

    `sources` are the state dicts of other nets to begin with, none to begin from nothing. Raises TrainingError,
    CaffeFormatError and DataError where net, data and weights do not fit each other.
    """
    normalization = changes.normalization or source.gathering.normalization
    task = _task(source, data, normalization)
    data = data.with_void(*ignored_labels(source))
    seed = source.seed if changes.seed is None else changes.seed
    spec = task.spec or definition(task.net, name=type(task.net).__name__)
    beginning = begin(task.net, spec, *sources, seed=seed, expand_scores=expand_scores)
    task.net.to(group.device)

    batch_size = changes.batch_size or source.gathering.batch_size
    goal = Gathering(batch_size * group.size, changes.iter_size or source.gathering.iter_size, normalization)
    rate = _rate(source, goal, data, changes)
    solver = replace(
        source.solver,
        base_lr=rate.rate,
        iter_size=goal.iter_size,
        max_iter=source.solver.max_iter if changes.max_iter is None else changes.max_iter,
    )
    if solver.max_iter < 1:
        raise TrainingError("the length of the training is missing: give max_iter in the solver, or --max-iter")
    variation = _variation(source)
    feed = Feed(
        data=data,
        preprocessing=_preprocessing(source, task, data),
        losses=task.losses,
        order=changes.order or source.order,
        seed=seed,
        batch_size=batch_size,
        rank=group.processes.rank,
        size=group.size,
        workers=workers,
        crop=variation.crop,
        mirror=variation.mirror,
    )
    _check_fit(task, feed)
    groups = _groups(task, source.recipe.multipliers if source.recipe else {})
    return Prepared(
        name=source.name,
        task=task,
        solver=CaffeSolver(groups, solver),
        feed=feed,
        beginning=beginning,
        rate=rate,
        gathering=goal,
        settings=_settings(source, feed, goal, solver),
    )


def ignored_labels(source: TrainingSource) -> tuple[int, ...]:
    """The labels that the losses of a source ignore, and that nothing else may count either."""
    if source.net is None:
        return () if source.recipe is None else (source.recipe.ignore_label,)
    return tuple(loss.ignore_label for loss in task_of(source.net).losses if loss.ignore_label is not None)


# Net


def _task(source: TrainingSource, data: DataSet, normalization: Normalization) -> TrainingTask:
    if source.net is not None:
        task = task_of(source.net)
        if normalization != source.gathering.normalization:
            task = replace(task, losses=tuple(replace(loss, normalization=normalization) for loss in task.losses))
        return task
    assert source.recipe is not None
    net = _build(source.recipe, data)
    return task_for(net, list(data.classes), normalization=normalization, ignore_label=source.recipe.ignore_label)


def _build(recipe: Recipe, data: DataSet) -> nn.Module:
    """The hand-written net for the classes of the data set."""
    if recipe.net not in NETS:
        raise TrainingError(f"recipe {recipe.name}: there is no net '{recipe.net}'; known: {', '.join(NETS)}")
    family = NETS[recipe.net]
    heads = {head: len(names) for head, names in data.classes.items()}
    several = isinstance(family.num_classes, Mapping)
    wanted = {head.removeprefix("score_"): count for head, count in heads.items()}
    if several != (set(heads) != {"score"}) or (several and set(wanted) != set(family.num_classes)):  # type: ignore[arg-type]
        raise TrainingError(f"net {recipe.net} does not score what {data.title} is labelled for: {', '.join(heads)}")
    settings: dict[str, Any] = {"num_classes": wanted if several else heads["score"]}
    if recipe.widths:
        if len(recipe.widths) != len(Widths()):
            raise TrainingError(f"recipe {recipe.name}: widths are those of {', '.join(Widths._fields)}")
        settings["widths"] = Widths(*recipe.widths)
    try:
        net = family.make(**settings)
    except TypeError as error:
        raise TrainingError(f"recipe {recipe.name}: net {recipe.net} has no widths to choose") from error
    if recipe.dropout is not None:
        for layer in net.modules():
            if isinstance(layer, nn.Dropout):
                layer.p = recipe.dropout
    return net


def _groups(task: TrainingTask, patterns: Mapping[str, Mapping[Multiplier, float]]) -> list[dict[str, Any]]:
    """The groups of the solver; blobs that do not learn need no gradients."""
    groups = parameter_groups(task.net, task.spec)
    for pattern, multipliers in patterns.items():
        chosen = [group for group in groups if fnmatchcase(group["name"], pattern)]
        if not chosen:
            raise TrainingError(f"multipliers: the net has no blob '{pattern}'")
        for group in chosen:
            group.update({str(name): value for name, value in multipliers.items()})
    for group in groups:
        group["params"][0].requires_grad_(group["lr_mult"] != 0)
    return groups


def _preprocessing(source: TrainingSource, task: TrainingTask, data: DataSet) -> Preprocessing:
    """The ways to make the net's inputs: as for the release of that name, else by the names of its inputs."""
    release = releases().get(source.recipe.net) if source.recipe is not None else None
    known = data.recipes
    if release is not None and all(each.kind in known for each in release.preprocessing.inputs):
        return Preprocessing(tuple(replace(known[each.kind], name=each.name) for each in release.preprocessing.inputs))
    found = inputs_of(data, task.net.inputs)  # type: ignore[arg-type]
    said = {} if source.net is None else transforms_of(source.net)
    return Preprocessing(tuple(said[each.name].recipe(each) if each.name in said else each for each in found.inputs))


def _variation(source: TrainingSource) -> Transform:
    """The crop and the mirror of a net's data layer; neither where it says none."""
    said = {} if source.net is None else transforms_of(source.net)
    return next(iter(said.values()), Transform())


def _check_fit(task: TrainingTask, feed: Feed) -> None:
    """True if the net scores the classes that the data set has, and reads inputs that can be made."""
    with torch.no_grad():
        shapes = trace(task.net, (64, 64))
    for loss in task.losses:
        head = feed.head_of(loss)
        if loss.score not in shapes:
            raise TrainingError(f"the net has no output '{loss.score}'")
        scored, classes = shapes[loss.score][1], len(feed.data.classes[head])
        if scored != classes:
            raise TrainingError(
                f"the net scores {scored} classes as '{loss.score}'; {feed.data.title} has {classes}\n"
                "  the names of your own classes go into a file classes.txt in the data set's folder, one a line"
            )
    made = [each.name for each in feed.preprocessing.inputs]
    if set(made) != set(task.inputs):
        raise TrainingError(f"the net reads {', '.join(task.inputs)}; {feed.data.title} gives {', '.join(made)}")


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


def _batch_size(net: NetSpec) -> int:
    """The images that the data layer of a net to train gives at once; 1 where it does not say, as the release's."""
    for layer in net.layers:
        if layer.bottoms:
            continue
        message = layer.to_message()
        for name in ("data_param", "image_data_param", "memory_data_param", "hdf5_data_param", "window_data_param"):
            if message.HasField(name):
                return max(1, int(getattr(message, name).batch_size))
        if layer.type == "Input" and message.input_param.shape and message.input_param.shape[0].dim:
            return max(1, int(message.input_param.shape[0].dim[0]))
    return 1


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
        "crop": feed.crop,
        "mirror": feed.mirror,
        "normalization": goal.normalization,
        "solver": format_solver(replace(spec, path=None, train_net=None, test_nets=())),
        "threads": torch.get_num_threads(),
    }


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
