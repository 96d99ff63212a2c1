"""Recording the steps of a pass: buffers get their places in the arena when all steps that need them are known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from converters.net import Shape

from ..program.arena import APART, arrange
from ..program.places import BlobPlace, dense, floats_of
from ..program.task import NativeTask
from ..program.weights import Packed
from .memory import Floats, address, empty
from .steps import COLOURS, COUNTERS, NativeSteps, StepSettings, interleave

Outside = Mapping[int, Floats]
"""The memory of buffers that lie outside of the arena."""


@dataclass(frozen=True)
class LayerCall:
    """A layer that its own function computes, over views of the arena."""

    function: Callable[..., Tensor]
    bottoms: tuple[BlobPlace, ...]
    top: BlobPlace


class Tape:
    """The steps of a pass in order, and the buffers that they read and write."""

    def __init__(self) -> None:
        self._items: list[NativeTask | LayerCall] = []
        self._sizes: list[int] = []
        self._lives: dict[int, tuple[int, int]] = {}
        self._outside: dict[int, Floats | None] = {}

    def new(self, shape: Shape) -> BlobPlace:
        """A blob (n, c, h, w) in a buffer of its own, which lives while steps that are added need it."""
        place = dense(len(self._sizes), shape)
        self._sizes.append(floats_of(place))
        return place

    def outside(self, shape: Shape, strides: Shape | None = None, memory: Floats | None = None) -> BlobPlace:
        """A blob in other memory, which each pass names where it is not always the same."""
        strides = dense(0, shape).strides if strides is None else strides
        place = BlobPlace(len(self._sizes), 0, shape, strides)
        self._sizes.append(0)
        self._outside[place.buffer] = memory
        return place

    def given(self, *places: BlobPlace) -> None:
        """These blobs are written before the first step."""
        self._uses(-1, *places)

    def add(self, *tasks: NativeTask) -> None:
        """Native steps."""
        for task in tasks:
            self._uses(len(self._items), *(place for place in (task.x, task.y, task.z) if place is not None))
            self._items.append(task)

    def call(self, function: Callable[..., Tensor], bottoms: Sequence[BlobPlace], top: BlobPlace) -> None:
        """A function of PyTorch's tensors, whose result is written to `top`."""
        self._uses(len(self._items), *bottoms, top)
        self._items.append(LayerCall(function, tuple(bottoms), top))

    def copy(self, x: BlobPlace, y: BlobPlace, *, added: BlobPlace | None = None) -> None:
        """Write x to y, or the sum of two blobs."""
        self.add(NativeTask("pointwise", x, y, added, Packed(), StepSettings()))

    def _uses(self, number: int, *places: BlobPlace) -> None:
        for place in places:
            first, last = self._lives.get(place.buffer, (number, number))
            self._lives[place.buffer] = min(first, number), max(last, number)

    def done(self, *, threads: int) -> RecordedPass:
        """The steps, with a place for each buffer."""
        inside = [number for number in self._lives if number not in self._outside]
        found, size = arrange([self._sizes[number] for number in inside], [self._lives[number] for number in inside])
        offsets = [0] * len(self._sizes)
        for number, offset in zip(inside, found, strict=True):
            offsets[number] = offset
        return RecordedPass(self._items, offsets, self._outside, size=size, threads=threads)


