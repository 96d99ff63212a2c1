"""Ways out: safetensors, Caffe, Python source, ONNX, torch.export, and the check that they compute the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_attributes

if TYPE_CHECKING:
    from .caffe import run_caffe, to_caffe, write_caffe
    from .checking import (
        EXAMPLE_SIZE,
        NOISE,
        SIZES,
        TOLERANCE,
        Agreement,
        ExportError,
        Run,
        check,
        inputs_at,
        random_inputs,
        require,
        run_exactly,
        run_module,
        takes_any_size,
        trials,
    )
    from .detections import are_detections, detections_apart
    from .indices import index_inputs
    from .onnx import (
        DEFAULT_OPSET,
        HIGHEST_OPSET,
        LOWEST_OPSET,
        MOST_INSIDE,
        End,
        Graph,
        OnnxNet,
        OnnxOptions,
        build_onnx,
        onnx_names,
        run_onnx,
        write_model,
    )
    from .python import class_name, python_source
    from .safetensors import map_tensors, read_metadata, write_safetensors
    from .targets import (
        TARGETS,
        Checked,
        Claim,
        ProgramError,
        TargetError,
        TargetProgram,
        check_target,
        difference,
        opset_of,
        programs_of,
        run_model,
        summary,
    )
    from .torch_export import run_torch_export, write_torch_export

__all__ = [
    "DEFAULT_OPSET",
    "EXAMPLE_SIZE",
    "HIGHEST_OPSET",
    "LOWEST_OPSET",
    "MOST_INSIDE",
    "NOISE",
    "SIZES",
    "TARGETS",
    "TOLERANCE",
    "Agreement",
    "Checked",
    "Claim",
    "End",
    "ExportError",
    "Graph",
    "OnnxNet",
    "OnnxOptions",
    "ProgramError",
    "Run",
    "TargetError",
    "TargetProgram",
    "are_detections",
    "build_onnx",
    "check",
    "check_target",
    "class_name",
    "detections_apart",
    "difference",
    "index_inputs",
    "inputs_at",
    "map_tensors",
    "onnx_names",
    "opset_of",
    "programs_of",
    "python_source",
    "random_inputs",
    "read_metadata",
    "require",
    "run_caffe",
    "run_exactly",
    "run_model",
    "run_module",
    "run_onnx",
    "run_torch_export",
    "summary",
    "takes_any_size",
    "to_caffe",
    "trials",
    "write_caffe",
    "write_model",
    "write_safetensors",
    "write_torch_export",
]

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        "Agreement": "checking",
        "EXAMPLE_SIZE": "checking",
        "NOISE": "checking",
        "SIZES": "checking",
        "TOLERANCE": "checking",
        "ExportError": "checking",
        "Run": "checking",
        "check": "checking",
        "class_name": "python",
        **dict.fromkeys(("are_detections", "detections_apart"), "detections"),
        "index_inputs": "indices",
        "inputs_at": "checking",
        "python_source": "python",
        "random_inputs": "checking",
        "map_tensors": "safetensors",
        "read_metadata": "safetensors",
        "require": "checking",
        "run_caffe": "caffe",
        "run_exactly": "checking",
        "run_module": "checking",
        **dict.fromkeys(("TARGETS", "Checked", "Claim", "ProgramError", "TargetError", "TargetProgram"), "targets"),
        **dict.fromkeys(("check_target", "difference", "opset_of", "programs_of", "run_model", "summary"), "targets"),
        **dict.fromkeys(("DEFAULT_OPSET", "HIGHEST_OPSET", "LOWEST_OPSET", "MOST_INSIDE"), "onnx"),
        **dict.fromkeys(
            ("End", "Graph", "OnnxNet", "OnnxOptions", "build_onnx", "onnx_names", "run_onnx", "write_model"), "onnx"
        ),
        "run_torch_export": "torch_export",
        "takes_any_size": "checking",
        "to_caffe": "caffe",
        "trials": "checking",
        "write_caffe": "caffe",
        "write_safetensors": "safetensors",
        "write_torch_export": "torch_export",
    },
)
