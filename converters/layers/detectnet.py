"""DetectNet's Python:ClusterDetections: boxes that cells of a grid vote for, grouped as OpenCV groups them.

Sources: NVIDIA/caffe, python/caffe/layers/detectnet/clustering.py; opencv/opencv, modules/objdetect/src/
cascadedetect.cpp, groupRectangles and SimilarRects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..net.reach import EVERYTHING, Reach
from .base import Layer, as_image, refuse, register_layer
from .boxes import refuse_traces
from .regions import FARTHEST
from .spans import Array

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec, Shape
    from ..net.onnx_form import OnnxLayer


@register_layer("Python:ClusterDetections")
@dataclass(frozen=True)
class ClusterDetections(Layer):
    """For each class the boxes (n, most, 5) of each image: x1, y1, x2, y2 and the logarithm of their votes, then zeros.

    Bottoms are the coverage (n, classes, h, w) of a grid's cells and each cell's box (n, 4, h, w), relative to the
    cell. Cells from `least` coverage on vote; a group of more than `votes` boxes that are alike up to `eps` of their
    size is one, their mean, if it is `height` high. Numbers are rounded to float16, as there.
    """

    size: tuple[int, int]
    stride: int
    least: float
    votes: int
    eps: float
    height: int
    classes: int = 1
    most: int = 50

    bottom_count: ClassVar[tuple[int, float]] = (2, 2)

    @classmethod
    def parse(cls, spec: LayerSpec) -> ClusterDetections:
        text = spec.message.python_param.param_str
        try:
            wide, high, stride, least, votes, eps, height, *more = text.split(",")
            layer = cls(
                (int(high), int(wide)), int(stride), float(least), int(votes), float(eps), int(height), *map(int, more)
            )
        except (TypeError, ValueError):
            raise refuse(
                spec,
                f"param_str {text!r}: expected the image's width and height, stride, coverage, votes, likeness, height",
                hint="then the number of classes and of boxes, if they are not 1 and 50; all with commas between them",
            ) from None
        if min(*layer.size, layer.stride, layer.classes, layer.most) < 1 or min(layer.size) < layer.stride:
            raise refuse(
                spec, f"param_str {text!r}: sizes, classes and boxes are at least 1, and a cell fits the image"
            )
        return layer

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        (n, classes, h, w), boxes = as_image(bottoms[0]), as_image(bottoms[1])
        if classes != self.classes or boxes != (n, 4, h, w):
            raise ValueError(f"expected the coverage (n, {self.classes}, h, w) of a grid and boxes (n, 4, h, w)")
        return ((n, self.most, 5),) * self.classes

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return EVERYTHING

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        import torch

        refuse_traces("boxes are grouped by their numbers")
        coverage, boxes = (bottom.detach().cpu().float().numpy() for bottom in bottoms)
        tops = []
        for label in range(self.classes):
            top = np.zeros((len(coverage), self.most, 5), np.float32)
            for image in range(len(coverage)):
                rows = self._image(coverage[image, label], boxes[image])[: self.most]
                top[image, : len(rows)] = rows
            tops.append(torch.from_numpy(top).to(bottoms[0]))
        return tuple(tops)

    def _image(self, coverage: Array, boxes: Array) -> Array:
        """The rows of one class of one image."""
        down, across = (length // self.stride for length in self.size)
        y, x = np.nonzero(coverage[: min(down, across)] >= np.float32(self.least))
        corner = np.stack([x * (self.size[1] // across), y * (self.size[0] // down)] * 2, 1)
        votes = boxes[:, y, x].T + corner
        if not votes.any():
            return np.zeros((0, 5), np.float16)
        whole = np.nan_to_num(votes, nan=0).clip(-FARTHEST, FARTHEST).astype(np.int64)
        rows = [
            [*rectangle, log(count)]
            for rectangle, count in grouped(whole, self.votes, self.eps)
            if rectangle[3] - rectangle[1] >= self.height
        ]
        return np.array(rows, np.float16).reshape(-1, 5)

    def to_onnx(self, out: OnnxLayer) -> None:
        raise out.refuse(
            "ClusterDetections groups boxes as OpenCV's groupRectangles does, for which ONNX has no operator",
            hint="end the net before it with --outputs, and group the boxes in your program",
        )


def grouped(rectangles: Array, votes: int, eps: float) -> list[tuple[list[int], int]]:
    """The mean of each group of more than `votes` alike rectangles (n, 4) of whole numbers, with its number of members.

    The four numbers count as x, y, width and height, whatever they are. A group inside a larger one is left out.
    """
    if votes <= 0:
        return [(row, 1) for row in rectangles.tolist()]
    means: list[list[int]] = []
    counts: list[int] = []
    left = np.ones(len(rectangles), bool)
    for first in range(len(rectangles)):
        if not left[first]:
            continue
        members, added = np.zeros(len(rectangles), bool), [first]
        while added:
            members[added] = True
            left[added] = False
            near = np.zeros(len(rectangles), bool)
            for each in added:
                near |= _alike(rectangles[each], rectangles, eps)
            added = np.flatnonzero(near & left).tolist()
        count = int(members.sum())
        scale = np.float32(1) / np.float32(count)
        means.append(np.rint(rectangles[members].sum(0).astype(np.float32) * scale).astype(int).tolist())
        counts.append(count)
    large = [i for i, count in enumerate(counts) if count > votes]
    return [
        (means[i], counts[i])
        for i in large
        if not any(i != j and _inside(means[i], counts[i], means[j], counts[j], eps) for j in large)
    ]


def _alike(one: Array, others: Array, eps: float) -> Array:
    delta = eps * (np.minimum(one[2], others[:, 2]) + np.minimum(one[3], others[:, 3])) * 0.5
    first, last = np.abs(others[:, :2] - one[:2]), np.abs(others[:, :2] + others[:, 2:] - one[:2] - one[2:])
    alike: Array = (np.hstack([first, last]) <= delta[:, None]).all(1)
    return alike


def _inside(one: Sequence[int], votes: int, other: Sequence[int], more: int, eps: float) -> bool:
    """True where a rectangle lies in another one that has more votes, or has few itself."""
    dx, dy = (int(np.rint(side * eps)) for side in other[2:])
    within = one[0] >= other[0] - dx and one[1] >= other[1] - dy
    within = within and one[0] + one[2] <= other[0] + other[2] + dx and one[1] + one[3] <= other[1] + other[3] + dy
    return within and (more > max(3, votes) or votes < 3)
