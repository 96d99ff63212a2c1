"""The ONNX forms of region proposals: anchors of every place, their boxes, and NonMaxSuppression."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from . import boxes_onnx as onnx

if TYPE_CHECKING:
    from ..net.onnx_form import OnnxLayer
    from .anchors import Anchors


def placed(out: OnnxLayer, anchors: Anchors, stride: float) -> str:
    """The boxes (1, h * w * anchors, 4) of every place of the first bottom, places by row."""
    columns, rows = onnx.grid(out, 0, stride=stride)
    mask = np.array([1, 0, 1, 0], np.float32)
    shift = out.node(
        "Add",
        [
            out.node("Mul", [columns, out.constant("of_x", mask)], part="shift_x"),
            out.node("Mul", [rows, out.constant("of_y", 1 - mask)], part="shift_y"),
        ],
        part="shift",
    )
    shift = out.node("Unsqueeze", [shift, out.constant("anchor_axis", [2])], part="shift")
    boxes = out.node("Add", [shift, out.constant("anchors", np.array(anchors.boxes, np.float32))], part="anchor_boxes")
    return out.reshape(boxes, [1, -1, 4], part="anchor_boxes")


def decoded(out: OnnxLayer, anchors: Anchors, stride: float) -> str:
    """The boxes (n, h * w * anchors, 4) that the second bottom says, cut to the image that the third tells of."""
    offsets = onnx.flat(out, out.bottoms[1].name, 4)
    boxes = onnx.decode_regions(out, offsets, placed(out, anchors, stride))
    return onnx.clipped(out, boxes, onnx.image_ends(out, 2))


def foreground(out: OnnxLayer, count: int) -> str:
    """The scores (n, h * w * anchors) of what is no background."""
    scores = out.slice(out.bottoms[0], [1], [count], [2 * count], part="foreground")
    return out.node("Squeeze", [onnx.flat(out, scores, 1), out.constant("of_one", [2])], part="scores")


def large_enough(out: OnnxLayer, boxes: str, least: str) -> str:
    """True (n, m) for boxes at least so wide and high; `least` (2) is width and height."""
    low, high = onnx.halves(out, boxes)
    size = out.node("Add", [out.node("Sub", [high, low], part="extent"), onnx.number(out, "pixel", 1)], part="extent")
    small = out.node("Cast", [out.node("Less", [size, least], part="small")], part="small", to=1)
    either = out.reduce("ReduceMax", small, (2,), keepdims=False, part="too_small")
    return out.node("Equal", [either, onnx.number(out, "not_small", 0)], part="fine")


def least_size(out: OnnxLayer, size: float, places: list[int]) -> str:
    """`size` times numbers of the third bottom: a vector."""
    flat = out.reshape(out.bottoms[2], [-1], part="scale")
    scales = out.node("Gather", [flat, out.constant("scale_places", places)], part="scale", axis=0)
    return out.node("Mul", [scales, onnx.number(out, "min_size", size)], part="least_size")


def write_regions(
    out: OnnxLayer, boxes: str, scores: str, *, before: int, after: int, threshold: float, least: float | None = None
) -> None:
    """The tops: the best boxes (n, m, 4) of scores (n, m) as regions, and where there is a second top their scores."""
    best, places = onnx.best_first(out, scores, before)
    boxes = onnx.picked(out, boxes, places)
    kept = onnx.suppressed(out, boxes, best, threshold=threshold, pixels=1, most=after, least=least)
    onnx.with_image(out, out.node("GatherND", [boxes, kept], part="kept_boxes"), onnx.column(out, kept, 0))
    if len(out.tops) > 1:
        score = out.node("GatherND", [best, kept], part="kept_scores")
        out.reshape(score, [-1] if len(out.tops[1].shape) == 1 else [-1, 1], index=1)
