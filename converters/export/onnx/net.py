"""A net as an ONNX graph: every layer gives its form, every blob is a value under its Caffe name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from onnx.defs import onnx_opset_version

from ...errors import choice
from ...execution.state_dict import split_key
from ...given import names_of
from ...net.aliasing import Alias, aliases
from ...net.layer import LayerSpec, Shape
from ...net.onnx_form import OPENCV, OnnxValue
from ...net.parameter_sharing import BlobId, borrowed_blobs
from ...net.shapes import check_weights_fit, iter_layer_shapes, known_params
from ...net.spec import NetSpec
from ...passes.cut import cut
from ..checking import ExportError
from .graph import End, Graph
from .layer import Learnable, OnnxForm
from .names import onnx_names
from .opencv import crop_apart, keep_deconvolutions, pad_apart
from .opsets import DEFAULT_OPSET, HIGHEST_OPSET, LOWEST_OPSET
from .probing import LayerSizes, NetSizes, net_sizes
from .streaming import write_model


@dataclass(frozen=True)
class OnnxOptions:
    """The ways in which a net can become ONNX.

    `size` (h, w) and `batch` fix what is free without them where the net allows it: height and width of images, and
    the batch. `outputs` are the blobs to compute, by default those that no layer consumes. With `fp16` weights are
    stored with 16 bits (but for vectors, see `kept_whole`) and computed with in 32; with `fold` BatchNorm and Scale
    become part of the layer before them.
    `target` names the program that forms are chosen for, None for what the standard says.
    """

    size: tuple[int, int] | None = None
    batch: int | None = None
    outputs: tuple[str, ...] | None = None
    opset: int = DEFAULT_OPSET
    fp16: bool = False
    fold: bool = False
    target: str | None = None

    def __post_init__(self) -> None:
        if self.outputs is not None:  # a blob that is named twice is one output
            object.__setattr__(self, "outputs", names_of(self.outputs))


@dataclass(frozen=True)
class OnnxNet:
    """A net's graph with its ends, and the name in the model of each blob's last state, by blob, where it has one.

    `spec` is the net that was written: the part that the outputs need, with what was folded left out.
    """

    spec: NetSpec
    graph: Graph
    inputs: tuple[End, ...]
    outputs: tuple[End, ...]
    values: Mapping[str, str]
    sizes: NetSizes

    @property
    def own_shapes(self) -> dict[str, Shape]:
        """The shapes of the inputs as the net has them, with what was fixed."""
        return dict(self.sizes.inputs)

    def ends(self, blobs: Sequence[str]) -> tuple[End, ...]:
        """The types of blobs' values, such as to make outputs of them."""
        return tuple(End(self.values[blob], self.sizes.dims[blob]) for blob in blobs)

    def write(
        self,
        file: BinaryIO,
        *,
        metadata: Callable[[], Mapping[str, str]] = dict,
        beside: tuple[BinaryIO, str] | None = None,
    ) -> None:
        """Write the model; for `metadata` and `beside`, the place of large weights, see `write_model`."""
        ends = {end.name for end in (*self.inputs, *self.outputs)}
        inside = [blob for blob, value in self.values.items() if value not in ends]
        write_model(
            file,
            self.graph,
            name=self.spec.name,
            inputs=self.inputs,
            outputs=self.outputs,
            values=self.ends(inside),
            metadata=metadata,
            beside=beside,
        )


def build_onnx(spec: NetSpec, arrays: Mapping[str, np.ndarray], options: OnnxOptions | None = None) -> OnnxNet:
    """The ONNX graph of a prepared net.

    `arrays` are the learnable blobs by state dict key (`execution.key_of`), in any shape with as many elements as is
    needed. Raises ExportError for a layer without a form, and what shape inference raises.
    """
    wanted = options or OnnxOptions()
    opset = wanted.opset
    highest = min(HIGHEST_OPSET, onnx_opset_version())
    if not LOWEST_OPSET <= opset <= highest:
        raise ExportError(
            f"opset {opset}; expected {LOWEST_OPSET} to {highest}, the last that the installed onnx knows"
        )
    if wanted.outputs is not None:
        spec = cut(spec, wanted.outputs)
    weights: Mapping[BlobId, np.ndarray] = {split_key(key): array for key, array in arrays.items()}
    if wanted.fold:
        from .folding import fold  # it knows layer types that the net may not have

        spec, weights = fold(spec, weights, keep=wanted.outputs or spec.outputs)
    sizes = _sizes(spec, wanted)
    # OpenCV's classic engine refuses the Shape of a free size, also where it is for a blob that nobody looks at.
    shared = aliases(spec, outputs=(wanted.outputs or spec.outputs) if wanted.target in OPENCV else None)
    states = _States(spec, shared)
    graph = Graph(opset=opset, taken=[*states.reserved])
    dtype = np.dtype(np.float16 if wanted.fp16 else np.float32)
    learnable = Learnable(weights, borrowed_blobs(spec), dtype, {})
    _put_layers(graph, spec, sizes, states, learnable, shared, target=wanted.target)
    inputs = tuple(End(states.names[name], sizes.fed[name]) for name in spec.inputs)
    if wanted.target in OPENCV:
        _read_every_input(graph, [end.name for end in inputs])
        crop_apart(graph)
        keep_deconvolutions(graph)
        pad_apart(graph, wanted.target, thin=_thin(spec, sizes.inputs))
        if not any(node.op_type == "Shape" for node in graph.nodes):
            # As in a prototxt: OpenCV takes other sizes too, and its classic engine has shapes to begin with.
            inputs = tuple(End(states.names[name], shape) for name, shape in sizes.inputs.items())
    behind = {name for every, some in zip(aliases(spec), shared, strict=True) for name, _ in set(every) - set(some)}
    values = {name: states.now(name).name for name in states.names if name not in behind}
    outputs = tuple(End(values[name], sizes.dims[name]) for name in wanted.outputs or spec.outputs)
    return OnnxNet(spec, graph, inputs, outputs, values, sizes)


