"""Bands of rows where they pay: between operations that compute a row of outputs from some rows of inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import prod

from converters.layers import convolution, pooling

from ..flow import Flow, FlowStep, Tops
from ..points import FORMS
from .bands import IN_PLACE, Bands, Choices, HeldRows, reach
from .choice import KernelChoice
from .places import BlobPlace, BlobPlaces, axis_of

LARGE = 8 << 20
"""Bytes of one image's blob from which on only some of its rows are kept: no cache of one core holds it."""
BAND = 4 << 20
"""Bytes of the rows of a band in the largest blob, about: less lets small steps wait for each other."""
LEAST = 16
"""Rows of the first operation's outputs in a band, but for those of a tile that is not whole."""
MOST_KERNELS = 4 << 20
"""Bytes of packed weights that each band reads again."""
BY_ROWS = frozenset((
    "product", "sparse", "amx", *FORMS, "depthwise", "pool_max", "pool_places", "pool_average", "pointwise", "operands",
    "normalize", "softmax", "largest", IN_PLACE.name,
))  # fmt: skip
"""The kernels that compute a row of outputs from some rows of inputs; Strassen's takes positions of all rows."""


def find_bands(flow: Flow, places: BlobPlaces, kernels: Choices) -> tuple[Flow, tuple[Bands, ...]]:
    """The flow in the order in which operations that share bands are neighbours, and these bands."""
    if 4 * max(places.buffers, default=0) < LARGE:
        return flow, ()
    users = _users(flow, places)
    ordered: list[FlowStep] = []
    found: list[Bands] = []
    there, left = set(flow.inputs), list(flow.operations)
    while left:
        group = _group(left, there, places, kernels, users)
        bands = None if len(group) < 2 else _bands(len(ordered), group, places, kernels, users)
        taken = group if bands is not None else [left[0]]
        found += [] if bands is None else [bands]
        ordered += taken
        there.update(top for operation in taken for top in operation.tops)
        mine = {operation.tops for operation in taken}
        left = left[1:] if bands is None else [operation for operation in left if operation.tops not in mine]
    return replace(flow, operations=tuple(ordered)), tuple(found)


def _users(flow: Flow, places: BlobPlaces) -> Mapping[int, frozenset[Tops]]:
    """The tops of the operations that read or write each buffer; () is the world outside of the net."""
    found: dict[int, set[Tops]] = {}
    for name in (*flow.inputs, *flow.outputs.values()):
        found.setdefault(places.values[name].buffer, set()).add(())
    for operation in flow.operations:
        for name in (*operation.bottoms, *operation.tops):
            found.setdefault(places.values[name].buffer, set()).add(operation.tops)
    return {buffer: frozenset(names) for buffer, names in found.items()}


def _group(
    left: Sequence[FlowStep], there: set[str], places: BlobPlaces, kernels: Choices,
    users: Mapping[int, frozenset[Tops]],
) -> list[FlowStep]:  # fmt: skip
    """The first operation and those behind it that read a large blob of the group; all may be computed at once."""
    values = places.values
    if not any(_bytes(values[top]) >= LARGE for top in left[0].tops):
        return []

    def joins(operation: FlowStep, made: set[str]) -> bool:
        is_next = any(name in made and _bytes(values[name]) >= LARGE for name in operation.bottoms)
        return is_next and all(name in made or name in there for name in operation.bottoms)

    group: list[FlowStep] = []
    made: set[str] = set()
    for operation in left:
        if (not group or joins(operation, made)) and _goes_by_rows(operation, kernels, places):
            group.append(operation)
            made.update(operation.tops)
        elif not group:
            return []
    while True:
        inner = _inner(group, places, users)
        kept: list[FlowStep] = []
        made = set()
        for operation in group:
            shares = any(values[name].buffer in inner for name in (*operation.bottoms, *operation.tops))
            if shares and (not kept or joins(operation, made)):
                kept.append(operation)
                made.update(operation.tops)
        if not kept or kept[0] is not group[0]:
            return []
        if len(kept) == len(group):
            return kept
        group = kept


