"""The pieces that a step's work is cut into for threads, and the scratch that a thread needs for one."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from ..points import FORMS, WORTH_CHANNELS, WinogradForm
from .build import library

GATHERED_BYTES = 320 << 10
"""The most bytes of a processor's own cache that the rows of a product fill."""
MOST_ROWS = 108
LONG, LEAST_STRETCHED, STRETCH = 3072, 8 << 20, 640
"""Numbers of a row of which a cache holds a tile or two, bytes of kernels that these would read too often, and the
numbers that are multiplied at a time then, a multiple of vector.h's AT_ONCE."""
SPARSE_SUMS, SPARSE_END = 256 << 10, 16
"""Bytes of sums that wait in a processor's own cache for the next products with rows of zeros, and the floats behind
each group of its kernels."""
LEAST_PAIRS = 48
"""Pairs of such rows that read a group's kernels together, unless threads would have nothing to do then."""
SPARSE_ROWS, FEWEST_PAIRS = 256 << 10, 24
"""Bytes of such rows that stay in a processor's own cache while group after group reads them, where registers of 8
numbers make groups of few kernels; and pairs for which these come from a shared cache as quickly as rows would."""
AMX_TILE, AMX_STEP, PARTS, AMX_END = 16, 32, 3, 16
"""Rows of a tile and numbers of a row in amx.c, the parts that each is the sum of, and the floats behind each panel of
kernels."""
AMX_STRETCH, AMX_PANELS, AMX_ROWS, AMX_BYTES = 128, 16, 288, 1 << 20
"""Numbers of a row that are taken apart at a time; panels and rows of a piece, and bytes that the sums of these, or the
numbers of those, take of a processor's own cache."""
APART_NUMBER, READ_KERNEL = 96, 120
"""The products of a number and a kernel that take as long as taking a number apart, or reading a kernel."""
LEAST_CACHE = 32 << 10
"""Bytes of the first cache of a processor that does not tell."""
DEPTHWISE_BYTES, DEPTHWISE_BAND = 24 << 10, 32 << 10
"""The bytes of a processor's first cache that the inputs of a row of outputs fill; and those of a band of rows, where a
line of it is more than a vector: the line's other vectors come when all rows of the first are done."""
PIECES = 4
"""Pieces of work for each thread, so that one which is put off holds nobody up."""
BLOCKS = ((4 << 20, 24), (16 << 20, 36))
"""Winograd's tiles that a thread evaluates at a time, and interpolates, for kernels of at most so many bytes: few
stay in its own cache with their products, but each block reads all kernels."""
BLOCK = 72
"""For kernels of more bytes."""
SHARED_BYTES, SHARED_BLOCK = 16 << 20, 108
"""Layers with kernels of more bytes than that: all threads work on the same tiles, and read the kernels together."""
HELD_BYTES, LEAST_SPLIT, LEAST_SUMMED = 1 << 20, 1 << 20, 2 << 20
"""The most bytes that all rows, or all tiles, take for threads to divide the kernels and not the rows, so that each
reads its share of them from memory; and the least bytes of kernels, in Winograd's filtering and in Strassen's."""
POINT_PANELS = {16: 1}
"""Panels of Winograd's kernels that a point's tiles are multiplied with in turn, by the floats of a register: 4 of
short ones, which make panels narrow, so that for each by itself tiles came from a shared cache too often."""
APART, SPARE = 16, 64
"""Floats between two points (of winograd.c), and past an end where vectors are written."""


VECTORS_TOGETHER = 4
"""As many does norms.c have room for."""


class Division(NamedTuple):
    """`block`, `group` and `shared` of step.h (for a product: how rows are read).

    `scratch` and `common` are floats for each thread, and for all of them before those.
    """

    block: int
    group: int
    shared: int
    scratch: int
    common: int = 0
    phases: int = 1
    """Parts of a step that must be done one after the other."""
    stretch: int = 0
    """Numbers of a row that are multiplied at a time, 0 for all; for winograd.c, panels that are."""


GATHERED, FLAT, IN_PLACE = range(3)
"""The ways in which product.c reads rows."""


