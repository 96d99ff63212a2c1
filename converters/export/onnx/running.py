"""A written model run by onnxruntime, its ends called by Caffe's names."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ...safety.utf8 import utf8_path
from ..checking import ExportError, require
from .names import onnx_names

if TYPE_CHECKING:
    from ..checking import Run


def run_onnx(path: str | os.PathLike[str], *, inputs: Sequence[str], outputs: Sequence[str]) -> Run:
    """A function that runs the model in a file with onnxruntime, on the CPU; its ends are called by Caffe's names."""
    require("onnx", "onnxruntime")
    import onnx
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.enable_cpu_mem_arena = False  # it keeps the blobs of every size that was run
    with utf8_path(path) as there:
        try:
            onnx.checker.check_model(there)
        except onnx.checker.ValidationError as error:
            raise ExportError(f"what came out is no valid ONNX: {error}") from error
        with _told():
            session = onnxruntime.InferenceSession(there, options, providers=["CPUExecutionProvider"])
    names = onnx_names([*inputs, *outputs])
    found = [output.name for output in session.get_outputs()]
    if len(found) != len(outputs):
        raise ExportError("what came out has other outputs than the net")

    def run(given: Mapping[str, Any]) -> dict[str, Any]:
        with _told():
            arrays = session.run(found, {names[name]: x.numpy() for name, x in given.items()})
        return {name: torch.from_numpy(array) for name, array in zip(outputs, arrays, strict=True)}

    return run


@contextmanager
def _told() -> Iterator[None]:
    """Have what onnxruntime says of a model as ExportError; its own errors have RuntimeError and no base of theirs."""
    try:
        yield
    except Exception as error:
        raise ExportError(f"what came out does not run in onnxruntime: {str(error).splitlines()[0]}") from error
