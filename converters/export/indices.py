"""Inputs whose numbers are places in something else: words for Embed, items for BatchReindex."""

from __future__ import annotations

from collections.abc import Mapping

from ..net.layer import Shape
from ..net.shapes import LayerShapes, iter_layer_shapes, known_params
from ..net.spec import NetSpec


def index_inputs(spec: NetSpec, shapes: Mapping[str, Shape]) -> dict[str, int]:
    """The count of valid numbers, from 0 up, of each input that a layer takes for indices, for inputs of `shapes`."""
    limits: dict[str, int] = {}
    for row in reversed(list(iter_layer_shapes(spec, shapes))):
        if row.layer.type == "Input":
            continue
        of_tops = [limits.pop(top) for top in row.layer.tops if top in limits]
        found = _limits(row)
        if of_tops and known_params(row.layer).moves:
            found = dict.fromkeys(row.layer.bottoms, min(of_tops))
        for name, limit in found.items():
            limits[name] = min(limit, limits.get(name, limit))
    return {name: limits[name] for name in spec.inputs if name in limits}


def _limits(row: LayerShapes) -> dict[str, int]:
    """The limits that a layer itself sets its bottoms."""
    limits = known_params(row.layer).index_limits(row.bottoms)
    return {row.layer.bottoms[position]: limit for position, limit in limits.items()}
