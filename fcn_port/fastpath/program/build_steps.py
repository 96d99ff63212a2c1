"""Steps of the C code for an operation: places, weights, and how the work is divided among threads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from converters.layers import (
    between,
    convolution,
    eltwise,
    inner_product,
    lrn,
    normalize,
    padded,
    softmax,
    tensor,
)
from converters.net import Layer

from ..flow import FlowStep, along_last_axis, operand_kind, own_statistics
from ..native.division import (
    SPARE,
    divide_channels,
)
from ..native.steps import StepSettings
from .activation_steps import activation_of
from .choice import KernelChoice
from .convolution_steps import by_phases, of_group
from .moving import move, sources_of
from .over_time import recurrent_steps
from .places import BlobPlace, as_images, as_rows, of_product
from .task import NativeTask
from .volume_steps import of_volume
from .weights import Packed, PackedWeights

NORMS = ("normalize", "normalize_within", "unit", "standardize")
"""Kernels of norms.c."""
OF_BLOBS = ("SUM", "PROD", "MAXIMUM", "MAX")
"""Operations on two blobs, in the order of the C code; MAX is Eltwise's, which leaves out some NaN."""


def tasks_of(
    operation: FlowStep, kernel: KernelChoice, places: Mapping[str, BlobPlace], weights: PackedWeights, threads: int
) -> list[NativeTask]:
    """The steps that an operation takes."""
    if kernel.depth is None and operation.convolution is not None:
        return _convolution(operation, kernel, places, weights, threads)
    x, y = places[operation.bottoms[0]], places[operation.tops[0]]
    sources = sources_of(operation, [x], [y]) if kernel.name == "move" else None
    if sources is not None:
        return [move(sources, x, y)]
    if isinstance(operation.main.params, between.Interpolating):
        return [_between(operation, operation.main.params, places, weights)]
    if type(operation.main.params) is inner_product.InnerProduct:
        return [_product(operation, operation.main.params, kernel, x, y, weights, threads)]
    if kernel.name == "recurrent":
        return recurrent_steps(operation, places, weights, threads)
    if kernel.depth is not None:
        return of_volume(operation, kernel, kernel.depth, places, weights, threads)
    names = (*operation.bottoms, *operation.tops)
    is_last = along_last_axis(operation.main.params, y.shape)
    images = as_images(*(places[name] for name in names), last=is_last)
    places = places if images is None else dict(zip(names, images, strict=True))
    x, y = places[operation.bottoms[0]], places[operation.tops[0]]
    z = None if operation.addend is None else places[operation.addend]
    activation, slope = activation_of(operation)
    settings = StepSettings(activation=activation)
    params = operation.main.params
    if type(params) is eltwise.Eltwise:
        return _of_blobs(operation, params, places, weights, settings, slope)
    if kernel.name == "operands":
        return _of_operands(operation, places, weights, settings, slope)
    if kernel.name == "pointwise":
        return [_pointwise(x, y, z, weights.constants(operation, y.size[1]), settings, slope)]
    settings = kernel.settings(activation)
    if kernel.name in ("pool_max", "pool_average", "pool_places", "unpool"):
        z = places[(*operation.tops, operation.bottoms[-1])[1]] if kernel.name in ("pool_places", "unpool") else None
        return [NativeTask(kernel.name, x, y, z, Packed(), settings._replace(**_divisor(params, kernel, x)))]
    if kernel.name == "softmax":
        return [NativeTask("softmax", x, y, None, Packed(), settings, scratch=y.size[1] + 2 * SPARE)]
    if isinstance(params, softmax.ArgMax):
        return [NativeTask("largest", x, y, None, Packed(), settings._replace(shared=int(params.out_max_val)))]
    if kernel.name in NORMS:
        return [_norm(operation, x, y, weights, settings, slope, threads)]
    assert isinstance(params, convolution.Deconvolution)
    return by_phases(operation, params, kernel, x, y, weights, threads, activation=activation, slope=slope)


def _convolution(
    operation: FlowStep, kernel: KernelChoice, places: Mapping[str, BlobPlace], weights: PackedWeights, threads: int
) -> list[NativeTask]:
    """The convolution of images, with another value that is added."""
    x, y = places[operation.bottoms[0]], places[operation.tops[0]]
    z = None if operation.addend is None else places[operation.addend]
    activation, slope = activation_of(operation)
    return [
        of_group(kernel, x, y, z, packed, threads, group=group, activation=activation, slope=slope)
        for group, packed in enumerate(weights.of_groups(operation, kernel, x.size[1], threads=threads))
    ]


def _pointwise(
    x: BlobPlace, y: BlobPlace, z: BlobPlace | None, packed: Packed, settings: StepSettings,
    parameters: tuple[float, ...] = (),
) -> NativeTask:  # fmt: skip
    rows = as_rows(x, y, z or y) if packed.is_empty else None
    if rows is not None:
        x, y, z = rows[0], rows[1], None if z is None else rows[2]
    return NativeTask("pointwise", x, y, z, packed, settings, parameters=parameters)


def _between(
    operation: FlowStep, params: between.Interpolating, places: Mapping[str, BlobPlace], weights: PackedWeights
) -> NativeTask:
    """Pixels that are mixtures of four: rows and columns of them as int32, and their shares."""
    bottoms, (top,) = [places[name] for name in operation.bottoms], operation.tops
    x, y = as_images(bottoms[0], places[top], last=params.nhwc) or (bottoms[0], places[top])
    ways = params.between([each.shape for each in bottoms])
    pixels = np.concatenate([each for way in ways for each in (way.first, way.second)]).astype(np.int32)
    table = np.concatenate([pixels.view(np.float32), *(way.share for way in ways)])
    activation, slope = activation_of(operation)
    settings = StepSettings(activation=activation, shared=int(params.by_difference))
    slopes = weights.constants(operation, y.size[1]).slopes
    return NativeTask("resample", x, y, None, Packed(table, None, slopes), settings, parameters=slope)


