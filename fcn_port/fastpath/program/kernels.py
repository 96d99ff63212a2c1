"""The native kernel that computes an operation, for places of certain sizes; and why none does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from converters.layers import (
    convolution,
    eltwise,
    inner_product,
    lrn,
    neuron,
    normalize,
    padded,
    pooling,
    softmax,
    tensor,
    upsample,
    volume,
)

from ..flow import (
    FlowStep,
    along_last_axis,
    is_activation,
    operand_kind,
    own_statistics,
    pads_before,
    plain_convolution,
)
from ..native.division import SHARED_BLOCK, SUMMED_BYTES, groups_of, tiles_of, with_outputs
from ..points import FORMS
from .moving import sources_of
from .places import BlobPlace, as_images, wants_images
from .volumes import Depth, depth_of, is_volume, last_of, of_plane, planes

Pair = tuple[int, int]


@dataclass(frozen=True)
class KernelChoice:
    """A kernel by its name in the C code, with the window that it moves; `why` says what else was possible."""

    name: str
    window: Pair = (1, 1)
    stride: Pair = (1, 1)
    pad: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    depth: Depth | None = None
    """Kernel, stride, pad and dilation along the first of three axes; the rest is of each plane then."""


@dataclass(frozen=True)
class NoKernel:
    """The reason why an operation is left to its layers' own functions."""

    why: str


Decision = KernelChoice | NoKernel


def choose(
    operation: FlowStep, bottoms: Sequence[BlobPlace], tops: Sequence[BlobPlace], *, winograd: bool = True,
    prefer: str | None = None, exact: bool = False, chained: bool = False, usual: str | None = None,
    sparing: bool = False,
) -> Decision:  # fmt: skip
    """The kernel for an operation.

    `winograd`: convolutions may go by ways of fewer multiplications, his and Strassen's; `exact`: by those only that
    round as little as the sums themselves; `chained`: by none that rounds more where layers of its kind follow each
    other (rounding.py); `prefer` names the one to take where it can be taken, in place of the
    quickest; `usual` one whose weights are packed already, which is taken unless another one pays for its packing.
    `sparing`: by none of the SPACIOUS ways, and by LEAN ones too.
    """
    params = operation.main.params
    if len(operation.tops) != 1 and type(params) is not pooling.Pooling:
        return NoKernel(f"{len(operation.tops)} tops")
    if sources_of(operation, bottoms, tops) is not None:
        return KernelChoice("move")
    of_volumes = bottoms and is_volume(bottoms[0])
    if of_volumes and (type(params) is convolution.Convolution or isinstance(params, volume.VolumePooling)):
        ways = SPACIOUS if sparing else LEAN
        return _of_volume(
            params, bottoms[0], tops[0], winograd=winograd, prefer=prefer, exact=exact, without=(*ways, *STRASSEN)
        )
    of_planes = wants_images(operation) and type(params) is not inner_product.InnerProduct
    if of_planes and any(is_volume(place) for place in (*bottoms, *tops)):
        return NoKernel("its blobs are volumes")
    if isinstance(params, tensor.Arithmetic) and any(len(each.shape) != len(tops[0].shape) for each in bottoms):
        return NoKernel("operands whose axes are counted from the last one")
    stacked = [place.stacked for place in (*bottoms, *tops)]
    if not all(place.is_image for place in stacked) or along_last_axis(params, tops[0].shape):
        return _along_last_axis(operation, bottoms, tops)
    rank = len(bottoms[0].shape) if bottoms else 0  # which a volume's axes are counted by
    bottoms, tops = stacked[: len(bottoms)], stacked[len(bottoms) :]
    if operation.affine and operation.main == operation.affine[0]:
        return KernelChoice("pointwise")
    if is_activation(operation.main):
        return KernelChoice("pointwise")
    found = plain_convolution(params)
    if found is not None:
        without = SPACIOUS if sparing else (*LEAN, *(["strassen_2"] if chained else []))
        return _convolution(
            found, pads_before(params, bottoms[0].size[2:]), bottoms[0], tops[0],
            winograd=winograd, prefer=prefer, exact=exact, usual=usual, without=without,
        )  # fmt: skip
    return _of_type(operation, bottoms, tops, rank)


