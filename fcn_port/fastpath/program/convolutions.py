"""The quickest kernel of a convolution, by the cycles that each is known to take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

from converters.layers import convolution

from ..flow import FlowStep, pads_before
from ..native import build
from ..native.division import (
    AMX_ROWS,
    AMX_STEP,
    AMX_TILE,
    SHARED_BLOCK,
    SUMMED_BYTES,
    groups_of,
    products_of,
    sparse_outputs,
    sparse_stretch,
    tiles_of,
    up,
)
from ..points import FORMS
from .choice import Decision, KernelChoice, NoKernel, Pair, UsualKernel
from .pace import LANES, pace
from .places import BlobPlace

EXACT = ("product", "sparse", "amx", "strassen_1", "winograd_3_small", "winograd_7_pieces")
"""The ways that round about as little as sums one after the other."""
MOST_IN_PIECES = 128 << 20
"""Bytes of 7x7 kernels in pieces, 1.9 times as many as of whole ones; those of FCNs' fc6 would be a gigabyte."""
SPACIOUS = ("winograd_3", "winograd_7_pieces", "strassen_2")
"""The ways that have weights packed to two and a half to four times their size; others take at most 1.8 times."""
STRASSEN = ("strassen_1", "strassen_2")
LEAN = ("winograd_3_lean",)
"""The ways that other ones are quicker than, and that save memory."""
NEARLY = 1.1
"""Times the quickest kernel's cycles for which a size keeps to the usual one."""
PASSES = 4
"""Passes that must make up for the packing of weights for another kernel than the usual one."""
ALIKE = 4
"""Times fewer outputs than usual, up to which a layer keeps its usual kernel without a comparison with others: hardly
any pays for its packing there, and to compare takes a third of a plan, which is long beside such a pass."""
FEW_NUMBERS = 64
"""Numbers of a row, none of which need be 0, up to which a product without zeros may be quickest all the same."""
MOST_CHANNELS = 4096
"""As many zeros lie around a blob in winograd.c and strassen.c, and amx.c rounds more than sums do from there on."""


