"""TensorFlow's operations on tensors, as Synopsys' fork of Caffe has them: axes, padding, blocks, arithmetic, shapes.

Source: synopsys-caffe (github.com/foss-for-synopsys-dwc-arc-processors), src/caffe/layers/squeeze_layer.cpp,
expand_dims_nd_layer.cpp, unstack_layer.cpp, pad_layer.cpp, mul_layer.cpp, add_layer.cpp; python/shape.py, pad.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from math import inf, prod
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..net.onnx_form import FLOAT, OPENCV
from ..net.python_form import Form, call, unless
from ..net.reach import EVERYTHING, NOTHING, Reach, Window
from .base import Layer, OneToOne, as_image, canonical_axis, refuse, register_layer
from .fork import fork_message, python_integer, python_settings

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec, Shape
    from ..net.onnx_form import OnnxLayer
    from ..net.python_form import Site


class Reshaped(OneToOne):
    """Base of the types whose top is the bottom's memory under another shape."""

    def shares_memory(self, *, bottoms: int, tops: int) -> bool:
        return True

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return EVERYTHING

    @property
    def moves(self) -> bool:
        return True

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        return (bottoms[0].reshape(self.top_shapes([tuple(bottoms[0].shape)])[0]),)


@register_layer("Squeeze")
@dataclass(frozen=True)
class Squeeze(Reshaped):
    """The bottom without the axes of size 1 that are named, or without any of them."""

    axes: tuple[int, ...]

    @classmethod
    def parse(cls, spec: LayerSpec) -> Squeeze:
        return cls(fork_message(spec, "squeeze_param").integers("axis"))

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        shape = bottoms[0]
        gone = {canonical_axis(axis, shape) for axis in self.axes} or {i for i, size in enumerate(shape) if size == 1}
        wrong = [axis for axis in gone if shape[axis] != 1]
        if wrong:
            raise ValueError(f"axis {wrong[0]} has size {shape[wrong[0]]}; only an axis of size 1 can be squeezed")
        return (tuple(size for axis, size in enumerate(shape) if axis not in gone),)

    def to_onnx(self, out: OnnxLayer) -> None:
        shape = out.bottoms[0].shape
        gone = {canonical_axis(axis, shape) for axis in self.axes} or {i for i, size in enumerate(shape) if size == 1}
        left = [size for axis, size in enumerate(shape) if axis not in gone]
        if out.target in OPENCV and left.count(None) < 2:  # its classic engine takes a free size for the one it read
            out.reshape(out.bottoms[0], [-1 if size is None else size for size in left])
            return
        out.top("Squeeze", [out.bottoms[0], out.constant("axes", sorted(gone))])

    def to_python(self, site: Site) -> Form:
        rank = site.rank
        axes = tuple(axis % rank for axis in self.axes)
        gone = axes or tuple(axis for axis, size in enumerate(site.shapes[0]) if size == 1)
        return Form((f"{site.x}.squeeze({gone})" if gone else site.x,))


@register_layer("ExpandDimsND")
@dataclass(frozen=True)
class ExpandDimsND(Reshaped):
    """The bottom with axes of size 1 put in before the axes that are named; -1 is behind the last."""

    axes: tuple[int, ...]

    @classmethod
    def parse(cls, spec: LayerSpec) -> ExpandDimsND:
        return cls(fork_message(spec, "expand_dims_nd_param").integers("axis"))

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        shape, top = bottoms[0], list(bottoms[0])
        for already, axis in enumerate(self.axes):
            if not -len(shape) <= axis <= len(shape):
                raise ValueError(f"axis {axis} of a blob with {len(shape)} axes")
            top.insert((axis if axis >= 0 else len(shape) + axis + 1) + already, 1)
        return (tuple(top),)

    def to_onnx(self, out: OnnxLayer) -> None:
        top = [0] * len(out.bottoms[0].shape)
        for already, axis in enumerate(self.axes):
            top.insert((axis if axis >= 0 else len(out.bottoms[0].shape) + axis + 1) + already, 1)
        out.top("Unsqueeze", [out.bottoms[0], out.constant("axes", [axis for axis, new in enumerate(top) if new])])

    def to_python(self, site: Site) -> Form:
        text = site.x
        for already, axis in enumerate(self.axes):
            text = f"{text}.unsqueeze({(axis if axis >= 0 else site.rank + axis + 1) + already})"
        return Form((text,))


