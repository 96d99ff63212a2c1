"""Unpooling of DeconvNet's fork (HyeonwooNoh/caffe, src/caffe/layers/unpooling_layer.cpp and .cu)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..net.onnx_form import INT64
from ..net.reach import EVERYTHING, Reach
from .base import LARGEST, Layer, Pair, as_image, kept, refuse, register_layer
from .fork import ForkMessage, fork_message

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec, Shape
    from ..net.onnx_form import OnnxLayer

METHODS = ("MAX", "AVE", "TILE")


@register_layer("Unpooling")
@dataclass(frozen=True)
class Unpooling(Layer):
    """Pooling undone. MAX: each value at the place that the second bottom, a max pooling's second top, has for it.

    Without a second bottom it goes to its window's first place. AVE spreads each value evenly over its window, TILE
    repeats it there; where windows meet the values are added. The size is `size` (unpool_size), or from the windows,
    the larger of (h - 1) * stride + kernel and h * stride + 1.
    """

    method: str
    kernel: Pair
    stride: Pair
    size: Pair | None

    bottom_count: ClassVar[tuple[int, float]] = (1, 2)
    top_count: ClassVar[tuple[int, float]] = (1, 1)

    @classmethod
    def parse(cls, spec: LayerSpec) -> Unpooling:
        message = fork_message(spec, "unpooling_param")
        word = message.word("unpool", "MAX")
        method = METHODS[int(word)] if word in ("0", "1", "2") else word
        if method not in METHODS:
            raise refuse(spec, f"unpool is {word}; expected {', '.join(METHODS)}")
        kernel, stride = (_pair(message, name, stem, default) for name, stem, default in _SIZES)
        if kernel is None or stride is None or min(*kernel, *stride) < 1 or max(*kernel, *stride) > LARGEST:
            raise refuse(spec, f"kernel {kernel} and stride {stride}; expected at least 1")
        if _pair(message, "pad", "pad", 0) != (0, 0):
            raise refuse(spec, "pad is not 0, which the source refuses as well")
        size = _pair(message, "unpool_size", "unpool", None)
        if size is not None and not 1 <= min(size) <= max(size) <= LARGEST:
            raise refuse(spec, f"unpool_size is {size}; expected 1 to {LARGEST}")
        return cls(method, kernel, stride, size)

    def _size(self, size: Sequence[int]) -> Pair:
        if self.size is not None:
            return self.size
        h, w = (max((n - 1) * s + k, n * s + 1) for n, k, s in zip(size, self.kernel, self.stride, strict=True))
        return h, w

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        n, c, h, w = as_image(bottoms[0])
        if len(bottoms) > 1 and self.method == "MAX" and bottoms[1] != bottoms[0]:
            raise ValueError("the places must have the shape of the first bottom")
        return ((n, c, *self._size((h, w))),)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return EVERYTHING

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (bottoms[0],)

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return 0 if self.method == "MAX" else prod(bottoms[0]) * prod(self.kernel)

    def matrices(self, size: Pair, out: Pair) -> tuple[np.ndarray, np.ndarray]:
        """(out, in) of h and of w: the top is rows @ bottom @ columns, transposed, where no place is recorded."""
        h, w = (self._matrix(size[axis], out[axis], self.kernel[axis], self.stride[axis]) for axis in (0, 1))
        return h, w

    def _matrix(self, size: int, out: int, kernel: int, stride: int) -> np.ndarray:
        shares = np.zeros((out, size), np.float32)
        for place in range(size):
            start = place * stride
            if self.method == "MAX":
                shares[min(start, out - 1)] = 0  # the last one that is put there stays
                shares[min(start, out - 1), place] = 1
            elif start < out:
                end = min(start + kernel, out)
                shares[start:end, place] = 1 / (end - start) if self.method == "AVE" else 1
        return shares

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        import torch

        from .functions import unpool

        x = bottoms[0]
        h, w = self._size(x.shape[2:])
        if self.method == "MAX" and len(bottoms) > 1:
            return (unpool(x, bottoms[1], h, w),)
        matrices = self.matrices((x.shape[2], x.shape[3]), (h, w))
        rows, columns = (torch.from_numpy(matrix).to(x.dtype).to(x.device) for matrix in matrices)
        return (rows @ x @ columns.t(),)

    def to_onnx(self, out: OnnxLayer) -> None:
        """ScatterElements, or two products with constant matrices, for known sizes."""
        x = out.bottoms[0]
        known = out.size(x, (2, 3)).known
        if self.method == "MAX" and len(out.bottoms) > 1:
            self._scatter(out)
            return
        if known is None:
            raise out.refuse(f"Unpooling ({self.method}) of free sizes", hint="give --size HxW")
        size = (known[0], known[1])
        rows, columns = self.matrices(size, self._size(size))
        tall = out.node("MatMul", [out.constant("rows", rows), x], part="tall")
        out.top("MatMul", [tall, out.constant("columns", np.ascontiguousarray(columns.T))])

    def _scatter(self, out: OnnxLayer) -> None:
        x, places = out.bottoms
        beyond = [max(k - s, 1) for k, s in zip(self.kernel, self.stride, strict=True)]
        goal = out.sizes(self.size) if self.size is not None else out.size(x, (2, 3)) * self.stride + beyond
        zero = out.constant("zero", np.zeros((1, 1, 1), np.float32))
        blank = out.node("Expand", [zero, out.sizes([out.size(x, (0, 1)), goal.product()])], part="blank")
        place = out.node("Cast", [out.reshape(places, [0, 0, -1], part="places")], part="place", to=INT64)
        flat = out.reshape(x, [0, 0, -1], part="values")
        filled = out.node("ScatterElements", [blank, place, flat], part="filled", axis=2)
        out.reshape(filled, [*kept(x, 2), goal])


_SIZES = (("kernel_size", "kernel", None), ("stride", "stride", 1))


def _pair(message: ForkMessage, name: str, stem: str, default: int | None) -> Pair | None:
    """(h, w) of a field that is given once, or as stem_h and stem_w."""
    if f"{stem}_h" in message and f"{stem}_w" in message:
        return message.integer(f"{stem}_h", 0), message.integer(f"{stem}_w", 0)
    if name not in message and default is None:
        return None
    both = message.integer(name, default or 0)
    return both, both
