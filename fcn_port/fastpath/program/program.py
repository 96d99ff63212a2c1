"""ArenaPlan: a flow for inputs of one shape, as steps that run one after the other over an arena.

What the C code can do is handed to it in runs of several steps at once; every other operation is computed by its
layers' own functions, over views of the arena. Nothing is decided and no blob is allocated while it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from math import prod
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from converters.layers import pooling
from converters.net import Shape

from ..flow import Flow, FlowStep, Tops
from ..lru_cache import LRUCache
from ..native.kept import KeptMemory
from ..native.memory import Floats, address
from ..native.steps import COLOURS, COUNTERS, NativeSteps, StepSettings
from .arena import APART, arrange
from .bands import IN_PLACE, floats_of, lives_in, tasks_in
from .bound import BoundPass
from .build_steps import copies_of, tasks_of
from .by_pytorch import by_pytorch
from .choice import Decision, KernelChoice, NoKernel, UsualKernel
from .convolutions import stays
from .decisions import as_usual
from .find_bands import find_bands
from .kernels import choose
from .moving import exchanges_images
from .places import BlobPlace, BlobPlaces, as_images, is_concatenation, place_values
from .shapes import shapes_of
from .task import NativeTask
from .traits import Traits, traits_behind, traits_of
from .weights import Packed, PackedWeights
from .words import in_words

SHAPES = 8
"""Shapes of regions and the like whose plans are kept, for each size of the net's input."""
PIXEL_ROWS = 8
"""Rows of an input that a thread takes at a time."""
FEW, MANY_BYTES = 9, 32 << 20
"""Positions, and bytes of weights that products for fewer of them read, from which on images are computed together."""


class Planned(NamedTuple):
    """One operation of a program, how it is computed, and the steps; None where its layers compute it themselves."""

    operation: FlowStep
    words: str
    tasks: tuple[NativeTask, ...] | None
    is_slow: bool = False
    kernel: KernelChoice | None = None

    @property
    def how(self) -> str:
        """The way it is computed: the words of its kernel, which nobody asks for as a rule, before its own."""
        return self.words if self.kernel is None else in_words(self.operation, self.kernel) + self.words


@dataclass(frozen=True)
class PlanRun:
    """Native steps that are handed over together, or the number of an operation that its layers compute."""

    native: NativeSteps | None = None
    number: int = -1


