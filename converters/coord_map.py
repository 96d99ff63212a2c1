"""Where the pixels of one blob lie in another: the algebra from which crop offsets follow.

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
from dataclasses import dataclass, replace
from fractions import Fraction
from math import floor

from .errors import NetError
from .layers.crop import Crop
from .layers.reach import NOTHING
from .net import LayerSpec, NetSpec

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
class Step:
    """One layer on a path from a blob to another, and the map from the path's beginning to its top."""

    layer: LayerSpec
    so_far: CoordMap


@dataclass(frozen=True)
class Derivation:
    """Why a crop has its offset.

    `origin` is the latest blob that both bottoms come from; `cropped` and `reference` are the paths from it to the
    first and the second bottom. `exact` is how far they lie apart, which is not whole in every net, `derived` the
    nearest whole offset, the larger one of two; `written` is None where the net gives none. All are (h, w).
    """

    layer: LayerSpec
    origin: str
    cropped: tuple[Step, ...]
    reference: tuple[Step, ...]
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
    crop = layer.params
    if not isinstance(crop, Crop) or not crop.offset:
        return None
    return crop.offset_along(2), crop.offset_along(3)


def crops_of(spec: NetSpec) -> dict[str, tuple[int, ...]]:
    """The offsets of every Crop layer, as they are written; (0,) where there are none."""
    return {
        layer.name: tuple(layer.to_message().crop_param.offset) or (0,) for layer in spec.layers if layer.type == "Crop"
    }


def derive_crops(spec: NetSpec) -> tuple[Derivation, ...]:
    """Derive the offset of every Crop layer from the layers around it.

    Raises NetError where the two bottoms have no common origin, different scales, or an offset below 0.
    """
    return tuple(_derive(spec, i) for i, layer in enumerate(spec.layers) if layer.type == "Crop")


def auto_crop(spec: NetSpec) -> NetSpec:
    """The net with derived offsets in the Crop layers that give none; the others are left as they are.

    For nets of Caffe's old `future` branch (the CVPR releases, HED, CRF-RNN), whose Crop layer worked them out itself.
    As that layer did, it refuses an offset that is not whole (NetError).
    """
    for i, layer in enumerate(spec.layers):
        if layer.type == "Crop" and written_offset(layer) is None:
            derivation = _derive(spec, i)
            offset = derivation.derived
            if derivation.exact != offset:
                raise _no_offset(spec, layer, _apart(derivation.exact))
            message = layer.to_message()
            message.crop_param.axis = 2
            message.crop_param.offset.extend(offset[:1] if offset[0] == offset[1] else offset)
            cropped = LayerSpec.from_message(message, extra=layer.extra, line=layer.line)
            spec = replace(spec, layers=(*spec.layers[:i], cropped, *spec.layers[i + 1 :]))
    return spec


Version = tuple[int, str]
"""A blob as the layer of this number left it: layers in place make a new version under the old name."""


def _derive(spec: NetSpec, index: int) -> Derivation:
    layer = spec.layers[index]
    if len(layer.bottoms) != 2:
        raise NetError(f"{len(layer.bottoms)} bottoms; a crop has two", where=layer.place, path=spec.path)
    makers = _bottom_versions(spec)
    cropped, reference = (_paths(spec, makers, start) for start in makers[index])
    common = cropped.keys() & reference.keys()
    if not common:
        raise _no_offset(spec, layer, "its bottoms come from no common blob through layers with a known geometry")
    origin = max(common)
    first, second = cropped[origin], reference[origin]
    a, b = (path[-1].so_far if path else CoordMap() for path in (first, second))
    if a.scale != b.scale:
        raise _no_offset(
            spec, layer, f"one bottom has {a.scale[0]} of the pixels of '{origin[1]}', the other {b.scale[0]}"
        )
    exact = a.shift[0] - b.shift[0], a.shift[1] - b.shift[1]
    if min(exact) < 0:
        raise _no_offset(spec, layer, _apart(exact))
    derived = floor(exact[0] + Fraction(1, 2)), floor(exact[1] + Fraction(1, 2))
    return Derivation(layer, origin[1], first, second, exact, derived, written_offset(layer))


def _apart(offset: Fractions) -> str:
    return f"they lie {offset[0]} and {offset[1]} pixels (h, w) apart"


def _no_offset(spec: NetSpec, layer: LayerSpec, why: str) -> NetError:
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


def _paths(spec: NetSpec, makers: list[tuple[Version, ...]], start: Version) -> dict[Version, tuple[Step, ...]]:
    """The path from every ancestor of `start` to it; where there are several, one (they agree in a good net)."""
    found: dict[Version, tuple[LayerSpec, ...]] = {start: ()}
    for index in range(start[0], -1, -1):
        layer = spec.layers[index]
        tops = [found[(index, top)] for top in layer.tops if (index, top) in found]
        if not tops or layer_map(layer) is None:
            continue
        for position, bottom in enumerate(makers[index]):
            if layer.params is not None and layer.params.reach(axis=2, bottom=position) != NOTHING:
                found.setdefault(bottom, (layer, *tops[0]))
    return {version: tuple(_accumulate(layers)) for version, layers in found.items()}


def _accumulate(layers: tuple[LayerSpec, ...]) -> Iterator[Step]:
    so_far = CoordMap()
    for layer in layers:
        so_far = (layer_map(layer) or CoordMap()).after(so_far)
        yield Step(layer, so_far)
