"""The ONNX form of YOLO's detection outputs: boxes of every place, and NonMaxSuppression over all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..net.onnx_form import FLOAT
from . import boxes_onnx as onnx

if TYPE_CHECKING:
    from ..net.onnx_form import OnnxLayer

WIDTH = 7
"""Numbers of a row."""


@dataclass(frozen=True)
class Yolo:
    """The settings of an output: `anchors` (boxes, 2) of each bottom in places, `softmax` of classes or sigmoid.

    `above` says that a confidence as large as `least` does not do. `centred` is caffe-yolov2's: boxes in the order of
    their places, as centre and size, classes from 0 on.
    """

    classes: int
    anchors: tuple[np.ndarray, ...]
    least: float
    threshold: float
    softmax: bool
    above: bool
    centred: bool = False


def write_detections(layer: Yolo, out: OnnxLayer) -> None:
    """The rows of all bottoms and images; where there is none, one of -1 for each image."""
    onnx.refuse_in_opencv(out)
    parts = [_rows(layer, out, bottom) for bottom in range(len(out.bottoms))]
    rows = parts[0] if len(parts) == 1 else out.node("Concat", parts, part="all_rows", axis=0)
    rows = _kept(layer, out, out.node("Unsqueeze", [rows, out.constant("batch", [0])], part="candidates"))
    if layer.centred:
        rows = _as_centres(out, rows)
    rows = onnx.or_if_none(out, rows, _nothing(out))
    out.reshape(rows, [1, 1, -1, WIDTH])


def _rows(layer: Yolo, out: OnnxLayer, bottom: int) -> str:
    """The boxes of a bottom (n * h * w * boxes, 7), likely or not, places first and the anchors of each."""
    x, each = out.bottoms[bottom], 5 + layer.classes
    boxes = len(layer.anchors[bottom])
    last = out.node("Transpose", [x], part="by_place", perm=[0, 2, 3, 1])
    h, w = (out.size(x, [axis]) for axis in (2, 3))
    numbers = out.reshape(last, [-1, h, w, boxes, each], part="numbers")

    def part_of(first: int, end: int) -> str:
        return out.slice(numbers, [4], [first], [end], part="numbers")

    scores = out.node("Softmax", [part_of(5, each)], part="classes", axis=4) if layer.softmax else None
    scores = scores or out.node("Sigmoid", [part_of(5, each)], part="classes")
    object_ = out.node("Sigmoid", [part_of(4, 5)], part="object")
    scores = out.node("Mul", [scores, object_], part="class_scores")
    label = out.node("Cast", [out.node("ArgMax", [scores], part="best", axis=4, keepdims=1)], part="label", to=FLOAT)
    label = out.node("Add", [label, onnx.number(out, "first_label", 1)], part="label")
    confidence = out.reduce("ReduceMax", scores, (4,), part="confidence")
    sizes = out.node("Cast", [out.sizes([w, h])], part="size", to=FLOAT)
    centre = out.node("Add", [out.node("Sigmoid", [part_of(0, 2)], part="place"), _corners(out, bottom)], part="centre")
    centre = out.node("Div", [centre, sizes], part="centre")
    anchors = out.constant("anchors", layer.anchors[bottom].astype(np.float32))
    grown = out.node("Mul", [out.node("Exp", [part_of(2, 4)], part="growth"), anchors], part="grown")
    grown = out.node("Div", [grown, sizes], part="grown")
    extent = out.node("Mul", [grown, onnx.number(out, "half", 0.5)], part="extent")
    ends = [out.node(op, [centre, extent], part="corner") for op in ("Sub", "Add")]
    image = out.node("Mul", [confidence, onnx.number(out, "nought", 0)], part="image")
    return out.reshape(
        out.node("Concat", [image, label, confidence, *ends], part="row", axis=4), [-1, WIDTH], part="rows"
    )


def _corners(out: OnnxLayer, bottom: int) -> str:
    """x and y of each place, (h, w, 1, 2)."""
    columns, rows = onnx.grid(out, bottom)
    zero = onnx.number(out, "nought", 0)
    x = out.node("Add", [columns, out.node("Mul", [rows, zero], part="flat_rows")], part="x")
    y = out.node("Add", [rows, out.node("Mul", [columns, zero], part="flat_columns")], part="y")
    both = out.node("Concat", [x, y], part="places", axis=2)
    return out.node("Unsqueeze", [both, out.constant("anchor_axis", [2])], part="places")


def _kept(layer: Yolo, out: OnnxLayer, rows: str) -> str:
    """The rows (k, 7) of (1, m, 7) that stay."""
    confidence = out.slice(rows, [2], [2], [3], part="confidence")
    unlikely = out.node("LessOrEqual" if layer.above else "Less", [confidence, onnx.number(out, "least", layer.least)],
                        part="unlikely")  # fmt: skip
    order = confidence
    boxes = out.slice(rows, [2], [3], [7], part="boxes")
    if layer.centred:
        turn = out.reshape(confidence, [-1], part="flat")
        count = out.node("Shape", [turn], part="count")
        ends = [out.constant(part, np.int64(value)) for part, value in (("first", 0), ("step", 1))]
        scalar = out.node("Squeeze", [count, out.constant("axis", [0])], part="count")
        turn = out.node("Cast", [out.node("Range", [ends[0], scalar, ends[1]], part="turn")], part="turn", to=FLOAT)
        order = out.reshape(out.node("Neg", [turn], part="turn"), [1, -1, 1], part="turn")
        boxes = out.node("Clip", [boxes, *(onnx.number(out, part, end) for part, end in (("left", 0), ("right", 1)))],
                         part="inside")  # fmt: skip
    ranked = out.node("Where", [unlikely, out.constant("lowest", onnx.LOWEST), order], part="ranked")
    ranked = out.node("Squeeze", [ranked, out.constant("of_one", [2])], part="ranked")
    best, places = onnx.best_first(out, ranked, onnx.ALL)
    kept = onnx.suppressed(out, onnx.picked(out, boxes, places), best, threshold=layer.threshold,
                           least=float(onnx.LOWEST) / 2, keep_equal=False)  # fmt: skip
    chosen = out.node("GatherND", [places, kept], part="kept_places")
    return out.node("Gather", [out.node("Squeeze", [rows, out.constant("batch", [0])], part="every"), chosen],
                    part="kept_rows", axis=0)  # fmt: skip


def _as_centres(out: OnnxLayer, rows: str) -> str:
    """Rows with classes from 0 on, and centre and size for the corners."""

    def part_of(first: int, end: int) -> str:
        return out.slice(rows, [1], [first], [end], part="kept_numbers")

    label = out.node("Sub", [part_of(1, 2), onnx.number(out, "first_label", 1)], part="label")
    first, last = part_of(3, 5), part_of(5, 7)
    centre = out.node("Mul", [out.node("Add", [first, last], part="sum"), onnx.number(out, "half", 0.5)], part="centre")
    size = out.node("Sub", [last, first], part="size")
    return out.node("Concat", [part_of(0, 1), label, part_of(2, 3), centre, size], part="centred", axis=1)


def _nothing(out: OnnxLayer) -> str:
    """A row (image, -1, -1 ...) for each image."""
    image = out.reshape(onnx.count_up(out, out.size(out.bottoms[0], [0])), [-1, 1], part="images")
    zero = out.node("Mul", [image, onnx.number(out, "nought", 0)], part="zeros")
    rest = out.node("Add", [zero, out.constant("minus", np.full((1, WIDTH - 1), -1, np.float32))], part="minus_ones")
    return out.node("Concat", [image, rest], part="nothing", axis=1)
