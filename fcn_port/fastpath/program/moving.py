"""Layers that move numbers and compute none, as tables of where each number comes from.

Along each axis of the top a place has a distance, and the sum of the four says where its number lies in the bottom: so
it is for axes in another order, blobs in another shape, shuffled channels, blocks of pixels, and pixels repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np
from numpy.typing import NDArray

from converters.lazy import import_or_say
from converters.net import Layer, Shape

from ..flow import FlowStep
from ..native.memory import Floats
from ..native.steps import StepSettings
from .places import LINE, BlobPlace, floats_of
from .task import NativeTask
from .weights import Packed

Places = NDArray[np.int32]

MOST_NUMBERS = 1 << 27
"""Floats up to which a bottom and a top may reach for the tables to be found, in three times as much memory."""
AXES = 4
BANDS = 4
"""Pieces of work at least, where there are so many rows: each has a line's worth of them at most."""


@dataclass(frozen=True)
class Sources:
    """The distances (floats) in the bottom that each of four axes of a top adds; axes before the top's own have one."""

    along: tuple[Places, ...]

    def table(self) -> Floats:
        """The distances of one axis after the other as the C code has them: int32, in an array that says float32."""
        return np.concatenate(self.along).view(np.float32)


def sources_of(operation: FlowStep, bottoms: Sequence[BlobPlace], tops: Sequence[BlobPlace]) -> Sources | None:
    """The distances of a layer that moves numbers; None for any other, and where they do not add up."""
    params = operation.main.params
    if len(operation.parts) > 1 or len(bottoms) != 1 or len(tops) != 1:
        return None
    (bottom,), (top,) = bottoms, tops
    if not params.moves or params.open_sizes() or not bottom.shape or len(top.shape) > AXES:
        return None
    if max(floats_of(bottom), prod(top.shape)) > MOST_NUMBERS:
        return None
    return _sources(params, operation.main.place, bottom.shape, bottom.strides, top.shape)


def move(sources: Sources, x: BlobPlace, y: BlobPlace) -> NativeTask:
    """The step that moves the numbers at x to y."""
    rest = AXES - len(y.shape)
    shape, strides = (1,) * rest + y.shape, (0,) * rest + y.strides
    whole = BlobPlace(y.buffer, y.offset, (shape[0], shape[3], shape[1], shape[2]), (strides[0], 1, *strides[1:3]))
    anywhere = BlobPlace(x.buffer, x.offset, (1, 1), (1, 1))
    settings = StepSettings(group=strides[3], block=max(1, min(LINE, shape[1] // BANDS)))
    return NativeTask("move", anywhere, whole, None, Packed(sources.table()), settings)


def exchanges_images(operation: FlowStep, bottom: Shape) -> bool:
    """True where a layer that moves numbers gives one image's for another one's; `bottom` is the shape of one image."""
    params, place = operation.main.params, operation.main.place
    torch = import_or_say("torch", f"{place}, whose numbers are moved,")
    numbers = torch.arange(2.0, device="cpu").view(2, *[1] * (len(bottom) - 1))
    with torch.no_grad():
        (moved,) = params.forward((numbers.expand(2, *bottom[1:]),), ())
    return moved.shape[0] != 2 or any(moved[image].ne(image).any() for image in range(2))


@lru_cache(maxsize=64)
def _sources(params: Layer, place: str, shape: Shape, strides: Shape, top: Shape) -> Sources | None:
    """Found by having the layer move the distances themselves."""
    torch = import_or_say("torch", f"{place}, whose numbers are moved,")
    distances = torch.zeros(shape, dtype=torch.int32, device="cpu")
    for axis, (size, stride) in enumerate(zip(shape, strides, strict=True)):
        along = torch.arange(size, dtype=torch.int32, device="cpu") * stride
        distances += along.view(-1, *[1] * (len(shape) - axis - 1))
    with torch.no_grad():
        (moved,) = params.forward((distances,), ())
        moved = moved.clone() if moved.data_ptr() == distances.data_ptr() else moved
        (opposite,) = params.forward((distances.neg_(),), ())
    if tuple(moved.shape) != top or not torch.equal(opposite, -moved):  # as where the largest are chosen
        return None
    found = moved.reshape((1,) * (AXES - len(top)) + top).numpy()
    return _along_axes(found)


def _along_axes(found: Places) -> Sources | None:
    """The distances that each axis adds in a blob; None where they are no such sum."""
    corner = [found[tuple(slice(None) if each == axis else 0 for each in range(AXES))] for axis in range(AXES)]
    images, *along = [each - each[0] if axis else each.copy() for axis, each in enumerate(corner)]  # no view is kept
    of_one = sum(np.ix_(*along))  # each along its own axis
    if any(not np.array_equal(image, first + of_one) for image, first in zip(found, images, strict=True)):
        return None
    return Sources((images, *along))
