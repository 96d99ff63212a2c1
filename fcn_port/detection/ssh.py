"""SSH: a net that finds faces at three strides in one pass (Najibi et al., 2017), with what its project does around it.

Sources: mahyarnajibi/SSH, SSH/test.py (forward_net, detect), lib/utils/test_utils.py and SSH/configs/
default_config.yml, at one scale as there.
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
from .raw import Raw, clipped
from .resizing import fitted

if TYPE_CHECKING:
    from ..nets import Net

SHORTER, LONGER = 1200, 1600
"""The size of an image's shorter side, and the most for its longer (TEST.SCALES and MAX_SIZE)."""
LEAST_SCORE, OVERLAP = 0.05, 0.3
"""The score from which on a face counts; of two that overlap by more than that only the better one stays."""
BLOBS = ("ssh_boxes", "ssh_cls_prob")
FACE = 1


def is_ssh(spec: NetSpec) -> bool:
    """True for a net with an input `im_info` and SSH's blobs."""
    made = {top for layer in spec.layers for top in layer.tops}
    return INFO in spec.inputs and made.issuperset(BLOBS)


def from_ssh(net: Net, image: np.ndarray, recipe: InputRecipe) -> Iterator[Raw]:
    """The faces in an image (h, w, 3) uint8 RGB."""
    h, w = image.shape[:2]
    size, scale = fitted((h, w), shorter=SHORTER, longer=LONGER)
    found, scores = blobs_of(net, resize(image, size), recipe, BLOBS, scales=(scale, scale))
    boxes = found[:, 1:5] / scale
    kept = geometry.nms(boxes, scores[:, 0], threshold=OVERLAP, score_threshold=LEAST_SCORE, pixels=1)
    for index in kept.tolist():
        yield Raw(FACE, float(scores[index, 0]), tuple(map(float, clipped(boxes[index].double().numpy(), (h, w)))))
