"""The source of a training: a recipe, or a solver.prototxt and the net that it names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from converters.escaping import file_name
from converters.formats import SolverSpec
from converters.net import NetSpec

from .choices import Order
from .data_layer import batch_size_of, order_of
from .recipe import Recipe
from .task import in_training, task_of
from .translation import Gathering


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

    The batch and the order of images are what the net's data layer says; the release's data layers give one image,
    drawn with replacement.
    """
    if recipe is not None:
        found = source_of_recipe(replace(recipe, solver=spec))
    else:
        net = spec.read_net()
        task, train = task_of(net), in_training(net)
        gathering = Gathering(batch_size_of(train), spec.iter_size, task.losses[0].normalization)
        name = file_name(Path(spec.snapshot_prefix).name or net.name or "net")
        found = TrainingSource(name, spec, gathering, net=net, order=order_of(train))
    return found if spec.random_seed < 0 else replace(found, seed=spec.random_seed)


def ignored_labels(source: TrainingSource) -> tuple[int, ...]:
    """The labels that the losses of a source ignore, and that nothing else may count either."""
    if source.net is None:
        return () if source.recipe is None else (source.recipe.ignore_label,)
    losses = [loss for loss in task_of(source.net).losses if loss.labelled]
    return tuple(loss.ignore_label for loss in losses if loss.ignore_label is not None)
