"""MNC's Python:StageBridgeLayer at test: regions moved by the offsets of their best class.

Source: daijifeng001/MNC, lib/pylayer/stage_bridge_layer.py, forward_test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, ClassVar

from ..net.reach import EVERYTHING, Reach
from . import boxes_onnx
from .base import Layer, register_layer
from .boxes import clip_boxes, decode_regions
from .proposals import as_regions

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import Shape
    from ..net.onnx_form import OnnxLayer


@register_layer("Python:StageBridgeLayer")
@dataclass(frozen=True)
class StageBridge(Layer):
    """Regions (n, 5) of regions (n, 5), offsets (n, 4 c), scores (n, c) and im_info, cut to the image."""

    bottom_count: ClassVar[tuple[int, float]] = (4, 4)
    top_count: ClassVar[tuple[int, float]] = (1, 1)

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        regions, offsets, scores = (prod(shape[1:]) for shape in bottoms[:3])
        if regions != 5 or offsets != 4 * scores:
            raise ValueError(
                f"{regions} numbers for each region, {offsets} offsets and {scores} scores; expected 5, 4 c, c"
            )
        return ((bottoms[0][0], 5),)

    def bottom_shapes(self) -> dict[int, tuple[int | None, ...]]:
        return {0: (None, 5), 3: (1, 3)}

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return EVERYTHING

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (5,)

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        import torch

        regions, offsets, scores, im_info = (bottom.flatten(1) for bottom in bottoms)
        best = scores.argmax(1)
        each = offsets.unflatten(1, (-1, 4))[torch.arange(len(best), device=best.device), best]
        height, width = (max(size - 1, 0) for size in im_info.flatten()[:2].tolist())
        return (as_regions(clip_boxes(decode_regions(each, regions[:, 1:]), height=height, width=width)),)

    def to_onnx(self, out: OnnxLayer) -> None:
        classes = prod(size or 1 for size in out.bottoms[2].shape[1:])
        regions = boxes_onnx.rows_of(out, 0, 5, part="regions")
        scores = boxes_onnx.rows_of(out, 2, classes, part="scores")
        offsets = out.reshape(out.bottoms[1], [-1, classes, 4], part="offsets")
        best = out.node("ArgMax", [scores], part="best", axis=1, keepdims=1)
        offsets = out.reshape(boxes_onnx.picked(out, offsets, best), [-1, 4], part="of_best")
        boxes = boxes_onnx.decode_regions(out, offsets, out.slice(regions, [1], [1], [5], part="corners"))
        boxes = boxes_onnx.clipped(out, boxes, boxes_onnx.image_ends(out, 3))
        boxes_onnx.with_image(out, boxes, boxes_onnx.zeros_like_column(out, boxes))
