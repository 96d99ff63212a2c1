"""Training as Caffe does it: its solvers, its losses, and a run that people can trust."""

from .losses import SoftmaxWithLoss, softmax_with_loss
from .multipliers import parameter_groups
from .solver import CaffeSolver
from .task import Task, task_of

__all__ = ["CaffeSolver", "SoftmaxWithLoss", "Task", "parameter_groups", "softmax_with_loss", "task_of"]
