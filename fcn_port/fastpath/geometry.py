"""The places of a blob where the image can be seen, its outer edge can, and neither can, one axis at a time.

Feed a net an empty image (all zeros). Every blob is then constant for each channel, except near its outer edge, where
windows reach into a layer's zero padding. Feed it another image of that size: a blob changes only where some window,
through all layers before it, reaches the image. `docs/performance.md` derives the rules; they use nothing but a layer's
kernel, stride and padding.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from converters.net import Interval, Window


class Rect(NamedTuple):
    """Rows and columns of a blob."""

    rows: Interval
    cols: Interval

    @property
    def area(self) -> int:
        return self.rows.size * self.cols.size

    def union(self, other: Rect) -> Rect:
        return Rect(self.rows.union(other.rows), self.cols.union(other.cols))

    def contains(self, other: Rect) -> bool:
        return self.rows.contains(other.rows) and self.cols.contains(other.cols)


@dataclass(frozen=True)
class Span:
    """One axis of a blob of `length` positions.

    `seen` are the positions that the image can change. `edge` (low, high) counts the positions at either end that the
    outer edge can change. A position in neither holds its channel's constant. `stride`: so many pixels of the input lie
    between two positions.
    """

    length: int
    seen: Interval
    edge: tuple[int, int] = (0, 0)
    stride: int = 1

    @property
    def inner(self) -> Interval:
        """The positions that the outer edge cannot change."""
        return Interval(self.edge[0], self.length - self.edge[1])


@dataclass(frozen=True)
class Sliding(Window):
    """A window over one axis with what its layer does at the ends.

    `edgeless`: what lies outside does not count, as in max pooling, so padding alone makes no edge. `ceil`: Caffe's
    pooling rounds the output's length up.
    """

    edgeless: bool = False
    ceil: bool = False

    def length(self, length: int) -> int:
        """The number of outputs that `length` inputs give."""
        free = length + 2 * self.pad - self.extent
        count = -(-free // self.stride) + 1 if self.ceil else free // self.stride + 1
        if self.ceil and (count - 1) * self.stride >= length + self.pad:
            count -= 1  # as Caffe does along both axes where one of them is padded; elsewhere none begins so far
        return count

    def slide(self, span: Span) -> Span:
        """The output's Span."""
        length = self.length(span.length)
        everything = Interval(0, length)
        low, high = span.edge
        first_inner = -(-(low + self.pad) // self.stride) if low or not self.edgeless else 0
        reach = span.length - high + self.pad - self.extent  # the furthest start of a window that sees no edge
        end_inner = reach // self.stride + 1 if high or not self.edgeless else length
        edge = min(max(first_inner, 0), length), min(max(length - end_inner, 0), length)
        return Span(length, self.touched(span.seen).clip(everything), edge, span.stride * self.stride)


def unpadded(span: Span, pad: int) -> Span:
    """An input blob with its zero padding made part of it: to an empty image, padding is more of the same."""
    return replace(span, length=span.length + 2 * pad, seen=Interval(span.seen.lo + pad, span.seen.hi + pad))
