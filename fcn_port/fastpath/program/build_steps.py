"""Steps of the C code for an operation: places, weights, and how the work is divided among threads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from converters.layers import activations, between, convolution, eltwise, lrn, neuron, normalize, padded, tensor
from converters.net import Layer

from ..flow import ACTIVATIONS, FlowStep, along_last_axis, operand_kind, own_statistics
from ..native.division import (
    FLAT,
    GATHERED,
    IN_PLACE,
    SPARE,
    Division,
    behind,
    divide_channels,
    divide_depthwise,
    divide_product,
    divide_strassen,
    divide_winograd,
    tiles_of,
)
from ..native.steps import (
    ABSOLUTE,
    CLIP,
    ELU,
    HARD_SIGMOID,
    HARD_SWISH,
    LEAKY,
    NONE,
    PRELU,
    RELU,
    SIGMOID,
    SWISH,
    TANH,
)
from .choice import KernelChoice
from .enlarging import enlarging_of
from .moving import move, sources_of
from .phases import phases
from .places import BlobPlace, as_images
from .task import NativeTask
from .volumes import Depth, plane_steps
from .weights import Packed, PackedWeights

MOST_IN_PLACE, LEAST_IN_PLACE = 128, 12
"""Features up to which copying windows costs more than it helps, and the length of a row of outputs from which on."""


NORMS = ("normalize", "normalize_within", "unit", "standardize")
"""Kernels of norms.c."""
OF_BLOBS = ("SUM", "PROD", "MAX")
"""Operations on two blobs, in the order of the C code."""
CROWDED, MANY = 512, 256
"""Rows a multiple of so many floats apart share a few places of a cache; copying them pays for so many features."""


def tasks_of(
    operation: FlowStep, kernel: KernelChoice, places: Mapping[str, BlobPlace], weights: PackedWeights, threads: int
) -> list[NativeTask]:
    """The steps that an operation takes."""
    x, y = places[operation.bottoms[0]], places[operation.tops[0]]
    sources = sources_of(operation, [x], [y]) if kernel.name == "move" else None
    if sources is not None:
        return [move(sources, x, y)]
    if isinstance(operation.main.params, between.Interpolating):
        return [_between(operation, operation.main.params, places, weights)]
    if kernel.depth is not None:
        return _of_volume(operation, kernel, kernel.depth, places, weights, threads)
    names = (*operation.bottoms, *operation.tops)
    is_last = along_last_axis(operation.main.params, y.shape)
    images = as_images(*(places[name] for name in names), last=is_last)
    places = places if images is None else dict(zip(names, images, strict=True))
    x, y = places[operation.bottoms[0]], places[operation.tops[0]]
    z = None if operation.addend is None else places[operation.addend]
    activation, slope = _activation(operation)
    settings = {"activation": activation}
    params = operation.main.params
    if type(params) is eltwise.Eltwise:
        return _of_blobs(operation, params, places, weights, settings, slope)
    if kernel.name == "operands":
        return _of_operands(operation, places, weights, settings, slope)
    if kernel.name == "pointwise":
        return [NativeTask("pointwise", x, y, z, weights.constants(operation, y.size[1]), settings, parameters=slope)]
    settings |= window_of(kernel)
    if kernel.name in ("pool_max", "pool_average", "pool_places", "unpool"):
        z = places[(*operation.tops, operation.bottoms[-1])[1]] if kernel.name in ("pool_places", "unpool") else None
        return [NativeTask(kernel.name, x, y, z, Packed(), {**settings, **_divisor(params, kernel, x)})]
    if kernel.name == "softmax":
        return [NativeTask("softmax", x, y, None, Packed(), settings, scratch=y.size[1] + 2 * SPARE)]
    if kernel.name in NORMS:
        return [_norm(operation, x, y, weights, settings, slope, threads)]
    if kernel.name == "depthwise":
        return [_depthwise(operation, kernel.window, x, y, z, weights, settings, slope, threads)]
    if isinstance(params, convolution.Deconvolution):
        return _by_phases(operation, params, kernel, x, y, weights, settings, slope, threads)
    groups = range(kernel.groups)
    return [_one_group(operation, kernel, x, y, z, weights, settings, slope, group, threads) for group in groups]


def _between(
    operation: FlowStep, params: between.Interpolating, places: Mapping[str, BlobPlace], weights: PackedWeights
) -> NativeTask:
    """Pixels that are mixtures of four: rows and columns of them as int32, and their shares."""
    bottoms, (top,) = [places[name] for name in operation.bottoms], operation.tops
    x, y = as_images(bottoms[0], places[top], last=params.nhwc) or (bottoms[0], places[top])
    ways = params.between([each.shape for each in bottoms])
    pixels = np.concatenate([each for way in ways for each in (way.first, way.second)]).astype(np.int32)
    table = np.concatenate([pixels.view(np.float32), *(way.share for way in ways)])
    activation, slope = _activation(operation)
    settings = {"activation": activation, "shared": int(params.by_difference)}
    slopes = weights.constants(operation, y.size[1]).slopes
    return NativeTask("resample", x, y, None, Packed(table, None, slopes), settings, parameters=slope)


def _of_volume(
    operation: FlowStep, kernel: KernelChoice, depth: Depth, places: Mapping[str, BlobPlace], weights: PackedWeights,
    threads: int,
) -> list[NativeTask]:  # fmt: skip
    """The steps of a layer over volumes: for each plane of a window's depth, some planes of the result."""
    x, y = places[operation.bottoms[0]], places[operation.tops[0]]
    added = None if operation.addend is None else places[operation.addend]
    activation, slope = _activation(operation)
    tasks = []
    for step in plane_steps(depth, x, y, added):
        settings = {**window_of(kernel), "activation": activation if step.is_last else NONE}
        parameters = slope if step.is_last else ()
        if kernel.name == "pool_max":
            tasks.append(NativeTask("pool_max", step.x, step.y, step.z, Packed(), settings, parameters=parameters))
            continue
        for group in range(kernel.groups):
            at = (step.at, 0)
            made = _one_group(
                operation, kernel, step.x, step.y, step.z, weights, settings, parameters, group, threads, at
            )
            last = made.weights if step.is_last else Packed(made.weights.kernels)
            tasks.append(replace(made, weights=last))
    return tasks


