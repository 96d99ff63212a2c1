"""Nets that end in rows (image, class, score, xmin, ymin, xmax, ymax) with boxes in parts of the image: SSD and YOLO.

The image is warped to the size of the net's input, as SSD's test net and examples do (resize_mode: WARP).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from converters.errors import NetError
from converters.net import NetSpec
from weights.records import InputRecipe

from ..nets import Net
from ..predict.images import to_input
from .raw import Raw, clipped
from .resizing import image_info, resize

INFO = "im_info"
TYPES = frozenset({"DetectionOutput", "DetectionOutputExtended", "YoloDetectionOutput", "Yolov3DetectionOutput"})
"""The layers whose tops are such rows."""


def row_outputs(spec: NetSpec) -> tuple[str, ...]:
    """The outputs of a net that are rows of detections."""
    made = {top for layer in spec.layers if layer.type in TYPES for top in layer.tops}
    return tuple(name for name in spec.outputs if name in made)


def _by_centre(spec: NetSpec, output: str) -> bool:
    """True for caffe-yolov2's DetectionOutput: class from 0 on, centre and size."""
    makers = [layer for layer in spec.layers if output in layer.tops]
    return makers[-1].type == "DetectionOutput" and len(makers[-1].bottoms) == 1


def from_rows(net: Net, image: np.ndarray, recipe: InputRecipe) -> Iterator[Raw]:
    """The objects that the net finds in an image (h, w, 3) uint8 RGB; NetError for a net that takes more."""
    images = [name for name in net.inputs if name != INFO]
    if len(images) != 1 or len(net.inputs[images[0]]) != 4:
        raise NetError(f"expected a net with one image as its input, found the inputs {', '.join(net.inputs)}")
    h, w = image.shape[:2]
    high, wide = net.inputs[images[0]][2:]
    fed = {images[0]: to_input(resize(image, (high, wide)), recipe)}
    if INFO in net.inputs:
        fed[INFO] = image_info(net.inputs[INFO], (high, wide), (high / h, wide / w))
    like: Tensor = next(net.parameters(), torch.empty(0))
    with torch.inference_mode():
        found = net(**{name: x.to(like.device, like.dtype) for name, x in fed.items()})
    outputs = found if isinstance(found, dict) else {net.outputs[0]: found}
    for output in row_outputs(net.spec):
        rows = outputs[output].float().cpu().numpy().reshape(-1, outputs[output].shape[-1])
        rows = rows[np.isfinite(rows).all(1) & (rows[:, 1] >= 0)]
        if _by_centre(net.spec, output):
            rows[:, 1] += 1
            rows[:, 3:5], rows[:, 5:7] = rows[:, 3:5] - rows[:, 5:7] / 2, rows[:, 3:5] + rows[:, 5:7] / 2
        boxes = clipped(rows[:, 3:7] * [w, h, w, h], (h, w))
        for row, box in zip(rows, boxes, strict=True):
            yield Raw(int(row[1]), float(row[2]), tuple(map(float, box)))
