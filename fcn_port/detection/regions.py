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

from ..predict.images import to_input
from ..predict.resizing import resize
from .raw import Raw
from .resizing import image_info

if TYPE_CHECKING:
    from torch import Tensor

    from ..nets import Net

SHORTER, LONGER = 600, 1000
"""The size of an image's shorter side, and the most for its longer (cfg.TEST.SCALES and MAX_SIZE)."""
LEAST_SCORE = 0.05
"""The score from which on a region counts (test_net's thresh)."""
OVERLAP = 0.3
"""Of the best of two regions of a class that overlap by more only one stays (cfg.TEST.NMS)."""
BLOBS = ("rois", "cls_prob", "bbox_pred")


def scores_regions(spec: NetSpec) -> bool:
    """True for a net with an input `im_info` and py-faster-rcnn's blobs."""
    made = {top for layer in spec.layers for top in layer.tops}
    return "im_info" in spec.inputs and made.issuperset(BLOBS)


def from_regions(net: Net, image: np.ndarray, recipe: InputRecipe) -> Iterator[Raw]:
    """The objects that the net finds in an image (h, w, 3) uint8 RGB."""
    import torch

    h, w = image.shape[:2]
    scale = min(SHORTER / min(h, w), LONGER / max(h, w))
    seen = resize(image, (max(1, round(h * scale)), max(1, round(w * scale))))
    like: Tensor = next(net.parameters(), torch.empty(0))
    name = next(name for name in net.inputs if name != "im_info")
    info = image_info(net.inputs["im_info"], seen.shape[:2], (scale, scale))
    fed = {name: to_input(seen, recipe), "im_info": info}
    with torch.inference_mode():
        blobs = net.blobs(**{name: x.to(like.device, like.dtype) for name, x in fed.items()})
        rois, scores, offsets = (blobs[each].flatten(1).float().cpu() for each in BLOBS)
        boxes = geometry.decode_regions(offsets, rois[:, 1:5] / scale)
        boxes = geometry.clip_boxes(boxes, height=h - 1, width=w - 1)
        for label in range(1, scores.shape[1]):
            own = boxes[:, -4:] if boxes.shape[1] < 4 * scores.shape[1] else boxes[:, 4 * label : 4 * label + 4]
            kept = geometry.nms(own, scores[:, label], threshold=OVERLAP, score_threshold=LEAST_SCORE, pixels=1)
            for index in kept.tolist():
                yield Raw(label, float(scores[index, label]), tuple(own[index].tolist()))
