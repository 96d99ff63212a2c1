"""ICNetSubgraph of Synopsys' fork: ICNet's pyramid as one layer (synopsys-caffe, icnet_subgraph_layer.cpp)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from ..net.reach import EVERYTHING, Reach
from .base import Neuron, Pair, as_image, register_layer

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import Shape
    from ..net.onnx_form import OnnxLayer

WINDOWS = (((33, 33), (65, 65)), ((17, 16), (33, 32)), ((13, 10), (25, 20)), ((8, 5), (15, 10)))
"""(kernel, stride) along h and w of each branch: icnet_cityscapes.prototxt from conv5_3 to conv5_3_sum."""


@register_layer("ICNetSubgraph")
@dataclass(frozen=True)
class ICNetSubgraph(Neuron):
    """The bottom (n, c, h, w) plus its averages over four kinds of windows, each brought back to h x w bilinearly.

    Windows are of 33x65, 17x33, 13x25 and 8x15 pixels, a last one may be cut at the border; interpolation maps the
    corner pixels on each other, as Interp does.
    """

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        _, _, h, w = as_image(bottoms[0])
        if h < 33 or w < 65:
            raise ValueError(f"{h} x {w}; the windows are of 33 x 65 pixels")
        return (bottoms[0],)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return EVERYTHING

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return 5 * len(WINDOWS) * prod(tops[0])

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        import torch

        x = bottoms[0]
        top = x
        for pair in _matrices((x.shape[2], x.shape[3])):
            rows, columns = (torch.from_numpy(matrix).to(x.dtype).to(x.device) for matrix in pair)
            top = top + rows @ x @ columns.t()
        return (top,)

    def to_onnx(self, out: OnnxLayer) -> None:
        """Two products with constant matrices for each branch, for known sizes."""
        x = out.bottoms[0]
        size = out.size(x, (2, 3)).known
        if size is None:
            raise out.refuse("ICNetSubgraph of free sizes", hint="give --size HxW")
        branches = []
        for place, (rows, columns) in enumerate(_matrices((size[0], size[1]))):
            tall = out.node("MatMul", [out.constant(f"rows{place}", rows), x], part=f"tall{place}")
            across = out.constant(f"columns{place}", np.ascontiguousarray(columns.T))
            branches.append(out.node("MatMul", [tall, across], part=f"branch{place}"))
        out.top("Sum", [x, *branches])


def _matrices(size: Pair) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each branch (h, h) and (w, w): averages along an axis, and their interpolation."""
    return [(_matrix(size[0], *tall), _matrix(size[1], *wide)) for tall, wide in WINDOWS]


def _matrix(size: int, kernel: int, stride: int) -> np.ndarray:
    count = -(-(size - kernel) // stride) + 1
    average = np.zeros((count, size))
    for place in range(count):
        start, end = place * stride, min(place * stride + kernel, size)
        average[place, start:end] = 1 / (end - start)
    at = np.arange(size) * ((count - 1) / max(size - 1, 1))
    shares = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(count)))
    found: np.ndarray = (shares @ average).astype(np.float32)
    return found
