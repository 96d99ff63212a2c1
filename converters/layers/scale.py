"""Scale and Bias (scale_layer.cpp, bias_layer.cpp)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, prod
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..net.onnx_form import CLASSIC, OPENCV
from ..net.python_form import Form, NoFormError, call, spread, unless
from ..net.reach import ALIGNED, PIXEL, Reach
from .base import Layer, canonical_axis, image_axis, kept, refuse, register_layer
from .fork import fork_fields

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec, Shape
    from ..net.onnx_form import OnnxLayer, Operand
    from ..net.python_form import Site


@dataclass(frozen=True)
class Broadcast(Layer):
    """A layer that applies an operand to the bottom's axes from `axis` on: its second bottom, else a blob.

    The blob spans `num_axes` axes of the bottom: all that follow for -1, a single number for 0.
    """

    axis: int
    num_axes: int
    two_bottoms: bool

    bottom_count: ClassVar[tuple[int, float]] = (1, 2)
    top_count: ClassVar[tuple[int, float]] = (1, 1)

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        operand, start = self._operand(bottoms), self._start(bottoms)
        if operand != bottoms[0][start : start + len(operand)]:
            raise ValueError(f"the second bottom {operand} does not match the first from axis {start} on")
        return (bottoms[0],)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        start = image_axis(self.axis)
        if self.two_bottoms or self.num_axes == 0:
            return PIXEL
        if start is None:
            return None
        end = 4 if self.num_axes == -1 else start + self.num_axes
        return ALIGNED if start <= axis < end else PIXEL  # a blob over h and w knows where in the image it is

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (bottoms[0],)

    def _start(self, bottoms: Sequence[Shape]) -> int:
        return canonical_axis(self.axis, bottoms[0]) if self._operand(bottoms) else 0

    def _operand(self, bottoms: Sequence[Shape]) -> Shape:
        if self.two_bottoms:
            return bottoms[1]
        if self.num_axes == 0:
            return ()
        axis = canonical_axis(self.axis, bottoms[0])
        end = len(bottoms[0]) if self.num_axes == -1 else axis + self.num_axes
        if end > len(bottoms[0]):
            raise ValueError(f"{self.num_axes} axes from axis {axis} on; the bottom has {len(bottoms[0])}")
        return bottoms[0][axis:end]

    def _spread(self, operand: Tensor, x: Tensor) -> Tensor:
        """`operand` with the axes that make it broadcast over `x`."""
        if not operand.ndim:
            return operand
        axis = self.axis % x.ndim
        return operand.reshape(*operand.shape, *[1] * (x.ndim - axis - operand.ndim))

    def _spread_onnx(self, out: OnnxLayer, position: int | None) -> Operand:
        """The second bottom, or the blob of a position, with the axes that make it broadcast over the first bottom."""
        x, axes = out.bottoms[0], self._axes(out)
        rest = [1] * (len(x.shape) - canonical_axis(self.axis, x.shape) - axes) if axes else []
        if position is not None:
            shape = out.blob_shape(position)
            return out.blob(position, shape=[*shape, *rest])
        operand = out.bottoms[1]
        return out.reshape(operand, [*kept(operand), *rest], part="operand") if rest else operand

    def _axes(self, out: OnnxLayer) -> int:
        """The number of axes of the operand."""
        if self.two_bottoms:
            return len(out.bottoms[1].shape)
        whole = len(out.bottoms[0].shape)
        return whole - canonical_axis(self.axis, out.bottoms[0].shape) if self.num_axes == -1 else self.num_axes


def _check(spec: LayerSpec, num_axes: int) -> None:
    if num_axes < -1:
        raise refuse(spec, f"num_axes is {num_axes}; expected -1 or more")


@register_layer("Scale")
@dataclass(frozen=True)
class Scale(Broadcast):
    """bottom * scale (+ bias); the blobs are the scale, unless it is the second bottom, and the bias.

    NormFace's fork keeps the scale between min_value and max_value (happynear/caffe-windows, scale_layer.cpp:130-139).
    """

    bias: bool
    least: float = -inf
    most: float = inf

    @classmethod
    def parse(cls, spec: LayerSpec) -> Scale:
        message, fork = spec.message.scale_param, fork_fields(spec, "scale_param")
        _check(spec, message.num_axes)
        ends = fork.number("min_value", -inf), fork.number("max_value", inf)
        return cls(message.axis, message.num_axes, len(spec.bottoms) > 1, message.bias_term, *ends)

    @property
    def _bounded(self) -> bool:
        return (self.least, self.most) != (-inf, inf)

    def blob_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        return (self._operand(bottoms),) * ((not self.two_bottoms) + self.bias)

    def blob_fills(self) -> tuple[float, ...]:
        return () if self.two_bottoms else (1.0,)

    @property
    def learns(self) -> bool:
        return self.bias or not self.two_bottoms

    def filler_fields(self) -> tuple[str, ...]:
        return ("scale_param.bias_filler",) if self.two_bottoms else ("scale_param.filler", "scale_param.bias_filler")

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return prod(tops[0])

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        import torch

        x = bottoms[0]
        operand = bottoms[1] if self.two_bottoms else blobs[0]
        scale = self._spread(operand, x)
        if self._bounded:
            scale = scale.clamp(self.least, self.most)
        if not self.bias:
            return (x * scale,)
        return (torch.addcmul(self._spread(blobs[-1], x), x, scale),)

    def writes_over(self, bottoms: Sequence[Shape]) -> bool:
        """True where no axis comes before the scale's, or one of 1.

        A batch of one image with a scale for each channel, for one. Source: scale_layer.cpp and .cu, Backward: the
        products go straight into the scale's diff, which is added to only where sums over the batch follow, and where
        the scale is one number.
        """
        if self.two_bottoms:
            return False
        (shape,), operand, start = bottoms, self._operand(bottoms), self._start(bottoms)
        return prod(shape[:start]) == 1 and (prod(operand) > 1 or prod(shape[start + len(operand) :]) == 1)

    def to_onnx(self, out: OnnxLayer) -> None:
        x = out.bottoms[0]
        of_channels = not (self.two_bottoms or self._bounded) and (self.axis, self.num_axes) == (1, 1)
        if of_channels and out.target in (OPENCV if not self.bias else (CLASSIC,)):
            # A layer whose blobs a program can read and set, and that a convolution takes over.
            blobs = [out.blob(position) for position in range(1 + self.bias)]
            out.top("Scale", [x, *blobs], axis=1, bias_term=int(self.bias))
            return
        scale = self._spread_onnx(out, None if self.two_bottoms else 0)
        if self._bounded:
            ends = (out.constant(n, np.float32(v)) for n, v in (("least", self.least), ("most", self.most)))
            scale = out.node("Clip", [scale, *ends], part="within")
        if not self.bias:
            out.top("Mul", [x, scale])
            return
        scaled = out.node("Mul", [x, scale], part="scaled")
        out.top("Add", [scaled, self._spread_onnx(out, 0 if self.two_bottoms else 1)])

    def to_python(self, site: Site) -> Form:
        axis = self.axis % (site.rank or 1)
        if self._bounded:
            raise NoFormError("Scale with min_value or max_value")
        if not self.two_bottoms:
            made = call("CaffeScale", *site.blob_shapes[0], axis=unless(1, axis), bias=unless(False, self.bias))
            return Form((f"{site.module}({site.x})",), made)
        trailing = _trailing(site.shapes[1], axis, site.rank)
        scale = spread(site.bottoms[1], trailing)
        plain = f"{site.x} * {scale}"
        if self.bias:
            plain = f"torch.addcmul({spread(site.blobs[0], trailing)}, {site.x}, {scale})"
        return Form((plain,), shared=(plain,))


@register_layer("Bias")
@dataclass(frozen=True)
class Bias(Broadcast):
    """bottom + bias; the bias is the second bottom, else a blob."""

    @classmethod
    def parse(cls, spec: LayerSpec) -> Bias:
        message = spec.message.bias_param
        _check(spec, message.num_axes)
        return cls(message.axis, message.num_axes, len(spec.bottoms) > 1)

    def blob_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        return () if self.two_bottoms else (self._operand(bottoms),)

    @property
    def learns(self) -> bool:
        return not self.two_bottoms

    def filler_fields(self) -> tuple[str, ...]:
        return ("bias_param.filler",)

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        x = bottoms[0]
        return (x + self._spread(bottoms[1] if self.two_bottoms else blobs[0], x),)

    def to_onnx(self, out: OnnxLayer) -> None:
        out.top("Add", [out.bottoms[0], self._spread_onnx(out, None if self.two_bottoms else 0)])

    def to_python(self, site: Site) -> Form:
        operand, shape = (site.bottoms[1], site.shapes[1]) if self.two_bottoms else (site.blobs[0], site.blob_shapes[0])
        plain = f"{site.x} + {spread(operand, _trailing(shape, self.axis % (site.rank or 1), site.rank))}"
        return Form((plain,), shared=(plain,))


def _trailing(operand: Shape, axis: int, rank: int) -> int:
    return rank - axis - len(operand) if operand else 0
