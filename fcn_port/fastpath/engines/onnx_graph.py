"""Early and late layers of a net as ONNX models, each for images of every size.

The early layers take an image enlarged with zeros, which is exact (an empty image goes on for ever), to a multiple of
their strides; then every part that they compute begins and ends a fixed number of pixels from the image's, and one
model serves all sizes. Around a blob that ends a stage, `x - constant` is zero. So a convolution of it may pad with
zeros, if its bias makes up for the constant; nothing else is padded. In particular no pooling is: optimisers like to
give a pooling the zeros before it, where they become minus infinity.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from converters.export import End, Graph, write_model
from converters.layers import concat, convolution, crop, eltwise, lrn, neuron, pooling, scale
from converters.net import Layer

from ..background import Background
from ..geometry import Rect
from ..graph import Step, StepGraph
from ..plan import Plan, reads
from .split import SplitEngine, Weights, last_crops

OPSET = 17


@dataclass(frozen=True)
class PartModel:
    """Early or late layers as an ONNX graph, for images of any size."""

    graph: Graph
    inputs: tuple[End, ...]
    outputs: tuple[End, ...]

    def write(self, path: Path) -> Path:
        """Write the model, and return its path."""
        with path.open("wb") as file:
            write_model(file, self.graph, name="fcn-port", inputs=self.inputs, outputs=self.outputs)
        return path


class _OnnxModel:
    """Nodes and weights as they are put down, one after the other."""

    def __init__(self) -> None:
        self._graph = Graph(opset=OPSET)

    def weight(self, name: str, value: Tensor | np.ndarray) -> str:
        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else value
        return self._graph.initializer(name, np.ascontiguousarray(array))

    def node(self, kind: str, inputs: Iterable[str], output: str, **attributes: Any) -> str:
        self._graph.node(kind, list(inputs), [output], name=output, attributes=attributes)
        return output

    def finish(self, inputs: dict[str, int], outputs: Iterable[str]) -> PartModel:
        """The model; its inputs (n, channels, h, w) have their number of channels and any size."""

        def end(name: str, channels: int | None) -> End:
            return End(name, ("n", channels, f"{name}_h", f"{name}_w"))

        ends = tuple(end(name, channels) for name, channels in inputs.items())
        return PartModel(self._graph, ends, tuple(end(name, None) for name in outputs))


def early_model(plan: Plan, background: Background, weights: Weights) -> PartModel:
    """The early layers from the images behind the front to the computed parts of the cut blobs.

    `plan` is one for a multiple of the strides whose margins are computed; ValueError where one cannot be.
    """
    model = _OnnxModel()
    constants: dict[str, Tensor] = {}
    inputs: dict[str, int] = {}
    for step in plan.early:
        (bottom,) = step.bottoms
        blob = plan.blobs[bottom]
        if blob.zero:
            inputs[bottom] = step.channels
        bottom_name = f"{bottom} less its constant" if bottom in constants else bottom
        pads = _margins(blob.computed, reads(step, plan.blobs[step.top].computed))
        if any(pads) and not step.features:
            raise ValueError(f"{step.name} would have to be padded")
        _layer(model, step, weights[step.top], [bottom_name], pads, constant=constants.get(bottom))
        top = plan.blobs[step.top]
        if top.needed != top.computed:
            constants[step.top] = background.constants[step.top]
            name = model.weight(f"{step.top} constant", constants[step.top])
            model.node("Sub", [step.top, name], f"{step.top} less its constant")
    return model.finish(inputs, plan.cut)


def late_model(plan: Plan, graph: StepGraph, weights: Weights) -> PartModel:
    """The late layers from the cut blobs to those that the last crops cut."""
    model = _OnnxModel()
    outputs = last_crops(plan, graph)
    for step in plan.late:
        if step.top not in outputs:
            h, w = _pads(step.params)
            _layer(model, step, weights[step.top], list(step.bottoms), (h, w, h, w), constant=None)
    makers = {step.top: step for step in plan.early}
    channels = {name: _channels(makers, name) for name in plan.cut}
    return model.finish(channels, dict.fromkeys(blob for blob, _ in outputs.values()))


def models_of(engine: SplitEngine) -> dict[str, PartModel]:
    """`early` and `late` of an engine's net."""
    plan, weights = engine.reference_plan(), engine.weights()
    graph = engine.lossless.graph
    return {"early": early_model(plan, engine.constants(), weights), "late": late_model(plan, graph, weights)}


def _channels(makers: dict[str, Step], name: str) -> int:
    while not makers[name].features:
        name = makers[name].bottoms[0]
    return makers[name].features


def _pads(params: Layer) -> tuple[int, int]:
    """A layer's own padding, of height and width."""
    if isinstance(params, convolution.Convolution):
        h, w = params.along(2)[2]
        return h, w
    return params.pad if isinstance(params, pooling.Pooling) else (0, 0)


