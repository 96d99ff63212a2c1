"""Bands of rows: neighbouring operations that run together, so that of a large blob between them few rows are there.

A band is some rows of the first operation's outputs, and all that the others can make of them. What later bands read
again, the rows at a seam, is moved to the beginning of the blob's memory, so no output is computed twice. Nor does any
number differ: a row of outputs is the same sum wherever it lies, and Winograd's tiles begin at the rows where they
would in the whole blob.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ..flow import Flow, FlowStep, Tops
from .build_steps import copies_of, tasks_of
from .choice import KernelChoice
from .places import BlobPlace, BlobPlaces
from .task import NativeTask
from .weights import PackedWeights

Choices = Mapping[Tops, KernelChoice]
"""Kernels by the tops of an operation; one without is computed as a whole."""
IN_PLACE = KernelChoice("concatenation")
"""The choice for a concatenation, most of whose bottoms are written where they belong."""


@dataclass(frozen=True)
class HeldRows:
    """The rows of a buffer that are there: in each band those from `first[band]` on, never more than `count`."""

    first: tuple[int, ...]
    count: int


@dataclass(frozen=True)
class Bands:
    """Operations of a flow, from the one with number `start` on, that run band by band, one image after the other.

    `done` has for each operation the rows of outputs that are there after each band, `kept` for each buffer that holds
    some rows the number of those which a band finds there; `held` are these buffers.
    """

    start: int
    done: tuple[tuple[int, ...], ...]
    held: Mapping[int, HeldRows]
    kept: Mapping[int, tuple[int, ...]]

    @property
    def count(self) -> int:
        return len(self.done[0])

    @property
    def numbers(self) -> range:
        """The numbers of the operations in the flow."""
        return range(self.start, self.start + len(self.done))

    def words(self, number: int, flow: Flow) -> str:
        """The end of the line that `explain` has for an operation: its company, and how many bands there are."""
        if number != self.start:
            return f", in bands of rows with {flow.operations[self.start].name}"
        others = ", ".join(flow.operations[each].name for each in self.numbers[1:])
        return f", in {self.count} bands of rows with {others}"

    def rows(self, place: BlobPlace, lo: int, hi: int, band: int) -> BlobPlace:
        """The rows lo ... hi - 1 of a value of one image, where they lie in a band."""
        held = self.held.get(place.buffer)
        return place.narrow(2, lo, hi - lo) if held is None else _from(place, held.first[band]).narrow(2, lo, hi - lo)

    def of_image(self, places: BlobPlaces, number: int, names: Collection[str]) -> BlobPlaces:
        """The places of these values of one image."""

        def one(place: BlobPlace) -> BlobPlace:
            return place.narrow(0, 0 if place.buffer in self.held else number, 1)

        copies = {top: tuple((name, one(goal)) for name, goal in pairs) for top, pairs in places.copies.items()}
        values = {name: one(places.values[name]) for name in names}
        return replace(places, values=values, copies=copies)


def floats_of(buffers: Sequence[int], bands: Sequence[Bands], places: BlobPlaces) -> list[int]:
    """The floats of each buffer, where those that hold some rows have no more."""
    sizes = list(buffers)
    for place in places.values.values():
        for each in bands:
            if place.buffer in each.held:
                sizes[place.buffer] = each.held[place.buffer].count * place.strides[2]
    return sizes


def lives_in(bands: Sequence[Bands], lives: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The first and the last operation that needs each buffer; what operations of bands need, they all do."""
    found = list(lives)
    for each in bands:
        first, last = each.numbers[0], each.numbers[-1]
        for number, (lo, hi) in enumerate(found):
            if lo <= last and first <= hi:
                found[number] = min(lo, first), max(hi, last)
    return found


def tasks_in(
    bands: Bands, flow: Flow, places: BlobPlaces, kernels: Choices, weights: PackedWeights,
    threads: int,
) -> Iterator[NativeTask]:  # fmt: skip
    """The steps of all bands, one band after the other."""
    group = [flow.operations[number] for number in bands.numbers]
    names = {name for operation in group for name in (*operation.bottoms, *operation.tops)}
    for image in range(places.values[group[0].tops[0]].shape[0]):
        mine = bands.of_image(places, image, names)
        for band in range(bands.count):
            yield from copies_of(_moves(bands, band, mine))
            for operation, done in zip(group, bands.done, strict=True):
                lo, hi = (done[band - 1] if band else 0), done[band]
                if lo < hi:
                    kernel = kernels[operation.tops]
                    yield from _some_rows(operation, kernel, bands, mine, weights, threads, lo, hi, band)


def _moves(bands: Bands, band: int, places: BlobPlaces) -> Iterator[tuple[BlobPlace, BlobPlace]]:
    """The rows that a band finds, and their places at the beginning of each buffer."""
    for buffer, held in bands.held.items():
        count, moved = bands.kept[buffer][band], held.first[band] - held.first[max(band - 1, 0)]
        if count and moved:
            inside = [place for place in places.values.values() if place.buffer == buffer]
            channels = max(place.offset + place.shape[1] for place in inside)
            goal = inside[0]._replace(offset=0).narrow(2, 0, count)
            goal = goal._replace(shape=(1, channels, *goal.shape[2:]))
            yield _from(goal, -moved), goal


def _from(place: BlobPlace, row: int) -> BlobPlace:
    """The place of a value whose row of this number lies where the first one did."""
    return place._replace(offset=place.offset - row * place.strides[2])


def _some_rows(
    operation: FlowStep, kernel: KernelChoice, bands: Bands, places: BlobPlaces, weights: PackedWeights, threads: int,
    lo: int, hi: int, band: int,
) -> list[NativeTask]:  # fmt: skip
    """The steps for the rows lo ... hi - 1 of an operation's outputs."""
    if kernel is IN_PLACE:
        copies = places.copies[operation.tops[0]]
        pairs = ((places.values[name], goal) for name, goal in copies)
        return copies_of((bands.rows(x, lo, hi, band), bands.rows(y, lo, hi, band)) for x, y in pairs)
    values = {name: bands.rows(places.values[name], lo, hi, band) for name in (*operation.tops, *operation.bottoms[1:])}
    first = operation.bottoms[0]
    begin = lo * kernel.stride[0] - kernel.pad[0]
    end = (hi - 1) * kernel.stride[0] - kernel.pad[0] + reach(kernel)
    from_row, until = max(begin, 0), min(end, places.values[first].shape[2])
    values[first] = bands.rows(places.values[first], from_row, until, band)
    kernel = replace(kernel, pad=(from_row - begin, kernel.pad[1]))
    found = tasks_of(operation, kernel, values, weights, threads)
    if kernel.name == "pool_places":  # which are those in the whole blob
        return [task._replace(parameters=(from_row,)) for task in found]
    return found


def reach(kernel: KernelChoice) -> int:
    """The rows that a window covers."""
    return (kernel.window[0] - 1) * kernel.dilation[0] + 1
