"""The ONNX forms of MS-CNN's and Cascade R-CNN's outputs: boxes, their scores, and NonMaxSuppression."""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ..net.onnx_form import FLOAT, INT64
from . import boxes_onnx as onnx

if TYPE_CHECKING:
    from ..net.onnx_form import OnnxLayer


class CascadeSettings(Protocol):
    """The settings of a FrcnnOutput (cascade.py) that its form reads."""

    @property
    def mode(self) -> str: ...
    @property
    def aware(self) -> bool: ...
    @property
    def mean(self) -> tuple[float, ...]: ...
    @property
    def std(self) -> tuple[float, ...]: ...
    @property
    def overlap(self) -> float: ...
    @property
    def least(self) -> float: ...
    @property
    def most(self) -> int: ...


class RouteSettings(Protocol):
    """The settings of a ScaleRoute (cascade.py) that its form reads."""

    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...
    @property
    def middle(self) -> float: ...


class RegionSettings(Protocol):
    """The settings of a RegionOutput (mscnn.py) that its form reads."""

    @property
    def mean(self) -> tuple[float, ...]: ...
    @property
    def std(self) -> tuple[float, ...]: ...
    @property
    def overlap(self) -> float: ...
    @property
    def least(self) -> float: ...
    @property
    def field_whr(self) -> float: ...
    @property
    def field_xyr(self) -> float: ...
    @property
    def before(self) -> int: ...
    @property
    def after(self) -> int: ...
    @property
    def min_size(self) -> float: ...
    @property
    def wider(self) -> int: ...


def check_mode(out: OnnxLayer, mode: str) -> None:
    """Raise for a measure of overlap that NonMaxSuppression does not have."""
    onnx.refuse_in_opencv(out)
    if mode != "IOU":
        raise out.refuse(
            f"nms_type {mode} has no ONNX form: NonMaxSuppression measures intersection over union",
            hint="end the net before it with --outputs, and choose the boxes in your program",
        )


def write_detections(layer: CascadeSettings, out: OnnxLayer) -> None:
    """FrcnnOutput's rows."""
    check_mode(out, layer.mode)
    classes = out.bottoms[0].shape[1] or 0
    scores = onnx.rows_of(out, 0, classes, part="scores")
    offsets = out.reshape(out.bottoms[1], [-1, classes if layer.aware else 2, 4], part="offsets")
    width = np.prod([size or 1 for size in out.bottoms[2].shape[1:]], dtype=int)
    regions = out.slice(onnx.rows_of(out, 2, int(width), part="regions"), [1], [1], [5], part="corners")
    regions = out.node("Unsqueeze", [regions, out.constant("middle", [1])], part="corners")
    boxes = onnx.with_prior(out, offsets, regions, layer.mean, layer.std)
    low, high = onnx.halves(out, boxes)
    size = out.node("Gather", [out.reshape(out.bottoms[3], [-1], part="image_size"), out.constant("xy", [1, 0])],
                    part="image_size", axis=0)  # fmt: skip
    low = out.node("Max", [low, onnx.number(out, "nought", 0)], part="low")
    high = out.node("Min", [high, size], part="high")
    boxes = out.node("Concat", [low, high], part="inside", axis=-1)
    labels = list(range(1, classes))
    own = out.constant("own", labels if layer.aware else [1] * len(labels))
    boxes = out.node("Gather", [boxes, own], part="by_class", axis=1)
    boxes = out.node("Transpose", [boxes], part="by_class", perm=[1, 0, 2])
    scores = out.node("Transpose", [scores], part="class_scores", perm=[1, 0])
    scores = out.node("Gather", [scores, out.constant("foreground", labels)], part="class_scores", axis=0)
    best, places = onnx.best_first(out, scores, onnx.ALL)
    boxes = onnx.picked(out, boxes, places)
    # A box turned round, which the image's edge leaves, overlaps none there; the operator would turn it back.
    upright = _upright(out, boxes)
    kept = onnx.suppressed(out, upright, best, threshold=layer.overlap, pixels=1,
                           least=float(np.nextafter(np.float32(layer.least), np.float32(-np.inf))))  # fmt: skip
    score = out.node("GatherND", [best, kept], part="kept_scores")
    if layer.most:
        kept, score = _most(out, kept, score, layer.most)
    label = out.node("Add", [onnx.column(out, kept, 0), onnx.number(out, "first_label", 1)], part="label")
    image = out.node("Mul", [label, onnx.number(out, "nought", 0)], part="image")
    corners = out.node("GatherND", [boxes, kept], part="kept_boxes")
    rows = out.node("Concat", [image, corners, label, out.reshape(score, [-1, 1], part="score")], part="rows", axis=1)
    first = np.full((1, 7), -1, np.float32)
    first[0, 0] = 0
    rows = out.node("Concat", [out.constant("first_row", first), rows], part="all_rows", axis=0)
    out.reshape(rows, [-1, 7, 1, 1])


