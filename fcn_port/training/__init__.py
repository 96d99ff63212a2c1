"""Training as Caffe does it: its solvers, its losses, and a run that people can trust.

solver = CaffeSolver(parameter_groups(net), read_solver("solver.prototxt"))    # for a loop of your own
train(task, solver, feed, plan, report=print)                                  # the whole run
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from converters.lazy import lazy_attributes

if TYPE_CHECKING:
    from .feed import Feed
    from .losses import SoftmaxWithLoss, softmax_with_loss
    from .multipliers import parameter_groups
    from .recipe import Recipe, find_recipe, recipe_names
    from .run import TrainingPlan, train
    from .solver import CaffeSolver
    from .task import TrainingTask, task_for, task_of

__all__ = [
    "CaffeSolver",
    "Feed",
    "Recipe",
    "SoftmaxWithLoss",
    "TrainingPlan",
    "TrainingTask",
    "find_recipe",
    "parameter_groups",
    "recipe_names",
    "softmax_with_loss",
    "task_for",
    "task_of",
    "train",
]

# Recipes are read without torch; what needs it is imported when it is asked for.
__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        "CaffeSolver": "solver",
        "Feed": "feed",
        "TrainingPlan": "run",
        "Recipe": "recipe",
        "SoftmaxWithLoss": "losses",
        "TrainingTask": "task",
        "find_recipe": "recipe",
        "parameter_groups": "multipliers",
        "recipe_names": "recipe",
        "softmax_with_loss": "losses",
        "task_for": "task",
        "task_of": "task",
        "train": "run",
    },
    renamed={"Plan": "TrainingPlan", "Task": "TrainingTask"},
)
