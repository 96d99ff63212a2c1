"""DenseBlock of DenseNet's own fork: all layers of a dense block as one (Tongcheng/caffe, DenseBlock_layer.cpp)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..net.reach import Reach, Window
from .base import LARGEST, Layer, as_image, refuse, register_layer
from .fork import fork_message

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec, Shape
    from ..net.onnx_form import OnnxLayer, Operand

EPS = 1e-5
"""CUDNN_BN_MIN_EPSILON, and `epsilon` of BN_inf_Fwd."""
WIDER = 4
"""The channels that the 1x1 convolution before each 3x3 makes (`use_BC`), in growth rates."""


@register_layer("DenseBlock")
@dataclass(frozen=True)
class DenseBlock(Layer):
    """`transitions` times BN, ReLU and a 3x3 convolution of all so far to `growth` more channels, put behind them.

    With `bottleneck` (use_BC) a 1x1 convolution to 4 * growth channels, BN and ReLU come before each 3x3. Kernels lie
    upside down, as cuDNN is told CUDNN_CONVOLUTION, which turns them. Blobs, each for all transitions in a row: 3x3
    kernels, scales, shifts, means, variances; with `bottleneck` 1x1 kernels, scales, shifts, means, variances of the
    second BN; then the factor by which means and variances are divided, which is 0 where a GPU trained, and then they
    are as they are (Forward_gpu looks at no factor; Forward_cpu takes both for 0, so such nets ran on GPUs alone).

    Of a bottom with more channels than initChannel says, as in senlinuc/caffe_ocr's nets, it takes so many numbers for
    each image one after the other from the beginning, that is, the first channels where there is one image
    (gpu_copy_one_to_many, DenseBlock_layer.cu:52-61).
    """

    transitions: int
    first: int
    growth: int
    bottleneck: bool
    dropout: float
    fraction: float

    bottom_count: ClassVar[tuple[int, float]] = (1, 1)
    top_count: ClassVar[tuple[int, float]] = (1, 1)

    @classmethod
    def parse(cls, spec: LayerSpec) -> DenseBlock:
        message = fork_message(spec, "denseblock_param")
        transitions, first, growth = (
            message.integer(name, default)
            for name, default in (("numTransition", 40), ("initChannel", 16), ("growthRate", 12))
        )
        if not 1 <= transitions <= 1000 or not 1 <= first <= LARGEST or not 1 <= growth <= LARGEST:
            problem = f"numTransition {transitions}, initChannel {first}, growthRate {growth}"
            raise refuse(spec, f"{problem}; expected 1 to 1000 transitions and positive channels")
        dropout = message.number("dropout_amount", 0) * message.flag("use_dropout", default=False)
        if not 0 <= dropout < 1:
            raise refuse(spec, f"dropout_amount is {dropout}; expected 0 to 1, without 1")
        bottleneck, fraction = message.flag("use_BC", default=False), message.number("moving_average_fraction", 0.1)
        return cls(transitions, first, growth, bottleneck, dropout, fraction)

    @property
    def blob_ranks(self) -> tuple[int, ...]:  # type: ignore[override]
        return (*(4,) * self._factor, 1)

    @property
    def _factor(self) -> int:
        """The position of the last blob."""
        return (10 if self.bottleneck else 5) * self.transitions

    def _seen(self, index: int) -> int:
        """The channels that transition `index` reads."""
        return self.first + index * self.growth

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        n, c, h, w = as_image(bottoms[0])
        if c < self.first:
            raise ValueError(f"{c} channels; initChannel is {self.first}")
        return ((n, self._seen(self.transitions), h, w),)

    def blob_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        each, wide = range(self.transitions), WIDER * self.growth
        kernels = [(self.growth, wide if self.bottleneck else self._seen(i), 3, 3) for i in each]
        narrow = [(1, self._seen(i), 1, 1) for i in each]
        shapes = [*kernels, *narrow * 4]
        if self.bottleneck:
            shapes += [(wide, self._seen(i), 1, 1) for i in each] + [(1, wide, 1, 1)] * (4 * self.transitions)
        return (*shapes, (1,))

    def blob_fills(self) -> tuple[float, ...]:
        parts = (0.0, 1.0, 0.0, 0.0, 1.0) * (2 if self.bottleneck else 1)
        return tuple(part for part in parts for _ in range(self.transitions))

    def statistics(self) -> tuple[int, ...]:
        count = self.transitions
        running = (*range(3 * count, 5 * count), *range(8 * count, self._factor))
        return (*running, self._factor)

    def filler_fields(self) -> tuple[str, ...] | None:
        fields = ("Filter_Filler", "BN_Scaler_Filler", "BN_Bias_Filler")
        return tuple(f"denseblock_param.{field}" for field in fields for _ in range(self.transitions))

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        n, _, h, w = as_image(bottoms[0])
        return n * h * w * sum(prod(shape) for shape in self.blob_shapes(bottoms)[:-1] if shape[0] > 1)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return Window(2 * self.transitions + 1, 1, self.transitions, 1)

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (self._seen(self.transitions),)

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        import torch
        from torch.nn.functional import dropout

        x, count = bottoms[0], self.transitions
        if x.shape[1] > self.first:
            n, _, h, w = x.shape
            x = x.reshape(-1)[: n * self.first * h * w].reshape(n, self.first, h, w)
        for index in range(count):
            y = self._normal(x, blobs, index, count, training=training).relu()
            if self.bottleneck:
                y = torch.conv2d(y, blobs[5 * count + index])
                y = self._normal(y, blobs, index, 6 * count, training=training).relu()
            y = torch.conv2d(y, blobs[index].flip(2, 3), padding=1)
            x = torch.cat((x, dropout(y, self.dropout, training)), 1)
        return (x,)

    def _normal(self, x: Tensor, blobs: Sequence[Tensor], index: int, start: int, *, training: bool) -> Tensor:
        """x through the BN whose scales begin at blob `start`; in training on its own statistics, which are kept."""
        import torch
        from torch.nn.functional import batch_norm

        from .functions import batch_normalize

        scale, shift, mean, variance = (blobs[start + part * self.transitions + index].flatten() for part in range(4))
        if training and x.numel() > x.shape[1]:
            with torch.no_grad():
                mean.lerp_(x.mean((0, 2, 3)), self.fraction)
                variance.lerp_(x.var((0, 2, 3)), self.fraction)
            return batch_normalize(x, None, None, scale, shift, eps=EPS)
        factor = blobs[self._factor]
        divisor = torch.where(factor == 0, torch.ones_like(factor), factor)
        return batch_norm(x, mean / divisor, variance / divisor, scale, shift, eps=EPS)

    def to_onnx(self, out: OnnxLayer) -> None:
        x: Operand = out.bottoms[0]
        count = self.transitions
        if (out.bottoms[0].shape[1] or 0) > self.first:
            n, h, w = (out.size(out.bottoms[0], [axis]) for axis in (0, 2, 3))
            flat = out.reshape(x, [-1], part="numbers")
            taken = out.slice(flat, [0], [0], n * h * w * self.first, part="taken")
            x = out.reshape(taken, [n, self.first, h, w], part="first")
        for index in range(count):
            y = self._onnx_normal(out, x, index, count)
            if self.bottleneck:
                y = out.node("Conv", [y, out.blob(5 * count + index)], part="narrow", kernel_shape=[1, 1])
                y = self._onnx_normal(out, y, index, 6 * count)
            kernel = out.constant("kernel", np.ascontiguousarray(out.blob_value(index)[:, :, ::-1, ::-1]))
            y = out.node("Conv", [y, kernel], part="convolved", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
            x = out.make("Concat", [x, y], part=None if index == count - 1 else "dense", axis=1)

    def _onnx_normal(self, out: OnnxLayer, x: Operand, index: int, start: int) -> str:
        factor = np.float32(out.blob_value(self._factor).reshape(-1)[0] or 1)
        parts = [out.blob_value(start + part * self.transitions + index).reshape(-1) for part in range(4)]
        scale, shift, mean, variance = parts[0], parts[1], parts[2] / factor, parts[3] / factor
        named = zip(("scale", "shift", "mean", "variance"), (scale, shift, mean, variance), strict=True)
        values = [out.constant(name, value.astype(np.float32)) for name, value in named]
        return out.node("Relu", [out.node("BatchNormalization", [x, *values], part="normal", epsilon=EPS)], part="relu")
