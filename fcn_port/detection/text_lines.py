"""CTPN: slices of text, 16 pixels wide, joined to lines (Tian et al., 2016), with what its project does around the net.

Source: tianzhi0549/CTPN, src/detectors.py (TextDetector), src/text_proposal_connector.py, src/
text_proposal_graph_builder.py and tools/cfg.py; without side refinement, as there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from converters.layers import boxes as geometry
from converters.net import NetSpec
from weights.records import InputRecipe

from ..predict.resizing import resize
from .feeding import INFO, blobs_of, kind_of
from .raw import Raw, clipped
from .resizing import fitted

if TYPE_CHECKING:
    from ..nets import Net

SHORTER, LONGER = 600, 1000
"""The size of an image's shorter side, and the most for its longer (SCALE and MAX_SCALE)."""
LEAST_SLICE, LEAST_LINE, OVERLAP = 0.7, 0.7, 0.3
"""The score above which a slice and a line count; of two that overlap by as much only the better one stays."""
GAP, LEAST_SHARED, LEAST_ALIKE = 50, 0.7, 0.7
"""Pixels from a slice to the next of its line, and what they share in y and how alike they are in height."""
LEAST_SHAPE, LEAST_WIDTH = 1.2, 32
"""A line is wider than so many of its heights and than so many pixels (MIN_RATIO; MIN_NUM_PROPOSALS slices)."""
BLOBS = ("rois", "scores")
TEXT = 1


def finds_text(spec: NetSpec) -> bool:
    """True for a net whose regions are CTPN's, of the Python module text_proposal_layer."""
    modules = (layer.message.python_param.module for layer in spec.layers if kind_of(layer) == "Python:ProposalLayer")
    made = {top for layer in spec.layers for top in layer.tops}
    return INFO in spec.inputs and made.issuperset(BLOBS) and any("text_proposal" in module for module in modules)


def from_text(net: Net, image: np.ndarray, recipe: InputRecipe) -> Iterator[Raw]:
    """The lines of text in an image (h, w, 3) uint8 RGB."""
    import torch

    h, w = image.shape[:2]
    size, scale = fitted((h, w), shorter=SHORTER, longer=LONGER)
    boxes, scores = blobs_of(net, resize(image, size), recipe, BLOBS, scales=(scale, scale))
    kept = geometry.nms(boxes, scores[:, 0], threshold=OVERLAP, score_threshold=LEAST_SLICE, pixels=1, keep_equal=False)
    lines = text_lines(boxes[kept].numpy(), scores[kept, 0].numpy(), size)
    kept = geometry.nms(
        torch.from_numpy(lines[:, :4]), torch.from_numpy(lines[:, 4]), threshold=OVERLAP, pixels=1, keep_equal=False
    )
    for line in lines[kept.numpy()].astype(np.float64):
        yield Raw(TEXT, float(line[4]), tuple(map(float, clipped(line[:4] / scale, (h, w)))))


def text_lines(slices: np.ndarray, scores: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The lines (n, 5), box and score, that slices (m, 4) of an image of `size` (h, w) with their scores (m,) make.

    Scores are spread over 0 to 1 first. A line's is the mean of its slices'; its upper and its lower side go through
    theirs by least squares, and its box around them.
    """
    spread = np.ptp(scores) if len(scores) else 0
    scores = (scores - scores.min()) / spread if spread else scores * 0
    lines = [_line(slices[group], scores[group]) for group in _groups(slices, scores, size[1])]
    found = np.array(lines, np.float32).reshape(-1, 5)
    found[:, 0:4:2] = found[:, 0:4:2].clip(0, size[1] - 1)
    found[:, 1:4:2] = found[:, 1:4:2].clip(0, size[0] - 1)
    wide, high = (found[:, 2:4] - found[:, :2] + 1).T
    kept: np.ndarray = found[(wide / high > LEAST_SHAPE) & (found[:, 4] > LEAST_LINE) & (wide > LEAST_WIDTH)]
    return kept


def _groups(slices: np.ndarray, scores: np.ndarray, width: int) -> Iterator[list[int]]:
    """The slices of each line from left to right; one that has neither a next nor a former is none."""
    columns: dict[int, list[int]] = {}
    for index, left in enumerate(slices[:, 0]):
        columns.setdefault(int(left), []).append(index)
    following: dict[int, int] = {}
    for index, box in enumerate(slices):
        left = int(box[0])
        after = _near(slices, columns, index, range(left + 1, min(left + GAP + 1, width)))
        if not after:
            continue
        best = after[int(np.argmax(scores[after]))]
        left = int(slices[best, 0])
        before = _near(slices, columns, best, range(left - 1, max(left - GAP, 0) - 1, -1))
        if scores[index] >= scores[before].max():
            following[index] = best
    for index in sorted(following.keys() - set(following.values())):
        group = [index]
        while group[-1] in following:
            group.append(following[group[-1]])
        yield group


def _near(slices: np.ndarray, columns: dict[int, list[int]], index: int, lefts: range) -> list[int]:
    """The slices that begin in the first of the columns `lefts` that has some at the height of a slice."""
    for left in lefts:
        found = [each for each in columns.get(left, ()) if _at_one_height(slices[each], slices[index])]
        if found:
            return found
    return []


def _at_one_height(one: np.ndarray, other: np.ndarray) -> bool:
    heights = one[3] - one[1] + 1, other[3] - other[1] + 1
    shared = max(0, min(one[3], other[3]) - max(one[1], other[1]) + 1) / min(heights)
    return bool(shared >= LEAST_SHARED and min(heights) / max(heights) >= LEAST_ALIKE)


def _line(slices: np.ndarray, scores: np.ndarray) -> tuple[float, ...]:
    """Box and score of the line of some slices, the first its first."""
    left, right = slices[:, 0].min(), slices[:, 2].max()
    half = (slices[0, 2] - slices[0, 0]) / 2
    ends = np.array([left + half, right - half])
    upper, lower = (_through(slices[:, 0], slices[:, side], ends) for side in (1, 3))
    return left, upper.min(), right, lower.max(), scores.mean()


def _through(x: np.ndarray, y: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The values at `ends` of the straight line through points by least squares."""
    if (x == x[0]).all():
        return y[:1].repeat(2)
    fitted_line: np.ndarray = np.polyval(np.polyfit(x, y, 1), ends)
    return fitted_line
