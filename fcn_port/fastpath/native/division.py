"""The pieces that a step's work is cut into for threads, and the scratch that a thread needs for one."""

from __future__ import annotations

from dataclasses import dataclass

from ..winograd import TILES
from .build import POINTS_OF, library

GATHERED_BYTES = 320 << 10
"""The most bytes of a processor's own cache that the rows of a product fill."""
MOST_ROWS = 96
PIECES = 4
"""Pieces of work for each thread, so that one which is put off holds nobody up."""
BLOCK = 72
"""Winograd's tiles that a thread evaluates at a time, and interpolates: what its own cache holds, in most layers."""
SHARED_BYTES, SHARED_BLOCK = 16 << 20, 108
"""Layers with kernels of more bytes than that: all threads work on the same tiles, and read the kernels together."""
APART, SPARE = 16, 64
"""Floats between two points (of winograd.c), and past an end where vectors are written."""


@dataclass(frozen=True)
class Division:
    """`block`, `group` and `shared` of step.h (for a product: how rows are read).

    `scratch` and `common` are floats for each thread, and for all of them before those.
    """

    block: int
    group: int
    shared: int
    scratch: int
    common: int = 0


GATHERED, FLAT, IN_PLACE = range(3)
"""The ways in which product.c reads rows."""


def divide_product(*, length: int, positions: int, features: int, rows_are: int, threads: int) -> Division:
    """For rows of `length` numbers at so many positions."""
    panel, rows = library().panel(), library().most_rows()
    panels = -(-features // panel)
    block = max(rows, min(MOST_ROWS, GATHERED_BYTES // (4 * length)) // rows * rows)
    group, wanted = panels, PIECES * threads if threads > 1 else 1
    if -(-positions // block) < wanted:
        block = max(1, min(block, max(rows, -(-positions // wanted))))
        group = max(1, panels * -(-positions // block) // wanted)
    gathered = {GATHERED: min(block, positions) * spread(length), FLAT: 0, IN_PLACE: rows * spread(length)}
    return Division(block, group, rows_are, up(rows * panel + gathered[rows_are] + SPARE, 16))


def divide_winograd(*, side: int, channels: int, features: int, tiles: int, threads: int) -> Division:
    """For kernels of `side` x `side` and so many tiles of outputs."""
    panel, rows = library().panel(), library().most_rows()
    points, panels = POINTS_OF[side] ** 2, -(-features // panel)
    shared = threads > 1 and 4 * points * channels * panels * panel > SHARED_BYTES
    if shared:
        block = up(-(-tiles // max(1, round(tiles / SHARED_BLOCK))), rows)
        group = up(-(-block // -(-threads // panels)), rows)
    else:
        block = group = min(BLOCK, max(1, -(-tiles // threads)))
    of_tiles = points * (block * spread(channels) + APART)
    of_products = up(points * (group * panel + APART) + SPARE, 16)
    if shared:
        return Division(block, group, 1, of_products, of_tiles)
    return Division(block, group, 0, of_tiles + of_products)


def tiles_of(side: int, images: int, h: int, w: int) -> int:
    """Tiles of Winograd's filtering for so many outputs."""
    return images * -(-h // TILES[side]) * -(-w // TILES[side])


def spread(length: int) -> int:
    """Floats between rows of so many (of vector.h)."""
    return (-(-length // 16) | 1) * 16


def up(count: int, step: int) -> int:
    """The next multiple of a step."""
    return -(-count // step) * step
