"""The places of one blob's pixels in another: the algebra from which crop offsets follow.

Every layer that FCNs are made of maps coordinates by top = scale * bottom + shift, for each spatial axis:

    convolution, pooling    scale 1 / stride, shift (pad - (kernel - 1) / 2) / stride, kernel dilated
    deconvolution           scale stride,     shift (kernel - 1) / 2 - pad
    crop                    scale 1,          shift -offset
    one value at a time     scale 1,          shift 0

A crop makes its first bottom lie on its second. Seen from a blob x that both come from, the first is a1 x + b1 and
the second a2 x + b2, so they line up when a1 = a2 and the offset is b1 - b2. Fractions keep this exact. Source:
Caffe's coord_map.py; the derivations that it gives for the released nets are 19; 5, 27; 5, 9, 31 and 18.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import floor

from ..errors import NetError
from ..safety.limits import check_limit
from .layer import LayerSpec
from .reach import NOTHING, Window
from .spec import NetSpec

Fractions = tuple[Fraction, Fraction]


@dataclass(frozen=True)
class CoordMap:
    """top = scale * bottom + shift, in pixels, for (h, w)."""

    scale: Fractions = (Fraction(1), Fraction(1))
    shift: Fractions = (Fraction(0), Fraction(0))

    def after(self, inner: CoordMap) -> CoordMap:
        """The map of two layers, `inner` being nearer to the input."""
        return CoordMap(
            scale=(self.scale[0] * inner.scale[0], self.scale[1] * inner.scale[1]),
            shift=(
                self.scale[0] * inner.shift[0] + self.shift[0],
                self.scale[1] * inner.shift[1] + self.shift[1],
            ),
        )


@dataclass(frozen=True)
class PathLayer:
    """One layer on a path from a blob to another, and the map from the path's beginning to its top."""

    layer: LayerSpec
    so_far: CoordMap


@dataclass(frozen=True)
class Derivation:
    """The reason why a crop has its offset.

    `origin` is the latest blob that both bottoms come from; `cropped` and `reference` are the paths from it to the
    first and the second bottom. `exact` is how far they lie apart, which is not whole in every net, `derived` the
    nearest whole offset, the larger one of two; `written` is None where the net gives none. All are (h, w).
    """

    layer: LayerSpec
    origin: str
    cropped: tuple[PathLayer, ...]
    reference: tuple[PathLayer, ...]
    exact: Fractions
    derived: tuple[int, int]
    written: tuple[int, int] | None


def layer_map(layer: LayerSpec) -> CoordMap | None:
    """The map of one layer, or None where its type moves pixels in another way or does not say (`Layer.reach`)."""
    if layer.params is None:
        return None
    reaches = (layer.params.reach(axis=axis) for axis in (2, 3))
    rows, columns = (None if reach is None else reach.coordinate for reach in reaches)
    if rows is None or columns is None:
        return None
    return CoordMap((rows.scale, columns.scale), (rows.shift, columns.shift))


def written_offset(layer: LayerSpec) -> tuple[int, int] | None:
    """The spatial offset (h, w) of a Crop layer; None where it gives none (Caffe then crops at 0)."""
    if layer.type != "Crop" or layer.params is None or not layer.message.crop_param.offset:
        return None
    rows, columns = (layer.params.reach(axis=axis) for axis in (2, 3))
    assert isinstance(rows, Window) and isinstance(columns, Window)
    return -rows.pad, -columns.pad


def crops_of(spec: NetSpec) -> dict[str, tuple[int, ...]]:
    """The offsets of every Crop layer, as they are written; (0,) where there are none."""
    return {layer.name: tuple(layer.message.crop_param.offset) or (0,) for layer in spec.layers if layer.type == "Crop"}


def derive_crops(spec: NetSpec) -> tuple[Derivation, ...]:
    """Derive the offset of every Crop layer from the layers around it.

    Raises NetError where the two bottoms have no common origin, different scales, or an offset below 0.
    """
    net = Coordinates(spec)
    return tuple(net.derive(i) for i, layer in enumerate(spec.layers) if layer.type == "Crop")


Version = tuple[int, str]
"""A blob as the layer of this number left it: layers in place make a new version under the old name."""

_Way = dict[Version, "tuple[int, Version] | None"]
"""From each blob on a way the number of the next layer, and the blob that this makes; None at the end."""

MOST_STEPS = 1 << 18
"""Blobs that are looked at for all crops of a net; nets of a thousand layers with twenty crops have 100,000."""


_IDENTITY = CoordMap()
_LARGEST = 1 << 128
"""Of the numbers in a scale, which a chain of strides would make longer and longer."""


