"""Local response normalization (lrn_layer.cpp)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from ..net.onnx_form import OPENCV
from ..net.python_form import Form, call, number, unless
from ..net.reach import PIXEL, Reach, Window
from .base import LARGEST, Neuron, as_image, refuse, register_layer

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec, Shape
    from ..net.onnx_form import OnnxLayer, Operand
    from ..net.python_form import Site


LARGE_ALPHA = 0.01
"""From here on onnxruntime's LRN, which adds a channel to a sum and takes another away, rounds by 2e-5 where k is 1."""


@register_layer("LRN")
@dataclass(frozen=True)
class LRN(Neuron):
    """x / (k + alpha * mean of x^2 over local_size neighbours)^beta; outside the blob x is 0 and counted.

    The neighbours are channels, or within a channel the places of a square; there Caffe leaves k at 1. Across channels
    and in place the numbers are those of Caffe's GPU code (lrn_layer.cu): its CPU code overwrites x before it reads it.
    """

    local_size: int
    alpha: float
    beta: float
    k: float
    within_channel: bool

    @classmethod
    def parse(cls, spec: LayerSpec) -> LRN:
        message = spec.message.lrn_param
        if message.local_size % 2 != 1 or message.local_size > LARGEST:
            raise refuse(spec, f"local_size is {message.local_size}; it must be odd, and at most {LARGEST}")
        within = message.NormRegion.Name(message.norm_region) == "WITHIN_CHANNEL"
        return cls(message.local_size, message.alpha, message.beta, 1.0 if within else message.k, within)

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        return (as_image(bottoms[0]),)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return Window(self.local_size, pad=self.local_size // 2) if self.within_channel else PIXEL

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return (self.local_size ** (2 if self.within_channel else 1) + 1) * prod(tops[0])

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        from .functions import lrn_across_channels, lrn_within_channel

        if self.within_channel:
            return (lrn_within_channel(bottoms[0], self.local_size, self.alpha, self.beta),)
        return (lrn_across_channels(bottoms[0], self.local_size, self.alpha, self.beta, self.k),)

    def to_onnx(self, out: OnnxLayer) -> None:
        x = out.bottoms[0]
        # What lies further than the other end of the blob is outside for every channel.
        size = min(self.local_size, 2 * (x.shape[1] or self.local_size) - 1)
        alpha = self.alpha * size / self.local_size
        is_exact = 0 < self.alpha <= LARGE_ALPHA and self.beta > 0  # onnxruntime refuses a model with others
        if not self.within_channel and (is_exact or out.target in OPENCV or x.shape[1] is None):
            out.top("LRN", [x], size=size, alpha=alpha, beta=self.beta, bias=self.k)
            return
        square = out.node("Mul", [x, x], part="square")
        if self.within_channel:
            alpha, value = self.alpha, self._mean_of_places(out, square)
        else:
            value = _mean_of_channels(out, square, size)
        for op, part, constant in (("Mul", "alpha", alpha), ("Add", "k", self.k), ("Pow", "beta", -self.beta)):
            value = out.node(op, [value, out.constant(part, np.float32(constant))], part=f"{part}_applied")
        out.top("Mul", [x, value])

    def _mean_of_places(self, out: OnnxLayer, square: Operand) -> Operand:
        pad = self.local_size // 2
        window: dict[str, Any] = {"kernel_shape": (self.local_size,) * 2}
        if out.target in OPENCV:  # its classic engine would not count the padding
            square = out.pad(square, [0, 0, pad, pad] * 2, part="padded")
        else:
            window |= {"pads": (pad,) * 4, "count_include_pad": 1}
        return out.node("AveragePool", [square], part="mean", **window)

    def to_python(self, site: Site) -> Form:
        size, alpha, beta = self.local_size, number(self.alpha), self.beta  # powers are of doubles
        if self.within_channel:
            return Form((call("lrn_within_channel", site.x, size, alpha, beta),))
        k = unless(1.0, self.k, number(self.k))
        return Form((call("lrn_across_channels", site.x, size, alpha, beta, *([k] if k else [])),))


def _mean_of_channels(out: OnnxLayer, square: Operand, size: int) -> Operand:
    """The mean of `size` neighbours along axis 1, each sum made anew: of windows over (n, 1, c, h, w)."""
    axis, pad = out.constant("axis", [1]), size // 2
    window = {"kernel_shape": (size, 1, 1), "pads": (pad, 0, 0) * 2, "count_include_pad": 1}
    planes = out.node("Unsqueeze", [square, axis], part="planes")
    return out.node("Squeeze", [out.node("AveragePool", [planes], part="mean", **window), axis], part="means")