def quickest_convolution(
    params: convolution.Convolution,
    pad: Pair,
    bottom: BlobPlace,
    top: BlobPlace,
    *,
    winograd: bool,
    prefer: str | None,
    exact: bool,
    usual: UsualKernel | None,
    without: Sequence[str],
    share: float = 1,
) -> Decision:
    """`share`: of what it reads that is not 0, so far as is known."""
    if len(bottom.shape) != 4 or params.axis % 4 != 1:
        return NoKernel("no convolution over height and width")
    window, stride, _, dilation = params.along(2)
    channels = bottom.shape[1]
    if params.group == channels == params.num_output and params.group > 1:
        return KernelChoice("depthwise", window, stride, pad, dilation)  # type: ignore[arg-type]
    groups = groups_of(params.group, params.num_output)
    found = KernelChoice("product", window, stride, pad, dilation, groups)  # type: ignore[arg-type]
    if not winograd:
        return found
    each = channels // groups, params.num_output // groups
    able = _able(found, bottom, top, each[0], own=channels // params.group)
    is_long = share == 1 and each[0] > FEW_NUMBERS
    left_out = (*without, *(("sparse",) if is_long else ()), _left_out(*each, without), *pace().without)
    may_be = [name for name in able if name not in left_out and (not exact or name in EXACT)]
    cycles = {name: _cycles(name, found, *each, top, share) for name in may_be}
    quickest = min(may_be, key=cycles.__getitem__)
    known = "" if usual is None else usual.kernel.name
    if known in cycles and not _pays(cycles[known], cycles[quickest], _packing_cycles(quickest, found, *each)):
        quickest = known
    name = prefer if prefer in able else quickest
    return found if name == found.name else KernelChoice(name, found.window, found.stride, pad, found.dilation, groups)


def stays(usual: UsualKernel, operation: FlowStep, places: Mapping[str, BlobPlace]) -> bool:
    """True where a convolution's usual kernel can be taken, for as many outputs as usual or somewhat fewer.

    False for AMX, whose SWITCHING weighs the more, the fewer the outputs are, and where one of its values is no image
    at this size, as behind a Permute; what is added to the result is among these.
    """
    bottom, top = places[operation.bottoms[0]], places[operation.tops[0]]
    kernel, count = usual.kernel, prod(top.shape)
    if kernel.name == "amx" or not count <= usual.count <= ALIKE * count:
        return False
    for names in (operation.bottoms, operation.tops):
        for name in names:
            if not places[name].is_image:
                return False
    params = operation.main.params
    is_alike = params is operation.convolution or pads_before(params, bottom.size[2:]) == kernel.pad
    return is_alike and (kernel.name != "sparse" or reads_places(kernel, bottom, top))


def _left_out(channels: int, features: int, without: Sequence[str] = ()) -> str:
    """The one of the forms for 7x7 that is not taken: pieces round least, but their kernels are larger."""
    is_large = 4 * FORMS["winograd_7_pieces"].products * channels * features > MOST_IN_PIECES
    return "winograd_7_pieces" if is_large or "winograd_7_pieces" in without else "winograd_7"


def _pays(usual: float, quickest: float, packing: float) -> bool:
    """True where a kernel is so much quicker than the usual one that a few passes make up for packing its weights."""
    return usual > NEARLY * quickest and PASSES * (usual - quickest) > packing


def _able(product: KernelChoice, bottom: BlobPlace, top: BlobPlace, channels: int, *, own: int) -> list[str]:
    """The kernels that can compute a convolution of so many channels in a group.

    `own` are the channels that an output has kernels for, fewer where several groups are one.
    """
    able = ["product"]
    if reads_places(product, bottom, top):
        able.append("sparse")
    if channels * prod(product.window) <= MOST_CHANNELS and build.library().has_tiles():
        able.append("amx")
    if channels > MOST_CHANNELS:
        return able
    able += [f"strassen_{levels}" for levels in (1, 2) if channels % (LANES * 2**levels) == 0]
    if product.stride == (1, 1):
        for name, form in FORMS.items():
            if product.window == (form.side, form.side) and own >= LEAST_CHANNELS[name.removesuffix("_lean")]:
                able.append(name)
    return able


def reads_places(kernel: KernelChoice, bottom: BlobPlace, top: BlobPlace) -> bool:
    """True for 1x1 windows that lie in the blob, even the last: there may be padding behind it and none before."""
    (_, _, rows, cols), (_, _, height, width), (down, right) = top.size, bottom.size, kernel.stride
    is_inside = (rows - 1) * down < height and (cols - 1) * right < width
    return kernel.window == (1, 1) and kernel.pad == (0, 0) and is_inside


def _cycles(
    name: str, product: KernelChoice, channels: int, features: int, top: BlobPlace, share: float = 1
) -> float:  # fmt: skip
    """The cycles that a kernel would take for a convolution; channels and features of one group."""
    if name == "product":
        return _product_cycles(product, channels, features, top)
    if name == "sparse":
        return _sparse_cycles(channels, features, top, share)
    if name == "amx":
        return _amx_cycles(product, channels, features, top)
    if name in STRASSEN:
        return _strassen_cycles(int(name[-1]), product, channels, features, top)
    return _winograd_cycles(name, product.dilation, channels, features, top)


# What kernels take, in cycles of one thread (Zen 4); only comparisons matter.

PANEL = 32

LEAST_CHANNELS = {"winograd_3": 6, "winograd_3_small": 6, "winograd_5": 6, "winograd_7": 64, "winograd_7_pieces": 32}
"""Moving tiles costs more than so few channels' products. Eight points round more than six: 4e-6 of a layer's largest
value, where fewer channels' direct sum has 3e-7. In pieces, 7x7 of fewer than 32 round up to 2.5 times as much as the
plain net's sums, of more 1.2 to 1.6 times."""
EVALUATING = 11
"""For a vector of kernels at one point, which is done for each block of tiles."""
SWITCHING = 400_000
"""For a layer by AMX: what other layers lose by it, found in whole nets."""
CACHE_BYTES = 8 << 20
"""Weights of more bytes come from memory."""
PACKED_BYTE = 3
"""Cycles for each byte that is packed: 1.2 to 2.7 where the memory has been used before, twice as many where not."""


def _product_cycles(kernel: KernelChoice, channels: int, features: int, top: BlobPlace) -> float:
    n, _, h, w = top.size
    positions, length = n * h * w, kernel.window[0] * kernel.window[1] * channels
    sums = positions * length * _lanes(features)
    moving = 3 * positions * length / LANES + pace().ending * positions * _lanes(features)
    return _with_reading(1.05 * sums, 4 * length * features) + moving


def _sparse_cycles(channels: int, features: int, top: BlobPlace, share: float) -> float:
    n, _, h, w = top.size
    lanes = build.library().lanes()
    wide = sparse_outputs(features)
    groups, vectors = -(-features // wide), max(wide // lanes, pace().waiting)
    stretches = -(-channels // sparse_stretch(wide, lanes))
    each = channels * (1.06 * share * groups * vectors + pace().look) + stretches * groups * pace().stretch
    return _with_reading(n * h * w * each * lanes / LANES, 4 * channels * features)


def _amx_cycles(kernel: KernelChoice, channels: int, features: int, top: BlobPlace) -> float:
    n, _, h, w = top.size
    positions, length = n * h * w, kernel.window[0] * kernel.window[1] * channels
    sums = up(positions, AMX_TILE) * up(length, AMX_STEP) * _lanes(features)
    reading = 2.4 * length * features * -(-positions // AMX_ROWS)
    moving = positions * ((2 if kernel.window == (1, 1) else 4) * length + 1.6 * features)
    return SWITCHING + 0.31 * sums + reading + moving


def _strassen_cycles(levels: int, kernel: KernelChoice, channels: int, features: int, top: BlobPlace) -> float:
    n, _, h, w = top.size
    side, points = 1 << levels, 7 if levels == 1 else 49
    groups, length = n * -(-h * w // side), kernel.window[0] * kernel.window[1] * channels // side
    panels = -(-features // (side * PANEL))
    sums = points * groups * length * panels * PANEL / LANES
    moving = points * groups * (7 * (length + panels * PANEL) + pace().ending * panels * PANEL) / LANES
    times = -(-4 * points * groups * length // SUMMED_BYTES)
    return _with_reading((1.03, 1.09)[levels - 1] * sums, 4 * points * length * panels * PANEL, times) + moving


def _winograd_cycles(form: str, dilation: Pair, channels: int, features: int, top: BlobPlace) -> float:
    n, _, h, w = top.size
    tiles, points = tiles_of(form, n, (h, w), dilation), FORMS[form].points ** 2
    sums = products_of(form, channels, n, (h, w), dilation) * channels * _lanes(features)
    moving = tiles * (60 + 4 * points * _lanes(channels) + 4 * points * _lanes(features))
    if FORMS[form].lean:
        blocks = max(1, round(tiles / SHARED_BLOCK))
        moving += EVALUATING * blocks * points * channels * _lanes(features)
    return _with_reading(1.15 * sums, times_packed(form) * 4 * FORMS[form].side ** 2 * channels * features) + moving


def _packing_cycles(name: str, product: KernelChoice, channels: int, features: int) -> float:
    """The cycles that packing of weights takes, most of them for memory that is written for the first time."""
    return PACKED_BYTE * times_packed(name) * 4 * product.window[0] * product.window[1] * channels * features


def times_packed(name: str) -> float:
    """The bytes of weights that are packed for a kernel, as a multiple of their own."""
    if name == "amx":
        return 1.5
    if name in FORMS:
        return 1 if FORMS[name].lean else FORMS[name].products / FORMS[name].side ** 2
    return (7 / 4) ** int(name[-1]) if name.startswith("strassen") else 1


def _lanes(channels: int) -> float:
    lanes: int = build.library().lanes()
    return -(-channels // lanes) * lanes / LANES


def _with_reading(sums: float, count: float, times: int = 1) -> float:
    """The cycles of sums while so many bytes of weights are read, which does not go quite unnoticed."""
    are_many = count >= CACHE_BYTES
    reading = count / pace().first[are_many] + (times - 1) * count / pace().again[are_many]
    return max(sums, reading) + reading / 4
