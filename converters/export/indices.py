"""Inputs whose numbers are places in something else: words for Embed, items for BatchReindex, regions of an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..layers.regions import Regions
from ..net.layer import Shape
from ..net.shapes import LayerShapes, iter_layer_shapes, known_params
from ..net.spec import NetSpec

Limit = int | tuple[range, ...]
"""The valid numbers of an input: so many from 0 up, or for each number of a row (of a region) those of its own."""


def index_inputs(spec: NetSpec, shapes: Mapping[str, Shape]) -> dict[str, Limit]:
    """The valid numbers of each input that a layer takes for indices or for regions, for inputs of `shapes`."""
    limits: dict[str, Limit] = {}
    for row in reversed(list(iter_layer_shapes(spec, shapes))):
        if row.layer.type == "Input":
            continue
        of_tops = [limits.pop(top) for top in row.layer.tops if top in limits]
        found = _limits(row)
        if of_tops and known_params(row.layer).moves:
            found = dict.fromkeys(row.layer.bottoms, min(map(_of_all, of_tops)))
        for name, limit in found.items():
            limits[name] = least([limit, limits.get(name, limit)])
    return {name: limits[name] for name in spec.inputs if name in limits}


def index_inputs_of_all(spec: NetSpec, trials: Sequence[Mapping[str, Shape]]) -> dict[str, Limit]:
    """The numbers that are valid at all of these shapes: one trial of fewer images has fewer to point at."""
    every = [index_inputs(spec, each) for each in trials]
    return {name: least([each[name] for each in every]) for name in every[0]}


def least(limits: Sequence[Limit]) -> Limit:
    """The numbers that are valid for all that read an input, or that have other sizes."""
    rows = [limit for limit in limits if isinstance(limit, tuple)]
    if len(rows) < len(limits):
        return min(map(_of_all, limits))
    return tuple(
        range(min(each.start for each in column), min(each.stop for each in column))
        for column in zip(*rows, strict=True)
    )


def drawn(limit: Limit, shape: Shape, random: np.random.Generator) -> np.ndarray:
    """Valid numbers of an input of this shape, as float32."""
    if isinstance(limit, int):
        return random.integers(limit, size=shape).astype(np.float32)
    columns = [random.integers(each.start, each.stop, size=shape[0]) for each in limit]
    return np.stack(columns, 1).reshape(shape).astype(np.float32)


def _of_all(limit: Limit) -> int:
    """The count of numbers from 0 up that are valid wherever they stand."""
    return limit if isinstance(limit, int) else min(each.stop for each in limit)


def _limits(row: LayerShapes) -> dict[str, Limit]:
    """The limits that a layer itself sets its bottoms."""
    params = known_params(row.layer)
    limits: dict[int, Limit] = {**params.index_limits(row.bottoms)}
    if isinstance(params, Regions):
        limits[1] = params.inside(row.bottoms[0])
    return {row.layer.bottoms[position]: limit for position, limit in limits.items()}