def _inner(group: Sequence[FlowStep], places: BlobPlaces, users: Mapping[int, frozenset[Tops]]) -> frozenset[int]:
    """The large buffers that nobody else uses, and whose values have the same rows and columns."""
    mine = {operation.tops for operation in group}
    made = {places.values[top].buffer for operation in group for top in operation.tops}
    found = set()
    for buffer in made:
        inside = [place for place in places.values.values() if place.buffer == buffer]
        if any(len(place.shape) != 4 for place in inside):
            continue
        alike = {(place.shape[0], *place.shape[2:], place.strides) for place in inside}
        beside = all(place.offset + place.shape[1] <= place.strides[-1] for place in inside)
        if users[buffer] <= mine and len(alike) == 1 and beside and max(map(_bytes, inside)) >= LARGE:
            found.add(buffer)
    return frozenset(found)


def _bytes(place: BlobPlace) -> int:
    """The bytes of one image of a value."""
    return 4 * prod(place.shape[1:])


def _goes_by_rows(operation: FlowStep, kernels: Choices, places: BlobPlaces) -> bool:
    kernel, values = kernels.get(operation.tops), places.values
    blobs = [values[name] for name in (*operation.bottoms, *operation.tops)]
    if kernel is None or kernel.name not in BY_ROWS or any(len(each.shape) != 4 for each in blobs):
        return False
    if kernel is IN_PLACE and axis_of(operation, {name: values[name].shape for name in operation.tops}) != 1:
        return False
    plain = kernel.window[0] == kernel.stride[0] == 1 and kernel.pad[0] == 0
    if operation.addend in operation.main.bottoms and not plain:
        return False  # two ranges of rows of one value
    if kernel.name == "pool_average" and (kernel.pad[0] or type(operation.main.params) is not pooling.Pooling):
        return False  # how many rows it divides by depends on where the blob ends
    images, _, height, _ = values[operation.bottoms[0]].shape
    if any(each.shape[0] != images or (plain and each.shape[2] != height) for each in blobs):
        return False
    return 2 * reach(kernel) <= height and _kernel_bytes(operation, kernel) <= MOST_KERNELS


def _kernel_bytes(operation: FlowStep, kernel: KernelChoice) -> int:
    if not isinstance(operation.weighted, convolution.Convolution):
        return 0
    count = sum(prod(shape) for _, shape in operation.main.blobs[:1])
    if kernel.name in FORMS:
        form = FORMS[kernel.name]
        count = count * form.products // form.side**2
    return 4 * count


