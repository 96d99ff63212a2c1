"""A net as Model Explorer's graph, in the JSON that it reads: nodes are layers, edges the blobs that they read.

Source: google-ai-edge/model-explorer, graph_builder.py (Graph, GraphNode, IncomingEdge, MetadataItem). Names go through
`terminal`: what cannot be seen is written out; the page shows them as text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod
from typing import Any

from converters.escaping import terminal
from converters.net import LayerShapes, LayerSpec, NetSpec, Shape, iter_layer_shapes
from converters.wording import shape_text

_LONGEST = 200
"""Characters of a name or setting that are shown."""
_DEEPEST = 4
"""Groups in groups that slashes in a layer's name make: inception_3a/1x1 is in the group inception_3a."""


def node_id(index: int) -> str:
    """The node of the layer at this place of the net; names need not be different."""
    return str(index)


def to_graph(spec: NetSpec, inputs: Mapping[str, Shape], *, name: str) -> dict[str, Any]:
    """A prepared net for inputs of these shapes as a graph; raises NetError as shapes do."""
    made_by: dict[str, tuple[str, int]] = {}
    nodes = []
    for index, found in enumerate(iter_layer_shapes(spec, inputs)):
        nodes.append(_node(index, found, made_by))
        made_by.update({top: (node_id(index), slot) for slot, top in enumerate(found.layer.tops)})
    nodes += [_output(blob, place) for blob, place in made_by.items() if blob in spec.outputs]
    return {"id": _shown(name) or "net", "nodes": nodes}


def _node(index: int, found: LayerShapes, made_by: Mapping[str, tuple[str, int]]) -> dict[str, Any]:
    layer = found.layer
    *groups, last = [part for part in layer.name.split("/") if part] or [""]
    if len(groups) > _DEEPEST:
        groups, last = groups[:_DEEPEST], "/".join([*groups[_DEEPEST:], last])
    edges = [
        {"sourceNodeId": made_by[blob][0], "sourceNodeOutputId": str(made_by[blob][1]), "targetNodeInputId": str(slot)}
        for slot, blob in enumerate(layer.bottoms)
        if blob in made_by
    ]
    tops = zip(layer.tops, found.tops, strict=False)
    return {
        "id": node_id(index),
        "label": _shown(last) or _shown(layer.type),
        "namespace": "/".join(map(_shown, groups)),
        "incomingEdges": edges,
        "attrs": _pairs(_attributes(layer, found)),
        "inputsMetadata": [
            {"id": str(slot), "attrs": _pairs([("__tensor_tag", blob)])} for slot, blob in enumerate(layer.bottoms)
        ],
        "outputsMetadata": [
            {"id": str(slot), "attrs": _pairs([("tensor_name", blob), ("shape", shape_text(shape))])}
            for slot, (blob, shape) in enumerate(tops)
        ],
    }


def _attributes(layer: LayerSpec, found: LayerShapes) -> Iterable[tuple[str, str]]:
    yield "layer", layer.name
    yield "type", layer.type
    yield from (("bottom", blob) for blob in layer.bottoms)
    yield from (("top", f"{blob} {shape_text(shape)}") for blob, shape in zip(layer.tops, found.tops, strict=False))
    for field, value in layer.message.ListFields():
        if field.name not in ("name", "type", "bottom", "top", "blobs"):
            yield field.name, " ".join(str(value).split())
    yield from ((f"blob {place}", shape_text(shape)) for place, shape in enumerate(found.blobs))
    if found.blobs:
        yield "parameters", f"{sum(map(prod, found.blobs)):,}"
    if found.macs:
        yield "multiply-adds", f"{found.macs:,}"


def _output(blob: str, place: tuple[str, int]) -> dict[str, Any]:
    edge = {"sourceNodeId": place[0], "sourceNodeOutputId": str(place[1]), "targetNodeInputId": "0"}
    own = {"id": f"output {place[0]} {place[1]}", "label": f"output {_shown(blob)}", "namespace": ""}
    return {**own, "incomingEdges": [edge], "attrs": [], "inputsMetadata": [], "outputsMetadata": []}


def _pairs(pairs: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"key": key, "value": _shown(value)} for key, value in pairs]


def _shown(text: str) -> str:
    seen = terminal(text)
    return seen if len(seen) <= _LONGEST else f"{seen[:_LONGEST]}..."
