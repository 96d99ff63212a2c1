"""The ONNX forms of layers that read regions bin by bin: weights of rows and columns, and two products of matrices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..net.onnx_form import FLOAT
from .boxes_onnx import count_up, number, refuse_in_opencv

if TYPE_CHECKING:
    from ..net.onnx_form import OnnxLayer

FARTHEST = float(1 << 24)
"""Coordinates are cut here, as in regions.py."""


def regions_to_onnx(out: OnnxLayer, *, pad_ratio: float = 0) -> tuple[str, str]:
    """The image (n, 1) and the corners (n, 4) of a layer's regions (second bottom), moved outwards by `pad_ratio`."""
    rows = out.reshape(out.bottoms[1], [-1, 5], part="rows")
    image = out.slice(rows, [1], [0], [1], part="image")
    if not pad_ratio:
        return image, out.slice(rows, [1], [1], [5], part="corners")
    first, last = out.slice(rows, [1], [1], [3], part="first"), out.slice(rows, [1], [3], [5], part="last")
    size = out.node("Sub", [last, first], part="difference")
    size = out.node("Add", [size, out.constant("one", np.float32(1))], part="size")
    pad = out.node("Mul", [size, out.constant("pad_ratio", np.float32(pad_ratio))], part="pad")
    outer = [out.node("Sub", [first, pad], part="outer_first"), out.node("Add", [last, pad], part="outer_last")]
    return image, out.node("Concat", outer, part="corners", axis=1)


def bilinear(out: OnnxLayer, points: str, *, axis: int, margin: float) -> str:
    """`roi_align.bilinear` along an axis of the first bottom: weights (..., size) of points (..., 1)."""
    size = out.node("Cast", [out.size(out.bottoms[0], [axis])], part="size", to=FLOAT)
    one, nought = number(out, "one", 1), number(out, "nought", 0)
    last = out.node("Sub", [size, one], part="last_place")
    upper = size if margin == 1 else out.node("Add", [last, number(out, "margin", margin)], part="upper")
    low = out.node("GreaterOrEqual", [points, number(out, "margin", -margin)], part="from")
    inside = out.node("And", [low, out.node("LessOrEqual", [points, upper], part="to")], part="inside")
    near = out.node("Min", [out.node("Max", [points, nought], part="near"), last], part="near")
    places = count_up(out, out.size(out.bottoms[0], [axis]))
    apart = out.node("Abs", [out.node("Sub", [near, places], part="apart")], part="apart")
    hat = out.node("Max", [out.node("Sub", [one, apart], part="hat"), nought], part="hat")
    return out.node("Mul", [hat, out.node("Cast", [inside], part="inside", to=FLOAT)], part="weights")


@dataclass(frozen=True)
class Sides:
    """The places (r, 1, 1) where the regions begin and end along an axis (2: rows), and the blob's length, a number."""

    first: str
    last: str
    axis: int
    size: str


