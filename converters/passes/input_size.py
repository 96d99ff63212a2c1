"""The input size that the weights tell, where a net's definition does not.

A classifier's first InnerProduct counts the places of its map, so its weight fits only images of one size, or of a few
that pooling rounds to the same map. LeNet as BVLC publishes it says nowhere that its images are 28x28.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isqrt, prod

import numpy as np

from ..errors import MismatchError, NetError
from ..net.layer import Shape
from ..net.shapes import infer_blobs
from ..net.spec import NetSpec
from .inputs import with_input_shapes
from .work_out import attempt

LARGEST = 1024
"""The longest side that is looked at."""
MOST_CHANNELS = 16
"""The most channels of an input that are tried."""
MOST_LAYERS = 1 << 18
"""Layers that are looked at for it: up to 256 of them at every side, for sides up to 262 of a net of a thousand."""


def fit_size(
    spec: NetSpec, assumed: Sequence[str], blobs: Mapping[str, Sequence[np.ndarray]]
) -> tuple[NetSpec, str | None]:
    """The net with its `assumed` inputs, (n, c, h, w), at the square size that its weights fit, and a note; else as is.

    Of several sizes the largest is taken, as poolings lose nothing there. A net that has no InnerProduct, or whose
    weights fit already or at no square size, comes back as it is. `blobs` are the weights by layer.
    """
    inputs = spec.inputs
    shapes = {name: inputs[name] for name in assumed}
    wanted = _inner_products(spec, blobs)
    if not wanted or not all(len(shape) == 4 for shape in shapes.values()) or _sizes(spec, wanted) == wanted:
        return spec, None

    def at(side: int) -> NetSpec:
        return _at(spec, shapes, (side, side))

    sides: list[int] = []
    for side in range(1, min(LARGEST, MOST_LAYERS // _work(spec)) + 1):
        # One after the other: it costs a millisecond or two, and nets end below 300.
        sizes = _sizes(at(side), wanted)
        if sizes == wanted:
            sides.append(side)
        elif sides or (sizes is not None and sum(sizes.values()) > sum(wanted.values())):
            break  # weights grow with the side
    if not sides:
        return _fit_oblong(spec, shapes, wanted)
    least, largest = sides[0], sides[-1]
    also = "" if least == largest else f", or any from {least}x{least}"
    note = f"the net does not give the size of its input; its weights fit images of {largest}x{largest}{also}"
    return at(largest), note


def _fit_oblong(spec: NetSpec, shapes: Mapping[str, Shape], wanted: Mapping[str, int]) -> tuple[NetSpec, str | None]:
    """The net at the size nearest to a square, but none, that its weights fit: height times width of the map tell."""
    first = next(iter(wanted))
    sides: dict[int, int] = {}  # the places along a side of the map that the first InnerProduct reads -> the image's
    goal = 0
    for side in range(1, min(LARGEST, MOST_LAYERS // _work(spec)) + 1):
        trial = attempt(spec, {name: (*shape[:2], side, side) for name, shape in shapes.items()})
        row = next((row for row in trial.rows if row.layer.name == first), None)
        image = trial.image_before(row) if row is not None else ()
        if row is None or len(image) != 4 or prod(row.blobs[0]) % (image[2] * image[3]):
            continue
        goal = wanted[first] * image[2] * image[3] // prod(row.blobs[0])
        sides[image[2]] = side
        if image[2] > goal:
            break
    for along in range(isqrt(goal), 0, -1):
        if goal % along == 0 and along in sides and goal // along in sides:
            size = sides[along], sides[goal // along]
            found = _at(spec, shapes, size)
            if _sizes(found, wanted) == wanted:
                note = (
                    f"the net does not give the size of its input; its weights fit images of {size[0]}x{size[1]}, and "
                    "others with as many places: give the size with --input where it was another"
                )
                return found, note
    return spec, None


def _at(spec: NetSpec, shapes: Mapping[str, Shape], size: tuple[int, int]) -> NetSpec:
    return with_input_shapes(spec, {name: (*shape[:2], *size) for name, shape in shapes.items()})


def fit_inputs(
    spec: NetSpec, assumed: Sequence[str], blobs: Mapping[str, Sequence[np.ndarray]]
) -> tuple[NetSpec, str | None]:
    """The net with its `assumed` inputs in channels and at the size that its weights fit, and a note; else as is."""
    if not blobs:
        return spec, None
    spec = _fit_channels(spec, assumed, blobs)
    return fit_size(spec, assumed, blobs)


def _fit_channels(spec: NetSpec, assumed: Sequence[str], blobs: Mapping[str, Sequence[np.ndarray]]) -> NetSpec:
    """The net with as many channels in its assumed inputs as most of its weights have."""
    shapes = {name: shape for name, shape in spec.inputs.items() if name in assumed and len(shape) > 1}
    sized = {layer.name for layer in spec.layers if layer.type != "InnerProduct" and blobs.get(layer.name)}

    def alike(candidate: NetSpec) -> int:
        rows = [row for row in attempt(candidate, {}).rows if row.layer.name in sized and row.blobs]
        return sum(1 for row in rows if blobs[row.layer.name][0].size == prod(row.blobs[0]))

    best, most = spec, alike(spec)
    for channels in range(1, MOST_CHANNELS + 1) if shapes and most < len(sized) else ():
        candidate = with_input_shapes(spec, {name: (s[0], channels, *s[2:]) for name, s in shapes.items()})
        found = alike(candidate)
        if found > most:
            best, most = candidate, found
    return best


def _work(spec: NetSpec) -> int:
    """The layers of a net, those with many bottoms and tops counted several times."""
    return sum(1 + (len(layer.bottoms) + len(layer.tops)) // 8 for layer in spec.layers)


def check_size(spec: NetSpec, blobs: Mapping[str, Sequence[np.ndarray]]) -> None:
    """Raise MismatchError where the weights of an InnerProduct are not those of the net at the input size that it says.

    One that was assumed is no fault of the file, and is not checked.
    """
    if spec.assumed:
        return  # a guess of ours is no fault of the file
    wanted = _inner_products(spec, blobs)
    for name, size in (_sizes(spec, wanted) or {}).items():
        if size and size != wanted[name]:
            inputs = ", ".join(f"{blob} {'x'.join(map(str, shape))}" for blob, shape in spec.inputs.items())
            raise MismatchError(
                f"layer '{name}' has {wanted[name]:,} weights; with the input {inputs} it would have {size:,}",
                path=spec.path,
                hint="give a prototxt of the net whose input has the size that it was trained for",
            )


def _inner_products(spec: NetSpec, blobs: Mapping[str, Sequence[np.ndarray]]) -> dict[str, int]:
    """The number of weights of each InnerProduct, in the file."""
    layers = (layer.name for layer in spec.layers if layer.type == "InnerProduct")
    return {name: blobs[name][0].size for name in layers if blobs.get(name)}


def _sizes(spec: NetSpec, layers: Mapping[str, int]) -> dict[str, int] | None:
    """The number of weights of each of the layers; None where the net cannot be of this size."""
    try:
        found = infer_blobs(spec)
    except NetError:
        return None
    return {name: int(np.prod(found[name][0], dtype=object)) if name in found else 0 for name in layers}
