"""YOLO of 2016: 1470 numbers for an image of 448 x 448, which are the boxes of a grid of 7 x 7 cells.

They are the 20 classes of each cell, the confidence of its 2 boxes, and x, y in the cell and the roots of width and
height of each. Sources: xingwangsfu/caffe-yolo and gudovskiy/yoloNCS, yolo_main.py (interpret_output).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from converters.layers import boxes as geometry
from converters.net import NetSpec
from weights.records import InputRecipe

from ..predict.resizing import resize
from .feeding import blobs_of
from .raw import Raw, clipped

if TYPE_CHECKING:
    from ..nets import Net

SIDE, CELLS, BOXES, CLASSES = 448, 7, 2, 20
COUNT = CELLS * CELLS * (CLASSES + BOXES * 5)
LEAST_SCORE, OVERLAP = 0.2, 0.5
"""The score from which on a box counts; of two that overlap by more, of whatever class, only the better one stays."""


def fills_grid(spec: NetSpec) -> bool:
    """True for a net whose only output is an InnerProduct of 1470 numbers for an image of 448 x 448."""
    if len(spec.outputs) != 1 or [tuple(shape[2:]) for shape in spec.inputs.values()] != [(SIDE, SIDE)]:
        return False
    maker = [layer for layer in spec.layers if spec.outputs[0] in layer.tops][-1]
    return maker.type == "InnerProduct" and maker.message.inner_product_param.num_output == COUNT


def from_grid(net: Net, image: np.ndarray, recipe: InputRecipe) -> Iterator[Raw]:
    """The objects that the net finds in an image (h, w, 3) uint8 RGB, which it sees warped."""
    import torch

    h, w = image.shape[:2]
    seen = resize(image, (SIDE, SIDE))
    (numbers,) = blobs_of(net, seen, recipe, net.spec.outputs, scales=(SIDE / h, SIDE / w))
    classes, rest = numbers[0, : CELLS**2 * CLASSES], numbers[0, CELLS**2 * CLASSES :]
    sure, where = rest[: CELLS**2 * BOXES].view(CELLS, CELLS, BOXES), rest[CELLS**2 * BOXES :]
    where = where.reshape(CELLS, CELLS, BOXES, 4)
    rows, columns = torch.arange(CELLS)[:, None, None], torch.arange(CELLS)[:, None]
    centre = torch.stack(((where[..., 0] + columns) / CELLS, (where[..., 1] + rows) / CELLS), -1)
    half = where[..., 2:].square() / 2
    boxes = torch.cat((centre - half, centre + half), -1) * torch.tensor([w, h, w, h])
    scores = classes.view(CELLS, CELLS, 1, CLASSES) * sure[..., None]
    place = (scores >= LEAST_SCORE).nonzero()
    found, score = boxes[tuple(place[:, :3].T)], scores[tuple(place.T)]
    best = scores.argmax(-1)[tuple(place[:, :3].T)]
    for index in geometry.nms(found, score, threshold=OVERLAP).tolist():
        box = clipped(found[index].double().numpy(), (h, w))
        yield Raw(int(best[index]) + 1, float(score[index]), tuple(map(float, box)))
