"""ONNX of any net, with height and width free, and onnxruntime to run it (extra `onnx`)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..escaping import identifier, identifiers
from .checking import ExportError, Run, require
from .onnx_optimizer import optimize
from .tracing import free_sizes, traced, tracing

if TYPE_CHECKING:
    from torch import Tensor, nn


def write_onnx(
    net: nn.Module,
    path: str | os.PathLike[str],
    *,
    example: Mapping[str, Tensor],
    outputs: Sequence[str],
    any_size: bool,
    metadata: Mapping[str, str],
) -> None:
    """Write a module as ONNX; `example` are inputs to trace it with.

    With `any_size`, height and width of 4-D inputs are free, from 32 up, the same for all inputs. `metadata` goes into
    the model's metadata_props. Raises ExportError for nets that torch.export cannot trace.
    """
    require("onnx", "onnxscript", extra="onnx")
    import torch

    whole = traced(net, example, any_size=any_size)
    with tracing("torch.onnx.export"):
        program = torch.onnx.export(
            whole,
            (),
            dynamo=True,
            verbose=False,
            optimize=False,
            input_names=list(example),
            dynamic_shapes=free_sizes(example) if any_size else None,  # for the names only
        )
    if program is None:
        raise ExportError("torch.onnx.export gave nothing")
    optimize(program.model)
    names = onnx_names([*example, *outputs])
    _name_ends(program.model.graph, [names[name] for name in example], [names[name] for name in outputs])
    program.model.metadata_props.update(metadata)
    program.save(os.fspath(path), external_data=False)


def onnx_names(blobs: Iterable[str]) -> dict[str, str]:
    """The name in an ONNX model of each of the inputs and outputs: Caffe's, unless ONNX cannot have it.

    To ONNX an empty name is no value, to its runtimes a name ends at a NUL, and all text is UTF-8.
    """
    wanted = list(blobs)
    kept = {name for name in wanted if name and not re.search("[\0\ud800-\udfff]", name)}
    return {name: name if name in kept else identifier(name, kept, prefix="blob_") for name in wanted}


def _name_ends(graph: Any, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Give inputs and outputs their names, and whatever else inside was called so another one.

    An input that no layer reads is an output of the same name in Caffe; ONNX has one value of a name, which is both.
    """
    ends = {*inputs, *outputs}
    inner = identifiers((v.name for node in graph for v in node.outputs if v.name in ends), ends, prefix="inner_")
    for node in graph:
        for value in node.outputs:
            value.name = inner.get(value.name, value.name)
    for value, name in zip(graph.inputs, inputs, strict=True):
        value.name = name
    for i, (value, name) in enumerate(zip(graph.outputs, outputs, strict=True)):
        if name not in inputs:
            value.name = name
        elif value.name != name:
            graph.outputs[i] = graph.inputs[inputs.index(name)]
            graph.remove(value.producer(), safe=True)


def run_onnx(path: str | os.PathLike[str], *, inputs: Sequence[str], outputs: Sequence[str]) -> Run:
    """A function that runs the model in a file with onnxruntime, on the CPU; its ends are called by Caffe's names."""
    require("onnx", "onnxruntime", extra="onnx")
    import onnx
    import onnxruntime
    import torch

    try:
        onnx.checker.check_model(os.fspath(path))
    except onnx.checker.ValidationError as error:
        raise ExportError(f"what came out is no valid ONNX: {error}") from error
    session = onnxruntime.InferenceSession(os.fspath(path), providers=["CPUExecutionProvider"])
    names = onnx_names([*inputs, *outputs])
    wanted = [names[name] for name in outputs]
    if [output.name for output in session.get_outputs()] != wanted:
        raise ExportError("what came out has other outputs than the net")

    def run(given: Mapping[str, Any]) -> dict[str, Any]:
        arrays = session.run(wanted, {names[name]: x.numpy() for name, x in given.items()})
        return {name: torch.from_numpy(array) for name, array in zip(outputs, arrays, strict=True)}

    return run