class Coordinates:
    """The layers of a net, with the versions of their bottoms and the maps that were asked for."""

    def __init__(self, spec: NetSpec) -> None:
        self.layers = list(spec.layers)
        self._spec = spec
        self._makers = _bottom_versions(spec)
        self._maps: dict[int, CoordMap | None] = {}
        self._silent: LayerSpec | None = None
        self._steps = 0

    def put(self, index: int, layer: LayerSpec) -> None:
        """Put a layer in the place of one with the same bottoms and tops."""
        self.layers[index] = layer
        self._maps.pop(index, None)

    def derive(self, index: int) -> Derivation:
        """The derivation of the Crop layer of this number."""
        layer = self.layers[index]
        if len(layer.bottoms) != 2:
            raise NetError(f"{len(layer.bottoms)} bottoms; a crop has two", where=layer.place, path=self._spec.path)
        origin, ways = self._search(index)
        if origin is None:
            why = "its bottoms come from no common blob through layers with a known geometry"
            if self._silent is not None:
                why += f"; {self._silent.place} does not say what it reads (Layer.reach)"
            raise no_offset(self._spec, layer, why)
        first, second = (tuple(self._path(way, origin)) for way in ways)
        self._count(len(first) + len(second), index)
        a, b = (path[-1].so_far if path else CoordMap() for path in (first, second))
        if a.scale != b.scale:
            why = f"one bottom has {a.scale[0]} of the pixels of '{origin[1]}', the other {b.scale[0]}"
            raise no_offset(self._spec, layer, why)
        exact = a.shift[0] - b.shift[0], a.shift[1] - b.shift[1]
        if min(exact) < 0:
            raise no_offset(self._spec, layer, apart(exact))
        derived = floor(exact[0] + Fraction(1, 2)), floor(exact[1] + Fraction(1, 2))
        return Derivation(layer, origin[1], first, second, exact, derived, written_offset(layer))

    def _search(self, index: int) -> tuple[Version | None, tuple[_Way, _Way]]:
        """The latest blob that both bottoms come from, None where there is none, and the ways from it to them."""
        one, two = self._makers[index]
        ways: tuple[_Way, _Way] = {one: None}, {two: None}
        for here in range(max(one[0], two[0]), -1, -1):
            tops = {(here, top) for top in self.layers[here].tops}
            common = tops & ways[0].keys() & ways[1].keys()
            if common:
                return max(common), ways
            self._count(1 + len(self.layers[here].bottoms) + len(self.layers[here].tops), index)
            for way in ways:
                self._go_back(here, way)
        return max(ways[0].keys() & ways[1].keys(), default=None), ways

    def _go_back(self, here: int, way: _Way) -> None:
        """Put the bottoms of a layer on the way that a top of it is on; where there are several ways, one is enough."""
        layer = self.layers[here]
        after = next(((here, top) for top in layer.tops if (here, top) in way), None)
        if after is None:
            return
        if layer.params is None or self._map(here) is None:
            if layer.bottoms and (layer.params is None or layer.params.reach(axis=2) is None):
                self._silent = layer
            return
        for position, bottom in enumerate(self._makers[here]):
            if layer.params.reach(axis=2, bottom=position) != NOTHING:
                way.setdefault(bottom, (here, after))

    def _path(self, way: _Way, origin: Version) -> Iterator[PathLayer]:
        """The layers from `origin` to the end of the way."""
        so_far, following = CoordMap(), way[origin]
        while following is not None:
            index, version = following
            own = self._map(index)
            so_far = so_far if own is None or own is _IDENTITY else own.after(so_far)
            if any(part.numerator + part.denominator > _LARGEST for part in so_far.scale):
                why = f"'{self.layers[index].name}' has a scale beyond all measure"
                raise no_offset(self._spec, self.layers[index], why)
            yield PathLayer(self.layers[index], so_far)
            following = way[version]

    def _map(self, index: int) -> CoordMap | None:
        if index not in self._maps:
            found = layer_map(self.layers[index])
            self._maps[index] = _IDENTITY if found == _IDENTITY else found
        return self._maps[index]

    def _count(self, steps: int, crop: int) -> None:
        self._steps += steps
        place = self.layers[crop].place
        check_limit(self._steps, MOST_STEPS, what="to derive its crops takes", unit="steps", where=place)


def apart(offset: Fractions) -> str:
    """The distance of two bottoms, in words."""
    return f"they lie {offset[0]} and {offset[1]} pixels (h, w) apart"


def no_offset(spec: NetSpec, layer: LayerSpec, why: str) -> NetError:
    """The error for a Crop layer whose offset cannot be worked out."""
    hint = "a crop offset is a whole number of pixels, 0 or more, between bottoms of equal scale"
    return NetError(
        f"no crop offset lines up {' and '.join(layer.bottoms)}: {why}", where=layer.place, path=spec.path, hint=hint
    )


def _bottom_versions(spec: NetSpec) -> list[tuple[Version, ...]]:
    """For each layer the versions of its bottoms."""
    latest: dict[str, int] = {}
    found = []
    for i, layer in enumerate(spec.layers):
        found.append(tuple((latest.get(bottom, -1), bottom) for bottom in layer.bottoms))
        latest.update(dict.fromkeys(layer.tops, i))
    return found
