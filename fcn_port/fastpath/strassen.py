"""Products of matrices with fewer multiplications: Strassen's algorithm, as tables for the C code.

A product of 2 x 2 parts by 2 x 2 parts takes 7 products of sums of parts in place of 8 (Strassen, "Gaussian
elimination is not optimal", 1969). His form, and not Winograd's with three sums less: sums are cheap here, and its
rounding is smaller.
"""

from __future__ import annotations

Parts = tuple[int, int, int, int]
"""Factors of the parts (0, 0), (0, 1), (1, 0) and (1, 1)."""

ROWS_OF: tuple[Parts, ...] = (
    (1, 0, 0, 1), (0, 0, 1, 1), (1, 0, 0, 0), (0, 0, 0, 1), (1, 1, 0, 0), (-1, 0, 1, 0), (0, 1, 0, -1),
)  # fmt: skip
"""The parts of the left matrix in each product."""
PANELS_OF: tuple[Parts, ...] = (
    (1, 0, 0, 1), (1, 0, 0, 0), (0, 1, 0, -1), (-1, 0, 1, 0), (0, 0, 0, 1), (1, 1, 0, 0), (0, 0, 1, 1),
)  # fmt: skip
"""The parts of the right matrix in each product."""
RESULTS: tuple[tuple[int, ...], ...] = (
    (1, 0, 0, 1, -1, 0, 1), (0, 0, 1, 0, 1, 0, 0), (0, 1, 0, 1, 0, 0, 0), (1, -1, 1, 0, 0, 1, 0),
)  # fmt: skip
"""The products in each part of the result."""
