"""ONNX of a net, written straight from its definition and the file of its weights: no torch, no tracing.

graph.py       nodes and initializers, put down one after the other
probing.py     which sizes are free
layer.py       what a layer's form (`Layer.to_onnx`) may ask for, see converters/net/onnx_form.py
net.py         the net as a graph
streaming.py   the graph into a file
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...lazy import lazy_attributes

if TYPE_CHECKING:
    from .graph import End, Graph
    from .names import onnx_names
    from .net import OnnxNet, build
    from .streaming import write_model

__all__ = ["End", "Graph", "OnnxNet", "build", "onnx_names", "write_model"]

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        **dict.fromkeys(("End", "Graph"), "graph"),
        "onnx_names": "names",
        **dict.fromkeys(("OnnxNet", "build"), "net"),
        "write_model": "streaming",
    },
)
