"""Body parts of convolutional pose machines: ImResize and Nms of caffe_rtpose.

Source: CMU-Perceptual-Computing-Lab/caffe_rtpose, src/caffe/cpm/layers/imresize_layer.cpp (Reshape) and
imresize_layer.cu, nms_layer.cpp and nms_layer.cu, by the kernels for GPUs, with which the project runs; what the files
have for the CPU makes other tops. Defaults: src/caffe/proto/caffe.proto, ImResizeParameter and NmsParameter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from math import floor
from typing import TYPE_CHECKING

import numpy as np

from ..arrays import to_array
from ..net.reach import EVERYTHING, Reach
from .base import OneToOne, as_image, refuse, register_layer
from .fork import fork_message
from .spans import Array

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec, Shape
    from ..net.onnx_form import OnnxLayer


_LARGEST = 1e6
"""Of a scale, so that what is computed with it is finite in single precision."""
_MOST = 1 << 24
"""Numbers of the matrices that an ONNX file may hold, 64 MiB."""


@register_layer("ImResize")
@dataclass(frozen=True)
class ImResize(OneToOne):
    """The mean over the images of a batch, which are scales of one, each resized bicubically (a = -0.5) to one size.

    That is `height` x `width`, or the bottom's times `factor` if it is not 0. Image i fills the middle of its canvas,
    smaller by half of 1 - start_scale + i * scale_gap at each border. A pixel beyond an image's edge is the edge's.
    """

    width: int
    height: int
    factor: float
    start: float
    gap: float

    @classmethod
    def parse(cls, spec: LayerSpec) -> ImResize:
        message = fork_message(spec, "imresize_param")
        layer = cls(
            message.integer("target_spatial_width", 368),
            message.integer("target_spatial_height", 368),
            message.number("factor", 0.0),
            message.number("start_scale", 1.0),
            message.number("scale_gap", 0.1),
        )
        if layer.factor < 0 or (not layer.factor and min(layer.width, layer.height) < 1):
            raise refuse(spec, "factor, or target_spatial_width and target_spatial_height, must be above 0")
        for name, number in (("factor", layer.factor), ("start_scale", layer.start), ("scale_gap", layer.gap)):
            if not abs(number) < _LARGEST:
                raise refuse(spec, f"{name} is {number:g}; expected a number below {_LARGEST:g}")
        return layer

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        n, c, h, w = as_image(bottoms[0])
        for image in sorted({0, n - 1}):  # the borders of those between lie between theirs
            if min(side - 2 * self._border(side, image) for side in (h, w)) < 1:
                raise ValueError(f"scale {image} of {n} has no pixels of {h} x {w}")
            if min(self._border(side, image) for side in (h, w)) < 0:
                raise ValueError(f"scale {image} of {n} is larger than its canvas")
        return ((1, c, *self._lengths((h, w))),)

    def _lengths(self, size: Sequence[int]) -> tuple[int, ...]:
        """The top's height and width for a bottom's."""
        if not self.factor:
            return self.height, self.width
        return tuple(int(np.float32(side) * np.float32(self.factor)) for side in size)

    def _border(self, size: int, image: int) -> int:
        """The pixels of an axis on each side of an image that are not its own."""
        part = np.float32(1) - np.float32(self.start) + np.float32(image) * np.float32(self.gap)
        return floor(float(np.float32(size // 2) * part))

    def _taps(self, size: int, wanted: int, image: int) -> list[tuple[Array, Array]]:
        """The four pixels along an axis of an image that make each of the top's, and their weights, float32."""
        border = self._border(size, image)
        own = size - 2 * border
        offset = np.float32(np.float32(wanted) / np.float32(own) / np.float32(2) - 0.5)
        at = (np.arange(wanted).astype(np.float32) - offset) * (np.float32(own) / np.float32(wanted))
        first = np.maximum((at.astype(np.float64) + 1e-5).astype(np.int64), 0)
        second = np.minimum(first + 1, own - 1)
        places = np.maximum(first - 1, 0), first, second, np.minimum(second + 1, own - 1)
        t = at.astype(np.float64) - first
        parts = (
            -0.5 * t**3 + t**2 - 0.5 * t,
            1.5 * t**3 - 2.5 * t**2 + 1,
            -1.5 * t**3 + 2 * t**2 + 0.5 * t,
            0.5 * t**3 - 0.5 * t**2,
        )
        return [(place + border, part.astype(np.float32)) for place, part in zip(places, parts, strict=True)]

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return EVERYTHING

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (bottoms[0],)

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        import torch

        _, _, *size = bottoms[0].shape
        wanted = self._lengths(size)
        total = bottoms[0].new_zeros(())
        for image, x in enumerate(bottoms[0]):
            for axis in (1, 2):
                taps = self._taps(size[axis - 1], wanted[axis - 1], image)
                x = sum(
                    x.index_select(axis, torch.from_numpy(place).to(x.device))
                    * torch.from_numpy(part).to(x).reshape(-1, *[1] * (2 - axis))
                    for place, part in taps
                )
            total = total + x
        return ((total / len(bottoms[0]))[None],)

    def _matrices(self, images: int, size: Sequence[int]) -> tuple[Array, Array]:
        """The weights (n, 1, top's height, h) and (n, 1, w, top's width), one of all pixels for each of the top's."""
        found = []
        for side, wanted in zip(size, self._lengths(size), strict=True):
            matrix = np.zeros((images, 1, wanted, side), np.float32)
            for image in range(images):
                for place, part in self._taps(side, wanted, image):
                    matrix[image, 0, np.arange(wanted), place] += part
            found.append(matrix)
        return found[0], np.ascontiguousarray(found[1].swapaxes(2, 3))

    def _most(self, size: Sequence[int]) -> int:
        """The scales that there can be at a size (h, w), 16 where there is no end to them."""
        fits = (all(0 <= 2 * self._border(side, image) < side for side in size) for image in range(16))
        return max(1, sum(1 for _ in takewhile(bool, fits)))

    def to_onnx(self, out: OnnxLayer) -> None:
        size, images = out.size(out.bottoms[0], (2, 3)).known, out.size(out.bottoms[0], [0])
        if size is None:
            raise out.refuse("ImResize has matrices for each size", hint="give --size HxW")
        count = images.known[0] if images.known else self._most(size)
        numbers = count * sum(side * wanted for side, wanted in zip(size, self._lengths(size), strict=True))
        if numbers > _MOST:
            raise out.refuse(f"ImResize would have matrices of {numbers} numbers", hint="give a smaller --size HxW")
        matrices = self._matrices(count, size)
        down, across = (out.constant(part, each) for part, each in zip(("down", "across"), matrices, strict=True))
        if not images.known:  # those of the scales that there are
            down, across = (
                out.slice(each, [0], [0], images, part=part)
                for each, part in ((down, "down_here"), (across, "across_here"))
            )
        half = out.node("MatMul", [down, out.bottoms[0]], part="lower")
        resized = out.node("MatMul", [half, across], part="resized")
        out.reduce("ReduceMean", resized, (0,))


