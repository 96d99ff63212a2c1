"""Correlations of two maps, in two directions (FlowNet) and in one (DispNet).

Source: correlation_layer.cpp and correlation_layer1d.cu of lmb-freiburg's FlowNet 2, as synopsys-caffe
(github.com/foss-for-synopsys-dwc-arc-processors) has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, ClassVar

from ..net.reach import EVERYTHING, Reach
from .base import LARGEST, Layer, Pair, as_image, refuse, register_layer
from .fork import fork_message

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec, Shape
    from ..net.onnx_form import OnnxLayer


@register_layer("Correlation", "Correlation1D")
@dataclass(frozen=True)
class Correlation(Layer):
    """The mean over kernel and channels of one bottom times the other displaced, a channel for each displacement.

    Displacements are multiples of stride_2 up to max_displacement, row by row; SUBTRACT takes the absolute difference
    instead. Correlation1D displaces along w only, with single_direction to the left (-1) or to the right (1).
    """

    pad: int
    kernel: int
    most: int
    stride: int
    step: int
    subtract: bool
    direction: int | None

    bottom_count: ClassVar[tuple[int, float]] = (2, 2)
    top_count: ClassVar[tuple[int, float]] = (1, 1)

    @classmethod
    def parse(cls, spec: LayerSpec) -> Correlation:
        message = fork_message(spec, "correlation_param")
        kind = message.word("correlation_type", "MULTIPLY")
        layer = cls(
            pad=message.integer("pad", 0),
            kernel=message.integer("kernel_size", 0),
            most=message.integer("max_displacement", -1),
            stride=message.integer("stride_1", 1),
            step=message.integer("stride_2", 1),
            subtract=kind in ("SUBTRACT", "1"),
            direction=message.integer("single_direction", 0) if spec.type == "Correlation1D" else None,
        )
        if layer.kernel % 2 == 0 or not 0 <= layer.most <= LARGEST or min(layer.stride, layer.step) < 1:
            raise refuse(spec, "kernel_size must be odd, max_displacement given, and the strides at least 1")
        if max(layer.pad, layer.kernel, layer.stride, layer.step) > LARGEST or layer.pad < 0:
            raise refuse(spec, f"pad {layer.pad}, kernel {layer.kernel}: expected 0 to {LARGEST}")
        if kind not in ("MULTIPLY", "SUBTRACT", "0", "1") or layer.direction not in (None, -1, 0, 1):
            raise refuse(spec, f"correlation_type {kind}, single_direction {layer.direction}: not known")
        return layer

    @property
    def _displacements(self) -> list[Pair]:
        """(y, x) of the second bottom for each channel of the top."""
        grid = self.most // self.step
        if self.direction is None:
            return [(y * self.step, x * self.step) for y in range(-grid, grid + 1) for x in range(-grid, grid + 1)]
        width = grid + 1 if self.direction else 2 * grid + 1
        first = {-1: -width, 0: -grid, 1: 0}[self.direction]
        return [(0, x * self.step) for x in range(first, first + width)]

    def _rows_and_columns(self, size: Sequence[int]) -> Pair:
        rows, columns = size[0], size[1] + 2 * self.pad
        around = self.kernel - 1
        if self.direction is None:
            rows += 2 * self.pad - 2 * self.most
        return -(-(rows - around) // self.stride), -(-(columns - 2 * self.most - around) // self.stride)

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        n, _, *size = as_image(bottoms[0])
        if bottoms[0] != bottoms[1]:
            raise ValueError("the bottoms must have one shape")
        grid = self.most // self.step
        count = (2 * grid + 1) ** 2 if self.direction is None else grid + 1 if self.direction else 2 * grid + 1
        return ((n, count, *self._rows_and_columns(size)),)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return EVERYTHING

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (len(self._displacements),)

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return prod(tops[0]) * bottoms[0][1] * self.kernel**2

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        import torch
        from torch.nn.functional import avg_pool2d, pad

        rows, columns = self._rows_and_columns(bottoms[0].shape[2:])
        high, wide = ((count - 1) * self.stride + self.kernel for count in (rows, columns))
        side = 0 if self.direction is not None else self.pad
        spare = self.step if self.direction == -1 else 0  # to the left it begins one step beyond max_displacement
        first, second = (pad(x, (self.pad + spare, self.pad, side, side)) for x in bottoms)
        top, left = (0 if self.direction is not None else self.most), self.most + spare
        here = first[:, :, top : top + high, left : left + wide]
        maps = []
        for y, x in self._displacements:
            there = second[:, :, top + y : top + y + high, left + x : left + x + wide]
            each = (here - there).abs() if self.subtract else here * there
            maps.append(each.mean(1))
        return (avg_pool2d(torch.stack(maps, 1), self.kernel, self.stride),)

    def to_onnx(self, out: OnnxLayer) -> None:
        """A slice, a product and a mean for each displacement."""
        one_axis = self.direction is not None
        side, spare = 0 if one_axis else self.pad, self.step if self.direction == -1 else 0
        pads = [0, 0, side, self.pad + spare] * 2
        first, second = (out.pad(x, pads, part=name) for x, name in zip(out.bottoms, ("here", "there"), strict=True))
        top, left = 0 if one_axis else self.most, self.most + spare
        around = self.kernel - 1
        less = [2 * side - 2 * top - around, 2 * self.pad - 2 * self.most - around]
        size = out.size(out.bottoms[0], (2, 3))
        extent = ((size + [each + self.stride - 1 for each in less]) // self.stride - 1) * self.stride + self.kernel
        axes, maps = out.constant("axes", [2, 3]), []

        def window(value: str, row: int, column: int, part: str) -> str:
            corner = [row, column]
            starts = out.constant(f"{part}_from", corner)
            return out.node("Slice", [value, starts, extent + corner, axes], part=part)

        here = window(first, top, left, "window")
        for number, (y, x) in enumerate(self._displacements):
            there = window(second, top + y, left + x, f"window{number}")
            each = out.node("Sub" if self.subtract else "Mul", [here, there], part=f"each{number}")
            each = out.node("Abs", [each], part=f"distance{number}") if self.subtract else each
            maps.append(out.reduce("ReduceMean", each, (1,), part=f"mean{number}"))
        joined = out.node("Concat", maps, part="maps", axis=1)
        out.top("AveragePool", [joined], kernel_shape=[self.kernel] * 2, strides=[self.stride] * 2)