def _bands(
    start: int, group: Sequence[FlowStep], places: BlobPlaces, kernels: Choices,
    users: Mapping[int, frozenset[Tops]],
) -> Bands | None:  # fmt: skip
    """The bands of a group; None where there would be one only."""
    inner = _inner(group, places, users)
    height = places.values[group[0].tops[0]].shape[2]
    by_size = max((place for place in places.values.values() if place.buffer in inner), key=_bytes)
    of_row = 4 * by_size.strides[2] * by_size.shape[2] // height
    step = max(LEAST, BAND // of_row // LEAST * LEAST)
    while 2 * step <= height:
        done = _progress(group, places, kernels, inner, step)
        held = {buffer: _hold(buffer, group, places, kernels, done) for buffer in inner}
        if None not in held.values():
            both = {buffer: each for buffer, each in held.items() if each is not None}
            return Bands(
                start, done, {buffer: each for buffer, (each, _) in both.items()},
                {buffer: kept for buffer, (_, kept) in both.items()},
            )  # fmt: skip
        step *= 2
    return None


def _progress(
    group: Sequence[FlowStep], places: BlobPlaces, kernels: Choices, inner: frozenset[int], step: int
) -> tuple[tuple[int, ...], ...]:
    """The rows of each operation that are done after each band, in steps of so many rows of the first one."""
    height = places.values[group[0].tops[0]].shape[2]
    rows = []
    for band in range(-(-height // step)):
        there: dict[str, int] = {}
        now = []
        for operation in group:
            kernel, whole = kernels[operation.tops], places.values[operation.tops[0]].shape[2]
            made = [(name, there[name]) for name in operation.bottoms if name in there]
            counts = [_possible(operation, kernel, name, count, places) for name, count in made]
            count = min([*counts, whole]) if counts else min((band + 1) * step, whole)
            count = whole if count == whole else max(count, 0) // tile_rows(kernel) * tile_rows(kernel)
            there.update(dict.fromkeys(operation.tops, count))
            now.append(count)
        rows.append(now)
    for band in range(len(rows) - 1):
        _only_what_is_read(rows[band], group, places, kernels, inner)
    return tuple(zip(*rows, strict=True))


def _possible(operation: FlowStep, kernel: KernelChoice, name: str, count: int, places: BlobPlaces) -> int:
    """The rows of outputs for which the first `count` rows of a bottom suffice."""
    if count == places.values[name].shape[2]:
        return places.values[operation.tops[0]].shape[2]
    if name != operation.bottoms[0]:
        return count
    return (count + kernel.pad[0] - reach(kernel)) // kernel.stride[0] + 1


def _only_what_is_read(
    rows: list[int], group: Sequence[FlowStep], places: BlobPlaces, kernels: Choices,
    inner: frozenset[int],
) -> None:  # fmt: skip
    """Leave to the next band the rows that nobody reads in this one."""
    for number in reversed(range(len(group) - 1)):
        operation = group[number]
        if any(places.values[top].buffer not in inner for top in operation.tops):
            continue
        read = 0
        for other, count in zip(group[number + 1 :], rows[number + 1 :], strict=True):
            kernel = kernels[other.tops]
            if count and other.bottoms[0] in operation.tops:
                read = max(read, (count - 1) * kernel.stride[0] - kernel.pad[0] + reach(kernel))
            if not set(other.bottoms[1:]).isdisjoint(operation.tops):
                read = max(read, count)
        tile = tile_rows(kernels[operation.tops])
        rows[number] = min(rows[number], -(-read // tile) * tile)


def _hold(
    buffer: int, group: Sequence[FlowStep], places: BlobPlaces, kernels: Choices,
    done: Sequence[Sequence[int]],
) -> tuple[HeldRows, tuple[int, ...]] | None:  # fmt: skip
    """The rows of a buffer in each band, and how many a band finds; None where they could not be moved at once."""
    is_mine: Callable[[str], bool] = lambda name: places.values[name].buffer == buffer  # noqa: E731
    first, kept, most = [0], [0], 0
    for band in range(len(done[0])):
        made = [rows for operation, rows in zip(group, done, strict=True) if any(map(is_mine, operation.tops))]
        if band:
            lowest = min(rows[band - 1] for rows in made)
            for operation, rows in zip(group, done, strict=True):
                kernel, before = kernels[operation.tops], rows[band - 1]
                if before == rows[-1]:
                    continue
                if is_mine(operation.bottoms[0]):
                    lowest = min(lowest, max(0, before * kernel.stride[0] - kernel.pad[0]))
                if any(map(is_mine, operation.bottoms[1:])):
                    lowest = min(lowest, before)
            first.append(lowest)
            kept.append(max(rows[band - 1] for rows in made) - lowest)
            if 0 < first[-1] - first[-2] < kept[-1]:
                return None
        most = max(most, max(rows[band] for rows in made) - first[-1])
    return HeldRows(tuple(first), most), tuple(kept)


def tile_rows(kernel: KernelChoice) -> int:
    """The rows of outputs that are computed together, those of a tile and of the tiles between its rows."""
    return FORMS[kernel.name].tile * kernel.dilation[0] if kernel.name in FORMS else 1
