"""OnnxLayer: what `Layer.to_onnx` is given, to say the ONNX operators that compute what its layer does.

A form has to be Caffe's at every size. Sizes that are free when the model is written are None in a value's shape; what
depends on them is worked out in the model itself, with `Sizes`, which are numbers where the sizes are known. So one
form serves both: with all sizes known nothing but constants and plain operators is left of it.

    def to_onnx(self, out):
        x = out.bottoms[0]
        half = out.node("Mul", [x, out.constant("half", np.float32(0.5))], part="half")
        out.top("Sigmoid", [half])

Values go into operators by name; OnnxValue, Sizes and what `node`, `blob` and `constant` give may all be inputs, and
None is an optional input left out. Only numpy may be imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

FLOAT, INT64, BOOL = 1, 7, 9
"""Element types of ONNX (TensorProto.DataType), as `to` of Cast takes them."""

OPENCV = ("opencv5", "opencv4")
"""The targets whose own layers of Caffe's kind may be nodes: OpenCV looks for operators that it does not know there.

They are asked for where OpenCV's classic engine cannot read a form whose sizes are free (it has no Shape), or reads it
wrongly.
"""

CLASSIC = "opencv4"
"""The target whose files OpenCV's classic engine alone reads, in OpenCV 4 and through `fcn_port.opencv` in 5.

It has Caffe's layers as they were; the new engine takes no constants for the blobs of most of them.
"""

FreeShape = tuple[int | None, ...]
"""The shape of a value; None is a size that is free."""


@dataclass(frozen=True)
class OnnxValue:
    """A value of the model: its name there, and its shape with None for the sizes that are free."""

    name: str
    shape: FreeShape


class Sizes(Protocol):
    """Whole numbers in a row that a model works out, or that are known: an int64 vector of one axis.

    Operators work number by number, and between `Sizes` of equal length or with one number; `//` is for numbers of at
    least 0, where it rounds down.
    """

    @property
    def known(self) -> tuple[int, ...] | None:
        """The numbers, where all of them are known."""

    @property
    def name(self) -> str:
        """The name of the value; known numbers become a constant."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Sizes: ...
    def __add__(self, other: Sizes | int | Sequence[int]) -> Sizes: ...
    def __sub__(self, other: Sizes | int | Sequence[int]) -> Sizes: ...
    def __mul__(self, other: Sizes | int | Sequence[int]) -> Sizes: ...
    def __floordiv__(self, other: Sizes | int | Sequence[int]) -> Sizes: ...

    def at_least(self, least: int) -> Sizes:
        """The numbers, and `least` for those below it."""

    def product(self) -> Sizes:
        """The product of all, as one number."""


Operand = OnnxValue | Sizes | str | None


class OnnxLayer(Protocol):
    """One layer of a net on its way into a model.

    `bottoms` and `tops` are the layer's blobs (the tops are not made yet). `target` names the program that the model
    is for (onnxruntime, opencv5, opencv4, openvino, tensorrt, web), None for any that keeps to the standard.
    """

    @property
    def bottoms(self) -> tuple[OnnxValue, ...]: ...
    @property
    def tops(self) -> tuple[OnnxValue, ...]: ...
    @property
    def opset(self) -> int: ...
    @property
    def target(self) -> str | None: ...

    def blob(self, position: int, *, shape: Sequence[int] | None = None) -> str:
        """The name of a learnable blob, an initializer `layer/weight`, `layer/bias`, `layer/blob2` and so on.

        It goes from the file of weights to the model without being held in memory. `shape` is one with as many
        elements to see it in, by default the shape that the layer says (`blob_shapes`).
        """

    def blob_shape(self, position: int) -> tuple[int, ...]:
        """The shape of a learnable blob, as the layer says it."""

    def blob_value(self, position: int) -> np.ndarray:
        """The values of a learnable blob, for forms that compute with them; prefer `blob`. Read only."""

    def constant(self, part: str, value: np.ndarray | np.generic | Sequence[int]) -> str:
        """The name of an initializer `layer/part`; a list of ints becomes int64."""

    def node(self, op: str, inputs: Sequence[Operand], *, part: str, **attributes: Any) -> str:
        """Add a node with one output, both called `layer/part`; returns the name of the output.

        Attributes that are None are left out.
        """

    def top(self, op: str, inputs: Sequence[Operand], *, index: int = 0, **attributes: Any) -> str:
        """Add the node that makes top `index`, under the blob's own name; returns the name of the value."""

    def make(
        self, op: str, inputs: Sequence[Operand], *, part: str | None = None, index: int = 0, **attributes: Any
    ) -> str:
        """`top` or, with `part`, `node`: for code that serves both."""

    def node_of_several(
        self, op: str, inputs: Sequence[Operand], outputs: Sequence[int | str | None], **attributes: Any
    ) -> tuple[str, ...]:
        """Add a node with several outputs: ints are tops, strings parts, None an output left out; returns the names."""

    def size(self, value: OnnxValue, axes: Sequence[int]) -> Sizes:
        """The sizes of a bottom (or of another value whose shape is known here) along these axes."""

    def sizes(self, parts: Sequence[int | Sizes]) -> Sizes:
        """Numbers and Sizes one after the other as one."""

    def reshape(self, value: Operand, dims: Sequence[int | Sizes], *, part: str | None = None, index: int = 0) -> str:
        """Reshape to `dims`, one of which may be -1; makes top `index`, or with `part` a value in the middle."""

    def slice(
        self,
        value: Operand,
        axes: Sequence[int],
        starts: Sequence[int] | Sizes,
        ends: Sequence[int] | Sizes,
        *,
        part: str | None = None,
        index: int = 0,
    ) -> str:
        """The part from `starts` to before `ends` along `axes`; makes top `index`, or with `part` a value between."""

    def pad(
        self,
        value: Operand,
        pads: Sequence[int] | Sizes,
        *,
        constant: float = 0.0,
        part: str | None = None,
        index: int = 0,
    ) -> str:
        """Pad with a constant; `pads` are all beginnings, then all ends, one for every axis of the value."""

    def reduce(
        self,
        op: str,
        value: Operand,
        axes: Sequence[int],
        *,
        keepdims: bool = True,
        part: str | None = None,
        index: int = 0,
    ) -> str:
        """ReduceSum, ReduceMean, ReduceMax ... over `axes`, whose place in the node changed with the opset."""

    def refuse(self, problem: str, *, hint: str | None = None) -> Exception:
        """The error to raise where this layer has no form: names the layer and its file."""
