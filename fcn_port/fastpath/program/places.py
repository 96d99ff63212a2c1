"""The place of each value: in a buffer of its own, in its place inside a concatenation, or as a part of another value.

Images (n, c, h, w) and volumes (n, c, d, h, w) lie with their channels side by side, other values as PyTorch has them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import prod
from operator import mul
from typing import NamedTuple

from converters.layers import between, concat, crop, inner_product, lrn, padded, pooling, reshape, tensor, upsample
from converters.net import Shape

from ..flow import Flow, FlowStep, Tops, inner_values

OF_IMAGES = pooling.Pooling, padded.PaddedPooling, upsample.Upsample, lrn.LRN
"""Types without weights whose kernels are for images."""
VIEWS = concat.Slice, crop.Crop, reshape.Permute, reshape.Flatten, reshape.Reshape, tensor.Reshaped
"""Types whose tops may be a part of the bottom, or its numbers in another shape."""
CROWDED, LINE = 256, 16
"""Pixels a multiple of so many floats apart share few places of a processor's first cache; a line more spreads them."""


class BlobPlace(NamedTuple):
    """A value inside a buffer: `offset` and `strides` count floats."""

    buffer: int
    offset: int
    shape: Shape
    strides: Shape

    def narrow(self, axis: int, start: int, length: int) -> BlobPlace:
        """`length` positions along an axis, from `start` on."""
        shape = (*self.shape[:axis], length, *self.shape[axis + 1 :])
        return BlobPlace(self.buffer, self.offset + start * self.strides[axis], shape, self.strides)

    def every(self, rows: int, cols: int, row: int, col: int) -> BlobPlace:
        """Every so many rows and columns of an image, from `row` and `col` on."""
        n, c, h, w = self.shape
        shape = n, c, -(-(h - row) // rows), -(-(w - col) // cols)
        strides = self.strides[0], self.strides[1], rows * self.strides[2], cols * self.strides[3]
        offset = self.offset + row * self.strides[2] + col * self.strides[3]
        return self._replace(offset=offset, shape=shape, strides=strides)

    def permuted(self, order: Sequence[int]) -> BlobPlace:
        """The same numbers with the axes in another order."""
        shape = tuple(self.shape[axis] for axis in order)
        return self._replace(shape=shape, strides=_with_ones(shape, tuple(self.strides[axis] for axis in order)))

    @property
    def by_last_axis(self) -> BlobPlace | None:
        """The same numbers as images whose channels are the last of two to four axes; None where they lie apart."""
        if len(self.shape) == 2 and self.is_image:
            return self
        if len(self.shape) not in (3, 4) or (self.strides[-1] != 1 and self.shape[-1] != 1):
            return None
        last = len(self.shape) - 1
        image = self.permuted((0, last, *range(1, last)))
        if last == 3:
            return image
        return image._replace(shape=(*image.shape, 1), strides=(*image.strides, image.strides[2]))

    def spread(self, shape: Shape) -> BlobPlace | None:
        """As images of this shape, whose pixels may all read one number of each channel; None where it is another."""
        if self.shape == shape or not self.is_image:
            return self if self.shape == shape and self.is_image else None
        n, c, h, w = self.size
        if len(shape) != 4 or (n, c) != shape[:2] or h * w != 1:
            return None
        return self._replace(shape=shape, strides=(self.steps[0], 1, 0, 0))

    @property
    def stacked(self) -> BlobPlace:
        """A volume (n, c, d, h, w) whose planes lie one below the other as images of d * h rows; others as they are."""
        if len(self.shape) != 5 or self.strides[2] != self.shape[3] * self.strides[3]:
            return self
        n, c, d, h, w = self.shape
        return self._replace(shape=(n, c, d * h, w), strides=(*self.strides[:2], *self.strides[3:]))

    @property
    def is_image(self) -> bool:
        """True where channels lie side by side, as native steps want them, with or without height and width."""
        return len(self.shape) in (2, 4) and (self.strides[1] == 1 or self.shape[1] == 1)

    @property
    def is_in_order(self) -> bool:
        """True where the numbers lie one behind the other, as in an array of NumPy's."""
        inner = [prod(self.shape[axis + 1 :]) for axis in range(len(self.shape))]
        return all(length == 1 or it == its for length, it, its in zip(self.shape, self.strides, inner, strict=True))

    @property
    def size(self) -> tuple[int, int, int, int]:
        """n, c, h, w of an image; a value (n, c) is one of 1x1."""
        return self.shape if len(self.shape) == 4 else (*self.shape, 1, 1)[:4]  # type: ignore[return-value]

    @property
    def steps(self) -> tuple[int, int, int]:
        """Floats between images, rows and columns of an image."""
        strides = self.strides
        if len(strides) == 2:
            return strides[0], strides[0], strides[0]
        return strides[0], strides[2], strides[3]


def as_images(*places: BlobPlace, last: bool = False) -> list[BlobPlace] | None:
    """Places as native steps want them, all with the second axis as channels, or all with the `last` one.

    The second where both can be and nobody asks for the last; None where neither can.
    """
    stacked = [place.stacked for place in places]
    if not last and all(place.is_image for place in stacked):
        return stacked
    found = [each for place in places if (each := place.by_last_axis) is not None]
    return found if len(found) == len(places) else None


def as_rows(*places: BlobPlace) -> list[BlobPlace] | None:
    """Images of one shape whose rows are what channels were, for work to which all numbers are alike.

    Pixels of one channel or three would leave most of a register empty. None where pixels do not lie side by side.
    """
    n, c, h, w = (*places[0].shape, 1, 1)[:4]
    if len({place.shape for place in places}) > 1 or any(place.steps[2] != c for place in places) or w == 1:
        return None
    return [each._replace(shape=(n, c * w, h, 1), strides=(each.steps[0], 1, each.steps[1], c * w)) for each in places]


@dataclass(frozen=True)
class BlobPlaces:
    """The place of every value, the floats of each buffer, and the (value, place) that have to be copied.

    `views` are the tops that lie in a bottom's place, so that nothing is done for them; `inner` the values that
    operations keep to themselves, by their tops.
    """

    values: Mapping[str, BlobPlace]
    buffers: tuple[int, ...]
    copies: Mapping[str, tuple[tuple[str, BlobPlace], ...]]
    views: frozenset[str]
    inner: Mapping[Tops, tuple[str, ...]]


def place_values(flow: Flow, shapes: Mapping[str, Shape]) -> BlobPlaces:
    """The places of all values, which have these shapes."""
    inside = _parts_of_concatenations(flow, shapes)
    placed: dict[str, BlobPlace] = {}
    buffers: list[int] = []

    def place(value: str, like: BlobPlace | None = None) -> BlobPlace:
        if value not in placed and value in inside:
            whole, start = inside[value]
            placed[value] = place(whole).narrow(1, start, shapes[value][1])
        elif value not in placed:
            placed[value] = dense(len(buffers), shapes[value], like)
            buffers.append(floats_of(placed[value]))
        return placed[value]

    for value in flow.inputs:
        place(value)

    @cache
    def read_as_images() -> set[str]:
        return {name for operation in flow.operations if wants_images(operation) for name in operation.bottoms}

    copies, views, inner = {}, set[str](), dict[Tops, tuple[str, ...]]()
    for operation in flow.operations:
        if operation.convolution is not None:  # as most are, and none of what is asked below
            for top in operation.tops:
                place(top)
            continue
        found = view_of(operation, placed, shapes)
        if found is not None and all(
            each.is_image or top not in read_as_images() for top, each in zip(operation.tops, found, strict=True)
        ):
            placed.update(zip(operation.tops, found, strict=True))
            views.update(operation.tops)
            continue
        if own := inner_values(operation, shapes):
            inner[operation.tops] = tuple(own)
        for name, shape in own.items():
            placed[name] = dense(len(buffers), shape)
            buffers.append(floats_of(placed[name]))
        like = placed[operation.bottoms[0]] if operation.bottoms else None
        if like is not None and (like.is_image or wants_images(operation)):
            like = None
        for top in operation.tops:
            place(top, like)
        if is_concatenation(operation, shapes):
            copies[operation.tops[0]] = tuple(_copies(operation, placed, shapes))
    return BlobPlaces(placed, tuple(buffers), copies, frozenset(views), inner)


def wants_images(operation: FlowStep) -> bool:
    """True for an operation whose kernels read channels that lie side by side, and no others do what it does."""
    params = operation.main.params
    if isinstance(params, between.Interpolating):
        return not params.nhwc
    if type(params) is inner_product.InnerProduct and params.axis != 1:
        return False
    return operation.weighted is not None or type(params) in OF_IMAGES


def is_concatenation(operation: FlowStep, shapes: Mapping[str, Shape]) -> bool:
    """True for a Concat of blobs with two to five axes; along the first one images would not stay apart."""
    is_one = type(operation.main.params) is concat.Concat and 2 <= len(shapes[operation.tops[0]]) <= 5
    return is_one and axis_of(operation, shapes) > 0


def axis_of(concatenation: FlowStep, shapes: Mapping[str, Shape]) -> int:
    """The axis along which a concatenation puts its bottoms, from 0."""
    params = concatenation.main.params
    assert isinstance(params, concat.Concat)
    return params.axis % len(shapes[concatenation.tops[0]])


def view_of(
    operation: FlowStep, placed: Mapping[str, BlobPlace], shapes: Mapping[str, Shape]
) -> tuple[BlobPlace, ...] | None:
    """The places of the tops of an operation that moves nothing; None for any other."""
    params = operation.main.params
    if not _may_be_view(operation):
        return None
    bottom = placed[operation.bottoms[0]]
    tops = [shapes[top] for top in operation.tops]
    if type(params) is concat.Slice:
        axis, starts = params.axis % len(bottom.shape), [0]
        for top in tops[:-1]:
            starts.append(starts[-1] + top[axis])
        return tuple(bottom.narrow(axis, start, top[axis]) for start, top in zip(starts, tops, strict=True))
    if type(params) is crop.Crop:
        for axis in range(params.axis % len(bottom.shape), len(bottom.shape)):
            bottom = bottom.narrow(axis, _offset(params, axis, len(bottom.shape)), tops[0][axis])
        return (bottom,)
    if type(params) is reshape.Permute:
        return (bottom.permuted(params.order_of(len(bottom.shape))),)
    if isinstance(params, (reshape.Flatten, reshape.Reshape, tensor.Reshaped)):
        found = reshaped(bottom, tops[0])
        return None if found is None else (found,)
    return None


def _may_be_view(operation: FlowStep) -> bool:
    """False for an operation that computes something, whatever the places are."""
    is_one = isinstance(operation.main.params, VIEWS) and operation.is_open and not operation.affine
    return is_one and bool(operation.bottoms)


def _offset(params: crop.Crop, axis: int, axes: int) -> int:
    offsets = params.offset or (0,)
    return offsets[0] if len(offsets) == 1 else offsets[axis - params.axis % axes]


def of_product(axis: int, bottom: BlobPlace, top: BlobPlace) -> tuple[BlobPlace, BlobPlace] | None:
    """The places of a product from `axis` on as images, each of them, or of all axes before it, multiplied by itself.

    None where numbers lie in another order than the axes.
    """
    axis %= len(bottom.shape)
    if axis == 1 and bottom.stacked.is_image and top.is_image:
        return bottom.stacked, top
    count = prod(bottom.shape[:axis])
    x, y = reshaped(bottom, (count, prod(bottom.shape[axis:]))), reshaped(top, (count, top.shape[-1]))
    return None if x is None or y is None or not (x.is_image and y.is_image) else (x, y)


def reshaped(bottom: BlobPlace, top: Shape) -> BlobPlace | None:
    """The bottom in another shape; None where its numbers do not lie in the order of that shape."""
    runs: list[tuple[int, int]] = []
    for size, stride in zip(bottom.shape, bottom.strides, strict=True):
        if size == 1:
            continue
        if runs and runs[-1][1] == size * stride:
            size *= runs.pop()[0]
        runs.append((size, stride))
    strides, left, distance = [], 1, 0
    for size in reversed(top):
        if size != 1 and left == 1:
            left, distance = runs.pop()
        if left % size:
            return None
        strides.append(distance)
        left, distance = left // size, distance * size
    return bottom._replace(shape=top, strides=_with_ones(top, tuple(reversed(strides))))


def _with_ones(shape: Shape, strides: Shape) -> Shape:
    """Strides for axes of length 1, whose distance matters to nobody: 1 along channels, what follows elsewhere."""
    whole = max((size * stride for size, stride in zip(shape, strides, strict=True)), default=1)
    return tuple(
        stride if size != 1 else 1 if axis == 1 else max(whole, 1)
        for axis, (size, stride) in enumerate(zip(shape, strides, strict=True))
    )


def _parts_of_concatenations(flow: Flow, shapes: Mapping[str, Shape]) -> dict[str, tuple[str, int]]:
    """For values that can be written where a concatenation wants them: its top, and their first channel in it."""
    inside: dict[str, tuple[str, int]] = {}
    known: dict[int, bool] = {}  # each operation is looked at once, of however many tops

    def is_view(number: int) -> bool:
        if number not in known:
            known[number] = _is_view(flow, shapes, number)
        return known[number]

    for operation in reversed(flow.operations):
        if not is_concatenation(operation, shapes) or axis_of(operation, shapes) != 1:
            continue
        start = 0
        for bottom in operation.bottoms:
            is_made = not is_view(flow.makers[bottom]) if bottom in flow.makers else bottom in flow.inputs
            if is_made and bottom not in inside:
                inside[bottom] = operation.tops[0], start
            start += shapes[bottom][1]
    return inside


def _is_view(flow: Flow, shapes: Mapping[str, Shape], number: int) -> bool:
    """True where the tops of an operation are parts of another value, or the same numbers."""
    operation = flow.operations[number]
    if not _may_be_view(operation):
        return False
    anywhere = {name: dense(0, shapes[name]) for name in operation.bottoms}
    return view_of(operation, anywhere, shapes) is not None


def _copies(
    operation: FlowStep,
    placed: Mapping[str, BlobPlace],
    shapes: Mapping[str, Shape],
) -> list[tuple[str, BlobPlace]]:
    """The bottoms of a concatenation that lie elsewhere, with where they belong."""
    found, start = [], 0
    (top,), axis = operation.tops, axis_of(operation, shapes)
    for bottom in operation.bottoms:
        goal = placed[top].narrow(axis, start, shapes[bottom][axis])
        if placed[bottom] != goal:
            found.append((bottom, goal))
        start += shapes[bottom][axis]
    return found


def floats_of(place: BlobPlace) -> int:
    """The floats of a buffer that holds one value."""
    whole: int = sum(map(mul, place.shape, place.strides))
    return 1 + whole - sum(place.strides)


def dense(buffer: int, shape: Shape, like: BlobPlace | None = None) -> BlobPlace:
    """A place of its own: pixels, of volumes too, whose channels lie side by side, or values as PyTorch has them.

    In the order of the axes in which `like`, which is no image, lies where it has as many, as behind a Permute.
    """
    if len(shape) == 4 and like is not None and len(like.shape) == 4:
        order = sorted(range(4), key=lambda axis: -like.strides[axis])
        ordered = tuple(shape[axis] for axis in order)
        return BlobPlace(buffer, 0, ordered, _in_order(ordered)).permuted([order.index(axis) for axis in range(4)])
    if len(shape) == 4:
        _, c, h, w = shape
        col = c if c % CROWDED or h * w == 1 else c + LINE
        return BlobPlace(buffer, 0, shape, (h * w * col, 1, w * col, col))
    if len(shape) == 5:
        _, c, d, h, w = shape
        return BlobPlace(buffer, 0, shape, (d * h * w * c, 1, h * w * c, w * c, c))
    return BlobPlace(buffer, 0, shape, _in_order(shape))


def _in_order(shape: Shape) -> Shape:
    """The strides of values that lie as PyTorch has them."""
    return tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))
