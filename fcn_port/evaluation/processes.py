"""Several processes on one evaluation, as `torchrun` starts them: gloo on CPUs, nccl on GPUs.

Each takes every n-th image that is left; the results of all, integers, come together in the first.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

T = TypeVar("T")

PATIENCE = timedelta(days=2)
"""The time that a process that is done waits for the others."""


@dataclass(frozen=True)
class Processes:
    """`size` processes, of which this is number `rank`; one by default."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """True if this process reports."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """This process's share of the items."""
        return items[self.rank :: self.size]

    def from_first(self, value: T) -> T:
        """The value that the first process has."""
        if self.size == 1:
            return value
        box: list[T] = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def to_first(self, value: T) -> list[T]:
        """In the first process what every process has, in order of rank; elsewhere nothing."""
        if self.size == 1:
            return [value]
        boxes: list[Any] | None = [None] * self.size if self.first else None
        dist.gather_object(value, boxes, dst=0)
        return boxes or []


def launched() -> bool:
    """True if `torchrun` started this process."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def device_of_process(device: str) -> str:
    """`cuda` becomes the GPU of this process on its machine."""
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if device == "cuda" and launched() else device


@contextmanager
def joined(device: str) -> Iterator[Processes]:
    """This process among those that `torchrun` started, or alone; entered again inside, it changes nothing."""
    if not launched():
        yield Processes()
        return
    if dist.is_initialized():
        yield Processes(dist.get_rank(), dist.get_world_size())
        return
    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.set_device(torch.device(device))
    dist.init_process_group("nccl" if on_gpu else "gloo", timeout=PATIENCE)
    try:
        yield Processes(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
