"""A net as an ONNX graph: every layer gives its form, every blob is a value under its Caffe name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...net.aliasing import aliases
from ...net.layer import LayerSpec
from ...net.onnx_form import OnnxValue
from ...net.parameter_sharing import BlobId, borrowed_blobs
from ...net.shapes import known_params
from ...net.spec import NetSpec
from ..checking import ExportError
from .graph import DEFAULT_OPSET, HIGHEST_OPSET, LOWEST_OPSET, End, Graph
from .layer import Learnable, OnnxForm
from .names import onnx_names
from .probing import LayerSizes, NetSizes, net_sizes


@dataclass(frozen=True)
class OnnxNet:
    """A net's graph with its ends, and the name in the model of each blob's last state, by blob."""

    graph: Graph
    inputs: tuple[End, ...]
    outputs: tuple[End, ...]
    values: Mapping[str, str]
    sizes: NetSizes


def build(
    spec: NetSpec,
    weights: Mapping[BlobId, np.ndarray],
    *,
    size: Sequence[int] | None = None,
    batch: int | None = None,
    opset: int = DEFAULT_OPSET,
    fp16: bool = False,
    target: str | None = None,
) -> OnnxNet:
    """The graph of a prepared net; `weights` by layer and position, in any shape with as many elements as is needed.

    Height and width of images and the batch are free where the net allows it and `size` (h, w) and `batch` do not fix
    them. With `fp16` weights are stored with 16 bits and computed with in 32. Raises ExportError for a layer without a
    form, and what shape inference raises.
    """
    if not LOWEST_OPSET <= opset <= HIGHEST_OPSET:
        raise ExportError(f"opset {opset}; expected {LOWEST_OPSET} to {HIGHEST_OPSET}")
    sizes = net_sizes(spec, size=size, batch=batch)
    states = _States(spec)
    graph = Graph(opset=opset, taken=[*states.reserved])
    dtype = np.dtype(np.float16 if fp16 else np.float32)
    learnable = Learnable(weights, borrowed_blobs(spec), dtype, {})
    shared = aliases(spec)
    for index, row in enumerate(sizes.layers):
        if row.layer.type == "Input":
            for top, shape in zip(row.layer.tops, row.tops, strict=True):
                states.put(top, OnnxValue(states.names[top], shape))
            continue
        tops = tuple(
            OnnxValue(states.name_for(top, index, graph), shape)
            for top, shape in zip(row.layer.tops, row.tops, strict=True)
        )
        bottoms = tuple(states.now(bottom) for bottom in row.layer.bottoms)
        form = OnnxForm(
            graph, row.layer, bottoms=bottoms, tops=tops, blobs=row.blobs, weights=learnable, path=spec.path,
            target=target,
        )  # fmt: skip
        _give_form(row, form)
        for top, value in zip(row.layer.tops, tops, strict=True):
            states.put(top, value)
        for name, changed in shared[index]:
            _follow(graph, states, row.layer, index, name, changed)
    inputs = tuple(End(states.names[name], _dims(sizes, name)) for name in spec.inputs)
    outputs = tuple(End(states.now(name).name, _dims(sizes, name)) for name in spec.outputs)
    return OnnxNet(graph, inputs, outputs, {name: states.now(name).name for name in states.names}, sizes)


def _give_form(row: LayerSizes, form: OnnxForm) -> None:
    known_params(row.layer).to_onnx(form)
    if form.missing:
        raise form.refuse(f"its ONNX form makes no {', '.join(form.missing)}")


def _follow(graph: Graph, states: _States, layer: LayerSpec, index: int, name: str, changed: str) -> None:
    """`name`, which is the same memory in Caffe, holds what a layer made of `changed` in place, in its own shape."""
    before, source = states.now(name), states.now(changed)
    value = states.name_for(name, index, graph)
    shape = graph.add("Shape", [before.name], f"{layer.name}/shape")
    graph.node("Reshape", [source.name, shape], [value], name=f"{layer.name}/{name}")
    states.put(name, OnnxValue(value, before.shape))


def _dims(sizes: NetSizes, blob: str) -> tuple[int | str | None, ...]:
    return sizes.dims[blob]


class _States:
    """The states of blobs: what in-place layers have made of them so far, and what each is called in the model.

    The last state has the blob's own name; an input that is overwritten keeps its name for what is fed. The others are
    called `blob/layer`.
    """

    def __init__(self, spec: NetSpec) -> None:
        self._last: dict[str, int] = {}
        changes = aliases(spec)
        for index, layer in enumerate(spec.layers):
            for blob in (*layer.tops, *(name for name, _ in changes[index])):
                self._last[blob] = index
        self._layers = [layer.name for layer in spec.layers]
        self._inputs = {top for layer in spec.layers if layer.type == "Input" for top in layer.tops}
        self._now: dict[str, OnnxValue] = {}
        self.names = onnx_names(self._last)

    @property
    def reserved(self) -> Sequence[str]:
        return list(self.names.values())

    def name_for(self, blob: str, index: int, graph: Graph) -> str:
        """The name of the state that layer `index` makes."""
        if self._last[blob] == index and blob not in self._inputs:
            return self.names[blob]
        return graph.values.fresh(f"{self.names[blob]}/{self._layers[index]}")

    def put(self, blob: str, value: OnnxValue) -> None:
        self._now[blob] = value

    def now(self, blob: str) -> OnnxValue:
        return self._now[blob]
