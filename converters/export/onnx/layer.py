"""OnnxForm: the `OnnxLayer` of one layer, which puts what its form says into a Graph under Caffe's names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from ...errors import MismatchError
from ...layers.base import blob_name
from ...net.layer import LayerSpec, Shape
from ...net.onnx_form import OPENCV, OnnxValue
from ...net.parameter_sharing import BlobId
from ..checking import ExportError
from .graph import Graph
from .tensorrt import why_not_in_tensorrt
from .vectors import Vector

HALF_MOST = float(np.finfo(np.float16).max)
"""The largest number of 16 bits."""

_SUMS = {"ReduceSum": "ReduceSum", "ReduceMean": "ReduceMean", "ReduceSumSquare": "ReduceSum"}
"""The operators that add up numbers, and what adds up what they make of rows."""


def kept_whole(values: np.ndarray, shape: Sequence[int]) -> bool:
    """True for a learnable blob that stays in 32 bits where others get 16: a vector, or numbers beyond 65504.

    Vectors are few numbers, and such as a variance of 1e-7 would be 0.
    """
    return len(shape) < 2 or not float(max(values.max(initial=0), -values.min(initial=0))) <= HALF_MOST


@dataclass(frozen=True)
class Learnable:
    """The learnable blobs of a net by owner, with the initializers that they have become so far (by `made`).

    `borrowed` are the blobs of layers that share another's. Learnable are written as `dtype` and computed in float32.
    """

    arrays: Mapping[BlobId, np.ndarray]
    borrowed: Mapping[BlobId, BlobId]
    dtype: np.dtype[Any]
    made: dict[tuple[BlobId, Shape], str]


class OnnxForm:
    """One layer on its way into a graph; see OnnxLayer for what forms may ask of it."""

    def __init__(
        self,
        graph: Graph,
        spec: LayerSpec,
        *,
        bottoms: tuple[OnnxValue, ...],
        tops: tuple[OnnxValue, ...],
        blobs: tuple[Shape, ...],
        weights: Learnable,
        path: str | None,
        target: str | None,
    ) -> None:
        self.bottoms, self.tops, self.target = bottoms, tops, target
        self._graph, self._spec, self._blobs, self._weights, self._path = graph, spec, blobs, weights, path
        self._made: set[int] = set()

    @property
    def opset(self) -> int:
        return self._graph.opset

    @property
    def missing(self) -> tuple[str, ...]:
        """The tops that have not been made."""
        return tuple(top.name for index, top in enumerate(self.tops) if index not in self._made)

    # Learnable blobs and constants

    def blob(self, position: int, *, shape: Sequence[int] | None = None) -> str:
        owner, values = self._stored(position)
        dims = tuple(self._blobs[position] if shape is None else shape)
        if -1 in dims:
            rest = -prod(dims)
            dims = tuple(values.size // rest if size == -1 else size for size in dims)
        if prod(dims) != values.size:
            raise MismatchError(f"blob {position} has {values.size} values; expected {dims}", where=self._spec.place)
        key = owner, dims
        if key not in self._weights.made:
            whole = self._is_whole(values, position)
            self._weights.made[key] = self._write(f"{owner[0]}/{blob_name(owner[1])}", values, dims, whole)
        return self._weights.made[key]

    def _write(self, name: str, values: np.ndarray, dims: Shape, whole: bool) -> str:
        if whole:
            return self._graph.initializer(name, values, dims=dims, dtype=np.float32)
        stored = self._graph.initializer(f"{name}/stored", values, dims=dims, dtype=self._weights.dtype)
        return self._graph.add("Cast", [stored], name, to=1)

    def blob_shape(self, position: int) -> tuple[int, ...]:
        return self._blobs[position]

    def blob_value(self, position: int) -> np.ndarray:
        values = self._stored(position)[1].reshape(self._blobs[position])
        if self._is_whole(values, position):
            return values
        return values.astype(self._weights.dtype).astype(np.float32)  # which `blob` gives, and whoever checks the file

    def _is_whole(self, values: np.ndarray, position: int) -> bool:
        return self._weights.dtype == np.float32 or kept_whole(values, self._blobs[position])

    def _stored(self, position: int) -> tuple[BlobId, np.ndarray]:
        mine = self._spec.name, position
        owner = self._weights.borrowed.get(mine, mine)
        values = self._weights.arrays.get(owner, self._weights.arrays.get(mine))
        if values is None:
            raise MismatchError(f"there are no weights for blob {position}", where=self._spec.place)
        return owner, values

    def constant(self, part: str, value: Any) -> str:
        array = np.asarray(value)
        if array.dtype.kind == "i" and not isinstance(value, (np.ndarray, np.generic)):
            array = array.astype(np.int64)
        elif array.dtype == np.float64:
            array = array.astype(np.float32)
        return self._graph.initializer(self._part(part), array)

    # Nodes

    def node(self, op: str, inputs: Sequence[Any], *, part: str, **attributes: Any) -> str:
        return self.node_of_several(op, inputs, (part,), **attributes)[0]

    def top(self, op: str, inputs: Sequence[Any], *, index: int = 0, **attributes: Any) -> str:
        return self.node_of_several(op, inputs, (index,), **attributes)[0]

    def make(
        self, op: str, inputs: Sequence[Any], *, part: str | None = None, index: int = 0, **attributes: Any
    ) -> str:
        return self._one(op, inputs, part, index, **attributes)

    def node_of_several(
        self, op: str, inputs: Sequence[Any], outputs: Sequence[int | str | None], **attributes: Any
    ) -> tuple[str, ...]:
        if op == "Tanh" and self.target in OPENCV:  # which is NaN above 44 in OpenCV 5.0; beyond 20 it is 1 or -1
            ends = [self.constant(name, np.float32(end)) for name, end in (("from", -20), ("to", 20))]
            inputs = [self.node("Clip", [*inputs, *ends], part="within")]
        if self.target == "tensorrt":
            names = [_name(value) for value in inputs]
            problem = why_not_in_tensorrt(op, names, outputs, attributes, self._graph.initializers)
            if problem is not None:
                raise self.refuse(problem, hint="end the net before it with --outputs")
        names = [self._output(output) for output in outputs]
        domain = attributes.pop("domain", "")
        self._graph.node(
            op,
            [_name(value) for value in inputs],
            names,
            name=self._node_name(outputs),
            domain=domain,
            attributes=attributes,
        )
        return tuple(names)

    def _output(self, output: int | str | None) -> str:
        if output is None:
            return ""
        if isinstance(output, str):
            return self._graph.values.fresh(self._part(output))
        self._made.add(output)
        return self.tops[output].name

    def _node_name(self, outputs: Sequence[int | str | None]) -> str:
        """The layer's name for the node that makes its first top."""
        if 0 in outputs:
            return self._spec.name
        first = next(output for output in outputs if output is not None)
        return self._part(first if isinstance(first, str) else f"top{first}")

    def _part(self, part: str) -> str:
        return f"{self._spec.name}/{part}"

    # What forms are made of

    def size(self, value: OnnxValue, axes: Sequence[int]) -> Vector:
        free = [axis for axis in axes if value.shape[axis] is None]
        names: dict[int, str] = {}
        if free:
            shape = self._graph.add("Shape", [value.name], self._part("shape"))
            for axis in dict.fromkeys(free):
                place = self._graph.initializer(self._part("axis"), np.array([axis % len(value.shape)], np.int64))
                names[axis] = self._graph.add("Gather", [shape, place], self._part("size"), axis=0)
        entries: list[int | str] = []
        for axis in axes:
            known = value.shape[axis]
            entries.append(names[axis] if known is None else known)
        return Vector(self._graph, self._spec.name, entries)

    def sizes(self, parts: Sequence[Any]) -> Vector:
        entries: list[int | str] = []
        for part in parts:
            entries += part.entries if isinstance(part, Vector) else [int(part)]
        return Vector(self._graph, self._spec.name, entries)

    def reshape(self, value: Any, dims: Sequence[Any], *, part: str | None = None, index: int = 0) -> str:
        return self._one("Reshape", [value, self.sizes(dims)], part, index)

    def slice(
        self, value: Any, axes: Sequence[int], starts: Any, ends: Any, *, part: str | None = None, index: int = 0
    ) -> str:
        inputs = [value, self._vector(starts), self._vector(ends), self.constant("axes", list(axes))]
        return self._one("Slice", inputs, part, index)

    def pad(self, value: Any, pads: Any, *, constant: float = 0.0, part: str | None = None, index: int = 0) -> str:
        filling = self.constant("filling", np.float32(constant)) if constant else None
        inputs = [value, self._vector(pads), *([filling] if filling else [])]
        return self._one("Pad", inputs, part, index)

    def reduce(
        self,
        op: str,
        value: Any,
        axes: Sequence[int],
        *,
        keepdims: bool = True,
        part: str | None = None,
        index: int = 0,
    ) -> str:
        if self.target in OPENCV and len(axes) > 2 and list(axes) == list(range(1, len(axes) + 1)):
            # OpenCV's classic engine takes the wrong places where three axes and more go together.
            rows = self.reduce(op, self.node("Flatten", [value], part="rows", axis=1), [1], part="of_rows")
            return self.reshape(rows, [-1, *([1] * len(axes) if keepdims else [])], part=part, index=index)
        if op in _SUMS and len(axes) > 1 and self.target not in OPENCV:
            # onnxruntime adds up all numbers in one row, in which what each sum drops adds up, too (2e-5 of 18,000).
            rows = self.reduce(op, value, axes[-1:], keepdims=keepdims, part=f"{part or 'all'}_of_rows")
            return self.reduce(_SUMS[op], rows, axes[:-1], keepdims=keepdims, part=part, index=index)
        since = 13 if op == "ReduceSum" else 18
        if self.opset < since:
            return self._one(op, [value], part, index, axes=list(axes), keepdims=int(keepdims))
        return self._one(op, [value, self.constant("axes", list(axes))], part, index, keepdims=int(keepdims))

    def _vector(self, numbers: Any) -> Any:
        return numbers if isinstance(numbers, Vector) else self.sizes(list(numbers))

    def _one(self, op: str, inputs: Sequence[Any], part: str | None, index: int, **attributes: Any) -> str:
        output: int | str = index if part is None else part
        return self.node_of_several(op, inputs, (output,), **attributes)[0]

    def refuse(self, problem: str, *, hint: str | None = None) -> ExportError:
        where = f"{self._path}: " if self._path else ""
        return ExportError(f"{where}{self._spec.place}: {problem}" + (f"\n  {hint}" if hint else ""))


def _name(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else str(value.name)
