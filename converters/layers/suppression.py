"""Non-maximum suppression with MS-CNN's and Cascade R-CNN's measures of overlap.

Sources: zhaoweicai/mscnn, src/caffe/util/math_functions.cpp, BoxIOU; zhaoweicai/cascade-rcnn, src/caffe/util/
bbox_util.cpp, JaccardOverlap and ApplyNMS.
"""

from __future__ import annotations

import numpy as np

from .spans import Array

MODES = ("IOU", "IOMU", "IOFU")
"""The area that two boxes share, as part of what both cover, of the smaller one, of the one that stays."""


def suppressed(boxes: Array, *, mode: str, threshold: float, wider: int) -> Array:
    """The places of the boxes (n, 4), best first, that no better one overlaps by more than `threshold`.

    `wider` is what a box is wider than x2 - x1: 0 in MS-CNN, 1 in Cascade R-CNN.
    """
    with np.errstate(all="ignore"):
        return _suppressed(boxes, mode, threshold, wider)


def _suppressed(boxes: Array, mode: str, threshold: float, wider: int) -> Array:
    size = boxes[:, 2:] - boxes[:, :2] + wider
    areas = np.where((boxes[:, 2:] >= boxes[:, :2]).all(1), size.prod(1), 0)
    alive = np.ones(len(boxes), bool)
    for first in range(len(boxes)):
        if not alive[first]:
            continue
        rest = first + 1 + np.flatnonzero(alive[first + 1 :])
        low = np.maximum(boxes[first, :2], boxes[rest, :2])
        high = np.minimum(boxes[first, 2:], boxes[rest, 2:])
        meet = (high > low).all(1)
        if wider:  # a common column of pixels counts in Cascade R-CNN, a common row does not
            meet |= (high[:, 0] == low[:, 0]) & (high[:, 1] > low[:, 1])
        common = np.where(meet, (high - low + wider).prod(1), 0)
        whole = {
            "IOU": areas[first] + areas[rest] - common,
            "IOMU": np.minimum(areas[first], areas[rest]),
            "IOFU": np.broadcast_to(areas[first], common.shape),
        }[mode]
        overlap = np.divide(common, whole, out=np.zeros_like(common), where=whole > 0)
        alive[rest[overlap > boxes.dtype.type(threshold)]] = False
    return np.flatnonzero(alive)