class ArenaPlan:
    """A flow for inputs of certain shapes; threads may run it at the same time, each over its own arena."""

    def __init__(
        self, flow: Flow, inputs: Mapping[str, Shape], weights: PackedWeights, *, threads: int, winograd: bool = True,
        prefer: str | None = None, sparing: Container[Tops] = (),
        usual: Mapping[Tops, UsualKernel] = MappingProxyType({}), traits: Traits | None = None,
        memory: KeptMemory | None = None,
    ) -> None:  # fmt: skip
        """`winograd` and `prefer` as `choose` has them, and `usual` by the tops of the operation.

        `sparing` holds the tops of those whose weights are to stay small. `traits` are those of the flow where
        it is a part of a net (`traits_behind`), or they are known. `memory` is for plans behind it, which plans for
        other sizes share: one for each kept as much for each size.
        """
        self.flow, self._weights, self.threads = flow, weights, threads
        self._ways = winograd, prefer, sparing, usual
        self._traits = traits_of(flow) if traits is None else traits
        self._constant, self._constants = self._traits.constant, dict[str, Floats]()
        self._behind: LRUCache[ArenaPlan | None] = LRUCache(SHAPES)
        self._memory = KeptMemory() if memory is None else memory
        self.shapes = shapes_of(flow, inputs)
        self.places: BlobPlaces = place_values(flow, self.shapes)
        self._decided = {operation.tops: self._decide(operation) for operation in flow.operations}
        self._choices = {tops: found for tops, found in self._decided.items() if isinstance(found, KernelChoice)}
        self.flow, self._bands = find_bands(flow, self.places, self._choices)
        self._bands_of = {number: each for each in self._bands for number in each.numbers}
        self.planned = tuple(self._plan(number) for number in range(len(flow.operations)))
        buffers = floats_of(self.places.buffers, self._bands, self.places)
        offsets, size = arrange(buffers, lives_in(self._bands, self._lives()))
        self.pictures = [name for name in flow.inputs if _is_picture(self.places.values[name])]
        self._offsets = [*offsets, 0]  # and of what lies outside of the arena
        self.pixels = [_pixels_of(self.places.values[name], len(offsets)) for name in self.pictures]
        tasks = [*self.pixels, *(task for each in self.planned for task in each.tasks or ())]
        self._scratch = -(-size // 16) * 16
        scratch = max((task.common + threads * task.scratch for task in tasks), default=0)
        self._counters = self._scratch + -(-scratch // 16) * 16
        self.floats = self._counters + COUNTERS * sum(task.phases for task in tasks) + APART
        self._runs = tuple(self._join())
        first = self._runs[0].native if self._runs else None
        self._opening = self._native(self.pixels).then(first) if self.pixels else None
        self._opens = 0 if first is None else 1

    def __call__(self, inputs: Mapping[str, Floats], arena: Floats) -> dict[str, Floats]:
        """The outputs for inputs of the program's shapes; `arena` has at least `floats` floats.

        They are views of the arena, or of their own where a layer gave another shape than its rule says.
        """
        start = address(arena)
        for run in self._take(inputs, arena):
            if run.native is not None:
                run.native.run(start, start + 4 * self._counters, self.threads)
                continue
            found = self._compute(run.number, {}, arena)
            tops = self.flow.operations[run.number].tops
            if any(tuple(found[name].shape) != self.shapes[name] for name in tops):
                return self._rest(run.number + 1, found, arena)
            for name in tops:
                self.view(name, arena)[...] = found[name]
        return {name: self.view(value, arena) for name, value in self.flow.outputs.items()}

    def timed(
        self, inputs: Mapping[str, Floats], arena: Floats, *, clock: Callable[[], float]
    ) -> list[tuple[str, float]]:
        """A pass in which each operation runs by itself: their names, and what the clock says that each took.

        It ends before an operation whose top has another shape than its rule says, as detections have.
        """
        for name, x in inputs.items():
            self.view(name, arena)[...] = x
        start, found = address(arena), []
        for number, each in enumerate(self.planned):
            run = self._native(each.tasks or ())
            began = clock()
            if each.tasks is None:
                values = self._compute(number, {}, arena)
                if any(tuple(values[name].shape) != self.shapes[name] for name in each.operation.tops):
                    break
                for name in each.operation.tops:
                    self.view(name, arena)[...] = values[name]
            elif each.tasks:
                run.run(start, start + 4 * self._counters, self.threads)
            found.append((each.operation.name, clock() - began))
        return found

    def _take(self, inputs: Mapping[str, Floats], arena: Floats) -> Sequence[PlanRun]:
        """The runs of a pass; inputs are written to their places, but those whose planes the first steps read."""
        flags = [inputs[name].flags for name in self.pictures]
        are_planes = self._opening is not None and all(each.c_contiguous and each.aligned for each in flags)
        for name, x in inputs.items():
            if not (are_planes and name in self.pictures):
                self.view(name, arena)[...] = x
        if self._opening is None or not are_planes:
            return self._runs
        start = address(arena)
        moves = [(number, "x", (address(inputs[name]) - start) // 4) for number, name in enumerate(self.pictures)]
        return PlanRun(self._opening.moved(moves)), *self._runs[self._opens :]

    @cached_property
    def goes_image_by_image(self) -> bool:
        """True where several images are computed quicker one after the other: blobs of one fit into caches.

        That is so unless products for a few positions read many weights. Of a flow that `keeps_images_apart`, which
        does not look at what moves numbers in ways of its own.
        """
        if any(each.tasks is None or self._exchanges_images(each.operation) for each in self.planned):
            return False
        tasks = [task for each in self.planned for task in each.tasks or () if task.y.size[2] * task.y.size[3] < FEW]
        few = {
            address(task.weights.kernels): task.weights.kernels for task in tasks if task.weights.kernels is not None
        }
        return sum(kernels.nbytes for kernels in few.values()) < MANY_BYTES

    def _exchanges_images(self, operation: FlowStep) -> bool:
        kernel = self._choices.get(operation.tops)
        is_moved = kernel is not None and kernel.name == "move"
        return is_moved and exchanges_images(operation, self.shapes[operation.bottoms[0]])

    def view(self, value: str, arena: Floats) -> Floats:
        """A value as an array over the arena."""
        place = self.places.values[value]
        start = 4 * (self._offsets[place.buffer] + place.offset)
        view: Floats = np.ndarray(place.shape, np.float32, arena, start, [4 * stride for stride in place.strides])
        return view

    def explain(self) -> list[str]:
        """The number of operations, and for each its name, what is merged into it, and how it is computed."""
        slow = sum(each.is_slow for each in self.planned)
        layers = sum(len(each.operation.parts) for each in self.planned)
        lines = [f"{layers} layers in {len(self.planned)} operations, {slow or 'none'} of them by PyTorch"]
        for each in self.planned:
            others = [part.name for part in each.operation.parts if part != each.operation.main]
            merged = f" with {', '.join(others)}" if others else ""
            lines.append(f"  {each.operation.name}{merged}: {each.how}")
        return lines

    def as_usual(self) -> Mapping[Tops, UsualKernel]:
        """Its kernels, as plans for other sizes are told of them."""
        return as_usual(((each, self._decided[each.tops]) for each in self.flow.operations), self.shapes)

    def _decide(self, operation: FlowStep) -> Decision | None:
        """The kernel of an operation, or why there is none; None where it is a view."""
        values = self.places.values
        if self.places.views.issuperset(operation.tops):
            return None
        winograd, prefer, sparing, usual = self._ways
        known = usual.get(operation.tops)
        if known is not None and stays(known, operation, values):
            return known.kernel
        if is_concatenation(operation, self.shapes):
            copies = self.places.copies[operation.tops[0]]
            is_possible = all(as_images(values[name], goal) for name, goal in copies)
            return IN_PLACE if is_possible else NoKernel("parts whose numbers lie in another order")
        bottoms, tops = ([values[name] for name in names] for names in (operation.bottoms, operation.tops))
        kernel = choose(
            operation, bottoms, tops, winograd=winograd, prefer=prefer, sparing=operation.tops in sparing,
            usual=known, **self._traits.of(operation),
        )  # fmt: skip
        if isinstance(kernel, KernelChoice) and kernel.name == "unpool" and not self._has_places(operation):
            return NoKernel("places that no pooling before it has made")
        return kernel

    def _plan(self, number: int) -> Planned:
        operation = self.flow.operations[number]
        kernel = self._decided[operation.tops]
        if not self._constant.isdisjoint(operation.tops):
            is_read = not self._traits.wanted.isdisjoint(operation.tops)
            return Planned(operation, "once, as sizes are all it reads", None if is_read else ())
        if kernel is None:
            return Planned(operation, "a view", ())
        if isinstance(kernel, NoKernel):
            return Planned(operation, f"by PyTorch: {kernel.why}", None, is_slow=True)
        told, words = (None, self._where(operation)) if kernel is IN_PLACE else (kernel, "")
        bands = self._bands_of.get(number)
        if bands is not None:
            about = self.flow, self.places, self._choices, self._weights, self.threads
            tasks = tuple(tasks_in(bands, *about)) if number == bands.start else ()
            return Planned(operation, words + bands.words(number, self.flow), tasks, kernel=told)
        if kernel is IN_PLACE:
            copies = self.places.copies[operation.tops[0]]
            goals = ((self.places.values[name], goal) for name, goal in copies)
            return Planned(operation, words, tuple(copies_of(goals)))
        tasks = tuple(tasks_of(operation, kernel, self.places.values, self._weights, self.threads))
        return Planned(operation, words, tasks, kernel=told)

    def _has_places(self, operation: FlowStep) -> bool:
        """True where what says an unpooling's places is a pooling's, so that none can lie outside the blob."""
        value = operation.bottoms[1]
        maker = self.flow.operations[self.flow.makers[value]] if value in self.flow.makers else None
        if maker is None or not isinstance(maker.main.params, pooling.Pooling) or maker.tops[1:] != (value,):
            return False
        inner, outer = self.shapes[maker.bottoms[0]], self.shapes[operation.tops[0]]
        return maker.main.params.windows_inside_from(inner[2:]) and prod(inner[2:]) <= min(prod(outer[2:]), 1 << 24)

    def _where(self, concatenation: FlowStep) -> str:
        names = ", ".join(name for name, _ in self.places.copies[concatenation.tops[0]])
        return f"{names} copied, the rest in place" if names else "in place"

    def _lives(self) -> list[tuple[int, int]]:
        """The first and the last operation that needs each buffer."""
        values, inner, end = self.places.values, self.places.inner, len(self.flow.operations)
        first, last = dict[int, int](), dict[int, int]()
        steps = ((*each.bottoms, *each.tops, *inner.get(each.tops, ())) for each in self.flow.operations)
        for index, names in enumerate((self.flow.inputs, *steps, self.flow.outputs.values()), -1):
            for name in names:
                buffer = values[name].buffer
                first.setdefault(buffer, index)
                last[buffer] = index
        return [(first.get(buffer, end), last.get(buffer, -1)) for buffer in range(len(self.places.buffers))]

    def _join(self) -> list[PlanRun]:
        runs: list[PlanRun] = []
        tasks: list[NativeTask] = []

        def finish() -> None:
            if tasks:
                runs.append(PlanRun(self._native(tasks)))
                tasks.clear()

        for number, each in enumerate(self.planned):
            if each.tasks is not None:
                tasks.extend(each.tasks)
            else:
                finish()
                runs.append(PlanRun(number=number))
        finish()
        return runs

    def _native(self, tasks: Sequence[NativeTask]) -> NativeSteps:
        steps = [task.native(self._offsets, self._scratch) for task in tasks]
        return NativeSteps(steps, phases=sum(task.phases for task in tasks))

    @property
    def takes_one_block(self) -> bool:
        """True where one input, as it lies in memory, is all that a pass takes, and no step is PyTorch's."""
        places = [self.places.values[name] for name in self.flow.inputs]
        if self._opening is not None:
            return len(self.pictures) == len(places) == 1 and not self._runs[self._opens :]
        is_native = len(self._runs) == 1 and self._runs[0].native is not None
        return is_native and len(places) == 1 and places[0].is_in_order

    def bind(self, arena: Floats, memory: KeptMemory) -> BoundPass:
        """A pass over this arena with outputs in this memory, for a plan that `takes_one_block`."""
        outputs = {name: self.view(value, arena) for name, value in self.flow.outputs.items()}
        (name,), steps, goal = self.flow.inputs, self._opening, None
        if steps is None:
            steps, goal = self._runs[0].native, self.view(name, arena)
        assert steps is not None
        return BoundPass(
            steps, arena, counters=self._counters, threads=self.threads, outputs=outputs, goal=goal, memory=memory
        )

    def _compute(self, number: int, known: Mapping[str, Floats], arena: Floats) -> dict[str, Floats]:
        """The values of one operation by its layers' own functions; what is not `known` lies in the arena."""
        operation, found = self.flow.operations[number], dict(known)
        if not self._constant.isdisjoint(operation.tops):
            return {**found, **self._computed_once(operation, arena)}
        for part in operation.parts:
            bottoms = [found[name] if name in found else self.view(name, arena) for name in part.bottoms]
            found.update(zip(part.tops, by_pytorch(part, bottoms, self._weights.of(part)), strict=True))
        return found

    def _computed_once(self, operation: FlowStep, arena: Floats) -> Mapping[str, Floats]:
        """The tops of an operation that reads sizes; what lies in the arena gives these to its bottoms."""
        known = self._constants
        if not set(operation.tops) <= known.keys():
            (part,) = operation.parts
            bottoms = [self._value(name, {}, arena) for name in part.bottoms]
            known = dict(zip(part.tops, by_pytorch(part, bottoms, ()), strict=True))
            self._constants = {**self._constants, **known}  # another one, as others may be reading or copying the old
        return {name: known[name] for name in operation.tops}

    def _value(self, name: str, found: Mapping[str, Floats], arena: Floats) -> Floats:
        """A value that an operation before has made: found, computed once, or in the arena."""
        if name in found:
            return found[name]
        if name in self._constant:
            return self._computed_once(self.flow.operations[self.flow.makers[name]], arena)[name]
        return self.view(name, arena)

    def _rest(self, number: int, found: dict[str, Floats], arena: Floats) -> dict[str, Floats]:
        """The outputs where a value has another shape than its rule says, as regions do: by a plan for these shapes.

        Layer by layer where nothing behind has weights, as behind detections, or nothing is left of a blob.
        """
        rest = self.flow.behind(number)
        inputs = {name: self._value(name, found, arena) for name in rest.inputs}
        shapes = {name: tuple(value.shape) for name, value in inputs.items()}
        plan = self._behind.get((number, *shapes.items()), lambda: self._plan_behind(rest, shapes))
        if plan is not None:
            own = self._memory.take(plan.floats)
            outputs = {name: np.array(value, order="C") for name, value in plan(inputs, own).items()}
            self._memory.give_back(own)
            return outputs
        for each in range(number, len(self.flow.operations)):
            found = self._compute(each, found, arena)
        return {name: self._value(value, found, arena) for name, value in self.flow.outputs.items()}

    def _plan_behind(self, rest: Flow, shapes: Mapping[str, Shape]) -> ArenaPlan | None:
        if all(operation.weighted is None for operation in rest.operations):
            return None
        winograd, prefer, sparing, usual = self._ways
        with suppress(ValueError):
            return ArenaPlan(
                rest, shapes, self._weights, threads=self.threads, winograd=winograd, prefer=prefer, sparing=sparing,
                usual=usual, traits=traits_behind(self._traits, rest), memory=self._memory,
            )  # fmt: skip
        return None


def _is_picture(place: BlobPlace) -> bool:
    """True for images of three channels, for which there is a quick way from planes to pixels."""
    return len(place.shape) == 4 and place.shape[1] == place.steps[2] == COLOURS


def _pixels_of(place: BlobPlace, outside: int) -> NativeTask:
    """The step that writes a picture, whose planes lie outside, to its place."""
    _, c, h, w = place.shape
    planes = BlobPlace(outside, 0, place.shape, (c * h * w, h * w, w, 1))
    return NativeTask("pixels", planes, place, None, Packed(), StepSettings(block=PIXEL_ROWS))
