"""The base of layers that cut regions out of a blob: their bottoms, and how regions are read.

A region is five numbers, [image, x1, y1, x2, y2], the corners in pixels of the net's input (Fast R-CNN's
roi_pooling_layer.cpp). Where a bin begins is decided by rounding, so the arithmetic on coordinates is Caffe's, in the
blob's own precision and in its order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, prod
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..net.reach import EVERYTHING, Reach
from .base import Layer, Pair, as_image, refuse
from .boxes import refuse_traces
from .lent import lent_for
from .spans import Array, Pooled, Spans

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec, Shape
    from .fork import ForkMessage

FARTHEST = 1 << 24
"""Coordinates are cut here, far outside of any image: up to here float32 holds whole numbers."""

MOST_CELLS = 4096
"""Cells of a region along one axis; real nets have 28 at most."""

AT_ONCE = 1 << 21
"""Places along an axis, of all cells of some regions, that are looked at at once."""


@dataclass(frozen=True)
class Regions(Layer):
    """Base of the types that make a grid of `pooled` cells of each region (second bottom) of a blob (first bottom)."""

    pooled: Pair
    spatial_scale: float

    bottom_count: ClassVar[tuple[int, float]] = (2, 2)
    top_count: ClassVar[tuple[int, float]] = (1, 1)

    @property
    def grid(self) -> Pair:
        """(h, w) of the top."""
        return self.pooled

    def top_channels(self, channels: int) -> int:
        """Channels of the top for a first bottom of so many; raises ValueError where it cannot have them."""
        return channels

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        channels = as_image(bottoms[0])[1]
        count, *rest = bottoms[1] or (0,)
        if prod(rest) != 5:
            raise ValueError(f"regions of shape {bottoms[1]}; expected five numbers for each: image, x1, y1, x2, y2")
        return ((count, self.top_channels(channels), *self.grid),)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return EVERYTHING

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (self.top_channels(bottoms[0]),)

    def bottom_shapes(self) -> dict[int, tuple[int | None, ...]]:
        return {1: (None, 5)}

    def index_limits(self, bottoms: Sequence[Shape]) -> dict[int, int]:
        return {1: bottoms[0][0]}

    def inside(self, blob: Shape) -> tuple[range, ...]:
        """Whole numbers of which any five are a region around the middle of an image that the blob is of."""
        images, _, *size = as_image(blob)
        scale = abs(self.spatial_scale) or 1.0
        height, width = (int(max(min(side / scale, FARTHEST), 1)) for side in size)
        first = (range((width + 1) // 2), range((height + 1) // 2))
        return (range(images), *first, range(width // 2, width), range(height // 2, height))

    def pool(self, x: Tensor, numbers: Array, corners: Array) -> Tensor:
        """The cells (n, c, *grid) of regions: the numbers (n,) of their images in x, and x1, y1, x2, y2 (n, 4)."""
        raise NotImplementedError

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        import torch

        x, regions = bottoms[0], read_regions(bottoms[1], images=bottoms[0].shape[0])
        if not len(regions):
            return (x.new_zeros(0, self.top_channels(x.shape[1]), *self.grid),)
        step = max(AT_ONCE // (max(self.grid) * max(x.shape[2:])), 1)
        some = (regions[start : start + step] for start in range(0, len(regions), step))
        with np.errstate(all="ignore"):  # numbers beyond float32 are what Caffe's are, too
            return (torch.cat([self.pool(x, part[:, 0].astype(np.int64), part[:, 1:]) for part in some]),)


@dataclass(frozen=True)
class SeparateAxes(Regions):
    """Base of the types whose cells are so many rows of so many columns: `spans` says which, along each axis."""

    pooled_by: ClassVar[Pooled]
    own: ClassVar[bool] = False
    """True where each cell has channels of its own: those of one output lie together, its cells by row."""

    def spans(self, corners: Array, axis: int, size: int) -> Spans:
        """The spans of the cells of regions (n, 4) along an axis (0: x) of a blob so large."""
        raise NotImplementedError

    def cells(self, image: Tensor, rows: Spans, columns: Spans) -> Tensor:
        """The cells (c, *grid) of one region of an image (c, h, w)."""
        raise NotImplementedError

    def pool(self, x: Tensor, numbers: Array, corners: Array) -> Tensor:
        import torch

        rows, columns = (self.spans(corners, axis, x.shape[3 - axis]) for axis in (1, 0))
        compiled = lent_for(x)
        if compiled is not None:
            return torch.from_numpy(
                compiled.pool_regions(x.numpy(), numbers, rows, columns, pooled=self.pooled_by, own=self.own)
            )
        return torch.stack([self.cells(x[number], rows.of(i), columns.of(i)) for i, number in enumerate(numbers)])


def read_regions(bottom: Tensor, *, images: int) -> Array:
    """The regions (n, 5) of a blob; IndexError where one is of an image that is not there.

    Caffe checks the image on the CPU. What is no number counts as 0, as good as anything.
    """
    import torch

    refuse_traces("regions are cut out by their numbers")
    wide = torch.float64 if bottom.dtype == torch.float64 else torch.float32
    regions: Array = bottom.detach().flatten(1).to("cpu", wide).numpy()
    regions = cut(regions)
    wrong = [int(image) for image in regions[:, 0] if not 0 <= int(image) < images]
    if wrong:
        raise IndexError(f"a region's index {wrong[0]} is out of range: there are {images} images in the batch")
    return regions


def grid_of(spec: LayerSpec, message: ForkMessage, height: str = "pooled_h", width: str = "pooled_w") -> Pair:
    """(h, w) of the cells, each above 0."""
    grid = message.integer(height, 0), message.integer(width, 0)
    if not 1 <= min(grid) <= max(grid) <= MOST_CELLS:
        found = " and ".join(f"{name} {size}" for name, size in zip((height, width), grid, strict=True))
        raise refuse(spec, f"{found}: expected 1 to {MOST_CELLS} cells along an axis")
    return grid


def factor(spec: LayerSpec, message: ForkMessage, name: str, default: float) -> float:
    """A field of type float, finite."""
    value = float32(message.number(name, default))
    if not isfinite(value):
        raise refuse(spec, f"{name} is {value}; expected a number")
    return value


def float32(value: float) -> float:
    """A field of type float as Caffe holds it."""
    with np.errstate(over="ignore"):
        return float(np.float32(value))


def cut(coordinates: Array) -> Array:
    """Coordinates no farther than `FARTHEST`; 0 for what is no number."""
    near: Array = np.nan_to_num(coordinates, nan=0).clip(-FARTHEST, FARTHEST)
    return near


def rounded(values: Array) -> Array:
    """Whole numbers, halves away from zero, as C's round, and cut, as what is far is too large for Caffe's int."""
    values = cut(values)
    away: Array = np.trunc(values) + np.copysign(np.abs(values - np.trunc(values)) >= 0.5, values)
    return away.astype(values.dtype)
