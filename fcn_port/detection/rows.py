"""Nets that end in rows (image, class, score, xmin, ymin, xmax, ymax) with boxes in parts of the image: SSD and YOLO.

The image is warped to the size of the net's input, as SSD's test net and examples do (resize_mode: WARP).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from converters.errors import NetError
from converters.net import LayerSpec, NetSpec
from weights.records import InputRecipe

from ..predict.images import to_input
from ..predict.resizing import resize
from .feeding import INFO, image_inputs, kind_of
from .raw import Raw, clipped
from .resizing import image_info

if TYPE_CHECKING:
    from torch import Tensor

    from ..nets import Net

ACTIONS = "Python:ActionsDetectionOutputLayer"
TYPES = frozenset(
    {"DetectionOutput", "DetectionOutputExtended", "SSDSort", "YoloDetectionOutput", "Yolov3DetectionOutput", ACTIONS}
)
"""The layers whose tops are such rows; those of persons' actions have the action as the class, and its score more."""


def row_outputs(spec: NetSpec) -> tuple[str, ...]:
    """The outputs of a net that are rows of detections."""
    made = {top for layer in _makers(spec) for top in layer.tops}
    return tuple(name for name in spec.outputs if name in made)


def _form(spec: NetSpec, output: str) -> tuple[bool, bool]:
    """True where the classes of an output's rows are from 0 on, and true where its boxes are centre and size.

    Both are caffe-yolov2's DetectionOutput's; the first alone that of persons' actions.
    """
    maker = [layer for layer in spec.layers if output in layer.tops][-1]
    centred = maker.type == "DetectionOutput" and len(maker.bottoms) == 1
    return centred or kind_of(maker) == ACTIONS, centred


def tells_images(spec: NetSpec) -> bool:
    """True for a net whose rows say of which image of a batch they are, and which is told nothing else of an image.

    YOLO's layers call every image 0, as they do in Caffe; what scores regions has no rows.
    """
    makers = _makers(spec)
    by_image = (len(layer.bottoms) > 1 and layer.type.startswith("DetectionOutput") for layer in makers)
    return bool(makers) and INFO not in spec.inputs and all(by_image)


def _makers(spec: NetSpec) -> list[LayerSpec]:
    return [layer for layer in spec.layers if kind_of(layer) in TYPES]


def run_heads(net: Net, images: Sequence[np.ndarray], recipe: InputRecipe) -> dict[str, Tensor]:
    """The blobs with offsets and scores of images of the net's own size, which its rows are made of."""
    import torch

    x = torch.cat([to_input(image, recipe) for image in images])
    like: Tensor = next(net.parameters(), x)
    with torch.inference_mode():
        blobs = net.blobs(x.to(like.device, like.dtype))
    return {name: blobs[name] for layer in _makers(net.spec) for name in layer.bottoms[:2]}


def from_rows(net: Net, images: Sequence[np.ndarray], recipe: InputRecipe) -> list[list[Raw]]:
    """The objects that the net finds in each image (h, w, 3) uint8 RGB, in one pass.

    Several images only where the net `tells_images`. NetError for a net that takes more than an image.
    """
    import torch

    names = image_inputs(net.spec)
    if len(names) != 1 or len(net.inputs[names[0]]) != 4:
        raise NetError(f"expected a net with one image as its input, found the inputs {', '.join(net.inputs)}")
    high, wide = net.inputs[names[0]][2:]
    fed = {names[0]: torch.cat([to_input(resize(image, (high, wide)), recipe) for image in images])}
    if INFO in net.inputs:
        h, w = images[0].shape[:2]
        fed[INFO] = image_info(net.inputs[INFO], (high, wide), (high / h, wide / w))
    like: Tensor = next(net.parameters(), torch.empty(0))
    with torch.inference_mode():
        found = net(**{name: x.to(like.device, like.dtype) for name, x in fed.items()})
    outputs = found if isinstance(found, dict) else {net.outputs[0]: found}
    sizes = [(image.shape[0], image.shape[1]) for image in images]
    raws: list[list[Raw]] = [[] for _ in images]
    for output in row_outputs(net.spec):
        rows = outputs[output].float().cpu().numpy().reshape(-1, outputs[output].shape[-1])
        for index, raw in _read(rows, sizes, *_form(net.spec, output)):
            raws[index].append(raw)
    return raws


def _read(rows: np.ndarray, sizes: Sequence[tuple[int, int]], from_0: bool, centred: bool) -> Iterator[tuple[int, Raw]]:
    """Rows as objects, each with the place of its image among those of `sizes` (h, w)."""
    rows = rows[np.isfinite(rows).all(1) & (rows[:, 1] >= 0)]
    place = 4 if rows.shape[1] == 8 else 3
    boxes = rows[:, place : place + 4]
    if centred:
        boxes = np.concatenate((boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2), 1)
    for row, box in zip(rows, boxes, strict=True):
        index = int(row[0]) if len(sizes) > 1 else 0
        h, w = sizes[index]
        (cut,) = clipped(box[None] * [w, h, w, h], (h, w))
        yield index, Raw(int(row[1]) + from_0, float(row[2]), tuple(map(float, cut)))
