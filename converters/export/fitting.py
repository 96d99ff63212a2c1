"""The sizes of inputs that a net takes with the weights that it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..errors import CaffeFormatError
from ..net.layer import Shape
from ..net.shapes import LayerShapes, iter_layer_shapes
from ..net.spec import NetSpec


def takes(spec: NetSpec, shapes: Mapping[str, Shape]) -> bool:
    """True where inputs of these shapes go through the net, in other programs, too.

    Its weights, and its unpoolings, are of their sizes, and no kernel is longer than its padded blob: Caffe reads zeros
    there, others refuse it.
    """
    try:
        rows, own = (list(iter_layer_shapes(spec, each)) for each in (shapes, None))
    except CaffeFormatError:
        return False
    return [row.blobs for row in rows] == [row.blobs for row in own] and _kernels_fit(rows) and _places_fit(rows)


def _kernels_fit(rows: Sequence[LayerShapes]) -> bool:
    from ..layers.base import canonical_axis  # what only a net's own types import
    from ..layers.convolution import Convolution, Im2col

    kernels = ((row.layer.params, bottom) for row in rows for bottom in row.bottoms)
    return not any(
        any(params.beyond(bottom[canonical_axis(params.axis, bottom) + 1 :]))
        for params, bottom in kernels
        if isinstance(params, (Convolution, Im2col))
    )


def _places_fit(rows: Sequence[LayerShapes]) -> bool:
    """True where no unpooling is told places of a blob that is larger than its own, or than the size that it says."""
    if not any(row.layer.type == "Upsample" for row in rows):
        return True
    from ..layers import pooling, upsample  # families that other nets do without

    pooled: dict[str, Shape] = {}
    for row in rows:
        params = row.layer.params
        if isinstance(params, pooling.Pooling) and row.layer.tops[1:]:
            pooled[row.layer.tops[1]] = row.bottoms[0][2:]
        elif isinstance(params, upsample.Upsample) and params.unpool and row.layer.bottoms[1] in pooled:
            before, (height, width) = pooled[row.layer.bottoms[1]], row.tops[0][2:]
            if params.size not in (None, before) or before[0] * before[1] > height * width:
                return False
    return True
