"""Ways out: safetensors, Caffe, Python source, ONNX, torch.export, and the check that they compute the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_attributes

if TYPE_CHECKING:
    from .caffe import run_caffe, to_caffe, write_caffe
    from .checking import (
        EXAMPLE_SIZE,
        Agreement,
        ExportError,
        Run,
        check,
        inputs_at,
        random_inputs,
        run_module,
        takes_any_size,
        trials,
    )
    from .indices import index_inputs
    from .python import class_name, python_source
    from .safetensors import read_metadata, write_safetensors
    from .torch_export import run_torch_export, write_torch_export
    from .traced_onnx import run_onnx, write_onnx

__all__ = [
    "EXAMPLE_SIZE",
    "Agreement",
    "ExportError",
    "Run",
    "check",
    "class_name",
    "index_inputs",
    "inputs_at",
    "python_source",
    "random_inputs",
    "read_metadata",
    "run_caffe",
    "run_module",
    "run_onnx",
    "run_torch_export",
    "takes_any_size",
    "to_caffe",
    "trials",
    "write_caffe",
    "write_onnx",
    "write_safetensors",
    "write_torch_export",
]

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        "Agreement": "checking",
        "EXAMPLE_SIZE": "checking",
        "ExportError": "checking",
        "Run": "checking",
        "check": "checking",
        "class_name": "python",
        "index_inputs": "indices",
        "inputs_at": "checking",
        "python_source": "python",
        "random_inputs": "checking",
        "read_metadata": "safetensors",
        "run_caffe": "caffe",
        "run_module": "checking",
        "run_onnx": "traced_onnx",
        "run_torch_export": "torch_export",
        "takes_any_size": "checking",
        "to_caffe": "caffe",
        "trials": "checking",
        "write_caffe": "caffe",
        "write_onnx": "traced_onnx",
        "write_safetensors": "safetensors",
        "write_torch_export": "torch_export",
    },
)
