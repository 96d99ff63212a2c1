"""Boxes of detectors: decoding, overlaps and non-maximum suppression, as SSD's fork and py-faster-rcnn compute them.

A box is (xmin, ymin, xmax, ymax). `pixels` is what a box is wider than xmax - xmin: 0 for SSD's boxes, 1 where xmax is
the last pixel of the box, as in py-faster-rcnn. Sources: weiliu89/caffe (branch ssd), src/caffe/util/bbox_util.cpp;
rbgirshick/py-faster-rcnn, lib/fast_rcnn/bbox_transform.py and lib/nms/py_cpu_nms.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from ..arrays import to_array
from ..errors import NetError
from .lent import lent_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy import floating, ndarray
    from torch import Tensor

__all__ = [
    "CHOSEN",
    "CODE_TYPES",
    "CodeType",
    "box_areas",
    "box_overlaps",
    "clip_boxes",
    "decode_boxes",
    "decode_regions",
    "nms",
    "refuse_traces",
]

CodeType = Literal["CORNER", "CENTER_SIZE", "CORNER_SIZE"]
CODE_TYPES: tuple[CodeType, ...] = ("CORNER", "CENTER_SIZE", "CORNER_SIZE")
"""PriorBoxParameter.CodeType of SSD's caffe.proto; the first has number 1."""

CHOSEN = "boxes are chosen by their numbers"
"""Of a layer that `refuse_traces` says so of."""

BLOCK = 256
"""Candidates of one step of `nms`: their overlaps with each other are one matrix."""

KEPT = 4096
"""Kept boxes that are compared with a block at once, so that memory stays at KEPT x BLOCK overlaps."""


def refuse_traces(what: str) -> None:
    """NetError, beginning with these words, while torch.export records the net."""
    import torch

    if torch.compiler.is_compiling():
        raise NetError(
            f"{what}, which a trace of PyTorch cannot record",
            hint='export the net to ONNX, or name the blobs before it: CaffeNet(spec, outputs=["..."])',
        )


def decode_boxes(
    offsets: Tensor, priors: Tensor, variances: Tensor | None = None, *, code: CodeType = "CORNER"
) -> Tensor:
    """The boxes (..., n, 4) that `offsets` (..., n, 4) say relative to `priors` (n, 4), none of them clipped.

    `variances` (n, 4) scale the offsets; None where they are encoded in the offsets (variance_encoded_in_target).
    Source: bbox_util.cpp, DecodeBBox.
    """
    import torch

    if variances is not None:
        offsets = offsets * variances
    if code == "CORNER":
        return priors + offsets
    low, high = priors[..., :2], priors[..., 2:]
    size = high - low
    if code == "CORNER_SIZE":
        return priors + offsets * torch.cat((size, size), -1)
    centre = offsets[..., :2] * size + (low + high) / 2
    half = offsets[..., 2:].exp() * size / 2
    return torch.cat((centre - half, centre + half), -1)


def decode_regions(offsets: Tensor, boxes: Tensor) -> Tensor:
    """The boxes (n, 4 k) that the offsets (n, 4 k) of k classes say relative to `boxes` (n, 4) in pixels.

    Source: py-faster-rcnn, bbox_transform_inv: a box is xmax - xmin + 1 wide, and the result's xmax is not lessened.
    """
    import torch

    size = boxes[:, None, 2:] - boxes[:, None, :2] + 1
    each = offsets.unflatten(1, (-1, 4))
    centre = each[..., :2] * size + boxes[:, None, :2] + size / 2
    half = each[..., 2:].exp() * size / 2
    return torch.cat((centre - half, centre + half), -1).flatten(1)


def clip_boxes(boxes: Tensor, *, height: float, width: float) -> Tensor:
    """`boxes` (..., 4 k) with every corner moved into [0, width] x [0, height].

    py-faster-rcnn's clip_boxes is this with width - 1 and height - 1; SSD's ClipBBox with 1 and 1.
    """
    import torch

    each = boxes.unflatten(-1, (-1, 4))
    x, y = each[..., 0::2].clamp(0, width), each[..., 1::2].clamp(0, height)
    return torch.stack((x, y), -1).flatten(-3)


def box_areas(boxes: Tensor, *, pixels: float = 0) -> Tensor:
    """The area (...) of each box (..., 4); 0 where xmax < xmin or ymax < ymin (bbox_util.cpp, BBoxSize)."""
    import torch

    size = boxes[..., 2:] - boxes[..., :2]
    valid = (size >= 0).all(-1)
    return torch.where(valid, (size + pixels).prod(-1), size.new_zeros(()))