def _of_type(operation: FlowStep, bottoms: Sequence[BlobPlace], tops: Sequence[BlobPlace], rank: int) -> Decision:
    """The kernel of an operation on images for which there is one way at most; axes are those of so many."""
    params = operation.main.params
    if type(params) is convolution.Deconvolution:
        return _deconvolution(params, bottoms[0])
    if type(params) is inner_product.InnerProduct:
        return _inner_product(params, bottoms[0], rank)
    if type(params) is pooling.Pooling:
        return _pooling(params, bottoms[0])
    if type(params) is padded.PaddedPooling:
        return _padded_pooling(params, bottoms[0], tops[0])
    if type(params) is upsample.Upsample:
        return KernelChoice("unpool") if params.unpool else NoKernel("values that are repeated")
    if type(params) is lrn.LRN:
        return _lrn(params)
    if type(params) is softmax.Softmax:
        is_ours = params.axis % rank == 1
        return KernelChoice("softmax") if is_ours else NoKernel(f"Softmax along axis {params.axis}")
    if type(params) is eltwise.Eltwise:
        return KernelChoice("pointwise")
    if type(params) is normalize.Normalize:
        return KernelChoice("unit")
    if own_statistics(params) is not None:
        return KernelChoice("standardize")
    if operand_kind(params) is not None:
        alike = all(place.spread(tops[0].shape) is not None for place in bottoms)
        return KernelChoice("operands") if alike else NoKernel("operands of other shapes")
    return NoKernel(_none_for(operation))


def _none_for(operation: FlowStep) -> str:
    return f"no kernel for layers of type {operation.main.type}"


def _along_last_axis(operation: FlowStep, bottoms: Sequence[BlobPlace], tops: Sequence[BlobPlace]) -> Decision:
    """The kernel of an operation whose blobs are images at most by their last axis, as SSD's scores are."""
    params, shape = operation.main.params, tops[0].shape
    images = as_images(*bottoms, *tops, last=along_last_axis(params, shape))
    if images is not None and not any(type(part.params) is neuron.PReLU for part in operation.parts):
        *read, made = images
        have_all_axes = all(len(place.shape) == len(shape) for place in bottoms)
        if operand_kind(params) is not None and have_all_axes and all(place.spread(made.shape) for place in read):
            return KernelChoice("operands")
        alike = all(place.shape == made.shape for place in read)
        if alike and type(params) is softmax.Softmax and params.axis % len(shape) == len(shape) - 1:
            return KernelChoice("softmax")
        by_itself = is_activation(operation.main) or type(params) is eltwise.Eltwise or along_last_axis(params, shape)
        if alike and by_itself:
            return KernelChoice("pointwise")
    kinds = softmax.Softmax, eltwise.Eltwise
    have_one = wants_images(operation) or is_activation(operation.main) or operation.affine or type(params) in kinds
    return NoKernel("its blobs are no images" if have_one else _none_for(operation))


