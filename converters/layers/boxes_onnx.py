"""Boxes in ONNX: what boxes.py, box_layer.py and suppression.py compute, by standard operators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..net.onnx_form import FLOAT, INT64, OPENCV

if TYPE_CHECKING:
    from ..net.onnx_form import OnnxLayer, Sizes

    Operand = str | Sizes

LOWEST = np.float32(np.finfo(np.float32).min)
ALL = 1 << 30
"""More than there are boxes."""


def refuse_in_opencv(out: OnnxLayer) -> None:
    """Raise for a target that has no operators whose tops are as many as a run finds."""
    if out.target in OPENCV:
        raise out.refuse(
            "OpenCV has no operator whose number of rows only a run tells",
            hint="end the net before it with --outputs and choose the boxes in your program",
        )


def number(out: OnnxLayer, part: str, value: float) -> str:
    """A float32 constant."""
    return out.constant(part, np.float32(value))


def rows_of(out: OnnxLayer, bottom: int, width: int, *, part: str) -> str:
    """A bottom as rows of so many numbers."""
    return out.reshape(out.bottoms[bottom], [-1, width], part=part)


def halves(out: OnnxLayer, boxes: str) -> tuple[str, str]:
    """(..., 2) and (..., 2) of (..., 4); `boxes` have one axis before the last."""
    return out.slice(boxes, [-1], [0], [2], part="low"), out.slice(boxes, [-1], [2], [4], part="high")


def decode_regions(out: OnnxLayer, offsets: str, boxes: str) -> str:
    """`boxes.decode_regions`: (..., 4) of offsets and boxes (..., 4)."""
    one, half = number(out, "one", 1), number(out, "half", 0.5)
    low, high = halves(out, boxes)
    size = out.node("Add", [out.node("Sub", [high, low], part="size"), one], part="size")
    shift, growth = halves(out, offsets)
    middle = out.node("Add", [out.node("Mul", [shift, size], part="shift"), low], part="centre")
    centre = out.node("Add", [middle, out.node("Mul", [size, half], part="half_size")], part="centre")
    grown = out.node("Mul", [out.node("Exp", [growth], part="growth"), size], part="grown")
    extent = out.node("Mul", [grown, half], part="extent")
    return out.node("Concat", [out.node(op, [centre, extent], part="corner") for op in ("Sub", "Add")],
                    part="boxes", axis=-1)  # fmt: skip


def with_prior(out: OnnxLayer, offsets: str, boxes: str, mean: Sequence[float], std: Sequence[float]) -> str:
    """`box_layer.with_prior`: boxes (n, k, 4) of offsets (n, k, 4) and boxes (n, 1, 4)."""
    one, half = number(out, "one", 1), number(out, "half", 0.5)
    scaled = out.node("Mul", [offsets, out.constant("std", np.array(std, np.float32))], part="scaled")
    moved = out.node("Add", [scaled, out.constant("mean", np.array(mean, np.float32))], part="moved")
    low, high = halves(out, boxes)
    size = out.node("Add", [out.node("Sub", [high, low], part="size"), one], part="size")
    centre = out.node("Mul", [out.node("Add", [high, low], part="middle"), half], part="centre")
    shift, growth = halves(out, moved)
    wide = out.node("Mul", [size, out.node("Exp", [growth], part="growth")], part="wide")
    less = out.node("Sub", [wide, one], part="less")
    middle = out.node("Add", [out.node("Mul", [shift, size], part="shift"), centre], part="middle")
    first = out.node("Sub", [middle, out.node("Mul", [less, half], part="extent")], part="first")
    last = out.node("Sub", [out.node("Add", [first, wide], part="last"), one], part="last")
    return out.node("Concat", [first, last], part="boxes", axis=-1)


def image_ends(out: OnnxLayer, im_info: int) -> str:
    """The last pixel x, y, x, y (4) of an image whose height and width are the first numbers of a bottom."""
    flat = out.reshape(out.bottoms[im_info], [-1], part="im_info")
    ends = out.node("Sub", [out.slice(flat, [0], [0], [2], part="image"), number(out, "one", 1)], part="ends")
    ends = out.node("Max", [ends, number(out, "zero", 0)], part="ends")
    return out.node("Gather", [ends, out.constant("corners", [1, 0, 1, 0])], part="ends", axis=0)


def clipped(out: OnnxLayer, boxes: str, ends: str) -> str:
    """Boxes (..., 4) with every corner moved into the image."""
    return out.node("Max", [out.node("Min", [boxes, ends], part="below"), number(out, "zero", 0)], part="inside")


def with_image(out: OnnxLayer, boxes: str, image: str, *, index: int = 0) -> str:
    """The top: boxes (n, 4) with the number of their image (n, 1) before them."""
    return out.top("Concat", [image, boxes], index=index, axis=1)


def zeros_like_column(out: OnnxLayer, boxes: str) -> str:
    """Zeros (n, 1) for boxes (n, 4)."""
    return out.node("Mul", [out.slice(boxes, [1], [0], [1], part="column"), number(out, "nought", 0)], part="image")


def best_first(out: OnnxLayer, scores: str, most: int, *, axis: int = 1) -> tuple[str, str]:
    """The `most` best scores along an axis, and their places; of equal ones the first comes first."""
    count = length(out, scores, axis)
    if most < ALL:
        count = out.node("Min", [count, out.constant("most", [most])], part="count")
    best, places = out.node_of_several("TopK", [scores, count], ["best", "places"], axis=axis)
    return best, places


def last_first(out: OnnxLayer, value: str) -> str:
    """A value backwards along axis 1, so that of equal scores `best_first` takes the last one first."""
    ends = [
        out.constant(part, [end]) for part, end in (("last", -1), ("before_first", -ALL), ("axis", 1), ("step", -1))
    ]
    return out.node("Slice", [value, *ends], part="last_first")


def length(out: OnnxLayer, value: str, axis: int) -> str:
    """The length of an axis, an int64 vector of one number."""
    return out.slice(out.node("Shape", [value], part="shape"), [0], [axis], [axis + 1], part="length")


def picked(out: OnnxLayer, boxes: str, places: str) -> str:
    """The boxes (n, k, 4) at places (n, k) of boxes (n, m, 4)."""
    index = out.node("Unsqueeze", [places, out.constant("last", [2])], part="index")
    index = out.node("Expand", [index, out.constant("wide", [1, 1, 4])], part="index")
    return out.node("GatherElements", [boxes, index], part="picked", axis=1)


def suppressed(
    out: OnnxLayer,
    boxes: str,
    scores: str,
    *,
    threshold: float,
    pixels: float = 0,
    most: int = ALL,
    least: float | None = None,
    keep_equal: bool = True,
) -> str:
    """The places (k, 2) of boxes (n, m, 4) that stay, image and box, image after image and best first.

    Boxes are upright; those of a score (n, m) that is not above `least` do not count. `most` are kept of an image.
    """
    limit = np.float32(threshold)
    limit = limit if keep_equal else np.nextafter(limit, np.float32(-1))
    if pixels:
        low, high = halves(out, boxes)
        high = out.node("Add", [high, number(out, "pixels", pixels)], part="beyond")
        boxes = out.node("Concat", [low, high], part="whole", axis=-1)
    chosen = out.node(
        "NonMaxSuppression",
        [
            boxes,
            out.node("Unsqueeze", [scores, out.constant("class", [1])], part="of_class"),
            out.constant("most_boxes", [most]),
            out.constant("overlap", np.clip(np.array([limit]), 0, 1)),
            None if least is None else out.constant("least", np.array([least], np.float32)),
        ],
        part="chosen",
    )
    return out.node("Gather", [chosen, out.constant("columns", [0, 2])], part="kept", axis=1)


def column(out: OnnxLayer, places: str, place: int) -> str:
    """A column of int64 places (k, 2) as numbers (k, 1)."""
    ints = out.slice(places, [1], [place], [place + 1], part="column")
    return out.node("Cast", [ints], part="column", to=FLOAT)


def flat(out: OnnxLayer, x: str, each: int) -> str:
    """A bottom's numbers (n, c, h, w) as (n, places * c / each, each), the anchors of a place together."""
    last = out.node("Transpose", [x], part="by_place", perm=[0, 2, 3, 1])
    images = out.slice(out.node("Shape", [x], part="shape"), [0], [0], [1], part="images")
    dims = out.node("Concat", [images, out.constant("each", [-1, each])], part="dims", axis=0)
    return out.node("Reshape", [last, dims], part="by_place")


