"""Layers over time as steps of the C code: products for all steps at once, and then one step after another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from ..flow import FlowStep, Recurrence, inner_name, recurrence
from ..native.steps import NONE, TANH, StepSettings
from .choice import KernelChoice
from .convolution_steps import of_group
from .places import BlobPlace, reshaped
from .task import NativeTask
from .weights import Packed, PackedWeights

LEAST_SHARED = 1 << 15
"""Multiply-adds of a step from which on several threads do it together."""
VECTOR = 64
"""Floats that a vector has at most."""
PRODUCT = KernelChoice("product")


@dataclass(frozen=True)
class OverTime:
    """The places of a recurrence: x and static as rows of numbers, cont (T, 1, 1, N) and top (T, D, 1, N)."""

    x: BlobPlace
    cont: BlobPlace | None
    static: BlobPlace | None
    top: BlobPlace


def over_time(found: Recurrence, bottoms: Sequence[BlobPlace], top: BlobPlace) -> OverTime | None:
    """The places of a recurrence; None where numbers lie in another order than its steps."""
    steps = found.time, found.streams
    x = rows_of(bottoms[0], prod(steps))
    cont = None if len(bottoms) < 2 else reshaped(bottoms[1], (*steps, 1))
    static = None if found.static is None else rows_of(bottoms[2], found.streams)
    goal = reshaped(top, (*steps, found.units))
    if x is None or goal is None or goal.strides[2] != 1:
        return None
    if (cont is None) != (len(bottoms) < 2) or (static is None) != (found.static is None):
        return None
    return OverTime(x, cont and by_step(cont), static, by_step(goal))


def rows_of(place: BlobPlace, count: int) -> BlobPlace | None:
    """A blob as so many rows whose numbers lie side by side."""
    rows = reshaped(place, (count, prod(place.shape) // count))
    return None if rows is None or not rows.is_image else rows


def by_step(place: BlobPlace) -> BlobPlace:
    """Numbers (time, streams, c) as images of one row, whose columns are the streams."""
    time, streams, count = place.shape
    apart = place.strides[0]
    return BlobPlace(place.buffer, place.offset, (time, count, 1, streams), (apart, 1, apart, place.strides[1]))


def recurrent_steps(
    operation: FlowStep, places: Mapping[str, BlobPlace], weights: PackedWeights, threads: int
) -> list[NativeTask]:
    """The steps of a layer over time: what is the same for all steps, what each one's x adds, and the units."""
    bottoms, top = [places[name] for name in operation.bottoms], places[operation.tops[0]]
    found = recurrence(operation.main.params, [place.shape for place in bottoms])
    where = None if found is None else over_time(found, bottoms, top)
    assert found is not None and where is not None
    gates, hidden = (places.get(inner_name(operation, part)) for part in ("gates", "hidden"))
    assert gates is not None
    tasks = _gates(found, operation, where, gates, places, weights, threads)
    units = where.top if hidden is None else by_step(hidden)
    tasks.append(_units(found, operation, by_step(gates), where.cont, units, weights))
    if hidden is not None:
        tasks.append(_outputs(found, operation, hidden, top, weights, threads))
    return tasks


def _gates(
    found: Recurrence, operation: FlowStep, where: OverTime, gates: BlobPlace, places: Mapping[str, BlobPlace],
    weights: PackedWeights, threads: int,
) -> list[NativeTask]:  # fmt: skip
    """The steps for that part of the gates which hangs on no step before."""
    bias = None
    if found.bias is not None:
        forget = np.repeat([0.0, found.forget, 0.0, 0.0][: found.gates], found.units)
        bias = weights.of(operation.main)[found.bias] + forget
    packed = weights.matrix(operation, 0, bias=bias, threads=threads)
    rows = reshaped(gates, (found.time * found.streams, found.width))
    assert rows is not None
    if found.static is None or where.static is None:
        return [_product(where.x, rows, None, packed, threads)]
    same = reshaped(places[inner_name(operation, "static gates")], (found.streams, found.width))
    assert same is not None
    of_static = weights.matrix(operation, found.static, bias=None, threads=threads)
    tasks = [_product(where.static, same, None, of_static, threads)]
    for step in range(found.time):
        x, y = (each.narrow(0, step * found.streams, found.streams) for each in (where.x, rows))
        tasks.append(_product(x, y, same, packed, threads))
    return tasks


def _product(
    x: BlobPlace, y: BlobPlace, z: BlobPlace | None, packed: Packed, threads: int, activation: int = NONE
) -> NativeTask:
    """Rows times a matrix."""
    return of_group(PRODUCT, x, y, z, packed, threads, activation=activation)


def _units(
    found: Recurrence, operation: FlowStep, gates: BlobPlace, cont: BlobPlace | None, top: BlobPlace,
    weights: PackedWeights,
) -> NativeTask:  # fmt: skip
    """The steps over time."""
    shared = found.units * found.width * found.streams >= LEAST_SHARED
    settings = StepSettings(group=found.gates, block=int(shared), shared=int(found.truth))
    cells = found.streams * -(-found.units // VECTOR) * VECTOR
    packed = weights.of_units(operation, found.own, found.gates)
    phases = found.time if shared else 1
    return NativeTask("recurrent", gates, top, cont, packed, settings, common=cells, phases=phases)


def _outputs(
    found: Recurrence, operation: FlowStep, hidden: BlobPlace, top: BlobPlace, weights: PackedWeights, threads: int
) -> NativeTask:
    """The outputs of an RNN, for all steps at once; step by step where theirs do not lie one behind the other."""
    count = found.time * found.streams
    bias = weights.of(operation.main)[found.own + 2]
    packed = weights.matrix(operation, found.own + 1, bias=bias, threads=threads)
    x, y = reshaped(hidden, (count, found.units)), reshaped(top, (count, found.units))
    if x is None or y is None:
        goal = reshaped(top, (found.time, found.streams, found.units))
        assert goal is not None
        x, y = by_step(hidden), by_step(goal)
    return _product(x, y, None, packed, threads, TANH)
