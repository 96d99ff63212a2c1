"""The input size that the weights tell, where a net's definition does not.

A classifier's first InnerProduct counts the places of its map, so its weight fits only images of one size, or of a few
that pooling rounds to the same map. LeNet as BVLC publishes it says nowhere that its images are 28x28.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..errors import MismatchError, NetError
from ..net.shapes import infer_blobs
from ..net.spec import NetSpec
from .inputs import with_input_shapes

LARGEST = 1024
"""The longest side that is looked at."""
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
        return with_input_shapes(spec, {name: (*shape[:2], side, side) for name, shape in shapes.items()})

    sides: list[int] = []
    for side in range(1, min(LARGEST, MOST_LAYERS // _work(spec)) + 1):
        # One after the other: it costs a millisecond or two, and nets end below 300.
        sizes = _sizes(at(side), wanted)
        if sizes == wanted:
            sides.append(side)
        elif sides or (sizes is not None and sum(sizes.values()) > sum(wanted.values())):
            break  # weights grow with the side
    if not sides:
        return spec, None
    least, largest = sides[0], sides[-1]
    also = "" if least == largest else f", or any from {least}x{least}"
    note = f"the net does not give the size of its input; its weights fit images of {largest}x{largest}{also}"
    return at(largest), note


def _work(spec: NetSpec) -> int:
    """The layers of a net, those with many bottoms and tops counted several times."""
    return sum(1 + (len(layer.bottoms) + len(layer.tops)) // 8 for layer in spec.layers)


def check_size(spec: NetSpec, blobs: Mapping[str, Sequence[np.ndarray]]) -> None:
    """Raise MismatchError where the weights of an InnerProduct are not those of the net at its input size."""
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
