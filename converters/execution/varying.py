"""Layers that read blobs whose sizes depend on numbers, such as how many images a Filter lets through."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import NetError
from ..net.layer import Layer, Shape
from ..net.shapes import known_params
from ..net.spec import NetSpec


def varying_layers(spec: NetSpec) -> frozenset[str]:
    """The names of the layers that read such a blob, or what was made of one."""
    found, blobs = set[str](), set[str]()
    for layer in spec.layers:
        if not blobs.isdisjoint(layer.bottoms):
            found.add(layer.name)
            blobs.update(layer.tops)
        blobs.update(layer.tops[top] for top, _ in known_params(layer).open_sizes() if top < len(layer.tops))
    return frozenset(found)


def check_fit(place: str, params: Layer, bottoms: Sequence[Shape], blobs: Sequence[Shape]) -> None:
    """Raise NetError, naming the layer's `place`, where these bottoms do not fit each other or its learnable blobs.

    Caffe's Reshape finds it at each pass; PyTorch would spread one image over several, or speak of tensors.
    """
    try:
        params.top_shapes(bottoms)
        needed = params.blob_shapes(bottoms)
    except ValueError as error:
        raise NetError(f"its bottoms became {list(bottoms)}: {error}", where=place) from None
    if list(needed) != list(blobs):
        raise NetError(
            f"its bottoms became {list(bottoms)}, for which its blobs would be {list(needed)}; it has {list(blobs)}",
            where=place,
        )