def _convolution(
    params: convolution.Convolution,
    pad: Pair,
    bottom: BlobPlace,
    top: BlobPlace,
    *,
    winograd: bool,
    prefer: str | None,
    exact: bool,
    usual: str | None,
    without: Sequence[str],
) -> Decision:
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
    cycles = _cycles(found, *each, top, own=channels // params.group)
    left_out = (*without, _left_out(*each, without))
    may_be = {name: count for name, count in cycles.items() if name not in left_out and (not exact or name in EXACT)}
    quickest = min(may_be, key=lambda name: may_be[name])
    if usual in may_be and not _pays(may_be[usual], may_be[quickest], _packing_cycles(quickest, found, *each)):
        quickest = usual
    return replace(found, name=prefer if prefer in cycles else quickest)


def _left_out(channels: int, features: int, without: Sequence[str] = ()) -> str:
    """The one of the forms for 7x7 that is not taken: pieces round least, but their kernels are larger."""
    is_large = 4 * FORMS["winograd_7_pieces"].products * channels * features > MOST_IN_PIECES
    return "winograd_7_pieces" if is_large or "winograd_7_pieces" in without else "winograd_7"


def _pays(usual: float, quickest: float, packing: float) -> bool:
    """True where a kernel is so much quicker than the usual one that a few passes make up for packing its weights."""
    return usual > NEARLY * quickest and PASSES * (usual - quickest) > packing


def _cycles(product: KernelChoice, channels: int, features: int, top: BlobPlace, *, own: int) -> dict[str, float]:
    """The kernels that can compute a convolution, with what they would take; channels and features of one group.

    `own` are the channels that an output has kernels for, fewer where several groups are one.
    """
    cycles = {"product": _product_cycles(product, channels, features, top)}
    if channels > MOST_CHANNELS:
        return cycles
    for levels in (1, 2):
        if channels % (LANES * 2**levels) == 0:
            cycles[f"strassen_{levels}"] = _strassen_cycles(levels, product, channels, features, top)
    if set(product.stride) == {1}:
        for name, form in FORMS.items():
            if product.window == (form.side, form.side) and own >= LEAST_CHANNELS[name.removesuffix("_lean")]:
                cycles[name] = _winograd_cycles(name, product.dilation, channels, features, top)
    return cycles


def _of_volume(
    params: convolution.Convolution | volume.VolumePooling, bottom: BlobPlace, top: BlobPlace, *, winograd: bool,
    prefer: str | None, exact: bool, without: Sequence[str],
) -> Decision:  # fmt: skip
    """The kernel for the planes of a volume; sums are added up where they lie, as Strassen's are not."""
    if isinstance(params, volume.VolumePooling) and not params.kernel:
        x = bottom.stacked
        return KernelChoice("pool_max" if params.method == "MAX" else "pool_average", x.size[2:])
    depth = depth_of(params)
    if last_of(depth, bottom.shape[2], top.shape[2]) is None:
        return NoKernel("windows that reach beyond the volume's first plane and its last one")
    x, y = planes(bottom), planes(top)
    if isinstance(params, volume.VolumePooling):
        return _pooled_volume(params, depth, x, y)
    plane = of_plane(params)
    if params.axis % 5 != 1 or 1 < plane.group == bottom.shape[1]:
        return NoKernel("no convolution over depth, height and width of all channels")
    found = _convolution(
        plane, plane.along(2)[2], x, y,  # type: ignore[arg-type]
        winograd=winograd, prefer=prefer if prefer not in STRASSEN else None, exact=exact, usual=None, without=without,
    )  # fmt: skip
    return replace(found, depth=depth) if isinstance(found, KernelChoice) else found


def _pooled_volume(params: volume.VolumePooling, depth: Depth, x: BlobPlace, y: BlobPlace) -> Decision:
    if params.method != "MAX":
        return NoKernel("averages over depth")
    (_, *kernel), (_, *stride), (_, *pads) = params.kernel, params.stride, params.pad
    for side, step, (before, _), size, windows in zip(kernel, stride, pads, x.size[2:], y.size[2:], strict=True):
        if before >= side or (windows - 1) * step - before >= size:
            return NoKernel("windows that may lie outside the blob")
    pad = pads[0][0], pads[1][0]
    return KernelChoice("pool_max", tuple(kernel), tuple(stride), pad, depth=depth)  # type: ignore[arg-type]


def _deconvolution(params: convolution.Deconvolution, bottom: BlobPlace) -> Decision:
    if len(bottom.shape) != 4 or params.axis % 4 != 1:
        return NoKernel("no deconvolution over height and width")
    window, stride, pad, dilation = params.along(2)
    if dilation != (1, 1):
        return NoKernel("a dilated deconvolution")
    if stride[0] * stride[1] > MOST_PHASES:
        return NoKernel(f"a stride of {stride[0]}x{stride[1]}")
    depthwise = params.group == bottom.shape[1] == params.num_output
    groups = params.group if depthwise else groups_of(params.group, params.num_output)
    return KernelChoice("deconvolution", window, stride, pad, (1, 1), groups)  # type: ignore[arg-type]


MOST_PHASES = 32 * 32
"""Each is a step."""


def _inner_product(params: inner_product.InnerProduct, bottom: BlobPlace, rank: int) -> Decision:
    if params.axis % rank != 1:
        return NoKernel(f"a product from axis {params.axis} on")
    _, _, h, w = bottom.size
    return KernelChoice("product", (h, w))


def _pooling(params: pooling.Pooling, bottom: BlobPlace) -> Decision:
    if len(bottom.shape) != 4 or params.method == "STOCHASTIC":
        return NoKernel(f"{params.method} pooling")
    name = "pool_places" if params.mask else "pool_max" if params.method == "MAX" else "pool_average"
    if params.global_pooling and params.mask:
        return NoKernel("the place of a global maximum is wanted")
    if params.global_pooling:
        return KernelChoice(name, bottom.size[2:])
    if not params.windows_inside:
        return NoKernel("windows that may lie outside the blob")
    return KernelChoice(name, params.kernel, params.stride, params.pad, params.dilation)


def _padded_pooling(params: padded.PaddedPooling, bottom: BlobPlace, top: BlobPlace) -> Decision:
    before = params.pads_before(bottom.size[2:])
    for pad, kernel, stride, size, windows in zip(
        before, params.kernel, params.stride, bottom.size[2:], top.size[2:], strict=True
    ):
        if pad >= kernel or (windows - 1) * stride - pad >= size:
            return NoKernel("windows that may lie outside the blob")
    return KernelChoice("pool_max" if params.method == "MAX" else "pool_average", params.kernel, params.stride, before)


def _lrn(params: lrn.LRN) -> Decision:
    if not (params.k > 0 and params.alpha >= 0):
        return NoKernel(f"a power of what may be negative (k {params.k}, alpha {params.alpha})")
    if not params.within_channel:
        return KernelChoice("normalize", (1, params.local_size))
    pad = params.local_size // 2
    return KernelChoice("normalize_within", (params.local_size, params.local_size), pad=(pad, pad))


EXACT = ("product", "strassen_1", "winograd_3_small", "winograd_7_pieces")
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
MOST_CHANNELS = 4096
"""As many zeros lie around a blob in winograd.c and strassen.c."""

# What kernels take, in cycles of one thread (Zen 4); only comparisons matter.

LANES, PANEL = 16, 32
LEAST_CHANNELS = {"winograd_3": 6, "winograd_3_small": 6, "winograd_5": 6, "winograd_7": 64, "winograd_7_pieces": 32}
"""Moving tiles costs more than so few channels' products. Eight points round more than six: 4e-6 of a layer's largest
value, where fewer channels' direct sum has 3e-7. In pieces, 7x7 of fewer than 32 round up to 2.5 times as much as the
plain net's sums, of more 1.2 to 1.6 times."""
EVALUATING = 11
"""For a vector of kernels at one point, which is done for each block of tiles."""
CACHE_BYTES, FROM_CACHE, FROM_MEMORY = 8 << 20, 8, 4
"""Weights of more bytes come from memory; bytes for each cycle."""
PACKED_BYTE = 3
"""Cycles for each byte that is packed: 1.2 to 2.7 where the memory has been used before, twice as many where not."""


def _product_cycles(kernel: KernelChoice, channels: int, features: int, top: BlobPlace) -> float:
    n, _, h, w = top.size
    positions, length = n * h * w, kernel.window[0] * kernel.window[1] * channels
    sums = positions * length * _lanes(features)
    return _with_reading(1.05 * sums, 4 * length * features) + 3 * positions * length / LANES


def _strassen_cycles(levels: int, kernel: KernelChoice, channels: int, features: int, top: BlobPlace) -> float:
    n, _, h, w = top.size
    side, points = 1 << levels, 7 if levels == 1 else 49
    groups, length = n * -(-h * w // side), kernel.window[0] * kernel.window[1] * channels // side
    panels = -(-features // (side * PANEL))
    sums = points * groups * length * panels * PANEL / LANES
    moving = 7 * points * groups * (length + panels * PANEL) / LANES
    times = -(-4 * points * groups * length // SUMMED_BYTES)
    return _with_reading((1.03, 1.09)[levels - 1] * sums, 4 * points * length * panels * PANEL, times) + moving


def _winograd_cycles(form: str, dilation: Pair, channels: int, features: int, top: BlobPlace) -> float:
    n, _, h, w = top.size
    tiles, products = tiles_of(form, n, (h, w), dilation), FORMS[form].products
    points = FORMS[form].points ** 2
    sums = products * with_outputs(form, n, (h, w), dilation) * channels * _lanes(features)
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
    if name in FORMS:
        return 1 if FORMS[name].lean else FORMS[name].products / FORMS[name].side ** 2
    return (7 / 4) ** int(name[-1]) if name.startswith("strassen") else 1


def _lanes(channels: int) -> int:
    return -(-channels // LANES)


def _with_reading(sums: float, count: float, times: int = 1) -> float:
    """The cycles of sums while so many bytes of weights are read, which does not go quite unnoticed."""
    reading = times * count / (FROM_CACHE if count < CACHE_BYTES else FROM_MEMORY)
    return max(sums, reading) + reading / 4
