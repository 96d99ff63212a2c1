"""Steps of the C code for convolutions and deconvolutions of images: a step for each group, or for each phase."""

from __future__ import annotations

from collections.abc import Mapping

from converters.layers import convolution

from ..flow import FlowStep
from ..native.division import (
    FLAT,
    GATHERED,
    IN_PLACE,
    Division,
    behind,
    divide_amx,
    divide_depthwise,
    divide_product,
    divide_sparse,
    divide_strassen,
    divide_winograd,
    tiles_of,
)
from .choice import KernelChoice
from .convolutions import reads_places
from .enlarging import enlarging_of
from .phases import phases
from .places import BlobPlace
from .task import NativeTask
from .weights import PackedWeights

MOST_IN_PLACE, LEAST_IN_PLACE = 128, 12
"""Features up to which copying windows costs more than it helps, and the length of a row of outputs from which on."""
CROWDED, MANY = 512, 256
"""Rows a multiple of so many floats apart share a few places of a cache; copying them pays for so many features."""


def window_of(kernel: KernelChoice) -> dict[str, int]:
    """The window that a kernel moves, as step.h has it."""
    return {
        "kernel_h": kernel.window[0], "kernel_w": kernel.window[1],
        "stride_h": kernel.stride[0], "stride_w": kernel.stride[1],
        "dilation_h": kernel.dilation[0], "dilation_w": kernel.dilation[1],
        "top": kernel.pad[0], "left": kernel.pad[1],
    }  # fmt: skip


def one_group(
    operation: FlowStep, kernel: KernelChoice, x: BlobPlace, y: BlobPlace, z: BlobPlace | None, weights: PackedWeights,
    settings: Mapping[str, int], slope: tuple[float, ...], group: int, threads: int, at: tuple[int, ...] = (0, 0),
) -> NativeTask:  # fmt: skip
    channels, features = x.size[1] // kernel.groups, y.size[1] // kernel.groups
    packed = weights.packed(operation, kernel.name, (channels, *kernel.window), group, threads=threads, at=at)
    if kernel.groups > 1:
        x = x.narrow(1, group * channels, channels)
        y = y.narrow(1, group * features, features)
        z = z and z.narrow(1, group * features, features)
    cut = divide(kernel, x, y, threads)
    divided = {**settings, **cut.settings}
    return NativeTask(kernel.name, x, y, z, packed, divided, cut.scratch, cut.common, slope, cut.phases)


def depthwise_step(
    operation: FlowStep, window: tuple[int, int], x: BlobPlace, y: BlobPlace, z: BlobPlace | None,
    weights: PackedWeights, settings: Mapping[str, int], slope: tuple[float, ...], threads: int,
    at: tuple[int, ...] = (0, 0),
) -> NativeTask:  # fmt: skip
    packed = weights.packed(operation, "depthwise", (1, *window), at=at)
    (n, c, h, _), stride_h, in_w = y.size, settings["stride_h"], x.size[3]
    cut = divide_depthwise(
        kernel_h=window[0], stride_h=stride_h, in_w=in_w, channels=c, h=h, images=n, threads=threads
    )  # fmt: skip
    return NativeTask("depthwise", x, y, z, packed, {**settings, **cut.settings}, parameters=slope)


def by_phases(
    operation: FlowStep, params: convolution.Deconvolution, kernel: KernelChoice, x: BlobPlace, y: BlobPlace,
    weights: PackedWeights, settings: Mapping[str, int], slope: tuple[float, ...], threads: int,
    z: BlobPlace | None = None, plane: int | None = None,
) -> list[NativeTask]:  # fmt: skip
    """The convolutions that a deconvolution is, each to its own rows and columns of outputs, added to those at z.

    `plane` is that of the kernel where it has several.
    """
    enlarging = None if plane is not None else enlarging_of(operation, params, x, y, weights, settings["activation"])
    if enlarging is not None:
        return [enlarging]
    tasks = []
    for phase in phases(params, x.size[2:], y.size[2:]):
        part, (height, width) = y.every(*kernel.stride, *phase.at), phase.window
        former = z and z.every(*kernel.stride, *phase.at)
        at = phase.at if plane is None else (*phase.at, plane)
        now = {**settings, "kernel_h": height, "kernel_w": width, "stride_h": 1, "stride_w": 1}
        now |= {"top": phase.pad[0], "left": phase.pad[1]}
        if params.group == x.size[1] == y.size[1] > 1:
            tasks.append(depthwise_step(operation, phase.window, x, part, former, weights, now, slope, threads, at))
            continue
        plain = KernelChoice("product", phase.window, pad=phase.pad, groups=kernel.groups)
        tasks += [
            one_group(operation, plain, x, part, former, weights, now, slope, group, threads, at)
            for group in range(kernel.groups)
        ]
    return tasks


def divide(kernel: KernelChoice, x: BlobPlace, y: BlobPlace, threads: int) -> Division:
    """The division of a convolution's work."""
    (_, channels, _, _), (n, features, h, w) = x.size, y.size
    if kernel.name == "product":
        length, is_flat = kernel.window[0] * kernel.window[1] * channels, _is_flat(kernel, x, y)
        rows_are = _flat_rows_are(x, features) if is_flat else _rows_are(kernel, x, y)
        return divide_product(
            length=length, positions=n * h * w, features=features, rows_are=rows_are, threads=threads, is_flat=is_flat
        )
    if kernel.name == "sparse":
        return divide_sparse(length=channels, images=n, positions=h * w, features=features, threads=threads)
    if kernel.name == "amx":
        length = kernel.window[0] * kernel.window[1] * channels
        return divide_amx(
            length=length, positions=n * h * w, features=features, threads=threads,
            is_gathered=not reads_places(kernel, x, y),
        )  # fmt: skip
    if kernel.name.startswith("strassen"):
        length = kernel.window[0] * kernel.window[1] * channels
        return divide_strassen(
            int(kernel.name[-1]), length=length, features=features, images=n, positions=h * w, threads=threads
        )
    tiles, more = tiles_of(kernel.name, n, (h, w), kernel.dilation), behind(kernel.name, w, kernel.dilation[1])
    return divide_winograd(kernel.name, channels=channels, features=features, tiles=tiles, threads=threads, behind=more)


def _flat_rows_are(x: BlobPlace, features: int) -> int:
    """FLAT, or GATHERED where what each output reads shares places of a cache with what many others do."""
    return GATHERED if x.steps[2] % CROWDED == 0 and features >= MANY and x.size[3] > 1 else FLAT


def _rows_are(kernel: KernelChoice, x: BlobPlace, y: BlobPlace) -> int:
    """IN_PLACE where few outputs would read copied windows and rows are long, else GATHERED."""
    (_, channels, _, _), (_, features, _, w) = x.size, y.size
    together = x.steps[2] == channels and kernel.dilation[1] == 1
    return IN_PLACE if together and features <= MOST_IN_PLACE and w >= LEAST_IN_PLACE else GATHERED


def _is_flat(kernel: KernelChoice, x: BlobPlace, y: BlobPlace) -> bool:
    """True where what each output reads lies together, one output's after another's."""
    n, c, h, w = x.size
    image, row, col = x.steps
    if kernel.pad != (0, 0):
        return False
    if kernel.window == (h, w) and kernel.dilation == (1, 1) and y.size[2:] == (1, 1):
        return (w == 1 or col == c) and (h == 1 or row == w * c)
    whole = (h == 1 or row == w * col) and (n == 1 or image == h * w * col)
    return kernel.window == kernel.stride == (1, 1) and whole and y.size[2:] == (h, w)
