"""Inputs whose numbers are places in something else: words for Embed, items for BatchReindex."""

from __future__ import annotations

from collections.abc import Mapping

from ..layers.batch import BatchReindex
from ..layers.inner_product import Embed
from ..net import NetSpec, Shape
from ..shapes import LayerShapes, iter_layer_shapes, known_params

_MOVES = frozenset({"Split", "Reshape", "Flatten", "Slice", "Concat", "Tile", "Permute"})
"""The types whose tops hold numbers of their bottoms as they are."""


def index_inputs(spec: NetSpec, shapes: Mapping[str, Shape]) -> dict[str, int]:
    """How many numbers are valid, from 0 up, in each input that a layer takes for indices, for inputs of `shapes`."""
    limits: dict[str, int] = {}
    for row in reversed(list(iter_layer_shapes(spec, shapes))):
        if row.layer.type == "Input":
            continue
        of_tops = [limits.pop(top) for top in row.layer.tops if top in limits]
        found = _limits(row)
        if row.layer.type in _MOVES and of_tops:
            found = dict.fromkeys(row.layer.bottoms, min(of_tops))
        for name, limit in found.items():
            limits[name] = min(limit, limits.get(name, limit))
    return {name: limits[name] for name in spec.inputs if name in limits}


def _limits(row: LayerShapes) -> dict[str, int]:
    """The limits that a layer itself sets its bottoms."""
    params, bottoms = known_params(row.layer), row.layer.bottoms
    if isinstance(params, Embed):
        return {bottoms[0]: params.input_dim}
    if isinstance(params, BatchReindex):
        return {bottoms[1]: row.bottoms[0][0]}
    return {}
