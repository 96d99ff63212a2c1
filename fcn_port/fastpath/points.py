"""The matrices of Winograd's minimal filtering, for the tiles and the points that are used; torch-free.

An output tile of m x m of a convolution with an r x r kernel is evaluated at m + r - 1 points along each axis
(`winograd.py` has the equations). The matrices follow from the points (Toom and Cook), in exact fractions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

EVALUATED, SUMMED = 4096, 32
"""Kernels of one output channel that a lean way evaluates at a time, so that they stay in a processor's own cache; and
the most products that are summed before their sum is added to others."""
WORTH_CHANNELS = 96
"""Input channels from which on the last tile of a row or column goes by fewer points: of fewer channels, the products
that are left out cost less than finding those that are not."""
TILES = {3: 4, 5: 2, 7: 2}
"""Side of an output tile by side of the kernel."""


@dataclass(frozen=True)
class WinogradForm:
    """A way of filtering: the sides of kernel and tile, and the pieces that the kernel is cut into along each axis.

    All pieces but the last have as many taps as a tile has outputs, so that the second piece of a tile reads what the
    first one of the next tile does. `lean`: kernels are kept as they are, and evaluated in each pass.
    """

    side: int
    tile: int
    pieces: int = 1
    lean: bool = False

    @cached_property
    def taps(self) -> int:
        """Of the last piece, along one axis; no other has more."""
        return self.side - (self.pieces - 1) * self.tile

    @cached_property
    def points(self) -> int:
        """Along one axis."""
        return self.tile + self.taps - 1

    @cached_property
    def products(self) -> int:
        """Of a tile, for each pair of channels: at infinity pieces with fewer taps than the last have none."""
        return ((self.points - 1) * self.pieces + 1) ** 2

    @cached_property
    def evaluated(self) -> int:
        """Input channels whose kernels a lean way evaluates at a time: a multiple of SUMMED, so that no sum changes."""
        return EVALUATED // self.products // SUMMED * SUMMED


FORMS = {
    **{f"winograd_{side}": WinogradForm(side, tile) for side, tile in TILES.items()},
    "winograd_3_small": WinogradForm(3, 2),
    "winograd_7_pieces": WinogradForm(7, 3, 2),
    "winograd_3_lean": WinogradForm(3, 4, lean=True),
}
"""The C code's: smaller tiles read fewer bytes of kernels for more products, pieces round less for more bytes, and what
is lean gives the same bits for a quarter of the bytes and a tenth more time."""
POINTS: dict[int, tuple[Fraction, ...]] = {
    4: tuple(map(Fraction, ("0", "1", "-1"))),
    6: tuple(map(Fraction, ("0", "5/8", "-5/8", "3/2", "-3/2"))),
    8: tuple(map(Fraction, ("0", "1", "-1", "1/2", "-1/2", "2", "-2"))),
}
"""The points where polynomials are evaluated, by how many points there are; the last one is infinity.

Of fractions whose products float32 holds exactly they are those that round least: the sum over the points of the
squares of a row of B^T, times a row of G, times a column of A^T, is what a sum's rounding is enlarged by. The six round
0.7 times as much as 0, 1, -1, 1/2 and -2 do (docs/log.md).
"""

Matrix = NDArray[np.float64]

SHORT: dict[tuple[int, int], tuple[tuple[int, ...], ...]] = {
    (4, 3): ((0, 3, 4), (1, 2, 3, 4), (1, 2, 3, 4, 5)), (3, 4): ((1, 2, 3, 4), (1, 2, 3, 4, 5)),
    (2, 3): ((0, 1, 2),), (2, 5): ((1, 2, 3, 4, 5),), (2, 7): ((0, 1, 2, 3, 4, 5, 6),),
}  # fmt: skip
"""By (m, r), the points of F(m, r) by which F(1, r), F(2, r) and so on round least; the last one is infinity. Looking
for them takes a tenth of the time in which a process gives its first result."""


@dataclass(frozen=True)
class ShortTile:
    """The way to fewer outputs of a tile by some of its points and its kernels: which points, A^T and B^T.

    `points` are numbers of points along an axis; A^T is (outputs, points), and B^T (points, points) makes up for what
    the kernels' values are divided by for the sake of the other points.
    """

    points: tuple[int, ...]
    output: Matrix
    data: Matrix


@cache
def short_tile(m: int, r: int, outputs: int) -> ShortTile:
    """F(outputs, r) by points of F(m, r)."""
    return tile_by(SHORT[m, r][outputs - 1], m, r)


def tile_by(points: tuple[int, ...], m: int, r: int) -> ShortTile:
    """The outputs of F(m, r), as many as r - 1 less than these of its points, and its matrices."""
    finite, outputs = POINTS[m + r - 1], len(points) - r + 1
    chosen = [finite[i] for i in points if i < len(finite)]
    has_infinity = len(chosen) < len(points)
    rows = []
    for p in chosen:
        factor = _product(p - q for q in finite if q not in chosen)
        rest = [q for q in chosen if q != p]
        rows.append([factor * value for value in (*_polynomial(rest), *[Fraction(0)] * has_infinity)])
    powers = [[p**j for p in chosen] + [Fraction(j == outputs - 1)] * has_infinity for j in range(outputs)]
    data = [*rows, *[_polynomial(chosen)] * has_infinity]
    return ShortTile(points, _array(powers), _array(data))


@cache
def matrices(m: int, r: int) -> tuple[Matrix, Matrix, Matrix]:
    """A^T (m, n), G (n, r) and B^T (n, n) in double precision, for n = m + r - 1 points."""
    points = POINTS[m + r - 1]
    others = [[q for q in points if q != p] for p in points]
    output = [[p**j for j in range(m)] for p in points] + [[Fraction(int(j == m - 1)) for j in range(m)]]
    kernel = [[p**j / _product(p - q for q in rest) for j in range(r)] for p, rest in zip(points, others, strict=True)]
    kernel.append([Fraction(int(j == r - 1)) for j in range(r)])
    data = [[*_polynomial(rest), Fraction(0)] for rest in others] + [_polynomial(points)]

    return np.ascontiguousarray(_array(output).T), _array(kernel), _array(data)


def _array(rows: Sequence[Sequence[Fraction]]) -> Matrix:
    return np.array([[float(value) for value in row] for row in rows])


def _product(factors: object) -> Fraction:
    result = Fraction(1)
    for factor in factors:  # type: ignore[attr-defined]
        result *= factor
    return result


def _polynomial(roots: Sequence[Fraction]) -> list[Fraction]:
    """The coefficients of the product of all (x - root), the constant first."""
    result = [Fraction(1)]
    for root in roots:
        raised = [Fraction(0), *result]
        result = [a - root * b for a, b in zip(raised, [*result, Fraction(0)], strict=True)]
    return result
