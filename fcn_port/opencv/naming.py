"""name_values_by_layers: values of a model under the names of Caffe's layers, which is what OpenCV calls outputs by.

`forward("conv1")` of OpenCV means the layer, not the blob: the two differ where layers work in place, and in nets whose
tops are called otherwise.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from converters.export import Graph, OnnxNet


def name_values_by_layers(model: OnnxNet) -> OnnxNet:
    """The model with the first output of every node called as the node, in the same graph, which is changed."""
    graph = model.graph
    _name_convolutions(model)
    _rename_constants(graph)
    fixed = {end.name for end in model.inputs} | set(graph.initializers)
    wanted = {node.output[0]: node.name for node in graph.nodes if node.name not in fixed}
    others = {name for node in graph.nodes for name in node.output if name not in wanted}
    names = {old: new for old, new in wanted.items() if new not in others}
    for node in graph.nodes:
        for values in (node.input, node.output):
            values[:] = [names.get(name, name) for name in values]
    return replace(
        model,
        outputs=tuple(replace(end, name=names.get(end.name, end.name)) for end in model.outputs),
        values={blob: names.get(value, value) for blob, value in model.values.items()},
    )


def _name_convolutions(model: OnnxNet) -> None:
    """Convolutions are called as their tops are, unless another layer is: OpenCV 4 does so with them alone."""
    tops = {layer.name: layer.tops[0] for layer in model.spec.layers if layer.type == "Convolution"}
    taken = {node.name for node in model.graph.nodes} | {end.name for end in model.inputs}
    for node in model.graph.nodes:
        name = tops.get(node.name)
        if name is not None and name not in taken:
            node.name = name
            taken.add(name)


def _rename_constants(graph: Graph) -> None:
    """Constants that are called as a node get another name: OpenCV makes layers of them, and a layer keeps its own."""
    names = {node.name for node in graph.nodes}
    new = {name: f"{name}/constant" for name in graph.initializers if name in names}
    for old, name in new.items():
        while name in graph.initializers or name in names:
            name += "_"
        graph.initializers[name] = replace(graph.initializers.pop(old), name=name)
        new[old] = name
    for node in graph.nodes:
        node.input[:] = [new.get(name, name) for name in node.input]
