"""Training as Caffe does it: its solvers, its losses, and a run that people can trust.

solver = CaffeSolver(parameter_groups(net), read_solver("solver.prototxt"))    # for a loop of your own
train(task, solver, feed, plan, report=print)                                  # the whole run
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .feed import Feed
    from .losses import SoftmaxWithLoss, softmax_with_loss
    from .multipliers import parameter_groups
    from .recipe import Recipe, find_recipe, recipe_names
    from .run import Plan, train
    from .solver import CaffeSolver
    from .task import Task, task_for, task_of

__all__ = [
    "CaffeSolver",
    "Feed",
    "Plan",
    "Recipe",
    "SoftmaxWithLoss",
    "Task",
    "find_recipe",
    "parameter_groups",
    "recipe_names",
    "softmax_with_loss",
    "task_for",
    "task_of",
    "train",
]

_HOMES = {
    "CaffeSolver": "solver",
    "Feed": "feed",
    "Plan": "run",
    "Recipe": "recipe",
    "SoftmaxWithLoss": "losses",
    "Task": "task",
    "find_recipe": "recipe",
    "parameter_groups": "multipliers",
    "recipe_names": "recipe",
    "softmax_with_loss": "losses",
    "task_for": "task",
    "task_of": "task",
    "train": "run",
}


def __getattr__(name: str) -> object:
    """Recipes are read without torch; what needs it is imported when it is asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module 'fcn_port.training' has no attribute '{name}'")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