def _margins(has: Rect, wanted: Rect) -> tuple[int, int, int, int]:
    """The numbers of rows and columns that are missing, in the order of ONNX: top, left, bottom, right."""
    missing = (
        has.rows.lo - wanted.rows.lo, has.cols.lo - wanted.cols.lo,
        wanted.rows.hi - has.rows.hi, wanted.cols.hi - has.cols.hi,
    )  # fmt: skip
    if min(missing) < 0:
        raise ValueError("a layer reads only a part of what is computed")
    return missing


def _layer(
    model: _OnnxModel, step: Step, blobs: Sequence[Tensor], bottoms: list[str], pads: tuple[int, int, int, int], *,
    constant: Tensor | None,
) -> None:  # fmt: skip
    params, top = step.params, step.top
    if isinstance(params, convolution.Deconvolution):
        model.node("ConvTranspose", [*bottoms, *_named(model, step, blobs)], top, **_windows(params, pads))
    elif isinstance(params, convolution.Convolution):
        weights = _convolution_weights(model, step, blobs, constant)
        result = f"{top} before its ReLU" if step.relu else top
        model.node("Conv", [*bottoms, *weights], result, **_windows(params, pads))
        if step.relu:
            model.node("Relu", [result], top)
    elif isinstance(params, pooling.Pooling):
        kernel, strides = list(params.kernel), list(params.stride)
        rounding = {"ceil_mode": int(params.ceil)}
        model.node("MaxPool", bottoms, top, kernel_shape=kernel, strides=strides, pads=list(pads), **rounding)
    elif isinstance(params, crop.Crop):
        _crop(model, step, params)
    elif isinstance(params, eltwise.Eltwise):
        model.node("Add", [_times(model, step, params, i, name) for i, name in enumerate(bottoms)], top)
    elif isinstance(params, scale.Scale):
        model.node("Mul", [*bottoms, model.weight(f"{step.top}.weight", blobs[0][:, None, None])], top)
    elif isinstance(params, lrn.LRN):
        settings = {"size": params.local_size, "alpha": params.alpha, "beta": params.beta, "bias": params.k}
        model.node("LRN", bottoms, top, **settings)
    elif isinstance(params, concat.Concat):
        model.node("Concat", bottoms, top, axis=params.axis)
    elif isinstance(params, neuron.ReLU):
        model.node("Relu", bottoms, top)
    else:
        raise ValueError(f"{step.name}: no ONNX operator is known for layers of type {step.layer.type}")


def _windows(params: convolution.Convolution, pads: tuple[int, int, int, int]) -> dict[str, Any]:
    _, strides, _, dilations = params.along(2)
    return {"pads": list(pads), "strides": list(strides), "dilations": list(dilations), "group": params.group}


def _named(model: _OnnxModel, step: Step, blobs: Sequence[Tensor]) -> list[str]:
    names = ("weight", "bias")[: len(blobs)]
    return [model.weight(f"{step.top}.{name}", blob) for name, blob in zip(names, blobs, strict=True)]


def _convolution_weights(model: _OnnxModel, step: Step, blobs: Sequence[Tensor], constant: Tensor | None) -> list[str]:
    """Names of weight and bias; the bias of a convolution of `x - constant` makes up for the constant."""
    assert isinstance(step.params, convolution.Convolution)
    weight, bias = blobs[0], blobs[1] if step.params.bias else torch.zeros(step.features)
    if constant is not None:
        kernel = constant.double().expand(-1, -1, *weight.shape[2:])
        missing = torch.nn.functional.conv2d(kernel, weight.double(), groups=step.params.group)
        bias = (bias.double() + missing.flatten()).float()
    return _named(model, step, [weight, bias])


def _crop(model: _OnnxModel, step: Step, params: crop.Crop) -> None:
    """From the offset on, as many rows and columns as the second bottom has."""
    x, reference = step.bottoms
    offsets = np.array([params.offset_along(axis) for axis in (2, 3)], np.int64)
    offset = model.weight(f"{step.top}.offset", offsets)
    axes = model.weight(f"{step.top}.axes", np.array([2, 3], np.int64))
    size = model.node("Shape", [reference], f"{step.top} size", start=2, end=4)
    end = model.node("Add", [size, offset], f"{step.top} end")
    model.node("Slice", [x, offset, end, axes], step.top)


def _times(model: _OnnxModel, step: Step, params: eltwise.Eltwise, i: int, name: str) -> str:
    if params.operation != "SUM":
        raise ValueError(f"{step.name}: no ONNX operator is known for {params.operation} of blobs")
    if params.coefficients[i] == 1:
        return name
    factor = model.weight(f"{step.top}.{i}", np.array(params.coefficients[i], np.float32))
    return model.node("Mul", [name, factor], f"{step.top} term {i}")
