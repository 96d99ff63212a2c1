"""ONNX of a net, written straight from its definition and the file of its weights: no torch, no tracing.

graph.py       nodes and initializers, put down one after the other
probing.py     which sizes are free
layer.py       what a layer's form (`Layer.to_onnx`) may ask for, see converters/net/onnx_form.py
net.py         the net as a graph
folding.py     BatchNorm and Scale into the layer before
streaming.py   the graph into a file
running.py     the file in onnxruntime
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...lazy import lazy_attributes

if TYPE_CHECKING:
    from .graph import End, Graph
    from .layer import kept_whole
    from .names import onnx_names
    from .net import OnnxNet, OnnxOptions, build_onnx
    from .opsets import DEFAULT_OPSET, HIGHEST_OPSET, LOWEST_OPSET
    from .running import run_onnx
    from .streaming import MOST_INSIDE, write_model

__all__ = [
    "DEFAULT_OPSET",
    "HIGHEST_OPSET",
    "LOWEST_OPSET",
    "MOST_INSIDE",
    "End",
    "Graph",
    "OnnxNet",
    "OnnxOptions",
    "build_onnx",
    "kept_whole",
    "onnx_names",
    "run_onnx",
    "write_model",
]

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        **dict.fromkeys(("End", "Graph"), "graph"),
        **dict.fromkeys(("DEFAULT_OPSET", "HIGHEST_OPSET", "LOWEST_OPSET"), "opsets"),
        "kept_whole": "layer",
        "onnx_names": "names",
        **dict.fromkeys(("OnnxNet", "OnnxOptions", "build_onnx"), "net"),
        "run_onnx": "running",
        **dict.fromkeys(("MOST_INSIDE", "write_model"), "streaming"),
    },
)