def _upright(out: OnnxLayer, boxes: str) -> str:
    low, high = onnx.halves(out, boxes)
    beyond = out.node("Sub", [low, onnx.number(out, "pixel", 1)], part="least_high")
    return out.node("Concat", [low, out.node("Max", [high, beyond], part="high")], part="upright", axis=-1)


def _most(out: OnnxLayer, kept: str, scores: str, most: int) -> tuple[str, str]:
    """The `most` best of all, in the order that they had."""
    _, best = onnx.best_first(out, scores, most, axis=0)
    turned = out.node("Neg", [best], part="turned")
    # Both outputs have names: ONNX Runtime calls a model invalid in which one of the first is left out.
    count = out.node("Shape", [best], part="count")
    order, _ = out.node_of_several("TopK", [turned, count], ["order", "order_places"], axis=0)
    order = out.node("Neg", [order], part="order")
    return tuple(out.node("Gather", [value, order], part="of_best", axis=0) for value in (kept, scores))  # type: ignore[return-value]


def write_routed(layer: RouteSettings, out: OnnxLayer) -> None:
    """ScaleRoute's rows of every bottom."""
    onnx.refuse_in_opencv(out)
    regions = onnx.rows_of(out, 0, 5, part="regions")
    first, last = (out.slice(regions, [1], [start], [start + 2], part="corner") for start in (1, 3))
    size = out.node("Sub", [last, first], part="size")
    one, nought = onnx.number(out, "one", 1), onnx.number(out, "nought", 0)
    area = out.reduce("ReduceProd", out.node("Add", [size, one], part="pixels"), (1,), keepdims=False, part="area")
    least = out.reduce("ReduceMin", size, (1,), keepdims=False, part="least")
    upright = out.node("Not", [out.node("Less", [least, nought], part="turned")], part="upright")
    scale = out.node("Sqrt", [out.node("Where", [upright, area, nought], part="area")], part="scale")
    high = np.float32(layer.high)
    inside = out.node(
        "And",
        [
            out.node("GreaterOrEqual", [scale, onnx.number(out, "low", layer.low)], part="from_low"),
            out.node("Less", [scale, out.constant("high", high)], part="below_high"),
        ],
        part="inside",
    )
    any_ = out.reduce("ReduceMax", out.node("Cast", [inside], part="inside", to=INT64), (0,), part="any")
    ratio = out.node("Div", [scale, onnx.number(out, "middle", layer.middle)], part="ratio")
    apart = out.node("Abs", [out.node("Log", [ratio], part="log")], part="apart")
    nearest = out.node("ArgMin", [apart], part="nearest", axis=0, keepdims=1)
    place = out.node("Cast", [onnx.length(out, scale, 0)], part="count", to=INT64)
    ends = [out.constant(part, np.int64(value)) for part, value in (("first", 0), ("step", 1))]
    scalar = out.node("Squeeze", [place, out.constant("axis", [0])], part="count")
    every = out.node("Range", [ends[0], scalar, ends[1]], part="every")
    none = out.node("Equal", [any_, out.constant("no", [0])], part="none")
    alone = out.node("And", [out.node("Equal", [every, nearest], part="is_nearest"), none], part="alone")
    chosen = out.node("Or", [inside, alone], part="chosen")
    for index, bottom in enumerate(out.bottoms):
        out.top("Compress", [bottom, chosen], index=index, axis=0)


# Regions