@register_layer("Unstack")
@dataclass(frozen=True)
class Unstack(Layer):
    """The slices of the bottom along `axis`, which the tops do not have any more; one for each top."""

    axis: int
    tops: int

    bottom_count: ClassVar[tuple[int, float]] = (1, 1)
    top_count: ClassVar[tuple[int, float]] = (1, inf)

    @classmethod
    def parse(cls, spec: LayerSpec) -> Unstack:
        message = fork_message(spec, "unstack_param")
        return cls(message.integer("axis", 0), len(spec.tops))

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        axis = canonical_axis(self.axis, bottoms[0])
        if self.tops > bottoms[0][axis]:
            raise ValueError(f"{self.tops} tops; axis {axis} has {bottoms[0][axis]} slices")
        return ((*bottoms[0][:axis], *bottoms[0][axis + 1 :]),) * self.tops

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return EVERYTHING

    @property
    def moves(self) -> bool:
        return True

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        return tuple(bottoms[0].unbind(self.axis)[: self.tops])

    def to_onnx(self, out: OnnxLayer) -> None:
        for index in range(self.tops):
            place = out.constant(f"place{index}", np.int64(index))
            out.top("Gather", [out.bottoms[0], place], index=index, axis=self.axis)

    def to_python(self, site: Site) -> Form:
        axis = self.axis % site.rank
        return Form(tuple(f"{site.x}.select({axis}, {index})" for index in range(self.tops)))


@register_layer("Pad")
@dataclass(frozen=True)
class Pad(OneToOne):
    """The bottom with a constant around it: (before, after) for each of its axes."""

    pads: tuple[tuple[int, int], ...]
    value: float

    @classmethod
    def parse(cls, spec: LayerSpec) -> Pad:
        message = fork_message(spec, "pad_param")
        given = message.integers("paddings")
        if len(given) % 2 or min(given, default=0) < 0:
            raise refuse(spec, f"paddings {given}; expected two for each axis, 0 or more")
        return cls(tuple(zip(given[::2], given[1::2], strict=True)), message.number("constant_values", 0))

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        if len(self.pads) != len(bottoms[0]):
            raise ValueError(f"paddings for {len(self.pads)} axes; the bottom has {len(bottoms[0])}")
        return (tuple(size + before + after for size, (before, after) in zip(bottoms[0], self.pads, strict=True)),)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return Window(pad=self.pads[axis][0]) if len(self.pads) == 4 else None

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (bottoms[0] + sum(self.pads[1]),) if len(self.pads) == 4 else None

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        from torch.nn.functional import pad

        return (pad(bottoms[0], [side for pads in self.pads[::-1] for side in pads], value=self.value),)

    def to_onnx(self, out: OnnxLayer) -> None:
        before, after = zip(*self.pads, strict=True) if self.pads else ((), ())
        out.pad(out.bottoms[0], [*before, *after], constant=self.value)

    def to_python(self, site: Site) -> Form:
        sides = [side for pads in self.pads[::-1] for side in pads]
        return Form((call("F.pad", site.x, sides, value=unless(0, self.value)),))


PAD_MODES = {"constant": "constant", "edge": "replicate", "reflect": "reflect"}
"""NumPy's names for what PyTorch does under another."""


@register_layer("Python:PadTensor")
@dataclass(frozen=True)
class PadTensor(OneToOne):
    """A Python layer: numpy.pad of h and w by pad_t, pad_b, pad_l, pad_r, in its modes constant, edge and reflect."""

    rows: tuple[int, int]
    columns: tuple[int, int]
    mode: str

    @classmethod
    def parse(cls, spec: LayerSpec) -> PadTensor:
        t, b, left, right = (python_integer(spec, f"pad_{side}") for side in "tblr")
        mode = python_settings(spec).get("pad_mode")
        if mode not in PAD_MODES or min(t, b, left, right) < 0:
            raise refuse(spec, f"pads {(t, b, left, right)}, pad_mode {mode!r}; expected 0 or more, and numpy's mode")
        return cls((t, b), (left, right), str(mode))

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        n, c, h, w = as_image(bottoms[0])
        if self.mode == "reflect" and (max(self.rows) >= h or max(self.columns) >= w):
            raise ValueError(f"pads {self.rows} and {self.columns} reflect more than there is")
        return ((n, c, h + sum(self.rows), w + sum(self.columns)),)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        pads = (self.rows, self.columns)[axis - 2]
        return Window(pad=pads[0]) if self.mode == "constant" or not any(pads) else EVERYTHING

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (bottoms[0],)

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        from torch.nn.functional import pad

        return (pad(bottoms[0], (*self.columns, *self.rows), mode=PAD_MODES[self.mode]),)

    def to_onnx(self, out: OnnxLayer) -> None:
        (top, bottom), (left, right) = self.rows, self.columns
        pads = out.constant("pads", [0, 0, top, left, 0, 0, bottom, right])
        out.top("Pad", [out.bottoms[0], pads], mode=self.mode)

    def to_python(self, site: Site) -> Form:
        sides = [*self.columns, *self.rows]
        return Form((call("F.pad", site.x, sides, mode=repr(PAD_MODES[self.mode])),))