def box_overlaps(first: Tensor, second: Tensor, *, pixels: float = 0, of_smaller: bool = False) -> Tensor:
    """Intersection over union (n, m) of the boxes (n, 4) and (m, 4), or over the smaller; 0 where they do not meet.

    Source: bbox_util.cpp, JaccardOverlap of two NormalizedBBox: boxes that only touch, or of no area, do not meet.
    """
    import torch

    left, top, right, bottom = (column[:, None] for column in first.unbind(-1))
    other_left, other_top, other_right, other_bottom = second.unbind(-1)
    width = torch.minimum(right, other_right).sub_(torch.maximum(left, other_left)).add_(pixels)
    height = torch.minimum(bottom, other_bottom).sub_(torch.maximum(top, other_top)).add_(pixels)
    meet = (width > 0) & (height > 0)
    inside = width.mul_(height)
    areas = box_areas(first, pixels=pixels)[:, None], box_areas(second, pixels=pixels)
    whole = torch.minimum(*areas) if of_smaller else (areas[0] + areas[1]).sub_(inside)
    return inside.div_(whole).where(meet, inside.new_zeros(()))


def nms(
    boxes: Tensor,
    scores: Tensor,
    *,
    threshold: float,
    score_threshold: float | None = None,
    top_k: int = -1,
    eta: float = 1.0,
    pixels: float = 0,
    keep_equal: bool = True,
    of_smaller: bool = False,
) -> Tensor:
    """The indices (k,) of the boxes (n, 4) that stay, best score (n,) first; of equal scores the first in the bottom.

    A box goes where it overlaps one that stays by more than `threshold` (by as much, too, if not `keep_equal`, as in
    py-faster-rcnn's cpu_nms.pyx), as a part of their union or, with `of_smaller`, of the smaller (MTCNN's third stage).
    Only scores above `score_threshold` count, and of them the `top_k` best (-1: all). `eta` below 1 lessens a threshold
    above 0.5 with each box that stays. Source: bbox_util.cpp, ApplyNMSFast.
    """
    import torch

    refuse_traces("boxes are suppressed by their numbers")
    if score_threshold is None:
        order = torch.sort(scores, descending=True, stable=True).indices
    else:
        likely = (scores > score_threshold).nonzero().flatten()
        order = likely[torch.sort(scores[likely], descending=True, stable=True).indices]
    if top_k > -1:
        order = order[:top_k]
    boxes = boxes.detach()[order]
    compiled = lent_for(boxes)
    if compiled is not None:
        areas = box_areas(boxes, pixels=pixels).numpy()
        stay = compiled.suppress(
            boxes.numpy(), areas, threshold=threshold, eta=eta, pixels=pixels, keep_equal=keep_equal,
            of_smaller=of_smaller,
        )  # fmt: skip
        return order[torch.from_numpy(stay)]

    def overlaps(first: ndarray, low: int, high: int) -> ndarray:
        rows = boxes[torch.as_tensor(first, device=boxes.device)]
        return to_array(box_overlaps(rows, boxes[low:high], pixels=pixels, of_smaller=of_smaller))

    # Caffe's threshold is a float, as its overlaps are: 0.3 as a double is less than 3 / 10 as a float.
    limit: Any = to_array(boxes.new_tensor(threshold))[()]
    kept = _suppress(len(order), overlaps, threshold=limit, eta=eta, keep_equal=keep_equal)
    return order[torch.as_tensor(kept, dtype=torch.long, device=order.device)]


def _suppress(
    count: int,
    overlaps: Callable[[ndarray, int, int], ndarray],
    *,
    threshold: floating[Any],
    eta: float,
    keep_equal: bool,
) -> list[int]:
    """The positions that stay of `count` candidates in order of their scores.

    `overlaps(positions, low, high)` is the matrix of some candidates against those from low to high. For each
    candidate the largest overlap with a box that stays is all that counts, whatever the threshold is by then.
    """
    import numpy as np

    kept: list[int] = []
    for low in range(0, count, BLOCK):
        high = min(low + BLOCK, count)
        largest = np.full(high - low, -1, dtype=threshold.dtype)
        for begin in range(0, len(kept), KEPT):
            np.maximum(largest, overlaps(np.array(kept[begin : begin + KEPT]), low, high).max(0), out=largest)
        within = overlaps(np.arange(low, high), low, high)
        for position in range(high - low):
            overlap = largest[position]
            if overlap > threshold or (overlap == threshold and not keep_equal) or overlap != overlap:
                continue
            kept.append(low + position)
            np.maximum(largest, within[position], out=largest)
            if eta < 1 and threshold > 0.5:
                threshold = threshold * threshold.dtype.type(eta)
    return kept