def fields(
    layer: RegionSettings, out: OnnxLayer, offsets: str, size: Sequence[np.ndarray], stride: float, bottom: int
) -> tuple[str, str, str]:
    """`RegionOutput.decoded`: first corner (..., 2), size (..., 2) and nothing cut, of offsets (..., h, w, 4).

    `size` is the field's width and height, a number or one for each of the axes before h; places are the bottom's.
    """
    scaled = out.node("Mul", [offsets, out.constant("std", np.array(layer.std, np.float32))], part="scaled")
    moved = out.node("Add", [scaled, out.constant("mean", np.array(layer.mean, np.float32))], part="moved")
    shift, growth = onnx.halves(out, moved)
    field = out.constant("field", np.stack(size, -1).astype(np.float32))
    xyr, whr = 1 / layer.field_xyr, log(layer.field_whr)
    shift = out.node("Clip", [shift, onnx.number(out, "least_shift", -xyr), onnx.number(out, "most_shift", xyr)],
                     part="shift")  # fmt: skip
    growth = out.node("Clip", [growth, onnx.number(out, "least_growth", -whr), onnx.number(out, "most_growth", whr)],
                      part="growth")  # fmt: skip
    columns, rows = onnx.grid(out, bottom, offset=0.5, stride=stride)
    zero = onnx.number(out, "nought", 0)
    x = out.node("Add", [columns, out.node("Mul", [rows, zero], part="flat_rows")], part="x")
    y = out.node("Add", [rows, out.node("Mul", [columns, zero], part="flat_columns")], part="y")
    places = out.node("Concat", [x, y], part="places", axis=2)
    centre = out.node("Add", [out.node("Mul", [shift, field], part="pixels"), places], part="centre")
    wide = out.node("Mul", [out.node("Exp", [growth], part="growth"), field], part="wide")
    half = out.node("Mul", [wide, onnx.number(out, "half", 0.5)], part="half")
    return out.node("Sub", [centre, half], part="first"), wide, zero


def image_size(out: OnnxLayer, bottom: int, stride: float, *, whole: bool = False) -> str:
    """Width and height (2) of the image that a bottom is of, whole numbers where that is wanted."""
    size = out.node("Cast", [out.size(out.bottoms[bottom], [3, 2])], part="size", to=FLOAT)
    size = out.node("Mul", [size, onnx.number(out, "field_stride", stride)], part="image")
    return out.node("Floor", [size], part="image") if whole else size


def write_regions(layer: RegionSettings, out: OnnxLayer, boxes: Sequence[str], scores: Sequence[str]) -> None:
    """The tops for boxes (n, m, 4) and scores (n, m), LOWEST where a box does not count, of every bottom.

    Of equal scores the last is the best, as MS-CNN sorts pairs of a score and a place (box_output_layer.cpp).
    """
    every, score = (
        parts[0] if len(parts) == 1 else out.node("Concat", parts, part=part, axis=1)
        for parts, part in ((boxes, "every_box"), (scores, "every_score"))
    )
    every, score = onnx.last_first(out, every), onnx.last_first(out, score)
    best, places = onnx.best_first(out, score, layer.before or onnx.ALL)
    every = onnx.picked(out, every, places)
    kept = onnx.suppressed(
        out,
        every,
        best,
        threshold=layer.overlap,
        pixels=layer.wider,
        most=layer.after or onnx.ALL,
        least=float(onnx.LOWEST) / 2,
    )
    rows = out.node("Concat", [onnx.column(out, kept, 0), out.node("GatherND", [every, kept], part="kept_boxes")],
                    part="rows", axis=1)  # fmt: skip
    score = out.reshape(out.node("GatherND", [best, kept], part="kept_scores"), [-1, 1], part="kept_scores")
    scored = out.node("Concat", [rows, score], part="scored", axis=1)
    instead = np.array([[0, 1, 1, 10, 10]], np.float32)
    out.reshape(onnx.or_if_none(out, rows, out.constant("none_found", instead)), [-1, 5, 1, 1])
    if len(out.tops) > 1:
        zeros = out.constant("no_scores", np.zeros((1, 6), np.float32))
        out.reshape(onnx.or_if_none(out, scored, zeros), [-1, 6, 1, 1], index=1)


def likely(out: OnnxLayer, layer: RegionSettings, scores: str, sizes: str) -> str:
    """The scores (..., 1), LOWEST where they or a size (..., 2) are too small."""
    small = out.node("Less", [sizes, onnx.number(out, "min_size", layer.min_size)], part="small")
    small = out.reduce("ReduceMax", out.node("Cast", [small], part="small", to=FLOAT), (-1,), part="too_small")
    small = out.node("Greater", [small, onnx.number(out, "nought", 0)], part="too_small")
    least = out.node("Less", [scores, onnx.number(out, "fg_thr", layer.least)], part="unlikely")
    either = out.node("Or", [small, least], part="out_of_it")
    return out.node("Where", [either, out.constant("lowest", onnx.LOWEST), scores], part="ranked")
