"""ROIPooling of Fast R-CNN and MS-CNN, and PSROIPooling of R-FCN: regions pooled over whole pixels.

Sources: rbgirshick/caffe-fast-rcnn, src/caffe/layers/roi_pooling_layer.cpp; zhaoweicai/mscnn, the same file, which adds
`pad_ratio`; daijifeng001/caffe-rfcn, src/caffe/layers/psroi_pooling_layer.cu.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..net.onnx_form import OPENCV
from .base import refuse, register_layer
from .fork import fork_message
from .regions import SeparateAxes, factor, grid_of, rounded
from .roi_onnx import RegionReader, regions_to_onnx
from .spans import Array, Pooled, Spans

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec
    from ..net.onnx_form import OnnxLayer


@register_layer("ROIPooling")
@dataclass(frozen=True)
class ROIPooling(SeparateAxes):
    """The largest value in each of pooled_h x pooled_w bins of each region; 0 where a bin lies outside of the blob.

    Corners are scaled by `spatial_scale` and rounded; the last pixel belongs to the region; bins overlap where they do
    not divide it. `pad_ratio` widens a region by so much of its size on each side first.
    """

    pad_ratio: float = 0.0

    pooled_by: ClassVar[Pooled] = "largest"

    @classmethod
    def parse(cls, spec: LayerSpec) -> ROIPooling:
        message = fork_message(spec, "roi_pooling_param")
        return cls(
            grid_of(spec, message), factor(spec, message, "spatial_scale", 1), factor(spec, message, "pad_ratio", 0)
        )

    def spans(self, corners: Array, axis: int, size: int) -> Spans:
        first, last = rounded(padded(corners, self.pad_ratio) * corners.dtype.type(self.spatial_scale)).T[axis::2]
        edges = _edges(np.maximum(last - first + 1, 1), self.pooled[1 - axis])
        return _spans(np.floor(edges[:, :-1]) + first[:, None], np.ceil(edges[:, 1:]) + first[:, None], size)

    def cells(self, image: Tensor, rows: Spans, columns: Spans) -> Tensor:
        import torch

        first_row, last_row = int(rows.first[0]), int(rows.last[-1])
        strips = [_largest(image[:, first_row:last_row, lo:hi], 2) for lo, hi in columns.pairs()]
        band = torch.stack(strips, 2)
        return torch.stack([_largest(band[:, lo - first_row : hi - first_row], 1) for lo, hi in rows.pairs()], 1)

    def to_onnx(self, out: OnnxLayer) -> None:
        if out.target in OPENCV and not self.pad_ratio:  # OpenCV's own (pooling_layer.cpp); it has no MaxRoiPool
            how: dict[str, Any] = {
                "pooled_h": self.pooled[0],
                "pooled_w": self.pooled[1],
                "spatial_scale": self.spatial_scale,
            }
            out.top("ROIPooling", list(out.bottoms), **how)
            return
        if out.target in OPENCV:
            raise out.refuse("OpenCV's ROIPooling has no pad_ratio", hint="end the net before it with --outputs")
        image, corners = regions_to_onnx(out, pad_ratio=self.pad_ratio)
        regions = out.node("Concat", [image, corners], part="regions", axis=1)
        out.top("MaxRoiPool", [out.bottoms[0], regions], pooled_shape=self.pooled, spatial_scale=self.spatial_scale)


def _largest(x: Tensor, axis: int) -> Tensor:
    """The largest values along an axis, 0 where there are none; the gradient goes to the first of equal ones."""
    return x.max(axis).values if x.shape[axis] else x.new_zeros(x.shape[:axis] + x.shape[axis + 1 :])


def padded(corners: Array, ratio: float) -> Array:
    """x1, y1, x2, y2 (n, 4) moved outwards by `ratio` of the size (mscnn, roi_pooling_layer.cpp)."""
    kind = corners.dtype.type
    first, last = corners[:, :2], corners[:, 2:]
    pad = (last - first + kind(1)) * kind(ratio)
    return np.concatenate([first - pad, last + pad], 1)


def _edges(lengths: Array, count: int) -> Array:
    """The places where each of `count` bins of regions so long (n,) begins, and the last one ends: (n, count + 1)."""
    kind = lengths.dtype.type
    edges: Array = np.arange(count + 1, dtype=kind) * (lengths / kind(count))[:, None]
    return edges


def _spans(first: Array, last: Array, size: int) -> Spans:
    """Whole numbers as spans, cut to the blob."""
    return Spans(*(np.clip(each, 0, size).astype(np.int64) for each in (first, last)))


@register_layer("PSROIPooling")
@dataclass(frozen=True)
class PSROIPooling(SeparateAxes):
    """The mean of each of group_size x group_size bins of each region, each bin from a channel of its own.

    The first bottom has output_dim * group_size^2 channels, those of one output together, its bins by row. Corners are
    rounded before they are scaled, and a region is at least 0.1 wide. Bins without pixels are 0.
    """

    output_dim: int = 0

    pooled_by: ClassVar[Pooled] = "mean"
    own: ClassVar[bool] = True

    @classmethod
    def parse(cls, spec: LayerSpec) -> PSROIPooling:
        message = fork_message(spec, "psroi_pooling_param")
        outputs = message.integer("output_dim", 0)
        if outputs < 1:
            raise refuse(spec, f"output_dim is {outputs}; expected at least 1")
        group = grid_of(spec, message, "group_size", "group_size")
        return cls(group, factor(spec, message, "spatial_scale", 1), outputs)

    def top_channels(self, channels: int) -> int:
        return check_groups(channels, self.output_dim, self.pooled[0])

    def spans(self, corners: Array, axis: int, size: int) -> Spans:
        kind = corners.dtype.type
        whole, scale = rounded(corners).T[axis::2], kind(self.spatial_scale)
        first, last = whole[0] * scale, (whole[1] + kind(1)) * scale
        edges = _edges(np.maximum(last - first, kind(0.1)), self.pooled[0]) + first[:, None]
        return _spans(np.floor(edges[:, :-1]), np.ceil(edges[:, 1:]), size)

    def cells(self, image: Tensor, rows: Spans, columns: Spans) -> Tensor:
        group = self.pooled[0]
        maps: Tensor = image.unflatten(0, (self.output_dim, group, group))
        means = maps.new_zeros(self.output_dim, group, group)
        for row, (top, bottom) in enumerate(rows.pairs()):
            for column, (left, right) in enumerate(columns.pairs()):
                if bottom > top and right > left:
                    means[:, row, column] = maps[:, row, column, top:bottom, left:right].mean((1, 2))
        return means

    def to_onnx(self, out: OnnxLayer) -> None:
        if out.target in OPENCV:  # OpenCV's own (pooling_layer.cpp)
            how: dict[str, Any] = {
                "output_dim": self.output_dim,
                "group_size": self.pooled[0],
                "spatial_scale": self.spatial_scale,
            }
            out.top("PSROIPooling", list(out.bottoms), **how)
            return
        reader, group = RegionReader(out), self.pooled[0]
        beyond = out.constant("beyond", np.array([0, 0, 1, 1], np.float32))
        corners = reader.op("Add", reader.rounded(reader.corners), beyond)
        corners = reader.op("Mul", corners, self.spatial_scale)
        weights = []
        for axis in (2, 3):
            sides = reader.sides(corners, axis)
            least = out.constant("least", np.float32(0.1))
            length = out.node("Max", [reader.op("Sub", sides.last, sides.first), least], part="length")
            weights.append(reader.spans(sides, length, group))
        reader.read_own(weights[0], weights[1], group, self.output_dim)


def check_groups(channels: int, outputs: int, group: int) -> int:
    """`outputs`; ValueError where a blob of so many channels has not group x group for each."""
    if channels != outputs * group * group:
        raise ValueError(f"{channels} channels; output_dim {outputs} and group_size {group} need {outputs * group**2}")
    return outputs