class RecordedPass:
    """The steps of a tape over an arena; threads may run it at the same time, each over its own."""

    def __init__(
        self, items: Sequence[NativeTask | LayerCall], offsets: Sequence[int], outside: Mapping[int, Floats | None], *,
        size: int, threads: int,
    ) -> None:  # fmt: skip
        """`offsets` are those of the buffers, of which `outside` lie elsewhere; `size`: floats of all the others."""
        self._offsets, self._threads = offsets, threads
        self._fixed = {number: memory for number, memory in outside.items() if memory is not None}
        self._scratch = -(-size // 16) * 16
        tasks = [item for item in items if isinstance(item, NativeTask)]
        scratch = max((task.common + threads * task.scratch for task in tasks), default=0)
        self._counters = self._scratch + -(-scratch // 16) * 16
        self.floats = self._counters + COUNTERS * sum(task.phases for task in tasks) + APART
        self._runs = [self._joined(run, outside) for run in _runs(items)]

    def __call__(self, arena: Floats, outside: Outside) -> None:
        """Run all steps; `arena` has at least `floats` floats."""
        start, outside = address(arena), {**self._fixed, **outside}
        for run in self._runs:
            if isinstance(run, NativeRun):
                run.over(start, outside).run(start, start + 4 * self._counters, self._threads)
            else:
                bottoms = [torch.from_numpy(self.view(place, arena, outside)) for place in run.bottoms]
                torch.from_numpy(self.view(run.top, arena, outside)).copy_(run.function(*bottoms))

    def put(self, x: Floats, place: BlobPlace, arena: Floats, outside: Outside) -> None:
        """Write an image (n, c, h, w) to its place."""
        _, c, h, w = x.shape
        if c == place.steps[2] == COLOURS and x.flags.c_contiguous:
            memory = outside.get(place.buffer, arena)
            start = address(memory) + 4 * (self._offsets[place.buffer] + place.offset)
            for number in range(len(x)):
                interleave(address(x) + 4 * number * c * h * w, h * w, h * w, start + 4 * number * place.steps[0])
        else:
            self.view(place, arena, outside)[...] = x

    def view(self, place: BlobPlace, arena: Floats, outside: Outside) -> Floats:
        """A blob as an array over its memory."""
        start = 4 * (self._offsets[place.buffer] + place.offset)
        memory, strides = outside.get(place.buffer, arena), [4 * stride for stride in place.strides]
        view: Floats = np.ndarray(place.shape, np.float32, memory, start, strides)
        return view

    def _joined(self, run: list[NativeTask] | LayerCall, outside: Mapping[int, Floats | None]) -> NativeRun | LayerCall:
        if isinstance(run, LayerCall):
            return run
        native = NativeSteps(
            [task.native(self._offsets, self._scratch) for task in run], phases=sum(task.phases for task in run)
        )
        blobs = [(number, name, getattr(task, name)) for number, task in enumerate(run) for name in ("x", "y", "z")]
        moving = [(number, name, place.buffer) for number, name, place in blobs if place and place.buffer in outside]
        return NativeRun(native, moving)


@dataclass(frozen=True)
class NativeRun:
    """Native steps that are handed over together; `moving` are those of their blobs, (step, name, buffer), outside."""

    native: NativeSteps
    moving: Sequence[tuple[int, str, int]]

    def over(self, arena: int, outside: Outside) -> NativeSteps:
        """The steps over an arena at an address, with this memory outside of it."""
        if not self.moving:
            return self.native
        by = {buffer: (address(outside[buffer]) - arena) // 4 for _, _, buffer in self.moving}
        return self.native.moved((number, name, by[buffer]) for number, name, buffer in self.moving)


@runtime_checkable
class NativeKernel(Protocol):
    """A layer as steps of the C code."""

    def tasks(self, x: BlobPlace, y: BlobPlace, *, pad: tuple[int, int] | None, threads: int) -> list[NativeTask]: ...


def run_alone(kernel: NativeKernel, x: Tensor, top: tuple[int, int, int], pad: tuple[int, int]) -> Tensor:
    """The result (n, *top) of a layer by itself for any x (n, c, h, w), in memory of their own."""
    tape, threads = Tape(), torch.get_num_threads()
    bottom, result = tape.new(tuple(x.shape)), tape.new((len(x), *top))
    tape.given(bottom)
    tape.add(*kernel.tasks(bottom, result, pad=pad, threads=threads))
    recorded = tape.done(threads=threads)
    arena = empty(recorded.floats)
    recorded.put(x.detach().numpy(), bottom, arena, {})
    recorded(arena, {})
    return torch.from_numpy(recorded.view(result, arena, {})).clone(memory_format=torch.channels_last)


def _runs(items: Sequence[NativeTask | LayerCall]) -> Iterator[list[NativeTask] | LayerCall]:
    """Native steps that follow each other, together; and calls."""
    tasks: list[NativeTask] = []
    for item in items:
        if isinstance(item, NativeTask):
            tasks.append(item)
            continue
        if tasks:
            yield tasks
            tasks = []
        yield item
    if tasks:
        yield tasks
