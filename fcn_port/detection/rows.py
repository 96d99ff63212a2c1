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
from .raw import Raw, clipped
from .resizing import image_info

if TYPE_CHECKING:
    from torch import Tensor

    from ..nets import Net

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


def tells_images(spec: NetSpec) -> bool:
    """True for a net whose rows say of which image of a batch they are, and which is told nothing else of an image.

    YOLO's layers call every image 0, as they do in Caffe; what scores regions has no rows.
    """
    makers = _makers(spec)
    by_image = (len(layer.bottoms) > 1 and layer.type.startswith("DetectionOutput") for layer in makers)
    return bool(makers) and INFO not in spec.inputs and all(by_image)


def _makers(spec: NetSpec) -> list[LayerSpec]:
    return [layer for layer in spec.layers if layer.type in TYPES]


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

    names = [name for name in net.inputs if name != INFO]
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
        for index, raw in _read(rows, sizes, by_centre=_by_centre(net.spec, output)):
            raws[index].append(raw)
    return raws


def _read(rows: np.ndarray, sizes: Sequence[tuple[int, int]], *, by_centre: bool) -> Iterator[tuple[int, Raw]]:
    """Rows as objects, each with the place of its image among those of `sizes` (h, w)."""
    rows = rows[np.isfinite(rows).all(1) & (rows[:, 1] >= 0)]
    if by_centre:
        rows[:, 1] += 1
        rows[:, 3:5], rows[:, 5:7] = rows[:, 3:5] - rows[:, 5:7] / 2, rows[:, 3:5] + rows[:, 5:7] / 2
    for row in rows:
        index = int(row[0]) if len(sizes) > 1 else 0
        h, w = sizes[index]
        (box,) = clipped(row[None, 3:7] * [w, h, w, h], (h, w))
        yield index, Raw(int(row[1]), float(row[2]), tuple(map(float, box)))
