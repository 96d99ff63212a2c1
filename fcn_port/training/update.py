"""One update of the weights: iter_size passes forward and backward, and a step of the solver (solver.cpp, Step)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from .choices import Precision
from .distributed import DistributedGroup
from .errors import MemoryFullError, NonFiniteLossError
from .feed import Batch
from .solver import CaffeSolver
from .task import TrainingTask


@dataclass(frozen=True, eq=False)
class Update:
    """The parts of an update: the task, its solver, the module that runs in place of the net, and the precision.

    "bfloat16" computes convolutions in bfloat16, and keeps weights, gradients and losses in float32.
    """

    task: TrainingTask
    solver: CaffeSolver
    group: DistributedGroup
    run: nn.Module
    precision: Precision = "float32"

    def __call__(self, batches: Sequence[Batch]) -> dict[str, float]:
        """Learn from iter_size batches; each loss by name, with its weight, the mean over the passes.

        With several processes they are those of the whole batch. Raises NonFiniteLossError, without an update, and
        MemoryFullError.
        """
        losses = dict.fromkeys((loss.name for loss in self.task.losses), 0.0)
        for number, batch in enumerate(batches, start=1):
            with _memory(batch), self._gathering(last=number == len(batches)):
                own = self._pass(batch)
            found = dict(zip(own, self.group.sum(list(own.values())), strict=True))
            if not all(map(math.isfinite, found.values())):
                raise self._not_finite(own, batch)
            for name, value in found.items():
                losses[name] += value / len(batches)
        self.solver.step()
        self.solver.zero_grad()
        return losses

    def _pass(self, batch: Batch) -> dict[str, float]:
        """Forward and backward; this process's part of each loss."""
        counts = self.group.counts(self.task.losses, batch.blobs)
        blobs = {name: blob.to(self.group.device, non_blocking=True) for name, blob in batch.blobs.items()}
        with self._autocast():
            losses = self.task.losses_of(blobs, net=self.run, counts=counts)
        total = torch.stack(list(losses.values())).sum()
        # The processes' gradients are averaged, and each has divided by the counts of all: the sum is wanted.
        if total.requires_grad:  # where nothing learns, statistics may
            (total * self.group.size).backward()
        return dict(zip(losses, torch.stack(list(losses.values())).tolist(), strict=True))

    def _not_finite(self, own: Mapping[str, float], batch: Batch) -> NonFiniteLossError:
        bad = [f"{name} is {value}" for name, value in own.items() if not math.isfinite(value)]
        what = f"{', '.join(bad)} for image {', '.join(batch.names)}" if bad else "another process has no finite loss"
        return NonFiniteLossError(
            f"iteration {self.solver.iteration}: {what}\n"
            "  this update was not made. Where losses grow before, a smaller learning rate (--lr) helps, or "
            "clip_gradients;\n  where only this image does it, look at it and at its labels"
        )

    def _autocast(self) -> AbstractContextManager[object]:
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.group.device.type, dtype=torch.bfloat16)

    def _gathering(self, *, last: bool) -> AbstractContextManager[object]:
        """Gradients meet those of other processes in the last pass only."""
        if last or not isinstance(self.run, DistributedDataParallel):
            return nullcontext()
        return self.run.no_sync()


@contextmanager
def _memory(batch: Batch) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not _is_memory(error):
            raise
        sizes = ", ".join(f"{name} {'x'.join(map(str, blob.shape))}" for name, blob in batch.blobs.items())
        raise MemoryFullError(
            f"out of memory at image {', '.join(batch.names)} ({sizes})\n"
            "  --batch-size 1 with a larger --iter-size makes the same update in less memory, --precision bf16\n"
            "  halves what a GPU keeps for the way back, and smaller images need less"
        ) from error


def _is_memory(error: BaseException) -> bool:
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    said = str(error).lower()
    return "out of memory" in said or "can't allocate memory" in said or "not enough memory" in said
