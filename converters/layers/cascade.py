"""Cascade R-CNN's DecodeBBox, which MS-CNN has too, FrcnnOutput and ScaleRoute.

Sources: zhaoweicai/cascade-rcnn, src/caffe/layers/decode_bbox_layer.cpp, frcnn_output_layer.cpp, scale_route_layer.cpp
and src/caffe/util/bbox_util.cpp; zhaoweicai/mscnn, src/caffe/layers/decode_bbox_layer.cpp, which is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, prod, sqrt
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..arrays import to_array
from ..net.reach import EVERYTHING, Reach
from . import boxes_onnx, cascade_onnx
from .base import Layer, refuse, register_layer
from .box_layer import BoxLayer, offset_statistics, with_prior
from .boxes import CHOSEN, refuse_traces
from .fork import fork_message
from .regions import float32
from .suppression import MODES, suppressed

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec, Shape
    from ..net.onnx_form import OnnxLayer


@register_layer("DecodeBBox")
@dataclass(frozen=True)
class DecodeBBox(BoxLayer):
    """Regions (second bottom, (n, 5)) moved by the offsets (n, 8) of their foreground; as at test, none is left out."""

    bottom_count: ClassVar[tuple[int, float]] = (2, 3)
    top_count: ClassVar[tuple[int, float]] = (1, 1)

    @classmethod
    def parse(cls, spec: LayerSpec) -> DecodeBBox:
        return cls(*offset_statistics(spec))

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        (count, *offsets), (regions, *numbers) = bottoms[:2]
        if prod(offsets) != 8 or prod(numbers) != 5 or count != regions:
            raise ValueError("expected offsets (n, 8) and regions (n, 5)")
        return (bottoms[1],)

    def bottom_shapes(self) -> dict[int, tuple[int | None, ...]]:
        return {1: (None, 5)}

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (5,)

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        import torch

        regions = bottoms[1].flatten(1)
        boxes = with_prior(bottoms[0].flatten(1)[:, 4:], regions[:, 1:], self.mean, self.std)
        return (torch.cat((regions[:, :1], boxes), 1).reshape(bottoms[1].shape),)

    def to_onnx(self, out: OnnxLayer) -> None:
        regions = boxes_onnx.rows_of(out, 1, 5, part="regions")
        offsets = out.slice(boxes_onnx.rows_of(out, 0, 8, part="offsets"), [1], [4], [8], part="of_foreground")
        corners = out.slice(regions, [1], [1], [5], part="corners")
        boxes = boxes_onnx.with_prior(out, offsets, corners, self.mean, self.std)
        rows = out.node("Concat", [out.slice(regions, [1], [0], [1], part="image"), boxes], part="rows", axis=1)
        out.reshape(rows, [-1, *(size or 1 for size in out.bottoms[1].shape[1:])])


@register_layer("FrcnnOutput")
@dataclass(frozen=True)
class FrcnnOutput(BoxLayer):
    """Detections [image, x1, y1, x2, y2, class, score] of one image, after a first row of -1 that each image has.

    Bottoms: the scores (n, classes) of regions, offsets (n, 8) or with `aware` (n, 4 * classes), the regions (n, 5 or
    6), and height and width (1, 2). An NMS for each class but the background, then the `most` best of all (0: all), by
    class.
    """

    aware: bool
    least: float
    overlap: float
    mode: str
    most: int

    bottom_count: ClassVar[tuple[int, float]] = (4, 4)
    top_count: ClassVar[tuple[int, float]] = (1, 1)

    @classmethod
    def parse(cls, spec: LayerSpec) -> FrcnnOutput:
        message = fork_message(spec, "frcnn_output_param")
        mode, most = message.word("nms_type", "IOU"), message.integer("max_det_num", 0)
        if mode not in MODES or most < 0:
            raise refuse(
                spec, f"nms_type {mode}, max_det_num {most}: expected one of {', '.join(MODES)}, and 0 or more"
            )
        return cls(
            *offset_statistics(spec),
            aware=fork_message(spec, "bbox_reg_param").flag("cls_aware", default=True),
            least=float32(message.number("conf_thr", 0)),
            overlap=float32(message.number("iou_thr", 0.5)),
            mode=mode,
            most=most,
        )

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        classes, offsets, numbers, sizes = (prod(shape[1:]) for shape in bottoms)
        counts = {shape[0] for shape in bottoms[:3]}
        if len(counts) > 1 or offsets != (4 * classes if self.aware else 8) or numbers not in (5, 6) or sizes != 2:
            raise ValueError(
                f"scores of {classes} classes, {offsets} offsets, regions of {numbers} numbers and {sizes} sizes; "
                f"expected {4 * classes if self.aware else 8} offsets, 5 or 6 numbers, and height and width"
            )
        return ((1, 7, 1, 1),)

    def bottom_shapes(self) -> dict[int, tuple[int | None, ...]]:
        return {2: (None, 5), 3: (1, 2)}

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (7,)

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        refuse_traces(CHOSEN)
        scores, offsets, regions = (bottom.flatten(1) for bottom in bottoms[:3])
        boxes = with_prior(offsets, regions[:, 1:5], self.mean, self.std).unflatten(1, (-1, 4))
        height, width = bottoms[3].flatten()[:2].tolist()
        high = boxes.new_tensor([inf, inf, width, height])
        low = boxes.new_tensor([0, 0, -inf, -inf])
        every, score = (to_array(each) for each in (boxes.clamp(low, high), scores))
        found = []
        for label in range(1, score.shape[1]):
            likely = np.flatnonzero(score[:, label] >= self.least)
            likely = likely[np.argsort(-score[likely, label], kind="stable")]
            best = every[likely, label if self.aware else 1]
            kept = likely[suppressed(best, mode=self.mode, threshold=self.overlap, wider=1)]
            corners = every[kept, label if self.aware else 1]
            found.append(
                np.insert(corners, [0, 4, 4], np.stack([kept * 0, kept * 0 + label, score[kept, label]], 1), 1)
            )
        rows = np.concatenate(found) if found else np.zeros((0, 7), every.dtype)
        if self.most and len(rows) > self.most:
            best = np.argsort(-rows[:, 6], kind="stable")[: self.most]
            rows = rows[best[np.argsort(rows[best, 5], kind="stable")]]
        first = np.full((1, 7), -1, rows.dtype)
        first[0, 0] = 0
        return (scores.new_tensor(np.concatenate([first, rows]))[:, :, None, None],)

    def open_sizes(self) -> tuple[tuple[int, int], ...]:
        return ((0, 0),)

    def to_onnx(self, out: OnnxLayer) -> None:
        cascade_onnx.write_detections(self, out)


@register_layer("ScaleRoute")
@dataclass(frozen=True)
class ScaleRoute(Layer):
    """The regions (first bottom, (n, 5)) from low_scale on and below high_scale, and their rows of every bottom.

    A region's scale is the root of its area in pixels, the last ones counted. Where none is of that scale, the one
    nearest to the middle is taken, by the logarithm.
    """

    low: float
    high: float
    middle: float
    rows: int = 1

    bottom_count: ClassVar[tuple[int, float]] = (1, inf)

    @classmethod
    def parse(cls, spec: LayerSpec) -> ScaleRoute:
        message = fork_message(spec, "scale_route_param")
        low = message.number("low_scale", 0) if "low_scale" in message else None
        high = message.number("high_scale", 0) if "high_scale" in message else None
        if min(low or 1, high or 1) <= 0 or 0 in (low, high) or (low or 0) > (high or inf):
            raise refuse(
                spec, f"low_scale {low} and high_scale {high}: expected scales above 0, the higher one not lower"
            )
        middle = sqrt(low * high) if low and high else low or high or 256
        return cls(low or 0, high or inf, middle, len(spec.bottoms))

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        if prod(bottoms[0][1:]) != 5 or len({shape[0] for shape in bottoms}) > 1:
            raise ValueError("expected regions (n, 5), and n rows of every other bottom")
        return tuple((1, *shape[1:]) for shape in bottoms)

    def bottom_shapes(self) -> dict[int, tuple[int | None, ...]]:
        return {0: (None, 5)}

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return EVERYTHING

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return tuple(bottoms)

    @property
    def moves(self) -> bool:
        return True

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        refuse_traces(CHOSEN)
        regions = bottoms[0].flatten(1)
        size = regions[:, 3:5] - regions[:, 1:3]
        scale = ((size + 1).prod(1) * (size >= 0).all(1)).sqrt()
        chosen = ((scale >= self.low) & (scale < self.high)).nonzero().flatten()
        if not len(chosen) and len(scale):
            chosen = (scale / self.middle).log2().abs().argmin().reshape(1)
        return tuple(bottom[chosen] for bottom in bottoms)

    def open_sizes(self) -> tuple[tuple[int, int], ...]:
        return tuple((top, 0) for top in range(self.rows))

    def to_onnx(self, out: OnnxLayer) -> None:
        cascade_onnx.write_routed(self, out)