@register_layer("Nms")
@dataclass(frozen=True)
class Nms(OneToOne):
    """The peaks of the first `num_parts` channels: for each a row with their number, then x, y, score of max_peaks.

    A peak is above `threshold` and above its eight neighbours, and not at the border. Its place is the mean of those up
    to 3 away, weighted by their scores above 0, rows and columns being from 1 to below the width, as they are counted
    there. What follows the last peak is 0, and so are y and score of the first row; there they are left as they were.
    """

    threshold: float
    parts: int
    peaks: int

    @classmethod
    def parse(cls, spec: LayerSpec) -> Nms:
        message = fork_message(spec, "nms_param")
        message.integer("num_peak", 100)  # Caffe reads it nowhere
        layer = cls(
            message.number("threshold", 0.5), message.integer("num_parts", 15), message.integer("max_peaks", 20)
        )
        if min(layer.parts, layer.peaks) < 1:
            raise refuse(spec, f"num_parts {layer.parts} and max_peaks {layer.peaks}: both must be at least 1")
        return layer

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        n, c, _, _ = as_image(bottoms[0])
        if c < self.parts or (n > 1 and c != self.parts):
            raise ValueError(f"{c} channels of {n} images; expected num_parts, {self.parts}, or of one image more")
        return ((n, self.parts, self.peaks + 1, 3),)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return EVERYTHING

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (self.parts,)

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        x: Array = to_array(bottoms[0])
        top = np.zeros((len(x), self.parts, self.peaks + 1, 3), x.dtype)
        for image, part in np.ndindex(len(x), self.parts):
            places = self._maxima(x[image, part])
            top[image, part, 0, 0] = len(places)
            memory = x.reshape(-1)[(image * x.shape[1] + part) * x[0, 0].size :]
            for peak, (row, column) in enumerate(places[: self.peaks].tolist(), 1):
                top[image, part, peak] = (*_centre(memory, x.shape[3], row, column), x[image, part, row, column])
        return (bottoms[0].new_tensor(top),)

    def _maxima(self, score: Array) -> Array:
        """Row and column (k, 2) of each peak, row by row."""
        h, w = score.shape
        if min(h, w) < 3:
            return np.zeros((0, 2), np.int64)
        inner = score[1:-1, 1:-1]
        found = inner > np.float32(self.threshold)
        for down, across in np.ndindex(3, 3):
            if (down, across) != (1, 1):
                found &= inner > score[down : h - 2 + down, across : w - 2 + across]
        return np.argwhere(found) + 1

    def to_onnx(self, out: OnnxLayer) -> None:
        raise out.refuse(
            "Nms counts peaks from the first row to the last, for which ONNX has no operator",
            hint="end the net before it with --outputs, and look for the peaks in your program",
        )


def _centre(memory: Array, width: int, row: int, column: int) -> tuple[float, float]:
    """x and y of a peak in a channel that begins `memory`; rows below the channel are those of the next one."""
    y, x = (np.arange(max(place - 3, 1), min(place + 4, width)) for place in (row, column))
    flat = y[:, None] * width + x
    there = flat < len(memory)
    scores = np.where(there, memory[np.where(there, flat, 0)], 0).clip(min=0)
    with np.errstate(all="ignore"):
        return (scores * x).sum() / scores.sum(), (scores * y[:, None]).sum() / scores.sum()