def grid(out: OnnxLayer, bottom: int, *, offset: float = 0.0, stride: float = 1.0) -> tuple[str, str]:
    """The places of a bottom's columns (w, 1) and rows (h, 1, 1), `stride` pixels apart."""
    found = []
    for axis, shape in ((3, [-1, 1]), (2, [-1, 1, 1])):
        places = count_up(out, out.size(out.bottoms[bottom], [axis]))
        if offset:
            places = out.node("Add", [places, number(out, "offset", offset)], part="shifted")
        places = out.node("Mul", [places, number(out, "stride", stride)], part="pixels")
        found.append(out.reshape(places, shape, part="grid"))
    return found[0], found[1]


def count_up(out: OnnxLayer, size: Sizes) -> str:
    """0, 1, 2 ... as float32, `size` of them."""
    if size.known is not None:
        return out.constant("count", np.arange(size.known[0], dtype=np.float32))
    ends = [out.constant(part, np.int64(value)) for part, value in (("first", 0), ("step", 1))]
    places = out.node("Range", [ends[0], out.reshape(size, [], part="end"), ends[1]], part="count")
    return out.node("Cast", [places], part="count", to=FLOAT)


def none_of(out: OnnxLayer, rows: str) -> str:
    """1 where there is no row, else 0: an int64 vector of one number."""
    none = out.node("Equal", [length(out, rows, 0), out.constant("zero_rows", [0])], part="none")
    return out.node("Cast", [none], part="none", to=INT64)


def or_if_none(out: OnnxLayer, rows: str, instead: str) -> str:
    """`rows`, or where there is none the rows `instead`."""
    count = out.node("Mul", [none_of(out, rows), length(out, instead, 0)], part="instead")
    spare = out.node("Slice", [instead, out.constant("begin", [0]), count, out.constant("axis", [0])], part="if_none")
    return out.node("Concat", [rows, spare], part="rows_or_none", axis=0)
