"""ColinearConvolution and MaskWeight of pl8787/exp_caffe, nets for image matting.

Source: pl8787/exp_caffe, branch master, colineconv_layer.cpp and .cu (the CPU's loses the quadratic term where there is
a linear one; the GPU's, with which the nets were trained, adds them), mask_weight_layer.cpp.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..net.onnx_form import FLOAT
from ..net.reach import PIXEL, Reach, Window
from .base import LARGEST, Layer, OneToOne, as_image, refuse, register_layer
from .fork import fork_message

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec, Shape
    from ..net.onnx_form import OnnxLayer

MOST_QUADRATIC = 4096
"""Elements of a kernel window, whose square is a weight's size."""


@register_layer("ColinearConvolution")
@dataclass(frozen=True)
class ColinearConvolution(OneToOne):
    """Each output is w^T Q w + a^T w + b of its window w; blobs b (O), a (O, C, k, k) and Q (1, O, C k k, C k k).

    A term that the net does not have leaves a blob (O) that is not read.
    """

    num_output: int
    kernel: int
    stride: int
    pad: int
    quadratic: bool
    linear: bool
    bias: bool

    @classmethod
    def parse(cls, spec: LayerSpec) -> ColinearConvolution:
        message = fork_message(spec, "colinear_convolution_param")
        names = {"num_output": 0, "kernel_size": 0, "stride": 1, "pad": 0}
        outputs, kernel, stride, pad = (message.integer(name, default) for name, default in names.items())
        if min(outputs, kernel, stride) < 1 or pad < 0 or max(outputs, kernel, stride, pad) > LARGEST:
            raise refuse(spec, f"num_output {outputs}, kernel_size {kernel}, stride {stride}: all must be at least 1")
        odd = [name for name in ("mask", "factor") if message.integer(name, 0)]
        odd += ["symmetric"] if message.flag("symmetric", default=False) else []
        odd += ["group"] if message.integer("group", 1) != 1 else []
        if odd:
            raise refuse(spec, f"colinear_convolution_param.{odd[0]} is not supported")
        terms = (message.flag(f"{name}_term", default=True) for name in ("quadratic", "linear", "bias"))
        return cls(outputs, kernel, stride, pad, *terms)

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        n, _, *size = as_image(bottoms[0])
        return ((n, self.num_output, *((x + 2 * self.pad - self.kernel) // self.stride + 1 for x in size)),)

    def blob_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        channels, none = as_image(bottoms[0])[1], (self.num_output,)
        window = channels * self.kernel**2
        if self.quadratic and window > MOST_QUADRATIC:
            raise ValueError(f"a window of {window} numbers; its square is too large a weight")
        linear = (self.num_output, channels, self.kernel, self.kernel)
        return none, linear if self.linear else none, (1, self.num_output, window, window) if self.quadratic else none

    def filler_fields(self) -> tuple[str, ...]:
        return ()

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return prod(tops[0][2:]) * tops[0][0] * sum(prod(shape) for shape in self.blob_shapes(bottoms)[1:])

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return Window(self.kernel, self.stride, self.pad)

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (self.num_output,)

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        import torch
        from torch.nn.functional import unfold

        x = bottoms[0]
        size = self.top_shapes([tuple(x.shape)])[0][2:]
        windows = unfold(x, self.kernel, padding=self.pad, stride=self.stride)
        top = x.new_zeros(x.shape[0], self.num_output, windows.shape[2])
        if self.quadratic:
            each = [((matrix @ windows) * windows).sum(1) for matrix in blobs[2][0]]
            top = top + torch.stack(each, 1)
        if self.linear:
            top = top + blobs[1].flatten(1) @ windows
        if self.bias:
            top = top + blobs[0][:, None]
        return (top.unflatten(2, size),)

    def to_onnx(self, out: OnnxLayer) -> None:
        x, channels = out.bottoms[0], out.bottoms[0].shape[1] or 0
        window, outputs = channels * self.kernel**2, self.num_output
        where = {"strides": [self.stride] * 2, "pads": [self.pad] * 4, "kernel_shape": [self.kernel] * 2}
        parts = []
        if self.quadratic:
            each = np.eye(window, dtype=np.float32).reshape(window, channels, self.kernel, self.kernel)
            windows = out.node("Conv", [x, out.constant("each", each)], part="windows", **where)
            product = out.node("Conv", [windows, out.blob(2, shape=(outputs * window, window, 1, 1))], part="product")
            repeated = out.node("Concat", [windows] * outputs, part="repeated", axis=1)
            square = out.node("Mul", [product, repeated], part="square")
            ones = out.constant("ones", np.ones((outputs, window, 1, 1), np.float32))
            parts.append(out.node("Conv", [square, ones], part="quadratic", group=outputs))
        if self.linear:
            parts.append(out.node("Conv", [x, out.blob(1)], part="linear", **where))
        if self.bias:
            parts.append(out.blob(0, shape=(1, outputs, 1, 1)))
        if not self.quadratic and not self.linear:
            nothing = out.constant("nothing", np.zeros((outputs, channels, self.kernel, self.kernel), np.float32))
            parts.append(out.node("Conv", [x, nothing], part="shape", **where))
        total = parts[0]
        for part in parts[1:-1]:
            total = out.node("Add", [total, part], part="sum")
        out.top(*(("Add", [total, parts[-1]]) if len(parts) > 1 else ("Identity", [total])))


@register_layer("MaskWeight")
@dataclass(frozen=True)
class MaskWeight(Layer):
    """The sum over the channels of the first bottom times a blob (1, c, h, w), where the second (1, 1, h, w) is 0.

    Without need_bottom the sum of the blob alone, without need_mask everywhere; expand0 makes the zeros wider by so
    many pixels. The source takes the mask of its first pass for all others; here each pass has its own.
    """

    need_bottom: bool
    need_mask: bool
    wider: int

    bottom_count: ClassVar[tuple[int, float]] = (2, 2)
    top_count: ClassVar[tuple[int, float]] = (1, 1)

    @classmethod
    def parse(cls, spec: LayerSpec) -> MaskWeight:
        message = fork_message(spec, "mask_weight_param")
        wider = message.integer("expand0", 0)
        if not 0 <= wider <= 1000:
            raise refuse(spec, f"expand0 is {wider}; expected 0 to 1000")
        need_bottom, need_mask = (message.flag(name, default=True) for name in ("need_bottom", "need_mask"))
        return cls(need_bottom, need_mask, wider)

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        n, _, h, w = as_image(bottoms[0])
        if n != 1 or bottoms[1] != (1, 1, h, w):
            raise ValueError(f"expected one item, and a mask (1, 1, {h}, {w})")
        return ((1, 1, h, w),)

    def blob_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        return (bottoms[0],)

    def filler_fields(self) -> tuple[str, ...]:
        return ()

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return prod(bottoms[0])

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return Window(2 * self.wider + 1, pad=self.wider) if bottom else PIXEL

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (1,)

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        from torch.nn.functional import max_pool2d

        x, mask = bottoms
        top = (x * blobs[0] if self.need_bottom else blobs[0]).sum(1, keepdim=True)
        if self.need_mask:
            zeros = (mask == 0).to(x.dtype)
            top = top * (max_pool2d(zeros, 2 * self.wider + 1, 1, self.wider) if self.wider else zeros)
        return (top,)

    def to_onnx(self, out: OnnxLayer) -> None:
        x, mask = out.bottoms
        weighted = out.node("Mul", [x, out.blob(0)], part="weighted") if self.need_bottom else out.blob(0)
        if not self.need_mask:
            out.reduce("ReduceSum", weighted, (1,))
            return
        total = out.reduce("ReduceSum", weighted, (1,), part="sum")
        zeros = out.node("Equal", [mask, out.constant("zero", np.float32(0))], part="zeros")
        zeros = out.node("Cast", [zeros], part="zeros", to=FLOAT)
        if self.wider:
            size, pads = [2 * self.wider + 1] * 2, [self.wider] * 4
            zeros = out.node("MaxPool", [zeros], part="wider", kernel_shape=size, pads=pads)
        out.top("Mul", [total, zeros])
