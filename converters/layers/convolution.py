"""Convolution and Deconvolution (base_conv_layer.cpp, conv_layer.cpp, deconv_layer.cpp)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, ClassVar

from .base import Layer, Pair, pair, refuse, register_layer

if TYPE_CHECKING:
    from torch import Tensor

    from ..net import LayerSpec, Shape


@register_layer("Convolution")
@dataclass(frozen=True)
class Convolution(Layer):
    """out[o] = bias[o] + sum over i of weight[o, i] correlated with bottom[i]; blobs (O, I/group, kh, kw), (O,)."""

    num_output: int
    kernel: Pair
    stride: Pair
    pad: Pair
    dilation: Pair
    group: int
    bias: bool

    blob_ranks: ClassVar[tuple[int, ...]] = (4, 1)

    @classmethod
    def parse(cls, spec: LayerSpec) -> Convolution:
        message = spec.to_message().convolution_param
        if message.axis != 1:
            raise refuse(spec, f"axis is {message.axis}; only 1, the channels, is supported")
        if not message.num_output:
            raise refuse(spec, "num_output is missing or 0")
        dilation = list(message.dilation) or [1]
        layer = cls(
            num_output=message.num_output,
            kernel=pair(spec, message, "kernel_size"),
            stride=pair(spec, message, "stride", default=1),
            pad=pair(spec, message, "pad", default=0),
            dilation=(dilation[0], dilation[-1]),
            group=message.group,
            bias=message.bias_term,
        )
        for name in ("kernel", "stride", "dilation"):
            if min(getattr(layer, name)) < 1:
                raise refuse(spec, f"{name} is {getattr(layer, name)}; it must be at least 1")
        if layer.group < 1 or layer.num_output % layer.group:
            raise refuse(spec, f"num_output {layer.num_output} is not a multiple of group {layer.group}")
        return layer

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        return tuple((n, self.num_output, *self._size((h, w))) for n, _, h, w in map(_as_image, bottoms))

    def _size(self, size: Pair) -> Pair:
        h, w = (
            (x + 2 * p - (d * (k - 1) + 1)) // s + 1
            for x, p, d, k, s in zip(size, self.pad, self.dilation, self.kernel, self.stride, strict=True)
        )
        return h, w

    def blob_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        channels = _as_image(bottoms[0])[1]
        if channels % self.group:
            raise ValueError(f"{channels} channels are not a multiple of group {self.group}")
        weight = (self.num_output, channels // self.group, *self.kernel)
        return (weight, (self.num_output,)) if self.bias else (weight,)

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return sum(prod(self.blob_shapes(bottoms)[0]) * top[0] * prod(top[2:]) for top in tops)

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        from torch.nn.functional import conv2d

        weight, bias = blobs[0], blobs[1] if self.bias else None
        return tuple(
            conv2d(x, weight, bias, self.stride, self.pad, self.dilation, self.group) for x in bottoms
        )


@register_layer("Deconvolution")
@dataclass(frozen=True)
class Deconvolution(Convolution):
    """A convolution's backward pass: the weight's first axis is the input; blobs (I, O/group, kh, kw), (O,)."""

    def _size(self, size: Pair) -> Pair:
        h, w = (
            s * (x - 1) + d * (k - 1) + 1 - 2 * p
            for x, p, d, k, s in zip(size, self.pad, self.dilation, self.kernel, self.stride, strict=True)
        )
        return h, w

    def blob_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        channels = _as_image(bottoms[0])[1]
        if channels % self.group:
            raise ValueError(f"{channels} channels are not a multiple of group {self.group}")
        weight = (channels, self.num_output // self.group, *self.kernel)
        return (weight, (self.num_output,)) if self.bias else (weight,)

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return sum(prod(self.blob_shapes(bottoms)[0]) * bottom[0] * prod(bottom[2:]) for bottom in bottoms)

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        from torch.nn.functional import conv_transpose2d

        weight, bias = blobs[0], blobs[1] if self.bias else None
        return tuple(
            conv_transpose2d(x, weight, bias, self.stride, self.pad, 0, self.group, self.dilation)
            for x in bottoms
        )


def _as_image(shape: Shape) -> tuple[int, int, int, int]:
    if len(shape) != 4:
        raise ValueError(f"a bottom of shape {shape}; expected (n, c, h, w)")
    n, c, h, w = shape
    return n, c, h, w
