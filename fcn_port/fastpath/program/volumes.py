"""Layers over depth, height and width as steps over planes: what each plane of a window's depth adds to the result.

A volume (n, c, d, h, w) lies with its channels side by side, so that some of its planes are images for the C code.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TypeVar

from converters.layers import convolution, volume

from .phases import along
from .places import BlobPlace

Convolved = TypeVar("Convolved", bound=convolution.Convolution)
Depth = tuple[int, int, int, int]
"""Kernel, stride, pad and dilation along the first of three axes."""


@dataclass(frozen=True)
class PlaneStep:
    """Some planes of a result: `at` is the place in the depth of a window, `x` what is read there.

    `z` is the result so far, which lies at `y`, or None where there is none yet; `is_last`: nothing is added later.
    """

    at: int
    x: BlobPlace
    y: BlobPlace
    z: BlobPlace | None
    is_last: bool


def is_volume(place: BlobPlace) -> bool:
    """True for a blob of three axes behind its channels, which lie side by side."""
    return len(place.shape) == 5 and (place.strides[1] == 1 or place.shape[1] == 1)


def of_plane(params: Convolved) -> Convolved:
    """The convolution that one plane of the kernel is."""
    kernel, stride, pad, dilation = (values[1:] for values in params.along(3))
    return replace(params, kernel=kernel, stride=stride, pad=pad, dilation=dilation, given=2)


@dataclass(frozen=True)
class DepthPhase:
    """The planes `at`, `at` + stride ... that a deconvolution makes: a convolution along the depth, of stride 1.

    `planes` are those of the deconvolution's kernel that it has for its places.
    """

    at: int
    depth: Depth
    planes: tuple[int, ...]


def depth_phases(depth: Depth, before: int, after: int) -> list[DepthPhase]:
    """The phases of a deconvolution of so many planes to so many others, as phases.py has them of images."""
    kernel, stride, pad, _ = depth
    found = []
    for at in range(min(stride, after)):
        count, before_first = along(at, kernel, stride, pad, before)
        taps = range((at + pad) % stride, kernel, stride)
        found.append(DepthPhase(at, (count, 1, before_first, 1), tuple(reversed(taps))))
    return found


def every_plane(place: BlobPlace, step: int, at: int) -> BlobPlace:
    """Every so many planes of volumes, from `at` on."""
    n, c, d, h, w = place.shape
    strides = *place.strides[:2], step * place.strides[2], *place.strides[3:]
    return place._replace(
        offset=place.offset + at * place.strides[2], shape=(n, c, -(-(d - at) // step), h, w), strides=strides
    )


def depth_of(params: convolution.Convolution | volume.VolumePooling) -> Depth:
    """Kernel, stride, pad and dilation of a layer along the first of three axes."""
    if isinstance(params, volume.VolumePooling):
        return params.kernel[0], params.stride[0], params.pad[0][0], 1
    kernel, stride, pad, dilation = (values[0] for values in params.along(3))
    return kernel, stride, pad, dilation


def planes(place: BlobPlace, image: int = 0, first: int = 0, count: int | None = None, step: int = 1) -> BlobPlace:
    """Every so many planes of one volume as images."""
    (_, c, d, h, w), strides = place.shape, place.strides
    offset = place.offset + image * strides[0] + first * strides[2]
    shape = d if count is None else count, c, h, w
    return place._replace(offset=offset, shape=shape, strides=(step * strides[2], strides[1], *strides[3:]))


def last_of(depth: Depth, before: int, after: int) -> int | None:
    """The place in a window's depth that lies in the blob for every result, of `after` from `before` planes."""
    kernel, stride, pad, dilation = depth
    ends = [(at * dilation - pad, (after - 1) * stride + at * dilation - pad) for at in range(kernel)]
    inside = [at for at, (first, last) in enumerate(ends) if first >= 0 and last < before]
    return min(inside, key=lambda at: abs(2 * at - kernel + 1)) if inside else None


def plane_steps(depth: Depth, x: BlobPlace, y: BlobPlace, added: BlobPlace | None) -> Iterator[PlaneStep]:
    """The steps of a layer over volumes, the place that `last_of` says last; `added` is a volume they begin with."""
    kernel, stride, pad, dilation = depth
    last = last_of(depth, x.shape[2], y.shape[2])
    for image in range(y.shape[0]):
        written: set[int] = set()
        for at in sorted(range(kernel), key=lambda each: each == last):
            reads = {plane: plane * stride + at * dilation - pad for plane in range(y.shape[2])}
            inside = [plane for plane, read in reads.items() if 0 <= read < x.shape[2]]
            for so_far, run in groupby(inside, key=lambda plane: plane in written):
                first, *rest = run
                count = 1 + len(rest)
                goal = planes(y, image, first, count)
                start = goal if so_far else None if added is None else planes(added, image, first, count)
                yield PlaneStep(at, planes(x, image, reads[first], count, stride), goal, start, at == last)
            written.update(inside)