def divide_product(
    *, length: int, positions: int, features: int, rows_are: int, threads: int, is_flat: bool = False
) -> Division:
    """For rows of `length` numbers at so many positions; `is_flat` where they may be read as FLAT ones are."""
    panel, rows = library().panel(), library().most_rows()
    panels = -(-features // panel)
    block = max(rows, min(MOST_ROWS, GATHERED_BYTES // (4 * length)) // rows * rows)
    reads_often = positions > block and 4 * length * features >= LEAST_STRETCHED and length >= LONG
    if rows_are != IN_PLACE and reads_often:
        return _stretched(length, positions, panels, threads=threads, is_flat=is_flat)
    block = up(-(-positions // -(-positions // block)), 2)
    group, wanted = panels, PIECES * threads if threads > 1 else 1
    if rows_are == FLAT and features > positions and panels >= wanted:  # kernels are more than rows, and are divided
        group = min(panels, panels * -(-positions // block) // wanted)
    elif -(-positions // block) < wanted:
        block = min(block, -(-positions // min(wanted, max(1, positions // rows))))
        group = max(1, panels * -(-positions // block) // wanted)
    copied = 0 if rows_are == FLAT else rows if rows_are == IN_PLACE else min(block, positions)
    return Division(block, group, rows_are, up(rows * panel + copied * spread(length) + SPARE, 16))


def _stretched(length: int, positions: int, panels: int, *, threads: int, is_flat: bool) -> Division:
    """Kernels that come from memory once for many rows, whose sums are kept meanwhile; threads divide the kernels."""
    blocks, wanted = -(-positions // MOST_ROWS), PIECES * threads if threads > 1 else 1
    block, group = up(-(-positions // blocks), 2), -(-panels // -(-wanted // blocks))
    copied = spread(STRETCH if is_flat else length)
    scratch = up(block * (group * library().panel() + copied) + SPARE, 16)
    return Division(block, group, FLAT if is_flat else GATHERED, scratch, stretch=STRETCH)


def sparse_outputs(features: int) -> int:
    """The outputs whose sums sparse.c has in registers: as many for all of so many features, but for the last ones.
    With short registers another group costs as much as one vector of outputs that there are not."""
    return _sparse_outputs(features, library().lanes())


@cache
def _sparse_outputs(features: int, lanes: int) -> int:
    vectors = -(-features // lanes)
    found = [-(-vectors // -(-vectors // most)) for most in ((8,) if lanes == 16 else (6, 5, 4))]
    return lanes * min(found, key=lambda each: -(-vectors // each) * (each + 1))


def divide_sparse(*, length: int, images: int, positions: int, features: int, threads: int) -> Division:
    """For rows of `length` numbers at so many positions of each image; `block` counts pairs of rows, `group` groups of
    outputs, `shared` their vectors."""
    lanes = library().lanes()
    wide = _sparse_outputs(features, lanes)
    pairs, groups, wanted = images * -(-positions // 2), -(-features // wide), PIECES * threads if threads > 1 else 1
    fewest = max(-(-threads // groups), -(-8 * pairs * wide // SPARSE_SUMS))
    if lanes < 16:  # on Zen 3; not tried with longer ones
        fewest = max(fewest, -(-pairs // max(FEWEST_PAIRS, SPARSE_ROWS // (8 * length))))
    block = _alike(pairs, max(fewest, min(wanted // groups, pairs // LEAST_PAIRS)), groups, threads)
    stretch = sparse_stretch(wide, lanes)
    at = 4 * block * (-(-length // stretch) + 3)
    return Division(
        block, 1 if threads > 1 else groups, wide // lanes, up(2 * block * wide + at + SPARE, 16), stretch=stretch
    )


def _alike(pairs: int, blocks: int, groups: int, threads: int) -> int:
    """The pairs of a block, of which there are about so many, as many of all groups for each thread."""
    for count in range(blocks, blocks + threads):
        size = -(-pairs // count)
        if -(-pairs // size) * groups % threads == 0:
            return size
    return -(-pairs // blocks)


@cache
def sparse_stretch(wide: int, lanes: int) -> int:
    """The numbers of a row that are multiplied at a time: whose kernels for so many outputs fill the first cache."""
    return max(16, min(64, (library().first_cache() or LEAST_CACHE) * 2 // 3 // (4 * wide) // lanes * lanes))


def divide_amx(*, length: int, positions: int, features: int, threads: int, is_gathered: bool) -> Division:
    """For rows of `length` numbers at so many positions. Each piece takes its rows apart and reads all kernels of its
    panels, so that few rows go with few panels, and many with many."""
    panel, stretch = library().panel(), up(length, AMX_STEP)
    panels = -(-features // panel)
    if not is_gathered:
        stretch = min(stretch, AMX_STRETCH)
    found = []
    for groups in {min(panels, -(-panels // AMX_PANELS) * times) for times in ((1, 2, 4) if threads > 1 else (1,))}:
        group = -(-panels // groups)
        most = min(AMX_ROWS, AMX_BYTES // (2 * PARTS * stretch), AMX_BYTES // (4 * group * panel)) // 32 * 32
        blocks = max(-(-positions // max(most, 32)), -(-2 * threads // groups) if threads > 1 else 1)
        block = up(-(-positions // (up(blocks, threads) if groups % threads else blocks)), AMX_TILE)
        pieces = -(-positions // block) * -(-panels // group)
        each = length * (block * (APART_NUMBER + group * panel) + group * panel * READ_KERNEL)
        found.append((-(-pieces // threads) * each, block, group))
    _, block, group = min(found)
    of_rows = 4 * 2 * block + (spread(length) + AMX_STEP if is_gathered else 0)
    scratch = block * PARTS * stretch // 2 + group * block * panel + of_rows
    return Division(block, group, int(is_gathered), up(scratch + SPARE, 16), stretch=stretch)


def divide_depthwise(
    *, kernel_h: int, stride_h: int, in_w: int, channels: int, h: int, images: int, threads: int
) -> Division:  # fmt: skip
    """Bands of rows of outputs, and as many channels at a time as let the rows that a window reads stay in a cache."""
    lines, most = -(-channels // 16), max(2, DEPTHWISE_BYTES // (64 * kernel_h * in_w))
    groups = -(-lines // most)
    bands = 1 if threads == 1 else -(-PIECES * threads // (images * groups))
    if library().lanes() < 16:
        bands = max(bands, -(-64 * stride_h * h * in_w // DEPTHWISE_BAND))
    return Division(up(-(-h // min(bands, h)), 2), 16 * -(-lines // groups), 0, 0)


def divide_channels(channels: int, *, sets: int, threads: int) -> int:
    """The channels that are looked at together, of so many sets of images each: a few vectors (norms.c)."""
    lanes: int = library().lanes()
    wanted = PIECES * threads if threads > 1 else 1
    return lanes * max(1, min(VECTORS_TOGETHER, sets * -(-channels // lanes) // wanted))


def groups_of(groups: int, features: int) -> int:
    """The groups of a convolution as the C code computes them: several as one, where all their outputs fill a vector.

    Each alone would leave most of it empty, so that the zeros between their kernels cost nothing.
    """
    if groups == 1:
        return 1
    lanes = library().lanes()
    together = [count for count in range(1, groups + 1) if groups % count == 0 and count * features <= groups * lanes]
    return groups // max(together, default=1)


def _is_fair(panels: int, threads: int) -> bool:
    """True where so many panels are shares that are alike, or nearly."""
    return panels % threads == 0 or panels >= PIECES * threads


def divide_winograd(form: str, *, channels: int, features: int, tiles: int, threads: int, behind: int = 0) -> Division:
    """For so many tiles of outputs, each of which reads windows up to the one so far `behind` its own."""
    way, panel, row = FORMS[form], library().panel(), spread(channels)
    points, panels = way.points**2, -(-features // panel)
    count = 4 * way.products * channels * panels * panel
    of_all_tiles = 4 * points * tiles * row
    are_few = count > max(LEAST_SPLIT, 2 * of_all_tiles) and of_all_tiles <= HELD_BYTES and _is_fair(panels, threads)
    shared = threads > 1 and (count > SHARED_BYTES or are_few)
    if shared:
        rows = library().most_rows()
        block = up(-(-tiles // max(1, round(tiles / SHARED_BLOCK))), rows)
        group = up(-(-block // -(-threads // panels)), rows)
    else:
        most = SHARED_BLOCK if way.lean else _most_tiles(count)
        block = group = -(-tiles // up(-(-tiles // most), threads))
    stretch = 1
    if not way.lean and way.pieces == 1:
        pieces = panels * -(-block // group) // (PIECES * threads) if shared else panels
        stretch = max(1, min(POINT_PANELS.get(library().lanes(), 4), pieces))
    of_tiles = points * ((block + behind) * row + APART)
    of_kernels = way.products * (way.evaluated * panel + APART) if way.lean else 0
    of_products = up(stretch * points * (group * panel + APART) + of_kernels + SPARE, 16)
    if shared:
        return Division(block, group, 1, of_products, of_tiles, 2 * -(-tiles // block), stretch)
    return Division(block, group, 0, of_tiles + of_products, stretch=stretch)


def _most_tiles(count: int) -> int:
    """The tiles that a thread evaluates at a time, for kernels of so many bytes."""
    for most, block in BLOCKS:
        if count <= most:
            return block
    return BLOCK


SUMMED_BYTES, LEAST_GROUPS = 640 << 10, 18
"""The most bytes of a processor's own cache that the sums of rows fill in Strassen's algorithm; and groups of rows that
a block has all the same: two tiles, for which kernels come from memory once."""


def divide_strassen(levels: int, *, length: int, features: int, images: int, positions: int, threads: int) -> Division:
    """For rows of `length` numbers at so many positions of each image; `group` counts groups of panels."""
    side, points, panel = 2**levels, 7**levels, library().panel()
    groups, row = images * -(-positions // side), 4 * points * spread(length // side)
    panels = -(-features // (side * panel))
    kernels = 4 * points * (length // side) * panels * side * panel
    if threads > 1 and kernels > LEAST_SUMMED and groups * row <= HELD_BYTES and _is_fair(panels, threads):
        block, group = groups, max(1, panels // (PIECES * threads))
    else:
        block, group = -(-groups // up(-(-groups // max(LEAST_GROUPS, SUMMED_BYTES // row)), threads)), panels
    of_sums = points * spread(block * spread(length // side))
    return Division(block, group, 0, up(points * (block * panel + APART) + of_sums + SPARE, 16))


def tiles_of(form: str, images: int, size: tuple[int, int], dilation: tuple[int, int] = (1, 1)) -> int:
    """Tiles of Winograd's filtering for outputs of this height and width; those `dilation` apart share tiles.

    Windows that only later pieces of a kernel read are tiles without outputs.
    """
    each = FORMS[form]
    return images * _tiles_along(each, size[0], dilation[0]) * _tiles_along(each, size[1], dilation[1])


def with_outputs(form: str, images: int, size: tuple[int, int], dilation: tuple[int, int] = (1, 1)) -> int:
    """The tiles among those that have outputs."""
    whole = WinogradForm(FORMS[form].taps, FORMS[form].tile)
    rows, cols = (_tiles_along(whole, *axis) for axis in zip(size, dilation, strict=True))
    return images * rows * cols


def products_of(
    form: str, channels: int, images: int, size: tuple[int, int], dilation: tuple[int, int] = (1, 1)
) -> int:  # fmt: skip
    """The products of all tiles for each pair of channels: the last tile of a row or column may need fewer."""
    if FORMS[form].pieces > 1 or channels < WORTH_CHANNELS:
        return FORMS[form].products * with_outputs(form, images, size, dilation)
    rows, cols = (_points_along(FORMS[form], *axis) for axis in zip(size, dilation, strict=True))
    return images * rows * cols


def behind(form: str, width: int, dilation: int = 1) -> int:
    """The windows behind a tile's own up to that of its last piece."""
    return (FORMS[form].pieces - 1) * (_tiles_along(FORMS[form], width, dilation) + 1)


def _tiles_along(form: WinogradForm, length: int, dilation: int) -> int:
    if dilation == 1:
        return -(-length // form.tile) + form.pieces - 1
    phases = (-(-(length - phase) // (dilation * form.tile)) for phase in range(min(dilation, length)))
    return sum(tiles + form.pieces - 1 for tiles in phases)


def _points_along(form: WinogradForm, length: int, dilation: int) -> int:
    return length + (form.taps - 1) * _tiles_along(form, length, dilation)


def spread(length: int) -> int:
    """Floats between rows of so many (of vector.h)."""
    return (-(-length // 16) | 1) * 16


def up(count: int, step: int) -> int:
    """The next multiple of a step."""
    return -(-count // step) * step
