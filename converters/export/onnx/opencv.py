"""Nodes between which OpenCV needs another one: it merges or pads them wrongly."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np
from onnx import helper

from ...layers.opencv_onnx import TO_THE_END
from ...net.onnx_form import CLASSIC

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import onnx

    from .graph import Graph

MERGED = frozenset(("BatchNormalization", "Scale", "Mul", "Add", "Sub", "Div"))
"""Operators that OpenCV merges into the weights before them, where all that they read beside is constant."""
PASSED_OVER = frozenset(("Identity", "Dropout"))
SHAPED = frozenset(("Cast", "Identity", "Mul"))
"""Operators by which constants become weights, as half-width kernels and masked ones do."""


@dataclass(frozen=True)
class NodeWindow:
    """The window of a Conv or ConvTranspose, whatever of it the node leaves to ONNX's defaults.

    `weight` is the shape of its kernels, None where a node computes them of what has another one.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    weight: tuple[int, ...] | None


def _window(graph: Graph, makers: Mapping[str, onnx.NodeProto], node: onnx.NodeProto) -> NodeWindow | None:
    """The window of a node; None for one of another kind, and where nothing says its kernel."""
    if node.op_type not in ("Conv", "ConvTranspose"):
        return None
    said = {each.name: tuple(each.ints) for each in node.attribute}
    weight = _shape(graph, makers, node.input[1])
    kernel = said.get("kernel_shape") or (() if weight is None else weight[2:])
    ones, pads = (1,) * len(kernel), said.get("pads") or (0, 0) * len(kernel)
    if not kernel:
        return None
    return NodeWindow(kernel, said.get("strides") or ones, said.get("dilations") or ones, pads, weight)


def _shape(graph: Graph, makers: Mapping[str, onnx.NodeProto], name: str) -> tuple[int, ...] | None:
    """The shape of a constant, also of one that is made half as wide, or multiplied by another; None of any other."""
    if name in graph.initializers:
        return graph.initializers[name].dims
    maker = makers.get(name)
    if maker is None or maker.op_type not in SHAPED:
        return None
    shapes = [_shape(graph, makers, each) for each in maker.input]
    return None if None in shapes else max(shapes, key=lambda shape: prod(shape or ()))


def _makers(graph: Graph) -> dict[str, onnx.NodeProto]:
    return {name: node for node in graph.nodes for name in node.output}


def keep_deconvolutions(graph: Graph) -> None:
    """A Reshape to the same shape between a deconvolution and what OpenCV would merge into its weights.

    With groups, and where two layers are merged one after the other, numbers are off by up to half of the largest in
    OpenCV 4.14 and in 5.0's classic engine; by `enableFusion(False)` they are right.
    """
    axes: dict[str, int] = {}
    makers = _makers(graph)
    nodes: list[onnx.NodeProto] = []
    for node in graph.nodes:
        source, *others = node.input or [""]
        if source in axes and node.op_type in MERGED and all(name in graph.initializers for name in others):
            shape = graph.initializer(f"{node.name}/its own shape", np.array([0] * (axes[source] - 1) + [-1]))
            apart = graph.values.fresh(f"{node.name}/apart")
            nodes.append(helper.make_node("Reshape", [source, shape], [apart], name=graph.node_names.fresh(apart)))
            node.input[0] = apart
        window = _window(graph, makers, node)
        if window is not None and node.op_type == "ConvTranspose":
            axes[node.output[0]] = 2 + len(window.kernel)
        elif node.op_type in PASSED_OVER and source in axes:
            axes[node.output[0]] = axes[source]
        nodes.append(node)
    graph.nodes[:] = nodes


def pad_apart(graph: Graph, target: str, *, thin: Collection[str]) -> None:
    """A Pad before a convolution that has pads which OpenCV gets wrong; `thin` names those of one row or column.

    One place by 1, as SqueezeNet v1.0 ends in: OpenCV 5.0's new engine reads memory that is not the blob's, and the
    classic one where the pads are only behind; that one keeps other convolutions as they are, with OpenCV 4's names of
    layers. 3x3 of each channel by itself, with pads of 1: OpenCV 4.14 and 5.0's classic engine are wrong where the blob
    has one row or one column, and with holes.
    """
    makers = _makers(graph)
    nodes: list[onnx.NodeProto] = []
    for node in graph.nodes:
        window = _window(graph, makers, node)
        if window is not None and node.op_type == "Conv" and any(window.pads):
            pads, places = window.pads, window.weight or ()
            before, behind = pads[: len(pads) // 2], pads[len(pads) // 2 :]
            point = {*window.kernel, *window.strides} == {1} and (target != CLASSIC or before != behind)
            holes = set(window.dilations) != {1}
            if point or (places[1:] == (1, 3, 3) and set(pads) == {1} and (holes or node.name in thin)):
                around = graph.initializer(f"{node.name}/pads", np.array([0, 0, *before, 0, 0, *behind], np.int64))
                padded = graph.values.fresh(f"{node.name}/padded")
                name = graph.node_names.fresh(padded)
                nodes.append(helper.make_node("Pad", [node.input[0], around], [padded], name=name))
                node.input[0] = padded
                next(each for each in node.attribute if each.name == "pads").ints[:] = [0] * len(pads)
        nodes.append(node)
    graph.nodes[:] = nodes


def crop_apart(graph: Graph) -> None:
    """A Slice behind a deconvolution of one place by 1 that has pads, which is called as that one was.

    OpenCV's classic engine, and so OpenCV 4, takes it for a product of matrices, whatever its pads: the product is
    longer than the top, so that numbers are wrong, or the process ends (deconvolution_layer.cpp, is1x1).
    """
    makers = _makers(graph)
    nodes: list[onnx.NodeProto] = []
    for node in graph.nodes:
        nodes.append(node)
        window = _window(graph, makers, node)
        if window is None or node.op_type != "ConvTranspose":
            continue
        pads = window.pads
        if any(pads) and {*window.kernel, *window.strides} == {1}:
            count, name, top = len(pads) // 2, node.name, node.output[0]
            ends = [-pad or TO_THE_END for pad in pads[count:]]
            limits = {"starts": pads[:count], "ends": ends, "axes": list(range(2, 2 + count))}
            inputs = [graph.initializer(f"{name}/{key}", np.array(each, np.int64)) for key, each in limits.items()]
            node.output[0] = graph.values.fresh(f"{name}/whole")
            node.name = graph.node_names.fresh(f"{name}/whole")
            next(each for each in node.attribute if each.name == "pads").ints[:] = [0] * len(pads)
            nodes.append(helper.make_node("Slice", [node.output[0], *inputs], [top], name=name))
    graph.nodes[:] = nodes
