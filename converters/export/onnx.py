"""ONNX of any net, with height and width free, and onnxruntime to run it (extra `onnx`)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..net import Shape
from .check import ExportError, Run, random_inputs, require
from .onnx_optimizer import optimize
from .tracing import free_sizes, tracing

if TYPE_CHECKING:
    from torch import nn


def write_onnx(
    net: nn.Module,
    path: str | os.PathLike[str],
    *,
    example: Mapping[str, Shape],
    outputs: Sequence[str],
    any_size: bool,
    metadata: Mapping[str, str],
) -> None:
    """Write a module as ONNX; `example` are inputs (names and shapes) to trace it with.

    With `any_size`, height and width of 4-D inputs are free, from 32 up, the same for all inputs. `metadata` goes into
    the model's metadata_props. Raises ExportError for nets that torch.export cannot trace.
    """
    require("onnx", "onnxscript", extra="onnx")
    import torch

    args = tuple(random_inputs(example, seed=0).values())
    with tracing("torch.onnx.export"):
        program = torch.onnx.export(
            net,
            args,
            dynamo=True,
            verbose=False,
            optimize=False,
            input_names=list(example),
            dynamic_shapes=free_sizes(net, example) if any_size else None,
        )
    if program is None:
        raise ExportError("torch.onnx.export gave nothing")
    optimize(program.model)
    _name_outputs(program.model.graph, outputs)
    program.model.metadata_props.update(metadata)
    program.save(os.fspath(path), external_data=False)


def _name_outputs(graph: Any, names: Sequence[str]) -> None:
    """Give the outputs their names, and whatever else inside was called so another one."""
    for node in graph:
        for value in node.outputs:
            if value.name in names:
                value.name = f"inner_{value.name}"
    for value, name in zip(graph.outputs, names, strict=True):
        value.name = name


def run_onnx(path: str | os.PathLike[str]) -> Run:
    """A function that runs the model in a file with onnxruntime, on the CPU."""
    require("onnx", "onnxruntime", extra="onnx")
    import onnx
    import onnxruntime
    import torch

    try:
        onnx.checker.check_model(os.fspath(path))
    except onnx.checker.ValidationError as error:
        raise ExportError(f"what came out is no valid ONNX: {error}") from error
    session = onnxruntime.InferenceSession(os.fspath(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(inputs: Mapping[str, Any]) -> dict[str, Any]:
        arrays = session.run(names, {name: x.numpy() for name, x in inputs.items()})
        return {name: torch.from_numpy(array) for name, array in zip(names, arrays, strict=True)}

    return run
