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
from .resizing import resize

TYPES = frozenset({"DetectionOutput", "DetectionOutputExtended", "YoloDetectionOutput", "Yolov3DetectionOutput"})
"""The layers whose tops are such rows."""


def row_outputs(spec: NetSpec) -> tuple[str, ...]:
    """The outputs of a net that are rows of detections."""
    made = {top for layer in spec.layers if layer.type in TYPES for top in layer.tops}
    return tuple(name for name in spec.outputs if name in made)


def from_rows(net: Net, image: np.ndarray, recipe: InputRecipe) -> Iterator[Raw]:
    """What the net finds in an image (h, w, 3) uint8 RGB; NetError for a net that takes more than an image."""
    shape, *more = net.inputs.values()
    if more or len(shape) != 4:
        raise NetError(f"expected a net with one image as its input, found the inputs {', '.join(net.inputs)}")
    x = to_input(resize(image, (shape[2], shape[3])), recipe)
    like: Tensor = next(net.parameters(), torch.empty(0))
    with torch.inference_mode():
        found = net(x.to(like.device, like.dtype))
    outputs = found if isinstance(found, dict) else {net.outputs[0]: found}
    h, w = image.shape[:2]
    for output in row_outputs(net.spec):
        rows = outputs[output].float().cpu().numpy().reshape(-1, outputs[output].shape[-1])
        rows = rows[np.isfinite(rows).all(1) & (rows[:, 1] >= 0)]
        boxes = clipped(rows[:, 3:7] * [w, h, w, h], (h, w))
        for row, box in zip(rows, boxes, strict=True):
            yield Raw(int(row[1]), float(row[2]), tuple(map(float, box)))