def _sizes(spec: NetSpec, wanted: OnnxOptions) -> NetSizes:
    """The sizes of the net's blobs; ChoiceError for a size or a batch that was chosen and does not fit."""
    if (wanted.size, wanted.batch) == (None, None):
        return net_sizes(spec)
    with choice():
        sizes = net_sizes(spec, size=wanted.size, batch=wanted.batch)
        check_weights_fit(spec, sizes.inputs)
    return sizes


def _put_layers(
    graph: Graph,
    spec: NetSpec,
    sizes: NetSizes,
    states: _States,
    learnable: Learnable,
    shared: Sequence[Sequence[Alias]],
    *,
    target: str | None,
) -> None:
    """Each layer's form, and after it what the blobs hold that are in Caffe the memory it changed."""
    origins = _split_from(spec)
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
            same = origins.get(name, name) == origins.get(changed, changed)
            _follow(graph, states, row.layer, index, name, changed, same_shape=same)


def _read_every_input(graph: Graph, names: Sequence[str]) -> None:
    """A node for each input that nothing reads, which `outputs` can leave: OpenCV 5's classic engine runs no such net.

    They come first, as what comes last is what a program gets that asks for no blob by name.
    """
    for name in names:
        if not any(name in node.input for node in graph.nodes):
            graph.add("Identity", [name], f"{name}/unread")
            graph.nodes.insert(0, graph.nodes.pop())


def _thin(spec: NetSpec, inputs: Mapping[str, Shape]) -> frozenset[str]:
    """The layers that read a blob of one row or one column, for inputs of these shapes."""
    rows = iter_layer_shapes(spec, inputs)
    return frozenset(row.layer.name for row in rows if any(1 in bottom[2:] for bottom in row.bottoms))


def _give_form(row: LayerSizes, form: OnnxForm) -> None:
    known_params(row.layer).to_onnx(form)
    if form.missing:
        raise form.refuse(f"its ONNX form makes no {', '.join(form.missing)}")


_WIRES = ("Slice", "Concat")


def _split_from(spec: NetSpec) -> dict[str, str]:
    """The blob that each top of a Split, or of a Slice or Concat of one blob, is in the same shape."""
    origins: dict[str, str] = {}
    for layer in spec.layers:
        if layer.type == "Split" or (layer.type in _WIRES and len(layer.bottoms) == len(layer.tops) == 1):
            origins |= dict.fromkeys(layer.tops, origins.get(layer.bottoms[0], layer.bottoms[0]))
    return origins


def _follow(
    graph: Graph, states: _States, layer: LayerSpec, index: int, name: str, changed: str, *, same_shape: bool
) -> None:
    """`name`, which is the same memory in Caffe, holds what a layer made of `changed` in place, in its own shape."""
    before, source = states.now(name), states.now(changed)
    value = states.name_for(name, index, graph)
    if same_shape:  # OpenCV's classic engine refuses the Shape of a free size
        graph.node("Identity", [source.name], [value], name=f"{layer.name}/{name}")
    else:
        shape = graph.add("Shape", [before.name], f"{layer.name}/shape")
        graph.node("Reshape", [source.name, shape], [value], name=f"{layer.name}/{name}")
    states.put(name, OnnxValue(value, before.shape))


class _States:
    """The states of blobs: what in-place layers have made of them so far, and what each is called in the model.

    The last state has the blob's own name; an input that is overwritten keeps its name for what is fed. The others are
    called `blob/layer`.
    """

    def __init__(self, spec: NetSpec, changes: Sequence[Sequence[Alias]]) -> None:
        self._last: dict[str, int] = {}
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