@register_layer("Python:TensorShape")
@dataclass(frozen=True)
class TensorShape(OneToOne):
    """A Python layer: the sizes of the bottom's axes, as a blob with one axis."""

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        return ((len(bottoms[0]),),)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return NOTHING

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        import torch

        return (torch.tensor(list(bottoms[0].shape), dtype=bottoms[0].dtype, device=bottoms[0].device),)

    def to_onnx(self, out: OnnxLayer) -> None:
        out.top("Cast", [out.node("Shape", out.bottoms, part="shape")], to=FLOAT)

    def to_python(self, site: Site) -> Form:
        return Form((call(f"{site.x}.new_tensor", f"{site.x}.shape"),))


@register_layer("Mul", "Add", "Sub", "Div", "Maximum", "Minimum")
@dataclass(frozen=True)
class Arithmetic(Layer):
    """Two bottoms added, multiplied and so on, broadcast as in NumPy; Mul of one bottom has a blob of `mul_shape`."""

    operation: str
    blob: Shape | None

    bottom_count: ClassVar[tuple[int, float]] = (1, 2)
    top_count: ClassVar[tuple[int, float]] = (1, 1)

    @classmethod
    def parse(cls, spec: LayerSpec) -> Arithmetic:
        if len(spec.bottoms) > 1:
            return cls(spec.type, None)
        if spec.type != "Mul":
            raise refuse(spec, f"{spec.type} of one bottom: the shape of its blob is in the weights only")
        return cls(spec.type, fork_message(spec, "mul_param").integers("mul_shape"))

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        a, b = bottoms[0], bottoms[1] if self.blob is None else self.blob
        top = []
        for x, y in zip_longest(a[::-1], b[::-1], fillvalue=1):
            if x != y and 1 not in (x, y):
                raise ValueError(f"{a} and {b} do not broadcast: sizes {x} and {y}")
            top.append(max(x, y))
        return (tuple(top[::-1]),)

    def blob_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        return () if self.blob is None else (self.blob,)

    def blob_fills(self) -> tuple[float, ...]:
        return (1.0,)

    def filler_fields(self) -> tuple[str, ...]:
        return ()

    @property
    def learns(self) -> bool:
        return self.blob is not None

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return prod(tops[0]) * (self.operation in ("Mul", "Div"))

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return EVERYTHING  # a bottom of one pixel is spread over all of them

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        if self.blob is None:
            return (max(bottoms),)
        return (max(bottoms[0], self.blob[-3]) if len(self.blob) > 2 else bottoms[0],)

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        import torch

        functions: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
            "Add": torch.add,
            "Sub": torch.sub,
            "Mul": torch.mul,
            "Div": torch.div,
            "Maximum": torch.maximum,
            "Minimum": torch.minimum,
        }
        return (functions[self.operation](bottoms[0], bottoms[1] if self.blob is None else blobs[0]),)

    def to_onnx(self, out: OnnxLayer) -> None:
        op = {"Maximum": "Max", "Minimum": "Min"}.get(self.operation, self.operation)
        out.top(op, out.bottoms if self.blob is None else [out.bottoms[0], out.blob(0)])

    def to_python(self, site: Site) -> Form:
        second = site.blobs[0] if self.blob is not None else site.bottoms[1]
        sign = {"Add": "+", "Sub": "-", "Mul": "*", "Div": "/"}.get(self.operation)
        text = call(f"torch.{self.operation.lower()}", site.x, second) if sign is None else f"{site.x} {sign} {second}"
        return Form((text,), shared=(text,) if site.blobs else ())
