"""Images larger than memory: tiles whose scores are those of the whole image, its borders included.

Cut an image at rows that are multiples of the net's period, 32 for VGG-16, and every blob of the cut lies on the whole
image's blob position by position. Inside, a position has the whole image's value if all that it reads has; at an edge
of the image the cut has the same padding and the same rounding of sizes. So what a tile gets right is found by
following one interval through the net's layers, and tiles overlap by what each gets wrong. `docs/predict.md` has the
proof. Nothing here is a table of nets: kernels, strides, pads and crops are read off the layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import lcm

from converters.net import Everything, Interval, LayerSpec, NetSpec, Nothing, Reach

from ..any_net import AnyNet, spec_of

_LONGEST_PERIOD = 1 << 12
"""A tile is longer than a period; no net that labels pixels has one of more than a few hundred."""
_FAR = 1 << 48
"""The end of an interval that goes on past an edge of the image: beyond it, whole image and cut are the same."""


@dataclass(frozen=True)
class ImageTile:
    """One axis of a tile: the net sees the pixels `seen` of the image, and its scores are kept at `core`."""

    seen: Interval
    core: Interval


@dataclass(frozen=True)
class Tiling:
    """The rule for tiles along one axis (0: rows, 1: columns), from how the net's layers move.

    A tile begins at a multiple of `period`. Where it is cut from the middle of an image, its first `before` and its
    last `after` scores are not the image's.
    """

    spec: NetSpec
    axis: int
    period: int
    before: int
    after: int

    @property
    def least(self) -> int:
        """The smallest tile that gets on wherever it begins."""
        return self.before + self.period + self.after

    def tiles(self, length: int, size: int) -> tuple[ImageTile, ...]:
        """Tiles of at most `size` pixels whose cores are an image of `length`, each pixel once and in order.

        ValueError where tiles of that size get nowhere.
        """
        if size < min(self.least, length):
            raise ValueError(f"tiles of {size} pixels are too small for this net; it needs {self.least} or more")
        found: list[ImageTile] = []
        done = 0
        while done < length:
            begin = max(0, (done - self.before) // self.period * self.period)
            seen = Interval(begin, min(begin + size, length))
            core = Interval(done, exact_part(self.spec, seen, length, axis=self.axis).hi)
            found.append(ImageTile(seen, core))
            done = core.hi
        return tuple(found)


def tiling_of(net: AnyNet) -> tuple[Tiling, Tiling]:
    """The rules by which tiles are cut for a net, for rows and for columns.

    `net` is hand-written, `fast` or a CaffeNet; ValueError for one whose layers see the whole image at once.
    """
    spec = spec_of(net)
    return tiling_along(spec, 0), tiling_along(spec, 1)


def tiling_along(spec: NetSpec, axis: int) -> Tiling:
    """The rule for tiles along one axis (0: rows, 1: columns); ValueError where a layer sees all of it at once."""
    if not spec.outputs:
        raise ValueError("this net has no output")
    period = period_of(spec, axis=axis)
    if period > _LONGEST_PERIOD:
        raise ValueError(f"its blobs meet every {period} pixels only, and tiles are longer than that")
    begin = (1 << 20) // period * period
    length = 3 * begin
    befores, afters = [], []
    for rest in range(period):
        seen = Interval(begin, 2 * begin + rest)
        exact = exact_part(spec, seen, length, axis=axis)
        befores.append(exact.lo - seen.lo)
        afters.append(seen.hi - exact.hi)
    return Tiling(spec, axis, period, max(0, *befores), max(0, *afters))


def period_of(spec: NetSpec, *, axis: int) -> int:
    """The smallest number of pixels that is a whole number of positions in every blob."""
    scales = dict.fromkeys(spec.inputs, Fraction(1))
    period = 1
    for layer in spec.layers:
        if layer.type == "Input":
            continue
        reach = _reach(layer, axis)
        if reach.coordinate is None:
            raise _whole(layer)
        scale = reach.coordinate.scale * scales[layer.bottoms[0]]
        scales.update(dict.fromkeys(layer.tops, scale))
        period = lcm(period, scale.denominator)
    return period


def exact_part(spec: NetSpec, seen: Interval, length: int, *, axis: int) -> Interval:
    """The scores of the cut `seen` that are those of the whole image of `length` pixels, in the image's positions.

    `seen` begins at a multiple of the period.
    """
    given = Interval(seen.lo if seen.lo > 0 else -_FAR, seen.hi if seen.hi < length else _FAR)
    blobs = dict.fromkeys(spec.inputs, given)
    for layer in spec.layers:
        if layer.type != "Input":
            blobs.update({name: _follow(layer, blobs, axis, top) for top, name in enumerate(layer.tops)})
    return _common(blobs, spec.outputs).clip(seen)


def _follow(layer: LayerSpec, blobs: Mapping[str, Interval], axis: int, top: int) -> Interval:
    """The positions of a layer's top that read only exact positions of its bottoms."""
    exact = Interval(-_FAR, _FAR)
    for bottom, name in enumerate(layer.bottoms):
        reach = _reach(layer, axis, bottom=bottom, top=top)
        if isinstance(reach, Everything):
            raise _whole(layer)
        if not isinstance(reach, Nothing):
            exact = exact.clip(reach.inside(blobs[name]))
    return exact


def _reach(layer: LayerSpec, axis: int, *, bottom: int = 0, top: int = 0) -> Reach:
    reach = None if layer.params is None else layer.params.reach(axis=2 + axis, bottom=bottom, top=top)
    if reach is None:
        raise ValueError(
            f"layer '{layer.name}' ({layer.type}): its type does not say which pixels it reads (Layer.reach), "
            "so the image cannot be cut into tiles"
        )
    return reach


def _common(blobs: Mapping[str, Interval], names: tuple[str, ...]) -> Interval:
    return Interval(max(blobs[name].lo for name in names), min(blobs[name].hi for name in names))


def _whole(layer: LayerSpec) -> ValueError:
    return ValueError(f"layer '{layer.name}' ({layer.type}) may look at all of an image at once; tiles cannot")


def tiles_of(net: AnyNet, shape: tuple[int, int], size: int) -> Iterator[tuple[ImageTile, ImageTile]]:
    """The tiles (rows, columns) of an image of `shape` (h, w), row by row, of at most `size` pixels a side."""
    along = [tiling.tiles(length, size) for tiling, length in zip(tiling_of(net), shape, strict=True)]
    return ((rows, columns) for rows in along[0] for columns in along[1])
