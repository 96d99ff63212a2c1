"""A level of SPP in ONNX for images of any size: the windows follow from the size, which no pooling operator can do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .pooling_onnx import weighted

if TYPE_CHECKING:
    from ..net.onnx_form import OnnxLayer, Operand, Sizes


MOST_BINS = 32
"""Windows along an axis that are cut out one by one."""


def level_of_any_size(out: OnnxLayer, method: str, bins: int, *, part: str) -> str:
    """(n, c, bins, bins): each window is cut out by itself and reduced.

    Along h and w the kernel is the size by `bins`, rounded up, and the padding is shared between both ends
    (spp_layer.cpp, GetPoolingParam). So the windows end within the padding, and AVE divides by the whole kernel.
    """
    x = out.bottoms[0]
    size = out.size(x, (2, 3))
    kernel = (size + (bins - 1)) // bins
    pad = (kernel * bins - size + 1) // 2
    area = out.node("Cast", [kernel.product()], part=f"{part}_area", to=1)
    rows = []
    for row in range(bins):
        band = _cut(out, x, 2, row, kernel[0], pad[0], part=part)
        cells = [_cut(out, band, 3, column, kernel[1], pad[1], part=part) for column in range(bins)]
        reduced = [_reduced(out, cell, method, area, part) for cell in cells]
        rows.append(out.node("Concat", reduced, part=f"{part}_row", axis=3) if bins > 1 else reduced[0])
    return out.node("Concat", rows, part=part, axis=2)


def _cut(out: OnnxLayer, x: Operand, axis: int, index: int, kernel: Sizes, pad: Sizes, *, part: str) -> str:
    """The window of this index along an axis; a slice takes an end beyond the blob for the blob's."""
    start = kernel * index - pad if index else out.sizes([0])
    return out.slice(x, [axis], start, kernel * (index + 1) - pad, part=f"{part}_cut")


def _reduced(out: OnnxLayer, cell: str, method: str, area: str, part: str) -> str:
    if method == "MAX":
        return out.reduce("ReduceMax", cell, (2, 3), part=f"{part}_max")
    total = out.reduce("ReduceSum", cell, (2, 3), part=f"{part}_sum")
    if method == "AVE":
        return out.node("Div", [total, area], part=f"{part}_mean")
    square = out.node("Mul", [cell, cell], part=f"{part}_square")
    return weighted(out, out.reduce("ReduceSum", square, (2, 3), part=f"{part}_squares"), total, part=f"{part}_ratio")
