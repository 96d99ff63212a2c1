"""ROIAlign, PSROIAlign and ROIWarping: regions read between pixels, by bilinear interpolation.

Many forks have a ROIAlign of their own; which is meant is told by the fields:

- `roi_align_param`: Detectron's, the mean of sampling_ratio x sampling_ratio points in each bin
  (syshensyshen/pva-mobilenet-v2, src/caffe/layers/roi_align_layer.cpp, ROIAlignForward). Forks that take the largest of
  four points instead (nnop/caffe and others) have the same fields.
- `roi_pooling_param` with `pad_ratio`: Cascade R-CNN's, the corners of the bins, one more than bins along each axis
  (zhaoweicai/cascade-rcnn, src/caffe/layers/roi_align_layer.cpp).
- `roi_pooling_param` without it: the centre of each bin, of a region that ends on its last pixel
  (DirtyHarryLYL/HAKE-Action, src/caffe/layers/roi_align_layer.cpp, Forward_cpu).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..net.onnx_form import INT64
from .base import Pair, refuse, register_layer
from .fork import fork_message
from .regions import Regions, SeparateAxes, cut, factor, grid_of, rounded
from .roi_onnx import RegionReader, Sides, regions_to_onnx
from .roi_onnx import bilinear as bilinear_onnx
from .roi_pooling import check_groups, padded
from .spans import Array, Pooled, Spans

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec
    from ..net.onnx_form import OnnxLayer

MOST_POINTS = 1 << 16
"""Points along one axis of a region: more than an image has pixels along it."""


@register_layer("ROIAlign")
@dataclass(frozen=True)
class ROIAlign(SeparateAxes):
    """Each region sampled between pixels: `method` mean, corner or centre, as this file's head tells them apart.

    `sampling` is the number of points along each axis of a bin; 0 stands for one for each pixel that the bin covers.
    """

    method: str = "mean"
    sampling: int = 0
    pad_ratio: float = 0.0

    pooled_by: ClassVar[Pooled] = "weighted"

    @classmethod
    def parse(cls, spec: LayerSpec) -> ROIAlign:
        own, pooling = fork_message(spec, "roi_align_param"), fork_message(spec, "roi_pooling_param")
        if "aligned_h" in own or pooling.integer("bi_type", 0):
            raise refuse(spec, "this fork's ROIAlign (aligned_h, or bi_type 1) is not supported")
        message = own if own.fields or not pooling.fields else pooling
        scale = factor(spec, message, "spatial_scale", 1)
        if message is own:
            return cls(grid_of(spec, own), scale, sampling=max(own.integer("sampling_ratio", 0), 0))
        pooling.flag("is_multi_interpolate", default=True)  # read on the GPU only: the largest of four points
        ratio = factor(spec, pooling, "pad_ratio", 0)
        if not scale:
            raise refuse(spec, "spatial_scale is 0; expected how large the blob is beside the image")
        return cls(grid_of(spec, pooling), scale, "corner" if "pad_ratio" in pooling else "centre", 1, ratio)

    @property
    def grid(self) -> Pair:
        h, w = self.pooled
        return (h + 1, w + 1) if self.method == "corner" else (h, w)

    def cells(self, image: Tensor, rows: Spans, columns: Spans) -> Tensor:
        return interpolate(image, rows.weights, columns.weights)

    def spans(self, corners: Array, axis: int, size: int) -> Spans:
        kind = corners.dtype.type
        count = self.pooled[1 - axis]
        first, last = cut(padded(corners, self.pad_ratio) * kind(self.spatial_scale)).T[axis::2]
        if self.method == "mean":
            return mean_spans(first, last, count, self.sampling, size)
        if self.method == "corner":
            first, last = first - kind(0.5), last - kind(0.5)
            points = first[:, None] + np.arange(count + 1, dtype=kind) * ((last - first) / kind(count))[:, None]
            return Spans.of_weights(bilinear(points, size, margin=0.5) * (last > first)[:, None, None])
        last = np.minimum(last, kind(round(size / self.spatial_scale) - 1))
        first = np.maximum(first, kind(0))
        width = np.maximum(last - first + kind(1), kind(1)) / kind(count)
        places = (np.arange(count, dtype=kind) + kind(0.5)) * width[:, None] + first[:, None]
        points = np.clip(places, 0, size - 1).astype(kind)
        # On the last place both neighbours are the same one, and the weights that this fork gives them are 0.
        return Spans.of_weights(bilinear(points, size, margin=0.5) * (points < size - 1)[..., None])

    def to_onnx(self, out: OnnxLayer) -> None:
        if self.method != "mean":
            self._interpolated(out)
            return
        image, corners = regions_to_onnx(out)
        number = out.node("Cast", [out.reshape(image, [-1], part="images")], part="numbers", to=INT64)
        out.top(
            "RoiAlign",
            [out.bottoms[0], corners, number],
            output_height=self.pooled[0],
            output_width=self.pooled[1],
            sampling_ratio=self.sampling,
            spatial_scale=self.spatial_scale,
            coordinate_transformation_mode="output_half_pixel" if out.opset >= 16 else None,
        )

    def _interpolated(self, out: OnnxLayer) -> None:
        """The form of one point in each cell: corners of bins, or their centres."""
        reader = RegionReader(out, pad_ratio=self.pad_ratio)
        corners = reader.cut(reader.op("Mul", reader.corners, self.spatial_scale))
        weights = [
            self._points(reader, reader.sides(corners, axis), count)
            for axis, count in zip((2, 3), self.pooled, strict=True)
        ]
        reader.read(weights[0], weights[1], self.pooled, out.bottoms[0].shape[1] or -1)

    def _points(self, reader: RegionReader, sides: Sides, count: int) -> str:
        out, op = reader.out, reader.op
        if self.method == "corner":
            first, last = op("Sub", sides.first, 0.5), op("Sub", sides.last, 0.5)
            step = op("Div", op("Sub", last, first), float(count))
            points = op("Add", op("Mul", reader.bins(count + 1), step), first)
            return reader.where(bilinear_onnx(out, points, axis=sides.axis, margin=0.5), "Greater", last, first)
        end = out.node("Round", [op("Div", sides.size, self.spatial_scale)], part="image")
        last = out.node("Min", [sides.last, op("Sub", end, 1)], part="last")
        nought, one = (out.constant(part, np.float32(value)) for part, value in (("nought", 0), ("one", 1)))
        first = out.node("Max", [sides.first, nought], part="first")
        length = out.node("Max", [op("Add", op("Sub", last, first), 1), one], part="length")
        places = op("Mul", reader.bins(count, 0.5), op("Div", length, float(count)))
        end = op("Sub", sides.size, 1)
        points = out.node("Max", [op("Add", places, first), nought], part="points")
        points = out.node("Min", [points, end], part="points")
        return reader.where(bilinear_onnx(out, points, axis=sides.axis, margin=0.5), "Less", points, end)


@register_layer("PSROIAlign")
@dataclass(frozen=True)
class PSROIAlign(SeparateAxes):
    """As ROIAlign's mean, each of group_size x group_size bins from a channel of its own.

    Source: p517332051/caffe-windows, src/caffe/layers/psroi_align_layer.cu, which has a sampling_ratio; without the
    field fallingdust/caffe-fast-rcnn's is taken: four points in each bin, 0 where a point lies outside of the blob.
    """

    output_dim: int = 0
    sampling: int | None = None

    pooled_by: ClassVar[Pooled] = "weighted"
    own: ClassVar[bool] = True

    @classmethod
    def parse(cls, spec: LayerSpec) -> PSROIAlign:
        message = fork_message(spec, "psroi_align_param")
        message = message if message.fields else fork_message(spec, "psroi_pooling_param")
        outputs = message.integer("output_dim", 0)
        if outputs < 1:
            raise refuse(spec, f"output_dim is {outputs}; expected at least 1")
        group = grid_of(spec, message, "group_size", "group_size")
        sampling = max(message.integer("sampling_ratio", 0), 0) if "sampling_ratio" in message else None
        return cls(group, factor(spec, message, "spatial_scale", 1), outputs, sampling)

    def top_channels(self, channels: int) -> int:
        return check_groups(channels, self.output_dim, self.pooled[0])

    def cells(self, image: Tensor, rows: Spans, columns: Spans) -> Tensor:
        import torch

        maps = image.unflatten(0, (self.output_dim, *self.pooled))
        left, part, right = _read(maps, rows.weights, columns.weights)
        return torch.einsum("ih,dijhw,jw->dij", left, part, right)

    def spans(self, corners: Array, axis: int, size: int) -> Spans:
        kind, group = corners.dtype.type, self.pooled[0]
        first, last = cut(corners * kind(self.spatial_scale)).T[axis::2]
        if self.sampling is not None:
            return mean_spans(first, last, group, self.sampling, size)
        width = (last - first) / kind(group)
        starts = np.arange(group, dtype=kind) * width[:, None] + first[:, None]
        points = starts[..., None] + width[:, None, None] * np.array([0.25, 0.75], kind)
        weights = bilinear(points, size, margin=0) * (last > first)[:, None, None, None]
        return Spans.of_weights(weights.sum(2) / kind(2))

    def to_onnx(self, out: OnnxLayer) -> None:
        if self.sampling == 0:
            raise out.refuse(
                "a sampling_ratio of 0 takes as many points as each bin has pixels, which only a run tells",
                hint="give the layer a sampling_ratio of 1 or more, if its numbers may be others",
            )
        reader, group = RegionReader(out), self.pooled[0]
        corners = reader.cut(reader.op("Mul", reader.corners, self.spatial_scale))
        weights = []
        for axis in (2, 3):
            sides = reader.sides(corners, axis)
            if self.sampling is not None:
                weights.append(reader.means(sides, group, self.sampling))
                continue
            width = reader.op("Div", reader.op("Sub", sides.last, sides.first), float(group))
            starts = reader.op("Add", reader.op("Mul", reader.repeated(group, 2), width), sides.first)
            quarters = np.tile(np.array([0.25, 0.75], np.float32), group).reshape(1, -1, 1)
            points = reader.op("Add", starts, reader.op("Mul", out.constant("quarters", quarters), width))
            each = bilinear_onnx(out, points, axis=axis, margin=0)
            each = reader.where(each, "Greater", sides.last, sides.first)
            weights.append(reader.averaged(each, sides, group, 2))
        reader.read_own(weights[0], weights[1], group, self.output_dim)


@register_layer("ROIWarping")
@dataclass(frozen=True)
class ROIWarping(Regions):
    """The largest of points about a pixel apart, both ends included, in each bin of each region.

    Source: daijifeng001/caffe-mnc, src/caffe/layers/roi_warping_layer.cu. Corners are scaled and rounded, the last
    pixel is where the region ends; a bin none of whose points lies in the blob is 0.
    """

    @classmethod
    def parse(cls, spec: LayerSpec) -> ROIWarping:
        message = fork_message(spec, "roi_warping_param")
        return cls(grid_of(spec, message), factor(spec, message, "spatial_scale", 1))

    def pool(self, x: Tensor, numbers: Array, corners: Array) -> Tensor:
        import torch

        whole = rounded(corners * corners.dtype.type(self.spatial_scale))
        return torch.stack([self._cells(x[image], each) for image, each in zip(numbers, whole, strict=True)])

    def _cells(self, image: Tensor, corners: Array) -> Tensor:
        """The cells of one region, whose corners are whole numbers."""
        import torch

        first, last = corners.reshape(2, 2)
        weights, inside = zip(
            *(_points(first[axis], last[axis], self.pooled[1 - axis], image.shape[2 - axis]) for axis in (1, 0)),
            strict=True,
        )
        values = interpolate(image, weights[0].reshape(-1, image.shape[1]), weights[1].reshape(-1, image.shape[2]))
        rows, columns = (torch.from_numpy(each).to(image.device) for each in inside)
        valid = rows[:, :, None, None] & columns
        lowest = torch.finfo(image.dtype).min
        bins = values.unflatten(2, tuple(columns.shape)).unflatten(1, tuple(rows.shape)).masked_fill(~valid, lowest)
        top: Tensor = bins.amax((2, 4))
        return torch.where(valid.any(3).any(1), top, 0)

    def to_onnx(self, out: OnnxLayer) -> None:
        raise out.refuse(
            "ROIWarping reads as many points in a bin as a region has pixels there, which only a run tells",
            hint="end the net before it with --outputs, or run it with CaffeNet",
        )


def _points(start: float, end: float, count: int, size: int) -> tuple[Array, Array]:
    """The weights (bins, points, size) of the points along an axis, and which points there are (bins, points).

    A point is a step after the one before, added up in the blob's precision: whether the last one is still in the bin
    is a matter of rounding.
    """
    kind = np.asarray(start).dtype.type
    length = max(kind(end - start), kind(0))
    width = length / kind(count)
    ratio = ceil(float(length / kind(count)))
    step = kind(1 / ratio) if ratio else kind(np.inf)
    steps = min(ratio + 2, MOST_POINTS // count + 2)
    offsets = np.full((count, steps), step)
    offsets[:, 0] = np.arange(count)
    offsets = np.cumsum(offsets, 1)
    there = offsets <= np.arange(1, count + 1, dtype=kind)[:, None]
    points = start + np.where(there, offsets, 0) * width
    weights = bilinear(points.astype(kind), size, margin=0.5)
    there &= weights.any(2)
    read = there.any(0) | (np.arange(steps) == 0)
    return weights[:, read], there[:, read]


def interpolate(images: Tensor, rows: Array, columns: Array) -> Tensor:
    """rows @ image @ columns.T for each channel of images (..., c, h, w): what the points (rows x columns) read."""
    left, part, right = _read(images, rows, columns)
    return left @ part @ right.T


def _read(images: Tensor, rows: Array, columns: Array) -> tuple[Tensor, Tensor, Tensor]:
    """The weights of rows, the part of the images that weights are for, and the weights of columns.

    Only the pixels that count are touched, so that a number that is none elsewhere stays there.
    """
    import torch

    parts = []
    for weights in (rows, columns):
        used = np.flatnonzero(weights.any(0))
        parts.append(slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0, 1))
    left, right = (
        torch.from_numpy(np.ascontiguousarray(weights[:, part])).to(images)
        for weights, part in zip((rows, columns), parts, strict=True)
    )
    return left, images[..., parts[0], parts[1]], right


def mean_spans(first: Array, last: Array, count: int, sampling: int, size: int) -> Spans:
    """The mean over each bin's points, for regions from `first` to `last` (n,); Detectron's roi_align_op.cc."""
    kind = first.dtype.type
    widths = np.maximum(last - first, kind(1)) / kind(count)
    points = np.full(len(first), sampling) if sampling else np.maximum(np.ceil(widths), 1)
    points = np.minimum(points, MOST_POINTS // count + 1).astype(int)
    weights = np.zeros((len(first), count, size), kind)
    for number in np.unique(points):
        these = points == number
        start, width = (each[these][:, None, None] for each in (first, widths))
        inner = (np.arange(number, dtype=kind) + kind(0.5)) * width / kind(number)
        weights[these] = _means(start + np.arange(count, dtype=kind)[:, None] * width + inner, size)
    return Spans.of_weights(weights)


def _means(points: Array, size: int) -> Array:
    """The weight of each place in the mean over so many points (n, cells, points): (n, cells, size)."""
    cells = np.arange(points.shape[0] * points.shape[1]).repeat(points.shape[2]) * size
    low, part, inside = _neighbours(points.ravel(), size, margin=1)
    weights = np.bincount(cells + low, (1 - part) * inside, points.shape[0] * points.shape[1] * size)
    weights += np.bincount(cells + np.minimum(low + 1, size - 1), part * inside, len(weights))
    means: Array = weights.reshape(*points.shape[:2], size) / points.shape[2]
    return means


def bilinear(points: Array, size: int, *, margin: float) -> Array:
    """The weights (..., size) of the two neighbours of each point (...) along an axis of `size` places.

    Points up to `margin` before the first place read the first, those as far behind it (from size - 1 on for a margin
    of 0 or a half, from size for 1) the last; points farther out read nothing.
    """
    low, part, inside = _neighbours(points.ravel(), size, margin=margin)
    weights = np.zeros((len(low), size), points.dtype)
    every = np.arange(len(low))
    weights[every, low] = (1 - part) * inside
    weights[every, np.minimum(low + 1, size - 1)] += part * inside
    return weights.reshape(*points.shape, size)


def _neighbours(points: Array, size: int, *, margin: float) -> tuple[Array, Array, Array]:
    """The place at or before each point (n,), how far behind it that lies, and whether the point reads anything."""
    upper = size if margin == 1 else size - 1 + margin
    inside = (points >= -margin) & (points <= upper)
    places = np.where(inside, np.clip(points, 0, size - 1), 0)
    low = np.floor(places).astype(int)
    return low, (places - low).astype(points.dtype), inside
