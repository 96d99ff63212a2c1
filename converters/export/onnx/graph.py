"""Graph: the nodes and initializers of an ONNX model as they are put down one after the other; knows nothing of Caffe.

The values of initializers are arrays that stay where they are (in a mapped file, as a rule) until the model is
written (streaming.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper

from .names import Names
from .opsets import DEFAULT_OPSET


@dataclass(frozen=True)
class Initializer:
    """A constant of a model: `values` as it lies somewhere, to be written as `dtype`, seen in the shape `dims`."""

    name: str
    dims: tuple[int, ...]
    values: np.ndarray
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        return int(self.values.size) * self.dtype.itemsize


@dataclass(frozen=True)
class End:
    """An input, an output or another value of a model that says its type: a str is the name of a free size."""

    name: str
    dims: tuple[int | str | None, ...]
    elem_type: int = onnx.TensorProto.FLOAT


class Graph:
    """Nodes and initializers, each under a name of its own."""

    def __init__(self, *, opset: int = DEFAULT_OPSET, taken: Sequence[str] = ()) -> None:
        self.opset = opset
        self.values = Names(taken)
        self.node_names = Names()
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, Initializer] = {}

    def initializer(
        self, name: str, values: np.ndarray, *, dims: Sequence[int] | None = None, dtype: Any = None
    ) -> str:
        """Add a constant; it is written as `dtype`, by default its own. Returns the name that it got."""
        name = self.values.fresh(name)
        shape = tuple(int(size) for size in (values.shape if dims is None else dims))
        kind = np.dtype(values.dtype if dtype is None else dtype).newbyteorder("=")
        self.initializers[name] = Initializer(name, shape, values, kind)
        return name

    def node(
        self,
        op: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        *,
        name: str,
        domain: str = "",
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        """Add a node; `outputs` are names that the caller has taken from `values`."""
        given = {key: value for key, value in (attributes or {}).items() if value is not None}
        self.nodes.append(
            helper.make_node(op, inputs, outputs, name=self.node_names.fresh(name), domain=domain or None, **given)
        )

    def add(self, op: str, inputs: Sequence[str], output: str, *, name: str | None = None, **attributes: Any) -> str:
        """Add a node with one output, called `output` if that is free; returns the name that it got."""
        value = self.values.fresh(output)
        self.node(op, inputs, [value], name=output if name is None else name, attributes=attributes)
        return value
