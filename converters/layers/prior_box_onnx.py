"""The ONNX form of PriorBox: a constant where the sizes are known, and else worked out from them in the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..net.onnx_form import FLOAT, OPENCV

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..net.onnx_form import OnnxLayer, OnnxValue, Sizes
    from .base import Pair


class CellBoxes(Protocol):
    """The settings of a PriorBox (prior_box.py) that its form reads."""

    @property
    def boxes(self) -> tuple[tuple[float, float, float, float], ...]: ...
    @property
    def insets(self) -> tuple[float, ...]: ...
    @property
    def lower(self) -> tuple[float, ...]: ...
    @property
    def variance(self) -> tuple[float, ...]: ...
    @property
    def image(self) -> Pair | None: ...
    @property
    def step(self) -> tuple[float, float] | None: ...
    @property
    def offset(self) -> float: ...
    @property
    def clip(self) -> bool: ...
    @property
    def yx_order(self) -> bool: ...


def write_priors(layer: CellBoxes, out: OnnxLayer) -> None:
    """A constant where the sizes are known, and else worked out from them."""
    if out.target in OPENCV and None in (*out.bottoms[0].shape[2:], *out.bottoms[1].shape[2:]):
        _opencv(layer, out)
        return
    cells, image = _spatial(out, out.bottoms[0]), _spatial(out, out.bottoms[1])
    image = out.sizes(layer.image) if layer.image else image
    if cells.known and image.known:
        out.top("Identity", [out.constant("boxes", _priors(layer, cells.known, image.known))])
        return
    height, width = (out.node("Cast", [image[axis]], part="image", to=FLOAT) for axis in (0, 1))
    sides = out.node("Concat", [width, height, width, height], part="sides", axis=0)
    corners = out.node("Div", [out.constant("corners", np.array(layer.boxes)), sides], part="corners")
    inset = np.array(layer.insets)[:, None] * [1, 1, -1, -1]
    corners = out.node("Add", [corners, out.constant("inset", inset)], part="corners")
    if any(layer.lower):
        corners = out.node("Add", [corners, _lowered(layer, out, cells, height)], part="corners")
    y, x = (_centres(layer, out, cells, (height, width)[axis], axis) for axis in (0, 1))
    grid = out.sizes([cells[0], cells[1], 1, 1])
    y, x = (
        out.node("Expand", [out.reshape(part, dims, part="centre"), grid], part="centres")
        for part, dims in ((y, [-1, 1, 1, 1]), (x, [1, -1, 1, 1]))
    )
    centres = out.node("Concat", [x, y, x, y], part="centres", axis=3)
    boxes = out.node("Add", [centres, corners], part="boxes")
    if layer.yx_order:
        boxes = out.node("Gather", [boxes, out.constant("order", [1, 0, 3, 2])], part="boxes", axis=3)
    if layer.clip:
        ends = (out.constant(part, np.float32(value)) for part, value in (("least", 0), ("most", 1)))
        boxes = out.node("Clip", [boxes, *ends], part="boxes")
    count = cells.product() * len(layer.boxes)
    variance = out.constant("variance", np.array([layer.variance]))
    variance = out.node("Expand", [variance, out.sizes([count, 4])], part="variances")
    flat = [out.reshape(part, [1, 1, -1], part="flat") for part in (boxes, variance)]
    out.top("Concat", flat, axis=1)


def _spatial(out: OnnxLayer, value: OnnxValue) -> Sizes:
    """(h, w) of a blob of up to four axes."""
    axes = len(value.shape)
    return out.sizes([out.size(value, [axis]) if axis < axes else 1 for axis in (2, 3)])


def _lowered(layer: CellBoxes, out: OnnxLayer, cells: Sizes, height: str) -> str:
    """By how much lower each box (boxes, 4) stands, in parts of the image; `lower` is in cells."""
    step = layer.step[0] if layer.step is not None else 1
    by = out.constant("lower", np.array(layer.lower)[:, None] * np.array([0, step, 0, step], np.float64))
    whole = height if layer.step is not None else out.node("Cast", [cells[0]], part="count", to=FLOAT)
    return out.node("Div", [by, whole], part="lower")


def _centres(layer: CellBoxes, out: OnnxLayer, cells: Sizes, side: str, axis: int) -> str:
    """The centres of the cells along an axis, as parts of the image."""
    count = out.reshape(cells[axis], [], part="count")
    ends = (out.constant(part, np.int64(value)) for part, value in (("first", 0), ("next", 1)))
    first, following = ends
    index = out.node("Cast", [out.node("Range", [first, count, following], part="cells")], part="cells", to=FLOAT)
    index = out.node("Add", [index, out.constant("offset", np.float32(layer.offset))], part="cells")
    if layer.step is None:
        return out.node("Div", [index, out.node("Cast", [cells[axis]], part="count", to=FLOAT)], part="centre")
    step = out.constant("step", np.float32(layer.step[axis]))
    return out.node("Div", [out.node("Mul", [index, step], part="cells"), side], part="centre")


def _priors(layer: CellBoxes, cells: Sequence[int], image: Sequence[int]) -> np.ndarray:
    """The top of a PriorBox, (1, 2, priors * 4)."""
    steps = layer.step or [size / count for size, count in zip(image, cells, strict=True)]
    y, x = ((np.arange(count) + layer.offset) * step for count, step in zip(cells, steps, strict=True))
    x, y = np.broadcast_arrays(x[None], y[:, None])
    boxes = np.stack([x, y, x, y], -1)[:, :, None] + np.array(layer.boxes)
    boxes = boxes + np.array(layer.lower)[:, None] * [0, steps[0], 0, steps[0]]
    boxes = boxes / (image[1], image[0], image[1], image[0]) + np.array(layer.insets)[:, None] * [1, 1, -1, -1]
    boxes = boxes[..., [1, 0, 3, 2]] if layer.yx_order else boxes
    boxes = np.clip(boxes, 0, 1) if layer.clip else boxes
    return np.stack([boxes.ravel(), np.tile(layer.variance, boxes.size // 4)])[None].astype(np.float32)


def _opencv(layer: CellBoxes, out: OnnxLayer) -> None:
    """OpenCV's PriorBox with the width and height of every box, which stand around the centre of their cell."""
    boxes = np.array(layer.boxes)
    if layer.image is not None:
        raise out.refuse("OpenCV's PriorBox has no img_size", hint="fix the size with --size HxW")
    if not np.array_equal(boxes[:, :2], -boxes[:, 2:]) or any(layer.insets + layer.lower) or layer.yx_order:
        raise out.refuse("OpenCV's PriorBox has no such boxes", hint="fix the size with --size HxW")
    sides: dict[str, Any] = {"width": (2 * boxes[:, 2]).tolist(), "height": (2 * boxes[:, 3]).tolist()}
    if layer.step is not None:
        sides |= {"step_h": layer.step[0], "step_w": layer.step[1]}
    settings: dict[str, Any] = {
        "variance": list(layer.variance),
        "offset": layer.offset,
        "clip": int(layer.clip),
        "flip": 0,
    }
    out.top("PriorBox", out.bottoms, **sides, **settings)
