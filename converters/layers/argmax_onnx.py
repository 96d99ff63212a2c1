"""The ONNX form of ArgMax: of equal values Caffe puts the last place first, ONNX's TopK the first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..net.onnx_form import FLOAT, OPENCV, Operand
from .base import kept
from .opencv_onnx import last_largest_channel

if TYPE_CHECKING:
    from ..net.onnx_form import OnnxLayer, Sizes

_BEFORE_ALL = -(2**63) + 1
"""The end of a slice that goes backwards through all of an axis."""


def argmax_to_onnx(out: OnnxLayer, *, top_k: int, axis: int | None, out_max_val: bool) -> None:
    x = out.bottoms[0]
    channels = x.shape[1] if len(x.shape) == 4 else None
    if out.target in OPENCV and axis in (1, -3) and channels is not None and top_k == 1 and not out_max_val:
        last_largest_channel(out, x, channels)
        return
    if axis is not None:
        found = _Largest(out, x, axis % len(x.shape), out.size(x, [axis]), top_k)
        out.top("Identity", [found.values() if out_max_val else found.places()])
        return
    total = out.size(x, range(1, len(x.shape))).product()
    rows = out.reshape(x, [*kept(x, 1), -1], part="rows")
    found = _Largest(out, rows, 1, total, top_k)
    places = found.places()
    if out_max_val:
        places = out.node("Concat", [places, found.values()], part="both", axis=1)
    out.reshape(places, [*kept(x, 1), 2 if out_max_val else 1, top_k, *[1] * (len(x.shape) - 3)])


@dataclass(frozen=True)
class _Largest:
    """The `top_k` largest values of `x` along an axis of this length, or their places."""

    out: OnnxLayer
    x: Operand
    axis: int
    length: Sizes
    top_k: int

    def values(self) -> str:
        if self.top_k == 1:
            return self.out.reduce("ReduceMax", self.x, [self.axis], part="values")
        inputs = [self.x, self.out.constant("k", [self.top_k])]
        return self.out.node_of_several("TopK", inputs, ("values", "values_places"), axis=self.axis)[0]

    def places(self) -> str:
        out = self.out
        if self.top_k == 1:
            number = out.node("ArgMax", [self.x], part="place", axis=self.axis, keepdims=1, select_last_index=1)
            return out.node("Cast", [number], part="places", to=FLOAT)
        flipped = self._backwards()
        back = out.node_of_several(
            "TopK", [flipped, out.constant("k", [self.top_k])], ("flipped_values", "from_the_end"), axis=self.axis
        )[1]
        number = out.node("Sub", [self.length - 1, back], part="place")
        return out.node("Cast", [number], part="places", to=FLOAT)

    def _backwards(self) -> str:
        """`x` from its end to its beginning, which OpenCV's classic engine cannot cut out."""
        out, known = self.out, self.length.known
        if out.target in OPENCV and known is not None:
            places = out.constant("backwards", list(range(known[0]))[::-1])
            return out.node("Gather", [self.x, places], part="flipped", axis=self.axis)
        ends = [[-1], [_BEFORE_ALL], [self.axis], [-1]]
        parts = [out.constant(part, ns) for part, ns in zip(("start", "end", "axis", "step"), ends, strict=True)]
        return out.node("Slice", [self.x, *parts], part="flipped")
