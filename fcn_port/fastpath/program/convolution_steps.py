"""Steps of the C code for convolutions and deconvolutions of images: a step for each group, or for each phase."""

from __future__ import annotations

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
from ..native.steps import NONE
from .choice import KernelChoice
from .convolutions import reads_places
from .enlarging import enlarging_of
from .phases import phases
from .places import BlobPlace
from .task import NativeTask
from .weights import Packed, PackedWeights

MOST_IN_PLACE, LEAST_IN_PLACE = 128, 12
"""Features up to which copying windows costs more than it helps, and the length of a row of outputs from which on."""
CROWDED, MANY = 512, 256
"""Rows a multiple of so many floats apart share a few places of a cache; copying them pays for so many features."""


def of_group(
    kernel: KernelChoice, x: BlobPlace, y: BlobPlace, z: BlobPlace | None, packed: Packed, threads: int, *,
    group: int = 0, activation: int = NONE, slope: tuple[float, ...] = (),
) -> NativeTask:  # fmt: skip
    """The step of one of a kernel's groups, with its weights; x, y and what is added to y, z, are of all groups."""
    if kernel.groups > 1:
        x, y = _part(x, group, kernel.groups), _part(y, group, kernel.groups)
        z = z and _part(z, group, kernel.groups)
    cut = divide(kernel, x, y, threads)
    settings = kernel.settings(activation, cut.block, cut.group, cut.shared, cut.stretch)
    return NativeTask(kernel.name, x, y, z, packed, settings, cut.scratch, cut.common, slope, cut.phases)


def _part(place: BlobPlace, group: int, groups: int) -> BlobPlace:
    """The channels of one of several groups."""
    count = place.size[1] // groups
    return place.narrow(1, group * count, count)


def by_phases(
    operation: FlowStep, params: convolution.Deconvolution, kernel: KernelChoice, x: BlobPlace, y: BlobPlace,
    weights: PackedWeights, threads: int, *, activation: int, slope: tuple[float, ...], z: BlobPlace | None = None,
    plane: int | None = None,
) -> list[NativeTask]:  # fmt: skip
    """The convolutions that a deconvolution is, each to its own rows and columns of outputs, added to those at z.

    `plane` is that of the kernel where it has several.
    """
    enlarging = None if plane is not None else enlarging_of(operation, params, x, y, weights, activation)
    if enlarging is not None:
        return [enlarging]
    tasks, is_depthwise = [], params.group == x.size[1] == y.size[1] > 1
    for phase in phases(params, x.size[2:], y.size[2:]):
        part, former = y.every(*kernel.stride, *phase.at), z and z.every(*kernel.stride, *phase.at)
        at = phase.at if plane is None else (*phase.at, plane)
        plain = KernelChoice("product", phase.window, pad=phase.pad, groups=kernel.groups)
        if is_depthwise:
            plain = KernelChoice("depthwise", phase.window, pad=phase.pad)
        for group, packed in enumerate(weights.of_groups(operation, plain, x.size[1], threads=threads, at=at)):
            tasks.append(
                of_group(plain, x, part, former, packed, threads, group=group, activation=activation, slope=slope)
            )
    return tasks


def divide(kernel: KernelChoice, x: BlobPlace, y: BlobPlace, threads: int) -> Division:
    """The division of a convolution's work."""
    (_, channels, _, in_w), (n, features, h, w) = x.size, y.size
    if kernel.name == "depthwise":
        return divide_depthwise(
            kernel_h=kernel.window[0], stride_h=kernel.stride[0], in_w=in_w, channels=channels, h=h, images=n,
            threads=threads,
        )  # fmt: skip
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
    if kernel.pad != (0, 0):
        return False
    n, c, h, w = x.size
    image, row, col = x.steps
    if kernel.window == (h, w) and kernel.dilation == (1, 1) and y.size[2:] == (1, 1):
        return (w == 1 or col == c) and (h == 1 or row == w * c)
    whole = (h == 1 or row == w * col) and (n == 1 or image == h * w * col)
    return kernel.window == kernel.stride == (1, 1) and whole and y.size[2:] == (h, w)