class RegionReader:
    """The regions of a layer on their way to bins; all methods put operators into the layer's form."""

    def __init__(self, out: OnnxLayer, *, pad_ratio: float = 0.0) -> None:
        refuse_in_opencv(out)
        self.out = out
        self.image, corners = regions_to_onnx(out, pad_ratio=pad_ratio)
        # Not a number counts as 0.
        real = out.node("Equal", [corners, corners], part="real")
        corners = out.node("Where", [real, corners, number(out, "nought", 0)], part="corners")
        self.corners = self.cut(corners)

    def cut(self, value: str) -> str:
        ends = [number(self.out, part, end) for part, end in (("nearest", -FARTHEST), ("farthest", FARTHEST))]
        return self.out.node("Clip", [value, *ends], part="cut")

    def op(self, op: str, a: str, b: str | float) -> str:
        return self.out.node(op, [a, b if isinstance(b, str) else number(self.out, "factor", b)], part=op.lower())

    def rounded(self, value: str) -> str:
        """Whole numbers, halves away from zero."""
        out = self.out
        magnitude = out.node("Abs", [value], part="abs")
        whole = out.node("Floor", [magnitude], part="whole")
        up = self.where(number(out, "one", 1), "GreaterOrEqual", self.op("Sub", magnitude, whole), 0.5)
        return self.op("Mul", self.op("Add", whole, up), out.node("Sign", [value], part="sign"))

    def sides(self, corners: str, axis: int) -> Sides:
        out = self.out
        first, last = (
            out.reshape(out.slice(corners, [1], [start], [start + 1], part="side"), [-1, 1, 1], part="side")
            for start in ((0, 2) if axis == 3 else (1, 3))
        )
        size = out.node("Cast", [out.size(out.bottoms[0], [axis])], part="size", to=FLOAT)
        return Sides(first, last, axis, size)

    def bins(self, count: int, begin: float = 0.0) -> str:
        """The numbers of bins (1, count, 1), plus `begin`."""
        places = np.arange(count, dtype=np.float32).reshape(1, count, 1) + np.float32(begin)
        return self.out.constant("bins", places)

    def places(self, axis: int) -> str:
        """The numbers of the blob's places (size)."""
        return count_up(self.out, self.out.size(self.out.bottoms[0], [axis]))

    def where(self, weights: str, op: str, a: str, b: str | float) -> str:
        """Weights where a comparison holds, else 0."""
        true = self.out.node("Cast", [self.op(op, a, b)], part="true", to=FLOAT)
        return self.op("Mul", weights, true)

    def spans(self, sides: Sides, length: str, count: int) -> str:
        """The weights (r, count, size) of the means over the whole places of each bin."""
        out = self.out
        width = self.op("Div", length, float(count))
        ends = []
        for begin, op in ((0.0, "Floor"), (1.0, "Ceil")):
            place = self.op("Add", self.op("Mul", self.bins(count, begin), width), sides.first)
            place = out.node(op, [place], part=op.lower())
            place = out.node("Max", [place, number(out, "nought", 0)], part="from")
            ends.append(out.node("Min", [place, sides.size], part="to"))
        places = self.places(sides.axis)
        inside = out.node(
            "And",
            [self.op("GreaterOrEqual", places, ends[0]), self.op("Less", places, ends[1])],
            part="inside",
        )
        number_of = out.node("Max", [self.op("Sub", ends[1], ends[0]), number(out, "one", 1)], part="number")
        return self.op("Div", out.node("Cast", [inside], part="inside", to=FLOAT), number_of)

    def means(self, sides: Sides, count: int, sampling: int) -> str:
        """`roi_align.mean_weights` of so many points in each bin."""
        length = self.out.node(
            "Max", [self.op("Sub", sides.last, sides.first), number(self.out, "one", 1)], part="length"
        )
        width = self.op("Div", length, float(count))
        inner = np.tile((np.arange(sampling, dtype=np.float32) + np.float32(0.5)), count).reshape(1, -1, 1)
        bins = self.op("Mul", self.repeated(count, sampling), width)
        step = self.op("Div", self.op("Mul", self.out.constant("inner", inner), width), float(sampling))
        points = self.op("Add", self.op("Add", sides.first, bins), step)
        return self.averaged(bilinear(self.out, points, axis=sides.axis, margin=1), sides, count, sampling)

    def repeated(self, count: int, each: int) -> str:
        return self.out.constant("bin_of", np.repeat(np.arange(count, dtype=np.float32), each).reshape(1, -1, 1))

    def averaged(self, weights: str, sides: Sides, count: int, each: int) -> str:
        """Weights (r, count * each, size) as means of `each`: (r, count, size)."""
        size = self.out.size(self.out.bottoms[0], [sides.axis])
        split = self.out.reshape(weights, [-1, count, each, size], part="split")
        return self.out.reduce("ReduceMean", split, (2,), keepdims=False, part="mean")

    # Products

    def with_image(self, rows: str) -> str:
        """Weights of rows (r, bins, h) as those of the rows of all images one below the other, (r, bins, n * h)."""
        out = self.out
        images = out.size(out.bottoms[0], [0])
        if images.known == (1,):
            return rows
        own = out.node("Equal", [count_up(out, images), self.image], part="own_image")
        own = out.node("Unsqueeze", [out.node("Cast", [own], part="own_image", to=FLOAT), out.constant("axes", [1, 3])],
                       part="own_image")  # fmt: skip
        rows = out.node("Unsqueeze", [rows, out.constant("image_axis", [2])], part="rows")
        count = out.size(out.bottoms[0], [0, 2]).product()
        bins = out.slice(out.node("Shape", [rows], part="shape"), [0], [0], [2], part="dims")
        dims = out.node("Concat", [bins, count], part="dims", axis=0)
        return out.node("Reshape", [out.node("Mul", [rows, own], part="rows"), dims], part="rows")

    def read(self, rows: str, columns: str, grid: Sequence[int], channels: int) -> None:
        """The top: each channel read with the weights of rows (r, gh, h) and columns (r, gw, w)."""
        out = self.out
        x = self._one_below_the_other([channels])
        rows = out.node("Unsqueeze", [self.with_image(rows), out.constant("channel", [1])], part="rows")
        columns = out.node("Transpose", [columns], part="columns", perm=[0, 2, 1])
        columns = out.node("Unsqueeze", [columns, out.constant("channel", [1])], part="columns")
        band = out.node("MatMul", [rows, x], part="band")
        out.top("MatMul", [band, columns])

    def read_own(self, rows: str, columns: str, group: int, outputs: int) -> None:
        """The top: each bin from a channel of its own, of outputs * group^2 channels."""
        out = self.out
        x = self._one_below_the_other([outputs, group, group])
        rows = out.node("Unsqueeze", [self.with_image(rows), out.constant("for_rows", [1, 3, 4])], part="rows")
        columns = out.node("Unsqueeze", [columns, out.constant("for_columns", [1, 2, 5])], part="columns")
        band = out.node("MatMul", [rows, x], part="band")
        cells = out.node("MatMul", [band, columns], part="cells")
        out.reshape(cells, [-1, outputs, group, group])

    def _one_below_the_other(self, channels: list[int]) -> str:
        """The first bottom as (1, *channels, n * h, w)."""
        out = self.out
        x = out.bottoms[0]
        n, h, w = (out.size(x, [axis]) for axis in (0, 2, 3))
        if n.known == (1,):
            return out.reshape(x, [1, *channels, h, w], part="maps")
        axes = len(channels)
        split = out.reshape(x, [n, *channels, h, w], part="split")
        turned = out.node("Transpose", [split], part="turned", perm=[*range(1, axes + 1), 0, axes + 1, axes + 2])
        return out.reshape(turned, [1, *channels, n * h, w], part="maps")
