"""The common parts of the layer families: bases of common shapes, and the reading of spatial settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import NetError
from ..net.layer import Layer, LayerSpec, Shape, find_layer, register_layer
from ..net.onnx_form import FLOAT, OPENCV

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.onnx_form import OnnxLayer, OnnxValue, Operand

__all__ = [
    "Layer",
    "Neuron",
    "OneToOne",
    "Pair",
    "as_image",
    "blob_name",
    "canonical_axis",
    "chain",
    "find_layer",
    "image_axis",
    "in_order",
    "kept",
    "legacy_shape",
    "pair",
    "refuse",
    "register_layer",
    "same_everywhere",
]

Pair = tuple[int, int]

LARGEST = 1 << 30
"""Of a size in a layer's parameters: twice as much, as padding is on two sides, is what Caffe's int can count."""


class OneToOne(Layer):
    """Base of the types that have one bottom and one top."""

    bottom_count = (1, 1)
    top_count = (1, 1)


class Neuron(OneToOne):
    """Base of the types whose top has the bottom's shape."""

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        return (bottoms[0],)

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (bottoms[0],)


def refuse(spec: LayerSpec, problem: str, *, hint: str | None = None) -> NetError:
    """The error to raise for parameters that Caffe would refuse."""
    return NetError(problem, where=spec.place, hint=hint)


def pair(spec: LayerSpec, message: Any, name: str, *, default: int | None = None) -> Pair:
    """(h, w) of a spatial parameter that may be given as `name`, repeated, or as `stem_h` and `stem_w`.

    Source: base_conv_layer.cpp and pooling_layer.cpp, LayerSetUp. Both forms at once are refused, as there.
    """
    stem = name.removesuffix("_size")
    h, w = message.HasField(f"{stem}_h"), message.HasField(f"{stem}_w")
    given = _as_list(message, name)
    if h or w:
        if given:
            raise refuse(spec, f"both {name} and {stem}_h/{stem}_w are given", hint="keep one of them")
        if not (h and w) and default is None:
            raise refuse(spec, f"{stem}_h and {stem}_w go together; only one is given")
        return getattr(message, f"{stem}_h"), getattr(message, f"{stem}_w")
    if len(given) > 2:
        raise refuse(spec, f"{name} is given {len(given)} times; two spatial axes take one or two")
    if not given:
        if default is None:
            raise refuse(spec, f"{name} is missing", hint=f"give {name}, or {stem}_h and {stem}_w")
        return default, default
    return given[0], given[-1]


def _as_list(message: Any, name: str) -> list[int]:
    value = getattr(message, name)
    if isinstance(value, int):
        return [value] if message.HasField(name) else []
    return list(value)


def canonical_axis(axis: int, shape: Sequence[Any]) -> int:
    """`axis` counted from the front (blob.hpp, CanonicalAxisIndex); ValueError where the blob does not have it."""
    if not -len(shape) <= axis < len(shape):
        raise ValueError(f"axis {axis} of a blob with {len(shape)} axes")
    return axis % len(shape)


def as_image(shape: Shape) -> tuple[int, int, int, int]:
    """`shape` as (n, c, h, w); ValueError where it has other axes."""
    if len(shape) != 4:
        raise ValueError(f"a bottom of shape {shape}; expected (n, c, h, w)")
    n, c, h, w = shape
    return n, c, h, w


def image_axis(axis: int) -> int | None:
    """`axis` of a blob (n, c, h, w) counted from the front; None where it has no such axis."""
    return axis % 4 if -4 <= axis < 4 else None


def legacy_shape(shape: Shape) -> tuple[int, int, int, int]:
    """`shape` with ones appended up to four axes, as Caffe's older layers see it (blob.hpp, LegacyShape)."""
    if len(shape) > 4:
        raise ValueError(f"a bottom of shape {shape}; this layer takes at most 4 axes")
    n, c, h, w = (*shape, 1, 1, 1, 1)[:4]
    return n, c, h, w


def chain(out: OnnxLayer, value: Operand, steps: Sequence[tuple[str, str, float]]) -> None:
    """Make a layer's top of a value by operators, each (its name, the name of its constant, the constant), in a row."""
    if not steps:
        out.top("Identity", [value])
    for number, (op, part, constant) in enumerate(steps, 1):
        inputs = [value, out.constant(part, np.float32(constant))]
        value = out.top(op, inputs) if number == len(steps) else out.node(op, inputs, part=f"{part}_applied")


def same_everywhere(out: OnnxLayer, value: Operand, number: float) -> None:
    """Make a layer's top of the shape of a value, each element the number, whatever the value holds.

    OpenCV knows no comparison in every version; there what is no number or infinite makes no number.
    """
    if out.target in OPENCV:
        chain(out, value, [("Mul", "scale", 0.0), ("Add", "shift", number)])
        return
    never = out.node("Greater", [value, value], part="never")
    zeros = out.node("Cast", [never], part="zeros", to=FLOAT)
    out.top("Add", [zeros, out.constant("shift", np.float32(number))])


def kept(value: OnnxValue, count: int | None = None) -> list[int]:
    """The sizes of a value's first axes as ONNX's Reshape takes them: 0, the input's own, for those that are free."""
    return [0 if size is None else size for size in value.shape[:count]]


def in_order(x: Tensor) -> Tensor:
    """The tensor, its numbers in memory in the order of its axes where torch.export records the net.

    A turned one can be seen in another shape without a copy where a map is a single place, and a trace at such a size
    would hold for no other (`Constraints violated`).
    """
    import torch

    return x.clone(memory_format=torch.contiguous_format) if torch.compiler.is_compiling() else x


def may_be_one(*sizes: int) -> bool:
    """True where torch.export records the net for images of several sizes, and one of these sizes may be 1 for some.

    PyTorch's own operators look at such a size in a trace, which would then hold for no other (`Constraints violated`).
    """
    import torch

    free = [size for size in sizes if isinstance(size, torch.SymInt)]
    if not free:
        return False
    from torch.fx.experimental.symbolic_shapes import statically_known_true

    return not all(statically_known_true(size > 1) for size in free)


def blob_name(position: int) -> str:
    """The name of a layer's learnable blob in PyTorch, whatever the type: weight, bias, blob2, blob3 and so on."""
    return ("weight", "bias")[position] if position < 2 else f"blob{position}"
