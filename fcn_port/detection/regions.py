"""Nets that score regions of an image: Faster R-CNN and R-FCN, with what their projects do around the net.

Sources: rbgirshick/py-faster-rcnn, lib/fast_rcnn/test.py (im_detect, _get_image_blob) and tools/demo.py; R-FCN's
daijifeng001/py-R-FCN, the same file, where the boxes of the last four columns are for all classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from converters.layers import boxes as geometry
from converters.net import NetSpec
from weights.records import InputRecipe

from ..predict.resizing import resize
from .feeding import INFO, blobs_of
from .raw import Raw
from .resizing import fitted

if TYPE_CHECKING:
    from ..nets import Net

SHORTER, LONGER = 600, 1000
"""The size of an image's shorter side, and the most for its longer (cfg.TEST.SCALES and MAX_SIZE)."""
LEAST_SCORE = 0.05
"""The score from which on a region counts (test_net's thresh)."""
OVERLAP = 0.3
"""Of the best of two regions of a class that overlap by more only one stays (cfg.TEST.NMS)."""
REGIONS, SCORES, OFFSETS = "rois", "cls_prob", "bbox_pred"
POOLINGS = frozenset({"ROIPooling", "PSROIPooling", "ROIAlign", "PSROIAlign", "ROIWarping"})
"""The layers whose second bottom is the regions."""


def regions_of(spec: NetSpec) -> str | None:
    """The blob with the net's regions, py-faster-rcnn's `rois` or what the first pooling of regions takes."""
    made = {top for layer in spec.layers if layer.type != "Input" for top in layer.tops}
    pooled = (layer.bottoms[1] for layer in spec.layers if layer.type in POOLINGS and len(layer.bottoms) > 1)
    return next((name for name in (REGIONS, *pooled) if name in made), None)


def scores_regions(spec: NetSpec) -> bool:
    """True for a net with an input `im_info` and py-faster-rcnn's blobs."""
    made = {top for layer in spec.layers for top in layer.tops}
    return INFO in spec.inputs and made.issuperset((SCORES, OFFSETS)) and regions_of(spec) is not None


def from_regions(net: Net, image: np.ndarray, recipe: InputRecipe) -> Iterator[Raw]:
    """The objects that the net finds in an image (h, w, 3) uint8 RGB."""
    h, w = image.shape[:2]
    size, scale = fitted((h, w), shorter=SHORTER, longer=LONGER)
    names = (regions_of(net.spec) or REGIONS, SCORES, OFFSETS)
    rois, scores, offsets = blobs_of(net, resize(image, size), recipe, names, scales=(scale, scale))
    boxes = geometry.decode_regions(offsets, rois[:, 1:5] / scale)
    boxes = geometry.clip_boxes(boxes, height=h - 1, width=w - 1)
    for label in range(1, scores.shape[1]):
        own = boxes[:, -4:] if boxes.shape[1] < 4 * scores.shape[1] else boxes[:, 4 * label : 4 * label + 4]
        kept = geometry.nms(own, scores[:, label], threshold=OVERLAP, score_threshold=LEAST_SCORE, pixels=1)
        for index in kept.tolist():
            yield Raw(label, float(scores[index, label]), tuple(own[index].tolist()))
