"""The native kernel that computes an operation, for places of certain sizes; and why none does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from converters.layers import (
    between,
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
    Recurrence,
    along_last_axis,
    is_activation,
    operand_kind,
    own_statistics,
    pads_before,
    recurrence,
)
from ..native.division import groups_of
from .choice import Decision, KernelChoice, NoKernel, UsualKernel
from .convolutions import LEAN, SPACIOUS, STRASSEN, quickest_convolution
from .moving import sources_of
from .over_time import over_time
from .places import BlobPlace, as_images, of_product, wants_images
from .volumes import Depth, depth_of, depth_phases, every_plane, is_volume, last_of, of_plane, planes


def choose(
    operation: FlowStep, bottoms: Sequence[BlobPlace], tops: Sequence[BlobPlace], *, winograd: bool = True,
    prefer: str | None = None, exact: bool = False, chained: bool = False, usual: UsualKernel | None = None,
    sparing: bool = False, share: float = 1,
) -> Decision:  # fmt: skip
    """The kernel for an operation.

    `winograd`: convolutions may go by ways of fewer multiplications, his and Strassen's; `exact`: by those only that
    round as little as the sums themselves; `chained`: by none that rounds more where layers of its kind follow each
    other (rounding.py); `prefer` names the one to take where it can be taken, in place of the
    quickest; `usual` one whose weights are packed already, which is taken unless another one pays for its packing.
    `sparing`: by none of the SPACIOUS ways, and by LEAN ones too. `share`: of its first bottom that is not 0.
    """
    params = operation.main.params
    if len(operation.tops) != 1 and type(params) is not pooling.Pooling:
        return NoKernel(f"{len(operation.tops)} tops")
    found = operation.convolution
    if found is not None and all(place.is_image for place in (*bottoms, *tops)):
        without = SPACIOUS if sparing else (*LEAN, *(["strassen_2"] if chained else []))
        return quickest_convolution(
            found, pads_before(params, bottoms[0].size[2:]), bottoms[0], tops[0],
            winograd=winograd, prefer=prefer, exact=exact, usual=usual, without=without, share=share,
        )  # fmt: skip
    if type(params) is pooling.Pooling and all(place.is_image for place in (*bottoms, *tops)):
        return _pooling(params, bottoms[0])
    if sources_of(operation, bottoms, tops) is not None:
        return KernelChoice("move")
    if isinstance(params, between.Interpolating):
        return _interpolating(params, bottoms[0], tops[0])
    of_volumes = bottoms and is_volume(bottoms[0])
    if of_volumes and type(params) is convolution.Deconvolution:
        return _deconvolved_volume(params, bottoms[0], tops[0])
    if of_volumes and (type(params) is convolution.Convolution or isinstance(params, volume.VolumePooling)):
        ways = SPACIOUS if sparing else LEAN
        return _of_volume(
            params, bottoms[0], tops[0], winograd=winograd, prefer=prefer, exact=exact, without=(*ways, *STRASSEN)
        )
    if found_recurrence := recurrence(params, [place.shape for place in bottoms]):
        return _recurrent(found_recurrence, bottoms, tops)
    if type(params) is inner_product.InnerProduct:
        return _inner_product(operation, params, bottoms[0], tops[0])
    if wants_images(operation) and any(is_volume(place) for place in (*bottoms, *tops)):
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
    return _of_type(operation, bottoms, tops, rank)


def _of_type(operation: FlowStep, bottoms: Sequence[BlobPlace], tops: Sequence[BlobPlace], rank: int) -> Decision:
    """The kernel of an operation on images for which there is one way at most; axes are those of so many."""
    params = operation.main.params
    if type(params) is convolution.Deconvolution:
        return _deconvolution(params, bottoms[0])
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
    if type(params) is softmax.ArgMax:
        is_ours = params.axis is not None and params.axis % rank == 1 and params.top_k == 1
        return KernelChoice("largest") if is_ours else NoKernel("ArgMax of several values or along another axis")
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


def _interpolating(params: between.Interpolating, bottom: BlobPlace, top: BlobPlace) -> Decision:
    """The kernel that mixes pixels of `bottom`; another bottom gives a size at most."""
    can_be = as_images(bottom, top, last=True) if params.nhwc else bottom.is_image and top.is_image
    return KernelChoice("resample") if can_be else NoKernel("its blobs are no images")


def _recurrent(found: Recurrence, bottoms: Sequence[BlobPlace], tops: Sequence[BlobPlace]) -> Decision:
    can_be = over_time(found, bottoms, tops[0]) is not None
    return KernelChoice("recurrent") if can_be else NoKernel("its numbers lie in another order")


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


def _of_volume(
    params: convolution.Convolution | volume.VolumePooling, bottom: BlobPlace, top: BlobPlace, *, winograd: bool,
    prefer: str | None, exact: bool, without: Sequence[str],
) -> Decision:  # fmt: skip
    """The kernel for the planes of a volume; sums are added up where they lie, as Strassen's are not."""
    if isinstance(params, volume.VolumePooling) and not params.kernel:
        x = bottom.stacked
        if not x.is_image:
            return NoKernel("planes that do not lie one below the other")
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
    found = quickest_convolution(
        plane, plane.along(2)[2], x, y,  # type: ignore[arg-type]
        winograd=winograd, prefer=prefer if prefer not in STRASSEN else None, exact=exact, usual=None, without=without,
    )  # fmt: skip
    return replace(found, depth=depth) if isinstance(found, KernelChoice) else found


def _deconvolved_volume(params: convolution.Deconvolution, bottom: BlobPlace, top: BlobPlace) -> Decision:
    depth = depth_of(params)
    if params.axis % 5 != 1 or depth[3] != 1:
        return NoKernel("no deconvolution over depth, height and width of all channels, or a dilated one")
    for phase in depth_phases(depth, bottom.shape[2], top.shape[2]):
        if last_of(phase.depth, bottom.shape[2], every_plane(top, depth[1], phase.at).shape[2]) is None:
            return NoKernel("windows that reach beyond the volume's first plane and its last one")
    found = _deconvolution(of_plane(params), planes(bottom))
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
    if not depthwise and stride[0] * stride[1] * groups > MOST_STEPS:
        return NoKernel(f"a stride of {stride[0]}x{stride[1]} in {groups} groups")
    return KernelChoice("deconvolution", window, stride, pad, (1, 1), groups)  # type: ignore[arg-type]


MOST_PHASES, MOST_STEPS = 32 * 32, 4096
"""Each is a step, or one for each group of channels where these are not computed at once."""


def _inner_product(
    operation: FlowStep, params: inner_product.InnerProduct, bottom: BlobPlace, top: BlobPlace
) -> Decision:
    has_slopes = operation.activation is not None and type(operation.activation.params) is neuron.PReLU
    if params.axis % len(bottom.shape) != 1 and (operation.affine or has_slopes):
        return NoKernel("what follows has numbers for another axis than the product's")
    places = of_product(params.axis, bottom, top)
    if places is None:
        return NoKernel("its numbers lie in another order")
    return KernelChoice("product", places[0].size[2:])


def _pooling(params: pooling.Pooling, bottom: BlobPlace) -> Decision:
    if len(bottom.shape) != 4 or params.method == "STOCHASTIC":
        return NoKernel(f"{params.method} pooling")
    name = "pool_places" if params.mask else "pool_max" if params.method == "MAX" else "pool_average"
    if params.global_pooling and params.mask:
        return NoKernel("the place of a global maximum is wanted")
    if params.global_pooling:
        return KernelChoice(name, bottom.size[2:])
    if not params.windows_inside_from(bottom.size[2:]):
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