def _product(
    operation: FlowStep, params: inner_product.InnerProduct, kernel: KernelChoice, bottom: BlobPlace, top: BlobPlace,
    weights: PackedWeights, threads: int,
) -> NativeTask:  # fmt: skip
    x, y = of_product(params.axis, bottom, top) or (bottom, top)
    activation, slope = activation_of(operation)
    (packed,) = weights.of_groups(operation, kernel, x.size[1], threads=threads)
    return of_group(kernel, x, y, None, packed, threads, activation=activation, slope=slope)


def _norm(
    operation: FlowStep, x: BlobPlace, y: BlobPlace, weights: PackedWeights, settings: StepSettings,
    slope: tuple[float, ...], threads: int,
) -> NativeTask:  # fmt: skip
    """A layer that divides numbers by what it knows of others: LRN, Normalize, and those with their own statistics."""
    params, (images, channels, _, _) = operation.main.params, y.size
    if isinstance(params, lrn.LRN):
        numbers = params.alpha / params.local_size ** (1 + params.within_channel), params.k, params.beta
        kind = "normalize_within" if params.within_channel else "normalize"
        scratch = 0 if params.within_channel else channels + 2 * params.local_size + 64
        return NativeTask(kind, x, y, None, Packed(), settings, scratch=scratch, parameters=numbers)
    if isinstance(params, normalize.Normalize):
        now = settings._replace(shared=int(params.across_spatial))
        return NativeTask("unit", x, y, None, weights.factors(operation, channels), now, parameters=(params.eps,))
    own = own_statistics(params)
    assert own is not None
    each = 1 if own.by_image else images
    block = divide_channels(channels, sets=images // each, threads=threads)
    now = settings._replace(shared=int(own.after_root), group=each, block=block)
    slope = (*slope, 0.0, 0.0, 0.0)[:3]
    packed = weights.constants(operation, channels)
    return NativeTask("standardize", x, y, None, packed, now, parameters=(*slope, own.eps))


def _divisor(params: Layer, kernel: KernelChoice, x: BlobPlace) -> Mapping[str, int]:
    """The places that an average divides by: those inside alone, or so many behind the last row and column, too."""
    if isinstance(params, padded.PaddedPooling):
        below, behind = params.pads_after(x.size[2:])
        return {"shared": int(params.method == "AVE_EXC_PAD"), "group": below, "block": behind}
    return {"shared": 0, "group": kernel.pad[0], "block": kernel.pad[1]}


def copies_of(pairs: Iterable[tuple[BlobPlace, BlobPlace]]) -> list[NativeTask]:
    """The steps that copy one place's values to another one, both `as_images`."""
    images = (as_images(*pair) or list(pair) for pair in pairs)
    return [_pointwise(x, y, None, Packed(), StepSettings()) for x, y in images]


def _of_blobs(
    operation: FlowStep, params: eltwise.Eltwise, places: Mapping[str, BlobPlace], weights: PackedWeights,
    settings: StepSettings, parameters: tuple[float, ...],
) -> list[NativeTask]:  # fmt: skip
    """A sum of values times their coefficients, a product or a maximum: two in the first step, then one more."""
    y, terms = places[operation.tops[0]], list(zip(operation.main.bottoms, params.coefficients, strict=True))
    is_sum = params.operation == "SUM"
    if is_sum:
        terms.sort(key=lambda term: term[1] != 1)
    elif params.operation == "MAX":  # of the first two, the second one is kept where neither is the greater
        terms[:2] = terms[1::-1]
    former = places[terms.pop(0)[0]] if terms[0][1] == 1 or not is_sum else None
    slopes = weights.constants(operation, y.size[1]).slopes
    tasks = []
    for number, (name, coefficient) in enumerate(terms, 1):
        is_last = number == len(terms)
        factor = weights.coefficient(operation, coefficient, y.size[1]) if is_sum else None
        now = (settings if is_last else StepSettings())._replace(shared=OF_BLOBS.index(params.operation))
        packed, last = Packed(factor, None, slopes if is_last else None), parameters if is_last else ()
        tasks.append(_pointwise(places[name], y, former, packed, now, last))
        former = y
    return tasks


def _of_operands(
    operation: FlowStep, places: Mapping[str, BlobPlace], weights: PackedWeights, settings: StepSettings,
    parameters: tuple[float, ...],
) -> list[NativeTask]:  # fmt: skip
    """Two blobs or three, one of which may have one number for all pixels of a channel, one step after another."""
    params, y = operation.main.params, places[operation.tops[0]]
    spread = [places[name].spread(y.shape) for name in operation.main.bottoms]
    first, second, *third = (each for each in spread if each is not None)
    slopes = weights.constants(operation, y.size[1]).slopes

    def step(x: BlobPlace, z: BlobPlace, kind: str, *, times: float = 1, last: bool = True) -> NativeTask:
        now = (settings if last else StepSettings())._replace(shared=OF_BLOBS.index(kind))
        packed = Packed(weights.coefficient(operation, times, y.size[1]), None, slopes if last else None)
        return _pointwise(x, y, z, packed, now, parameters if last else ())

    if third:
        return [step(second, first, "PROD", last=False), step(third[0], y, "SUM")]
    if isinstance(params, tensor.Arithmetic) and params.operation == "Sub":
        return [step(second, first, "SUM", times=-1)]
    return [step(first, second, operand_kind(params) or "")]
