"""The part of each blob to compute, for one net and one size of input; the rest is known without the image.

The early layers of a net are those whose windows see, beside what the image changes, only constants. Behind them, in
the late ones, image and outer edge have met, and every layer runs as it is. A blob that the late layers read is put
together from the part that was computed and from the response to an empty image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from types import MappingProxyType

from converters.layers import concat
from converters.net import Interval, Shape, Window

from .geometry import Rect, Span, unpadded
from .graph import Step, StepGraph, is_convolution

COPY_COST = 32
"""Multiply-adds that take as long as copying one float (two AVX-512 cores: 100 G/s beside 12 to 15 GB/s)."""


@dataclass(frozen=True)
class Blob:
    """A blob of the early layers: its two Spans, the part that is computed, and the larger part that its readers read.

    `zero`: it is an input, whose padding in the layers that read it is zero as an empty image is.
    """

    rows: Span
    cols: Span
    zero: bool
    computed: Rect
    needed: Rect

    @property
    def seen(self) -> Rect:
        return Rect(self.rows.seen, self.cols.seen)


@dataclass(frozen=True)
class Plan:
    """The layers that run, `front`, `early` and `late` in order, and the blobs of the early ones.

    The front puts inputs together before any layer pads them. `cut` are the early blobs that the late layers
    read or the net returns. `work` and `literal_work` are the multiply-adds of one image with and without the plan.
    """

    size: tuple[int, int]
    front: tuple[Step, ...]
    early: tuple[Step, ...]
    late: tuple[Step, ...]
    blobs: Mapping[str, Blob]
    cut: tuple[str, ...]
    work: int
    literal_work: int


def make_plan(
    graph: StepGraph, size: tuple[int, int], shapes: Mapping[str, Shape], *, margins_computed: bool = False
) -> Plan:
    """The plan for inputs of `size` (h, w); `shapes` are those of all blobs at that size.

    `margins_computed`: compute the constants around a convolution's output whenever it can be done, at any cost.
    """
    blobs = {name: _input(size) for name in graph.inputs}
    front: list[Step] = []
    early: list[Step] = []
    late: list[Step] = []
    for step in graph.steps:
        keeps_size = bool(step.bottoms) and shapes[step.top][2:] == shapes[step.bottoms[0]][2:]
        blob = _follow(step, blobs, keeps_size=keeps_size)
        if blob is None or step.top in blobs:
            late.append(step)
        else:
            blobs[step.top] = blob
            (front if blob.zero else early).append(step)
    read_by_late = {bottom for step in late for bottom in step.bottoms}
    made = {step.top for step in early}
    cut = tuple(name for name in blobs if name in made and (name in read_by_late or name in graph.outputs))
    for step in reversed(early):
        blobs[step.top] = _demand(step, blobs, early, margins_computed=margins_computed)
    for name in blobs.keys() - made:
        blobs[name] = replace(blobs[name], needed=_needed(name, blobs, early))
    literal = {step.top: step.work * prod(shapes[step.top][2:]) for step in graph.steps}
    saved = sum(literal[step.top] - step.work * blobs[step.top].computed.area for step in early)
    total = sum(literal.values())
    return Plan(size, tuple(front), tuple(early), tuple(late), MappingProxyType(blobs), cut, total - saved, total)


def _input(size: tuple[int, int]) -> Blob:
    rows, cols = (Span(length, Interval(0, length)) for length in size)
    everything = Rect(rows.seen, cols.seen)
    return Blob(rows, cols, True, everything, everything)


def _follow(step: Step, blobs: Mapping[str, Blob], *, keeps_size: bool) -> Blob | None:
    """The output of a step as far as it is seen; None where what is known of its bottoms does not suffice."""
    if any(bottom not in blobs for bottom in step.bottoms):
        return None
    bottoms = [blobs[bottom] for bottom in step.bottoms]
    bottom = bottoms[0]
    is_concatenation = type(step.params) is concat.Concat and step.params.axis % 4 == 1
    if is_concatenation and all(each == bottom and each.zero for each in bottoms):
        return bottom
    if len(bottoms) != 1 or (bottom.zero and not is_convolution(step.params)):  # what no padding reaches saves nothing
        return None
    if step.slidings is None:
        # pixel by pixel, where nothing is added behind the last one, as pads of a 1x1 window's own may
        is_by_pixel = keeps_size and all(step.params.reach(axis=axis) == Window() for axis in (2, 3, 0))
        return replace(bottom, computed=bottom.seen, zero=False) if is_by_pixel else None
    spans = []
    for sliding, span in zip(step.slidings, (bottom.rows, bottom.cols), strict=True):
        if bottom.zero and not sliding.edgeless:
            spans.append(replace(sliding, pad=0).slide(unpadded(span, sliding.pad)))
        else:
            spans.append(sliding.slide(span))
    seen = Rect(spans[0].seen, spans[1].seen)
    if min(seen.rows.size, seen.cols.size) < 1:  # strides that pass over a small image: there is nothing to compute
        return None
    return Blob(spans[0], spans[1], False, seen, seen) if _is_known(step, bottom, seen) else None


def _is_known(step: Step, bottom: Blob, outputs: Rect) -> bool:
    """True where `outputs` of a step read only what is computed of its bottom, and constants around that."""
    if bottom.zero:
        return True
    part = reads(step, outputs)
    inner = Rect(bottom.rows.inner, bottom.cols.inner)
    return bottom.seen.contains(part) or inner.contains(part)


def reads(step: Step, outputs: Rect) -> Rect:
    """The part of its bottom that a step reads for a part of its top."""
    if step.slidings is None:
        return outputs
    rows, cols = step.slidings
    return Rect(rows.reads(outputs.rows), cols.reads(outputs.cols))


def _needed(name: str, blobs: Mapping[str, Blob], early: list[Step]) -> Rect:
    needed = blobs[name].seen
    for step in early:
        if name in step.bottoms:
            needed = needed.union(reads(step, blobs[step.top].computed))
    return needed


def _demand(step: Step, blobs: Mapping[str, Blob], early: list[Step], *, margins_computed: bool) -> Blob:
    """The part of a step's output that is needed, and whether to compute the constants around it or to fill them in."""
    blob = blobs[step.top]
    needed = _needed(step.top, blobs, early)
    margin_work = (needed.area - blob.seen.area) * step.work
    filling_work = needed.area * step.features * COPY_COST
    pays = margin_work > 0 and (margins_computed or margin_work < filling_work)
    extend = pays and _is_known(step, blobs[step.bottoms[0]], needed)
    return replace(blob, needed=needed, computed=needed if extend else blob.seen)
