"""The operations whose weights stay as they are, so that a net takes no more memory than in engines that do not filter.

F(4, 3) has weights four times over; its lean way has them once, evaluates them in each pass, and takes a tenth longer
for the same bits. Other engines have weights once or twice, a third time where they merge a BatchNorm or a Scale into
them, and blobs that ours, in bands and in an arena, do not take.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from math import prod

from converters.net import Shape

from ..flow import Flow, FlowStep, Tops
from .choice import KernelChoice
from .convolutions import LEAN, times_packed
from .decisions import NOT_PLANNED, decisions
from .shapes import shapes_of

OF_WEIGHTS, OF_MERGED, OF_BLOBS = 2.0, 0.75, 1.25
"""Times the bytes of weights, of those that others are merged into, and of the blobs of the operation that has most:
packed weights may take the sum."""
FEW_BYTES, SMALL_BYTES = 64 << 20, 8 << 20
"""Packed weights of a net, and of an operation, that are not worth sparing."""
MOST_TIMES = 4
"""The most that packing makes of weights."""


def spared(flow: Flow, inputs: Mapping[str, Shape]) -> frozenset[Tops]:
    """The tops of operations that go by lean ways where inputs have these shapes: the largest, as many as it takes."""
    sizes = {step.tops: _bytes_of(step) for step in flow.operations}
    if MOST_TIMES * sum(sizes.values()) <= FEW_BYTES:
        return frozenset()
    try:
        usual = _ways(flow, inputs, ())
        packed = {tops: size * times_packed(usual.get(tops, "")) for tops, size in sizes.items()}
        merged = sum(sizes[step.tops] for step in flow.operations if step.affine)
        weights = OF_WEIGHTS * sum(sizes.values()) + OF_MERGED * merged
        may_be = max(FEW_BYTES, weights + OF_BLOBS * _blobs(flow, inputs))
        excess = sum(packed.values()) - may_be
        small = _ways(flow, inputs, sizes) if excess > 0 else {}
    except NOT_PLANNED:
        return frozenset()
    able = [tops for tops, way in small.items() if way in LEAN and packed[tops] >= SMALL_BYTES]
    found = set()
    for tops in sorted(able, key=lambda tops: -packed[tops]):
        if excess > 0:
            excess -= packed[tops] - sizes[tops]
            found.add(tops)
    return frozenset(found)


def _ways(flow: Flow, inputs: Mapping[str, Shape], sparing: Container[Tops]) -> dict[Tops, str]:
    """The names of kernels by the tops of operations."""
    found = decisions(flow, inputs, sparing=sparing)
    return {operation.tops: each.name for operation, each in found if isinstance(each, KernelChoice)}


def _bytes_of(step: FlowStep) -> int:
    return sum(4 * prod(shape) for _, shape in step.main.blobs)


def _blobs(flow: Flow, inputs: Mapping[str, Shape]) -> int:
    """The bytes of what an operation reads and writes, of the one that has most."""
    shapes = shapes_of(flow, inputs)
    return max(4 * sum(prod(shapes[name]) for name in (*step.bottoms, *step.tops)) for step in flow.operations)