def window_of(kernel: KernelChoice) -> dict[str, int]:
    """The window that a kernel moves, as step.h has it."""
    found = {
        f"{name}{end}": value
        for name, pair in (("kernel", kernel.window), ("stride", kernel.stride), ("dilation", kernel.dilation))
        for end, value in zip(("_h", "_w"), pair, strict=True)
    }
    return found | {"top": kernel.pad[0], "left": kernel.pad[1]}


def _norm(
    operation: FlowStep, x: BlobPlace, y: BlobPlace, weights: PackedWeights, settings: Mapping[str, int],
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
        now = {**settings, "shared": int(params.across_spatial)}
        return NativeTask("unit", x, y, None, weights.factors(operation, channels), now, parameters=(params.eps,))
    own = own_statistics(params)
    assert own is not None
    each = 1 if own.by_image else images
    block = divide_channels(channels, sets=images // each, threads=threads)
    now = {**settings, "shared": int(own.after_root), "group": each, "block": block}
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
    return [NativeTask("pointwise", x, y, None, Packed(), {"activation": NONE}) for x, y in images]


def _one_group(
    operation: FlowStep, kernel: KernelChoice, x: BlobPlace, y: BlobPlace, z: BlobPlace | None, weights: PackedWeights,
    settings: Mapping[str, int], slope: tuple[float, ...], group: int, threads: int, at: tuple[int, int] = (0, 0),
) -> NativeTask:  # fmt: skip
    channels, features = x.size[1] // kernel.groups, y.size[1] // kernel.groups
    packed = weights.packed(operation, kernel.name, (channels, *kernel.window), group, threads=threads, at=at)
    if kernel.groups > 1:
        x = x.narrow(1, group * channels, channels)
        y = y.narrow(1, group * features, features)
        z = z and z.narrow(1, group * features, features)
    cut = divide(kernel, x, y, threads)
    divided = {"block": cut.block, "group": cut.group, "shared": int(cut.shared)}
    return NativeTask(kernel.name, x, y, z, packed, {**settings, **divided}, cut.scratch, cut.common, slope, cut.phases)


def _depthwise(
    operation: FlowStep, window: tuple[int, int], x: BlobPlace, y: BlobPlace, z: BlobPlace | None,
    weights: PackedWeights, settings: Mapping[str, int], slope: tuple[float, ...], threads: int,
    at: tuple[int, int] = (0, 0),
) -> NativeTask:  # fmt: skip
    packed = weights.packed(operation, "depthwise", (1, *window), at=at)
    n, c, h, _ = y.size
    cut = divide_depthwise(kernel_h=window[0], in_w=x.size[3], channels=c, h=h, images=n, threads=threads)
    divided = {"block": cut.block, "group": cut.group}
    return NativeTask("depthwise", x, y, z, packed, {**settings, **divided}, parameters=slope)


def _by_phases(
    operation: FlowStep, params: convolution.Deconvolution, kernel: KernelChoice, x: BlobPlace, y: BlobPlace,
    weights: PackedWeights, settings: Mapping[str, int], slope: tuple[float, ...], threads: int,
) -> list[NativeTask]:  # fmt: skip
    """The convolutions that a deconvolution is, each to its own rows and columns of outputs."""
    enlarging = enlarging_of(operation, params, x, y, weights, settings["activation"])
    if enlarging is not None:
        return [enlarging]
    tasks = []
    for phase in phases(params, x.size[2:], y.size[2:]):
        part, (height, width) = y.every(*kernel.stride, *phase.at), phase.window
        now = {**settings, "kernel_h": height, "kernel_w": width, "stride_h": 1, "stride_w": 1}
        now |= {"top": phase.pad[0], "left": phase.pad[1]}
        if params.group == x.size[1] == y.size[1] > 1:
            tasks.append(_depthwise(operation, phase.window, x, part, None, weights, now, slope, threads, phase.at))
            continue
        plain = KernelChoice("product", phase.window, pad=phase.pad, groups=kernel.groups)
        tasks += [
            _one_group(operation, plain, x, part, None, weights, now, slope, group, threads, phase.at)
            for group in range(kernel.groups)
        ]
    return tasks


def _of_blobs(
    operation: FlowStep, params: eltwise.Eltwise, places: Mapping[str, BlobPlace], weights: PackedWeights,
    settings: Mapping[str, int], parameters: tuple[float, ...],
) -> list[NativeTask]:  # fmt: skip
    """A sum of values times their coefficients, a product or a maximum: two in the first step, then one more."""
    y, terms = places[operation.tops[0]], list(zip(operation.main.bottoms, params.coefficients, strict=True))
    is_sum = params.operation == "SUM"
    if is_sum:
        terms.sort(key=lambda term: term[1] != 1)
    former = places[terms.pop(0)[0]] if terms[0][1] == 1 or not is_sum else None
    slopes = weights.constants(operation, y.size[1]).slopes
    tasks = []
    for number, (name, coefficient) in enumerate(terms, 1):
        is_last = number == len(terms)
        factor = weights.coefficient(coefficient, y.size[1]) if is_sum else None
        now = {**(settings if is_last else {"activation": NONE}), "shared": OF_BLOBS.index(params.operation)}
        packed, last = Packed(factor, None, slopes if is_last else None), parameters if is_last else ()
        tasks.append(NativeTask("pointwise", places[name], y, former, packed, now, parameters=last))
        former = y
    return tasks


def _of_operands(
    operation: FlowStep, places: Mapping[str, BlobPlace], weights: PackedWeights, settings: Mapping[str, int],
    parameters: tuple[float, ...],
) -> list[NativeTask]:  # fmt: skip
    """Two blobs or three, one of which may have one number for all pixels of a channel, one step after another."""
    params, y = operation.main.params, places[operation.tops[0]]
    spread = [places[name].spread(y.shape) for name in operation.main.bottoms]
    first, second, *third = (each for each in spread if each is not None)
    slopes = weights.constants(operation, y.size[1]).slopes

    def step(x: BlobPlace, z: BlobPlace, kind: str, *, times: float = 1, last: bool = True) -> NativeTask:
        now = {**(settings if last else {"activation": NONE}), "shared": OF_BLOBS.index(kind)}
        packed = Packed(weights.coefficient(times, y.size[1]), None, slopes if last else None)
        return NativeTask("pointwise", x, y, z, packed, now, parameters=parameters if last else ())

    if third:
        return [step(second, first, "PROD", last=False), step(third[0], y, "SUM")]
    if isinstance(params, tensor.Arithmetic) and params.operation == "Sub":
        return [step(second, first, "SUM", times=-1)]
    return [step(first, second, operand_kind(params) or "")]


def divide(kernel: KernelChoice, x: BlobPlace, y: BlobPlace, threads: int) -> Division:
    """The division of a convolution's work."""
    (_, channels, _, _), (n, features, h, w) = x.size, y.size
    if kernel.name == "product":
        length, rows_are = kernel.window[0] * kernel.window[1] * channels, _rows_are(kernel, x, y)
        positions = n * h * w
        return divide_product(length=length, positions=positions, features=features, rows_are=rows_are, threads=threads)
    if kernel.name.startswith("strassen"):
        length = kernel.window[0] * kernel.window[1] * channels
        return divide_strassen(int(kernel.name[-1]), length=length, images=n, positions=h * w, threads=threads)
    tiles, more = tiles_of(kernel.name, n, (h, w), kernel.dilation), behind(kernel.name, w, kernel.dilation[1])
    return divide_winograd(kernel.name, channels=channels, features=features, tiles=tiles, threads=threads, behind=more)


def _rows_are(kernel: KernelChoice, x: BlobPlace, y: BlobPlace) -> int:
    """FLAT, IN_PLACE where few outputs would read copied windows and rows are long, else GATHERED."""
    (_, channels, _, _), (_, features, _, w) = x.size, y.size
    if _is_flat(kernel, x, y):
        return GATHERED if x.steps[2] % CROWDED == 0 and features >= MANY and x.size[3] > 1 else FLAT
    together = x.steps[2] == channels and kernel.dilation[1] == 1
    return IN_PLACE if together and features <= MOST_IN_PLACE and w >= LEAST_IN_PLACE else GATHERED


def _is_flat(kernel: KernelChoice, x: BlobPlace, y: BlobPlace) -> bool:
    """True where what each output reads lies together, one output's after another's."""
    n, c, h, w = x.size
    image, row, col = x.steps
    if kernel.pad != (0, 0):
        return False
    if kernel.window == (h, w) and y.size[2:] == (1, 1):
        return (w == 1 or col == c) and (h == 1 or row == w * c)
    whole = (h == 1 or row == w * col) and (n == 1 or image == h * w * col)
    return kernel.window == kernel.stride == (1, 1) and whole and y.size[2:] == (h, w)


def _activation(operation: FlowStep) -> tuple[int, tuple[float, ...]]:
    """Its number in the C code, and its parameters; that of the operation itself where it is nothing else."""
    part = operation.activation or (operation.main if type(operation.main.params) in ACTIVATIONS else None)
    params = None if part is None else part.params
    match params:
        case neuron.ReLU():
            return (LEAKY, (params.negative_slope,)) if params.negative_slope else (RELU, ())
        case neuron.BoundedReLU():
            return CLIP, (max(params.low, 0.0), params.high)
        case neuron.Clip():
            return CLIP, (params.low, params.high)
        case neuron.ELU():
            return ELU, (params.alpha,)
        case neuron.Swish():
            return SWISH, (params.beta,)
        case activations.HardSigmoid():
            return HARD_SIGMOID, (params.alpha, params.beta, 1)
        case activations.HardSwish():
            return HARD_SWISH, (1, 3, 6)
    plain = {neuron.PReLU: PRELU, neuron.Sigmoid: SIGMOID, neuron.TanH: TANH, neuron.AbsVal: ABSOLUTE}
    return plain.get(type(params), NONE), ()
