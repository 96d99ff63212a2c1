"""The part of a bottom that a top reads, along one spatial axis: the window arithmetic of the whole project.

A layer says it once, in `Layer.reach`; coordinates, tiles and everything else that must know which pixels depend on
which follow from it. Positions are those of a blob (n, c, h, w) along h or along w.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple


class Interval(NamedTuple):
    """The positions lo, lo + 1 ... hi - 1."""

    lo: int
    hi: int

    @property
    def size(self) -> int:
        return self.hi - self.lo

    def union(self, other: Interval) -> Interval:
        """The smallest interval with both in it."""
        return Interval(min(self.lo, other.lo), max(self.hi, other.hi))

    def clip(self, bounds: Interval) -> Interval:
        """The part inside `bounds`."""
        return Interval(max(self.lo, bounds.lo), min(self.hi, bounds.hi))

    def contains(self, other: Interval) -> bool:
        return self.lo <= other.lo and other.hi <= self.hi

    def within(self, origin: Interval) -> slice:
        """This interval as a slice of a tensor that begins at `origin`."""
        return slice(self.lo - origin.lo, self.hi - origin.lo)


class Coordinate(NamedTuple):
    """The place of a bottom's position in the top: top = scale * bottom + shift (coord_map.py of Caffe)."""

    scale: Fraction
    shift: Fraction

    def after(self, inner: Coordinate) -> Coordinate:
        """The map of two layers, `inner` being nearer to the input."""
        return Coordinate(self.scale * inner.scale, self.scale * inner.shift + self.shift)


@dataclass(frozen=True)
class AxisKernel:
    """A kernel along one axis; as it stands, a single position."""

    kernel: int = 1
    stride: int = 1
    pad: int = 0
    dilation: int = 1

    @property
    def extent(self) -> int:
        """The number of positions from the kernel's first element to its last, both included."""
        return self.dilation * (self.kernel - 1) + 1


@dataclass(frozen=True)
class Window(AxisKernel):
    """Output j reads the inputs stride * j - pad + dilation * i for i = 0 ... kernel - 1.

    As it stands, one pixel: the top at a position reads the bottom there and nowhere else. A shift by an offset, as a
    crop has it, is a window of one with the pad -offset.
    """

    @property
    def coordinate(self) -> Coordinate:
        """The map to the centre of the window."""
        return Coordinate(Fraction(1, self.stride), (self.pad - Fraction(self.extent - 1, 2)) / self.stride)

    def reads(self, outputs: Interval) -> Interval:
        """The inputs that these outputs read; may reach past either end, into the padding."""
        first = outputs.lo * self.stride - self.pad
        return Interval(first, (outputs.hi - 1) * self.stride - self.pad + self.extent)

    def touched(self, inputs: Interval) -> Interval:
        """The outputs whose window spans one of these inputs, not yet clipped to the blob."""
        first = (inputs.lo + self.pad - self.extent) // self.stride + 1
        return Interval(first, -(-(inputs.hi + self.pad) // self.stride))

    def inside(self, inputs: Interval) -> Interval:
        """The outputs that read these inputs and no others; where there are none, hi is not above lo."""
        last = (inputs.hi + self.pad - self.extent) // self.stride
        return Interval(-(-(inputs.lo + self.pad) // self.stride), last + 1)


@dataclass(frozen=True)
class Transposed(AxisKernel):
    """A deconvolution's window: input i writes the outputs stride * i - pad + dilation * t for t = 0 ... kernel - 1."""

    @property
    def coordinate(self) -> Coordinate:
        """The map to the centre of what an input writes."""
        return Coordinate(Fraction(self.stride), Fraction(self.extent - 1, 2) - self.pad)

    def touched(self, inputs: Interval) -> Interval:
        """The outputs that one of these inputs writes, not yet clipped to the blob."""
        return Interval(inputs.lo * self.stride - self.pad, (inputs.hi - 1) * self.stride - self.pad + self.extent)

    def inside(self, inputs: Interval) -> Interval:
        """The outputs that only these inputs write."""
        return Interval((inputs.lo - 1) * self.stride + self.extent - self.pad, inputs.hi * self.stride - self.pad)


@dataclass(frozen=True)
class Everything:
    """Every output may read every input. `aligned`: it still lies on the input of the same position, as in MVN."""

    aligned: bool = False

    @property
    def coordinate(self) -> Coordinate | None:
        return PIXEL.coordinate if self.aligned else None


@dataclass(frozen=True)
class Nothing:
    """The values of this bottom do not matter, as those of a Crop's reference."""

    @property
    def coordinate(self) -> None:
        return None


Reach = Window | Transposed | Everything | Nothing

PIXEL = Window()
EVERYTHING = Everything()
ALIGNED = Everything(aligned=True)
NOTHING = Nothing()
