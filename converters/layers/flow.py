"""Layers of FlowNet, DispNet and FlowNet 2 beside those of warp.py: resampling, the norm of channels.

Source: the layers of lmb-freiburg's FlowNet 2 as synopsys-caffe (github.com/foss-for-synopsys-dwc-arc-processors) has
them: resample_layer.cpp, downsample_layer.cu, channel_norm_layer.cpp, data_augmentation_layer.cu.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, prod
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..net.python_form import Form
from ..net.reach import EVERYTHING, NOTHING, PIXEL, Reach
from .base import LARGEST, Layer, OneToOne, Pair, as_image, refuse, register_layer
from .fork import fork_message

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec, Shape
    from ..net.onnx_form import OnnxLayer
    from ..net.python_form import Site


@dataclass(frozen=True)
class Separable(Layer):
    """A resizing whose top is rows @ bottom @ columns: each row of the matrices has the shares of a pixel of the top.

    The size is `size`, or a second bottom's.
    """

    size: Pair | None

    bottom_count: ClassVar[tuple[int, float]] = (1, 2)
    top_count: ClassVar[tuple[int, float]] = (1, 1)

    def _size(self, bottoms: Sequence[Shape]) -> Pair:
        if len(bottoms) > 1:
            h, w = as_image(bottoms[1])[2:]
            return h, w
        if self.size is None:
            raise ValueError("no size is given, and no second bottom")
        return self.size

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        n, c, *_ = as_image(bottoms[0])
        return ((n, c, *self._size(bottoms)),)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return NOTHING if bottom else EVERYTHING

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (bottoms[0],)

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return prod(tops[0]) * 4

    def matrices(self, size: Pair, out: Pair) -> tuple[np.ndarray, np.ndarray]:
        """(out h, h) and (out w, w), rows that sum to 1."""
        raise NotImplementedError

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        import torch

        x = bottoms[0]
        out = self._size([tuple(bottom.shape) for bottom in bottoms])
        if out == tuple(x.shape[2:]) and self.keeps_equal_sizes:
            return (x,)
        rows, columns = (
            torch.from_numpy(matrix).to(x.dtype).to(x.device) for matrix in self.matrices((x.shape[2], x.shape[3]), out)
        )
        return (rows @ x @ columns.t(),)

    def to_onnx(self, out: OnnxLayer) -> None:
        """Two products with constant matrices, for known sizes."""
        x, top = out.bottoms[0], out.tops[0]
        size, wanted = out.size(x, (2, 3)).known, out.size(top, (2, 3)).known
        if size is None or wanted is None:
            raise out.refuse(f"{type(self).__name__} of free sizes", hint="give --size HxW")
        if size == wanted and self.keeps_equal_sizes:
            out.top("Identity", [x])
            return
        rows, columns = self.matrices((size[0], size[1]), (wanted[0], wanted[1]))
        tall = out.node("MatMul", [out.constant("rows", rows), x], part="tall")
        out.top("MatMul", [tall, out.constant("columns", np.ascontiguousarray(columns.T))])

    keeps_equal_sizes: ClassVar[bool] = False


def read_size(spec: LayerSpec, message_name: str, names: Sequence[str]) -> Pair | None:
    """(h, w) of a message, None where it gives none."""
    message = fork_message(spec, message_name)
    h, w = (message.integer(name, 0) for name in names)
    if min(h, w) < 0 or max(h, w) > LARGEST:
        raise refuse(spec, f"{names[0]} {h} and {names[1]} {w}; expected 1 to {LARGEST}")
    return (h, w) if h and w else None


@register_layer("Resample")
@dataclass(frozen=True)
class Resample(Separable):
    """Resizing: NEAREST, LINEAR or CUBIC, antialiased where it shrinks; pixels outside have no share.

    Places are as in the source, where half a pixel along x is half of y's factor and the other way round.
    """

    kind: str
    antialias: bool

    @classmethod
    def parse(cls, spec: LayerSpec) -> Resample:
        message = fork_message(spec, "resample_param")
        numbers = {"1": "NEAREST", "2": "LINEAR", "3": "CUBIC", "4": "AREA"}
        kind = message.word("type", "LINEAR")
        kind = numbers.get(kind, kind)
        if kind not in ("NEAREST", "LINEAR", "CUBIC"):
            raise refuse(spec, f"type is {kind}; expected NEAREST, LINEAR or CUBIC")
        size = read_size(spec, "resample_param", ("height", "width"))
        return cls(size, kind, message.flag("antialias", default=True))

    def matrices(self, size: Pair, out: Pair) -> tuple[np.ndarray, np.ndarray]:
        factors = tuple(np.float32(a) / np.float32(b) for a, b in zip(size, out, strict=True))
        smooth = self.antialias and max(factors) > 1
        h, w = (self._matrix(size[axis], out[axis], factors[axis], factors[1 - axis], smooth) for axis in (0, 1))
        return h, w

    def _matrix(self, size: int, out: int, factor: float, other: float, smooth: bool) -> np.ndarray:
        one, half = np.float32(1), np.float32(0.5)
        place = (np.arange(out, dtype=np.float32) * factor + other / np.float32(2) - half).astype(np.float32)
        centre = (np.sign(place) * np.floor(np.abs(place) + half)).astype(np.int64)  # as C's round: halves go outwards
        if self.kind == "NEAREST":
            chosen: np.ndarray = (np.arange(size) == np.clip(centre, 0, size - 1)[:, None]).astype(np.float32)
            return chosen
        scale = one / (factor if smooth else one)
        radius = 2 if factor < 1 else ceil(np.float32(2 if self.kind == "LINEAR" else 4) / scale)
        away = np.abs(scale * (place[:, None] - np.arange(size, dtype=np.float32)))
        if self.kind == "LINEAR":
            shares = np.maximum(0, one - away)
        else:
            near = away * away * (1.5 * away - 2.5) + 1
            far = away * (away * (-0.5 * away + 2.5) - 4) + 2
            shares = np.where(away <= 1, near, np.where(away < 2, far, 0))
        shares = np.where(np.abs(np.arange(size) - centre[:, None]) <= radius, shares, 0)
        total = shares.sum(1, keepdims=True)
        rows: np.ndarray = np.divide(shares, total, out=np.zeros_like(shares), where=total != 0).astype(np.float32)
        return rows


@register_layer("Downsample")
@dataclass(frozen=True)
class Downsample(Separable):
    """Shrinking that maps the corner pixels on each other, each pixel a weighted mean of those within one step."""

    keeps_equal_sizes: ClassVar[bool] = True

    @classmethod
    def parse(cls, spec: LayerSpec) -> Downsample:
        return cls(read_size(spec, "downsample_param", ("top_height", "top_width")))

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        (top,) = super().top_shapes(bottoms)
        if top != bottoms[0] and (min(top[2:]) < 2 or min(bottoms[0][2:]) < 2):
            raise ValueError(f"{top[2:]} of {bottoms[0][2:]}: a side of one pixel has no step")
        return (top,)

    def matrices(self, size: Pair, out: Pair) -> tuple[np.ndarray, np.ndarray]:
        h, w = (self._matrix(a, b) for a, b in zip(size, out, strict=True))
        return h, w

    def _matrix(self, size: int, out: int) -> np.ndarray:
        step = np.float32(size - 1) / np.float32(out - 1)
        place = np.arange(out, dtype=np.float32) / np.float32(out - 1) * np.float32(size - 1)
        centre = np.floor(place + np.float32(0.5)).astype(np.int64)
        shares = np.maximum(0, 1 - np.abs(np.arange(size, dtype=np.float32) - place[:, None]) / step)
        shares = np.where(np.abs(np.arange(size) - centre[:, None]) <= ceil(step), shares, 0)
        rows: np.ndarray = (shares / shares.sum(1, keepdims=True)).astype(np.float32)
        return rows


@register_layer("ChannelNorm")
@dataclass(frozen=True)
class ChannelNorm(OneToOne):
    """The root of the sum of squares over the channels: (n, c, h, w) -> (n, 1, h, w)."""

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        n, _, h, w = as_image(bottoms[0])
        return ((n, 1, h, w),)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return PIXEL

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (1,)

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return prod(bottoms[0])

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        return (bottoms[0].square().sum(1, keepdim=True).sqrt(),)

    def to_onnx(self, out: OnnxLayer) -> None:
        out.reduce("ReduceL2", out.bottoms[0], (1,))

    def to_python(self, site: Site) -> Form:
        return Form((f"{site.x}.square().sum(1, keepdim=True).sqrt()",))
