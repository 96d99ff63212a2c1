"""Reorg and UpsampleDarknet of darknet's YOLO, as Caffe's forks have them.

Sources: gklz1982/caffe-yolov2, src/caffe/layers/reorg_layer.cpp and include/caffe/layers/reorg_layer.hpp (reorg_cpu);
foss-for-synopsys-dwc-arc-processors/synopsys-caffe, src/caffe/layers/upsample_darknet_layer.cpp. For a stride of 2,
which all nets have, eric612/MobileNet-YOLO's and OpenCV's formulas are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..net.onnx_form import OPENCV
from ..net.python_form import Form, call
from ..net.reach import EVERYTHING, Reach, Transposed
from .base import OneToOne, as_image, refuse, register_layer
from .fork import fork_message

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec, Shape
    from ..net.onnx_form import OnnxLayer
    from ..net.python_form import Site


@register_layer("Reorg")
@dataclass(frozen=True)
class Reorg(OneToOne):
    """Blocks of stride x stride pixels as channels, in darknet's order; `reverse` makes pixels of channels.

    Darknet takes the bottom (c, h, w) for a blob of (c / stride^2, h * stride, w * stride), stacks the pixels of that
    one's blocks to (c, h, w), and takes the result for (c * stride^2, h / stride, w / stride).
    """

    stride: int
    reverse: bool = False

    @classmethod
    def parse(cls, spec: LayerSpec) -> Reorg:
        message = fork_message(spec, "reorg_param")
        stride = message.integer("stride", 2)
        if stride < 1:
            raise refuse(spec, f"stride is {stride}; it must be at least 1")
        return cls(stride, message.flag("reverse", default=message.flag("is_flatten", default=False)))

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        n, c, h, w = as_image(bottoms[0])
        stride, square = self.stride, self.stride**2
        if c % square:
            raise ValueError(f"{c} channels; a stride of {stride} needs a multiple of {square}")
        if self.reverse:
            return ((n, c // square, h * stride, w * stride),)
        if h % stride or w % stride:
            raise ValueError(f"{h} x {w} pixels; a stride of {stride} needs multiples of it")
        return ((n, c * square, h // stride, w // stride),)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return Transposed(self.stride, self.stride) if self.reverse else EVERYTHING

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (bottoms[0] // self.stride**2 if self.reverse else bottoms[0] * self.stride**2,)

    @property
    def moves(self) -> bool:
        return True

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        from .functions import darknet_reorg, depth_to_space

        return ((depth_to_space if self.reverse else darknet_reorg)(bottoms[0], self.stride),)

    def to_python(self, site: Site) -> Form:
        return Form((call("depth_to_space" if self.reverse else "darknet_reorg", site.x, self.stride),))

    def to_onnx(self, out: OnnxLayer) -> None:
        x, s = out.bottoms[0], self.stride
        if out.target in OPENCV and s == 2 and not self.reverse:  # the form below takes no free sizes there
            out.top("Reorg", [x], reorg_stride=s)
            return
        n, c, h, w = (out.size(x, [axis]) for axis in range(4))
        few = c // s**2
        if self.reverse:
            split = out.reshape(x, [n, s, s, few, h, w], part="split")
            blocks = out.node("Transpose", [split], part="blocks", perm=[0, 3, 4, 1, 5, 2])
            out.reshape(blocks, [n, few, h * s, w * s])
            return
        split = out.reshape(x, [n, few, h, s, w, s], part="split")
        blocks = out.node("Transpose", [split], part="blocks", perm=[0, 3, 5, 1, 2, 4])
        out.reshape(blocks, [n, c * s**2, h // s, w // s])


@register_layer("Python:darknet_reorg")
@dataclass(frozen=True)
class DarknetReorg(Reorg):
    """Reorg of stride 2 as a Python layer (module yolov2), which Synopsys' YOLO v2 has."""

    @classmethod
    def parse(cls, spec: LayerSpec) -> Reorg:
        return cls(2)


@register_layer("UpsampleDarknet")
@dataclass(frozen=True)
class UpsampleDarknet(OneToOne):
    """Each value fills stride x stride places."""

    stride: int

    @classmethod
    def parse(cls, spec: LayerSpec) -> UpsampleDarknet:
        stride = fork_message(spec, "upsample_darknet_param").integer("stride", 2)
        if stride < 1:
            raise refuse(spec, f"stride is {stride}; it must be at least 1")
        return cls(stride)

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        n, c, h, w = as_image(bottoms[0])
        return ((n, c, h * self.stride, w * self.stride),)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return Transposed(self.stride, self.stride)

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (bottoms[0],)

    @property
    def moves(self) -> bool:
        return True

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        return (bottoms[0].repeat_interleave(self.stride, 2).repeat_interleave(self.stride, 3),)

    def to_onnx(self, out: OnnxLayer) -> None:
        scales = out.constant("scales", np.array([1, 1, self.stride, self.stride], np.float32))
        how: dict[str, Any] = {
            "mode": "nearest",
            "coordinate_transformation_mode": "asymmetric",
            "nearest_mode": "floor",
        }
        out.top("Resize", [out.bottoms[0], None, scales], **how)

    def to_python(self, site: Site) -> Form:
        return Form((f"{site.x}.repeat_interleave({self.stride}, 2).repeat_interleave({self.stride}, 3)",))
