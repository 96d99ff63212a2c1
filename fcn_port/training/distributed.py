"""Several processes that train one net, as `torchrun` starts them: what they add up, and what they agree on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..evaluation.processes import Processes
from .losses import Loss


@dataclass(frozen=True)
class DistributedGroup:
    """The processes, and the device on which this one computes; by itself it is one process on the CPU."""

    processes: Processes = field(default_factory=Processes)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def size(self) -> int:
        """The number of processes."""
        return self.processes.size

    def wrap(self, net: nn.Module, *, partly: bool = False) -> nn.Module:
        """The module to run in place of `net`: gradients are averaged over the processes.

        With `partly` weights may have none, which takes a look at all of them in each pass.
        """
        if self.size == 1 or not any(parameter.requires_grad for parameter in net.parameters()):
            return net
        ids = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(net, device_ids=ids, broadcast_buffers=False, find_unused_parameters=partly)

    def sum(self, numbers: Sequence[float]) -> list[float]:
        """Each number, added up over all processes."""
        if self.size == 1:
            return list(numbers)
        total = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return [float(value) for value in total]

    def any(self, flag: bool) -> bool:
        """True if it is so in one of the processes."""
        return self.sum([float(flag)])[0] > 0

    def counts(self, losses: Sequence[Loss], blobs: Mapping[str, Tensor]) -> dict[str, dict[str, float]]:
        """By loss, what each normalisation divides by: the pixels and images of all processes."""
        own = {loss.name: loss.counts(blobs) for loss in losses}
        added = iter(self.sum([value for counts in own.values() for value in counts.values()]))
        return {name: {kind: next(added) for kind in counts} for name, counts in own.items()}
