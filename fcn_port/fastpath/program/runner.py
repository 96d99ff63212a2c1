"""Runner: a flow with its packed weights, and the programs and the memory that passes over it need."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property
from typing import Any

from numpy.typing import NDArray

from converters.net import Shape

from ..copies import CopiedAtOnce
from ..flow import Flow, Tops
from ..lru_cache import LRUCache
from ..native.kept import KeptMemory
from ..native.memory import Floats, empty
from .choice import UsualKernel
from .decisions import of_one, usual_kernels
from .kept_weights import KeptWeights
from .outputs import own_arrays, room, write
from .program import ArenaPlan
from .shapes import keeps_images_apart
from .sparing import spared
from .traits import Traits, traits_of
from .weights import PackedWeights

SIZES = 64
"""Sizes of input whose programs are kept."""
ALONE_BYTES = 24 << 20
"""The most bytes of an arena with which each thread computes images of its own, so that none waits for others behind
each step. Larger ones do not fit into a cache that processors share: VGG-16 gained nothing when it had 29 MB."""


class Runner(CopiedAtOnce):
    """Passes over a flow with these weights, by state dict key, for inputs of any size; threads may share it."""

    def __init__(
        self, flow: Flow, state: Mapping[str, NDArray[Any]], *, winograd: bool = True, prefer: str | None = None,
        sparing: bool = False, kept: KeptWeights | None = None, own: Mapping[str, Shape] | None = None,
    ) -> None:  # fmt: skip
        """`winograd`, `prefer` and `sparing` as `choose` has them, for all operations; `kept`: see PackedWeights.

        `own` are the shapes of inputs that the net is mostly run for: other sizes keep to its kernels where they can,
        so that a new size has little to pack, and what it spares is spared (sparing.py).
        """
        self.flow, self.weights = flow, PackedWeights(state, kept)
        self._ways, self._own, self._sparing_all = (winograd, prefer), own, sparing
        self._programs: LRUCache[ArenaPlan] = LRUCache(SIZES)
        self._apart: LRUCache[bool] = LRUCache(SIZES)
        self.arenas, self.memory = Arenas(), KeptMemory()

    def program(self, shapes: Mapping[str, Shape], threads: int) -> ArenaPlan:
        """The program for inputs of these shapes."""
        winograd, prefer = self._ways

        def make() -> ArenaPlan:
            is_own = shapes == self._own
            usual = {} if is_own else self._usual
            made = ArenaPlan(
                self.flow, shapes, self.weights, threads=threads, winograd=winograd, prefer=prefer,
                sparing=self._sparing, usual=usual, traits=self._traits, memory=self.memory,
            )  # fmt: skip
            if is_own and prefer is None and shapes == of_one(shapes):
                self._usual = made.as_usual()  # what usual_kernels would say, which need not be asked then
            self.weights.keep()
            return made

        return self._programs.get((tuple(shapes.items()), threads), make)

    @cached_property
    def _traits(self) -> Traits:
        """Those of all plans, an eighth of whose time they would take."""
        return traits_of(self.flow)

    @cached_property
    def _usual(self) -> Mapping[Tops, UsualKernel]:
        if self._own is None or self._ways[1] is not None:
            return {}
        return usual_kernels(self.flow, of_one(self._own), winograd=self._ways[0], sparing=self._sparing)

    @cached_property
    def _sparing(self) -> frozenset[Tops]:
        if self._sparing_all:
            return frozenset(operation.tops for operation in self.flow.operations)
        return frozenset() if self._own is None else spared(self.flow, of_one(self._own))

    def run(self, inputs: Mapping[str, Floats], threads: int) -> dict[str, Floats]:
        """The outputs, arrays of their own; inputs are in the flow's order."""
        found = self._one_by_one(inputs, threads)
        if found is not None:
            return found
        program = self.program({name: x.shape for name, x in inputs.items()}, threads)
        arena = self.arenas.take(program.floats)
        found = own_arrays(program(inputs, arena), self.memory, threads)
        self.arenas.give_back(arena)
        return found

    def _one_by_one(self, inputs: Mapping[str, Floats], threads: int) -> dict[str, Floats] | None:
        """The outputs for several images, each computed by itself; None where that is not the quicker way.

        As many as threads divide evenly are computed by one thread each, the others by all threads together.
        """
        first = {x.shape[:1] for x in inputs.values()}
        if len(first) != 1 or first <= {(), (1,)}:
            return None
        ((count,),) = first
        one: dict[str, Shape] = {name: (1, *x.shape[1:]) for name, x in inputs.items()}
        if not self._apart.get(tuple(one.items()), lambda: keeps_images_apart(self.flow, one)):
            return None
        program = self.program(one, threads)
        if not program.goes_image_by_image:
            return None
        shapes = {name: program.shapes[value][1:] for name, value in self.flow.outputs.items()}
        found = {name: room((count, *shape), self.memory) for name, shape in shapes.items()}
        together = count
        if count >= threads > 1 and 4 * program.floats <= ALONE_BYTES:
            together = count % threads
            alone = self.program(one, 1)
            numbers = deque(range(together, count))
            with ThreadPoolExecutor(threads - 1) as others:
                work = []
                with suppress(RuntimeError):  # at Python's end no thread can be started: this one computes them all
                    work += [others.submit(self._compute, alone, inputs, numbers, found) for _ in range(threads - 1)]
                self._compute(alone, inputs, numbers, found)
            for each in work:
                each.result()
        self._compute(program, inputs, deque(range(together)), found)
        return found

    def _compute(
        self, program: ArenaPlan, inputs: Mapping[str, Floats], numbers: deque[int], found: Mapping[str, Floats]
    ) -> None:
        """Put the outputs for the images of these numbers where they belong; other threads may take some of them."""
        arena = self.arenas.take(program.floats)
        try:
            while (number := _taken(numbers)) is not None:
                each = program({name: x[number : number + 1] for name, x in inputs.items()}, arena)
                for name, value in each.items():
                    write(value, found[name][number : number + 1], program.threads)
        finally:
            numbers.clear()  # where one fails or is interrupted, the others do not go on
            self.arenas.give_back(arena)


def _taken(numbers: deque[int]) -> int | None:
    """The next number, which no other thread has taken; None where there is none left."""
    try:
        return numbers.popleft()
    except IndexError:
        return None


class Arenas:
    """Memory for passes, kept for the next one: as many arenas as there were passes at a time. A copy is empty."""

    def __init__(self) -> None:
        self._idle: deque[Floats] = deque()

    def take(self, floats: int) -> Floats:
        """An arena of at least so many floats."""
        try:
            arena = self._idle.pop()
        except IndexError:
            return empty(floats)
        return arena if arena.size >= floats else empty(floats)

    def give_back(self, arena: Floats) -> None:
        self._idle.append(arena)

    def __reduce__(self) -> tuple[Any, ...]:
        return Arenas, ()
