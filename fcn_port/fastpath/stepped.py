"""Steps of optimizers: those with `fused=True`, and kernels of others, write weights, which PyTorch does not count."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cache
from typing import Any
from weakref import WeakSet

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook


class StepNote:
    """A note whether an optimizer of this process took a step with one of these tensors.

    It lies in a dictionary, `seen`, whose value is another one after such a step, as a weight that was put in would be.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        """The tensors are to be kept as long as the note is."""
        self._places = frozenset(map(id, tensors))
        self.seen: dict[str, Any] = {"is_stepped": False}
        _listen()
        with _lock:
            _notes.add(self)

    def take(self, stepped: set[int]) -> None:
        """Note a step with the tensors at these places."""
        if not self._places.isdisjoint(stepped):
            self.seen["is_stepped"] = True


_notes: WeakSet[StepNote] = WeakSet()
_lock = threading.Lock()


@cache
def _listen() -> None:
    register_optimizer_step_post_hook(_after_step)


def _after_step(optimizer: Optimizer, *_: Any) -> None:
    stepped = {id(each) for group in optimizer.param_groups for each in group["params"]}
    with _lock:
        for note in _notes:
            note.take(stepped)
