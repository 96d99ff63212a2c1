"""DeformableConvolution of the port of MXNet's (unsky/Deformable-ConvNets-caffe, deformable_im2col.cu)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..net.layer import LayerSpec
from ..net.reach import EVERYTHING, Reach, Window
from .base import Layer, as_image, refuse, register_layer
from .convolution import Convolution
from .fork import ForkMessage, fork_message

if TYPE_CHECKING:
    from typing import Any

    from torch import Tensor

    from ..net.layer import Shape
    from ..net.onnx_form import OnnxLayer

_NUMBERS = ("num_output", "group", "kernel_h", "kernel_w", "pad_h", "pad_w", "stride_h", "stride_w")
_LISTS = ("kernel_size", "pad", "stride", "dilation")


@register_layer("DeformableConvolution")
@dataclass(frozen=True)
class DeformableConvolution(Layer):
    """A convolution that reads each point of its kernel an offset (y, x) away, bilinearly; blobs as a Convolution's.

    The second bottom has the offsets, (n, groups * kh * kw * 2, h, w): each of `groups` parts of the channels has its
    own. A place outside of [0, h) x [0, w) counts as 0 as a whole; inside, the last row and column go on to the border
    (deformable_im2col_bilinear), where ONNX's DeformConv and torchvision's fade out.
    """

    inner: Convolution
    groups: int

    blob_ranks: ClassVar[tuple[int, ...]] = (4, 1)
    bottom_count: ClassVar[tuple[int, float]] = (2, 2)
    top_count: ClassVar[tuple[int, float]] = (1, 1)

    @classmethod
    def parse(cls, spec: LayerSpec) -> DeformableConvolution:
        message = fork_message(spec, "deformable_convolution_param")
        inner = Convolution.parse(_plain(spec, message))
        groups = message.integer("deformable_group", 4)
        if not isinstance(inner, Convolution) or len(inner.kernel) != 2 or message.integer("axis", 1) != 1:
            raise refuse(spec, "it is for a bottom (n, c, h, w)")
        if groups < 1:
            raise refuse(spec, f"deformable_group is {groups}; expected 1 or more")
        return cls(inner, groups)

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        n, c, _, _ = as_image(bottoms[0])
        (top,) = self.inner.top_shapes(bottoms[:1])
        wanted = (n, self.groups * prod(self.inner.kernel) * 2, *top[2:])
        if c % self.groups:
            raise ValueError(f"{c} channels are not a multiple of deformable_group {self.groups}")
        if tuple(bottoms[1]) != wanted:
            raise ValueError(f"the offsets must be {wanted}")
        return (top,)

    def blob_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        return self.inner.blob_shapes(bottoms[:1])

    def filler_fields(self) -> tuple[str, ...]:
        return tuple(f"deformable_convolution_param.{name}" for name in ("weight_filler", "bias_filler"))

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        places = as_image(bottoms[0])[1] * prod(self.inner.kernel) * prod(tops[0][2:]) * tops[0][0]
        return self.inner.macs(bottoms[:1], tops) + 4 * places

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return Window(1, 1, 0, 1) if bottom else EVERYTHING

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (self.inner.num_output,)

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        import torch

        x, offsets = bottoms
        columns = self._columns(x, offsets)
        n, _, h, w = self.top_shapes([tuple(x.shape), tuple(offsets.shape)])[0]
        weight = blobs[0].flatten(1)[:, :, None]
        bias = blobs[1] if self.inner.bias else None
        return (torch.conv1d(columns, weight, bias, groups=self.inner.group).reshape(n, -1, h, w),)

    def _columns(self, x: Tensor, offsets: Tensor) -> Tensor:
        """The numbers below each point of the kernel at each place of the top, (n, c * kh * kw, h * w)."""
        import torch

        n, c, height, width = x.shape
        kernel, places = prod(self.inner.kernel), offsets.shape[2:]
        flat = x.reshape(n * self.groups, c // self.groups, -1)
        moved = offsets.reshape(n * self.groups, kernel, 2, *places)
        y, z = (moved[:, :, axis] + self._points(axis, places[axis]).to(x) for axis in (0, 1))
        inside = (y >= 0) & (z >= 0) & (y < height) & (z < width)
        y, z = y.clamp(0, height - 1), z.clamp(0, width - 1)
        upper, left = y.floor(), z.floor()
        read = torch.zeros((n * self.groups, c // self.groups, kernel * prod(places)), dtype=x.dtype, device=x.device)
        for row, down in ((upper, 1 - (y - upper)), ((upper + 1).clamp(max=height - 1), y - upper)):
            for column, across in ((left, 1 - (z - left)), ((left + 1).clamp(max=width - 1), z - left)):
                place = (row * width + column).long().flatten(1)[:, None].expand(-1, flat.shape[1], -1)
                read += flat.gather(2, place) * torch.where(inside, down * across, 0).flatten(1)[:, None]
        return read.reshape(n, c * kernel, prod(places))

    def _points(self, axis: int, count: int) -> Tensor:
        """The places of the kernel's points along an axis without offsets, (kh * kw, 1 or h, 1 or w)."""
        import torch

        return torch.from_numpy(self._where(axis, count))

    def _where(self, axis: int, count: int) -> np.ndarray:
        _, stride, pad, dilation = self.inner.along_axis(axis + 2)
        points = np.indices(self.inner.kernel)[axis].reshape(-1, 1, 1) * dilation
        places = (np.arange(count) * stride - pad).reshape((1, -1, 1) if axis == 0 else (1, 1, -1))
        where: np.ndarray = (points + places).astype(np.float64)
        return where

    def to_onnx(self, out: OnnxLayer) -> None:
        """GridSample, which goes on at the border, times 0 where a place is outside; then a convolution of 1x1."""
        image, offsets = out.bottoms
        size, places = out.size(image, (2, 3)).known, out.size(offsets, (2, 3)).known
        channels = image.shape[1]
        if size is None or places is None or channels is None or min(size) < 2 or out.opset < 16:
            raise out.refuse(
                "DeformableConvolution of free sizes, of a side of one pixel, or below opset 16", hint="give --size HxW"
            )
        kernel, groups = prod(self.inner.kernel), self.groups
        moved = out.reshape(offsets, [-1, kernel, 2, *places], part="moved")
        where = np.stack([np.broadcast_to(self._where(a, places[a]), (kernel, *places)) for a in (0, 1)], 1)[None]
        moved = out.node("Add", [moved, out.constant("points", where.astype(np.float32))], part="places")
        inside = self._onnx_inside(out, moved, size)
        half = np.array([2 / (side - 1) for side in size], np.float32).reshape(1, 1, 2, 1, 1)
        scaled = out.node("Mul", [moved, out.constant("half", half)], part="scaled")
        unit = out.node("Sub", [scaled, out.constant("one", np.float32(1))], part="unit")
        unit = out.node("Gather", [unit, out.constant("order", [1, 0])], part="xy", axis=2)
        unit = out.node("Transpose", [unit], part="grid", perm=[0, 1, 3, 4, 2])
        grid = out.reshape(unit, [-1, kernel * places[0], places[1], 2], part="grid")
        flat = out.reshape(image, [-1, channels // groups, *size], part="parts")
        mode = "linear" if out.opset >= 20 else "bilinear"
        read = out.node("GridSample", [flat, grid], part="read", mode=mode, padding_mode="border", align_corners=1)
        read = out.node(
            "Mul", [read, out.reshape(inside, [-1, 1, kernel * places[0], places[1]], part="inside")], part="in"
        )
        columns = out.reshape(read, [-1, channels * kernel, *places], part="columns")
        weight = out.blob(0, shape=(self.inner.num_output, channels // self.inner.group * kernel, 1, 1))
        bias = [out.blob(1)] if self.inner.bias else []
        out.top("Conv", [columns, weight, *bias], group=self.inner.group, kernel_shape=[1, 1])

    def _onnx_inside(self, out: OnnxLayer, places: str, size: Sequence[int]) -> str:
        """1.0 where both coordinates (axis 2) are inside of the image, else 0.0."""
        least = out.node("Less", [places, out.constant("zero", np.float32(0))], part="before")
        sides = out.constant("sides", np.array(size, np.float32).reshape(1, 1, 2, 1, 1))
        beyond = out.node("Not", [out.node("Less", [places, sides], part="below")], part="beyond")
        outside = out.node("Cast", [out.node("Or", [least, beyond], part="outside")], part="outside", to=1)
        most = out.reduce("ReduceMax", outside, [2], keepdims=False, part="outside")
        return out.node("Sub", [out.constant("all", np.float32(1)), most], part="inside")


def _plain(spec: LayerSpec, message: ForkMessage) -> LayerSpec:
    """The layer as a Convolution of Caffe's, of which it has all fields."""
    plain: Any = spec.to_message()
    plain.type = "Convolution"
    param = plain.convolution_param
    for name in _NUMBERS:
        if name in message:
            setattr(param, name, _size(spec, name, message.integer(name, 0)))
    for name in _LISTS:
        getattr(param, name).extend(_size(spec, name, value) for value in message.integers(name))
    param.bias_term = message.flag("bias_term", default=True)
    del plain.bottom[1:]
    return LayerSpec.from_message(plain, line=spec.line)


def _size(spec: LayerSpec, name: str, value: int) -> int:
    if not 0 <= value < 1 << 31:
        raise refuse(spec, f"{name} is {value}; expected 0 to {(1 << 31) - 1}")
    return value
