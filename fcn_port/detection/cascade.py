"""MTCNN: three nets that propose, refine and mark faces (Zhang et al., 2016), from an image to faces with five points.

Source: kpzhang93/MTCNN_face_detection_alignment, code/codes/MTCNNv1/detect_face.m and the functions that it calls. The
nets were trained from MATLAB, which stores columns first: they see images with x and y swapped. Boxes here are counted
from 1 with xmax the last pixel, as there, until the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from converters.errors import NetError
from converters.layers import boxes as geometry

from ..nets import Net
from .raw import Raw, clipped

SIDES = (12, 24, 48)
"""The sides of the squares that the nets look at, in pixels."""
SMALLEST, FACTOR, STRIDE = 20, 0.709, 2
"""The smallest face in pixels, the step from one scale to the next, and of the first net's outputs."""
THRESHOLDS = (0.6, 0.7, 0.7)
FACE = 1
"""The class: the nets tell faces from what is none."""


def from_cascade(nets: Sequence[Net], image: np.ndarray) -> Iterator[Raw]:
    """The faces in an image (h, w, 3) uint8 RGB; NetError where the nets are not MTCNN's."""
    ordered = {min(next(iter(net.inputs.values()))[2:]): net for net in nets}
    if tuple(sorted(ordered)) != SIDES:
        raise NetError(f"expected MTCNN's three nets, of inputs 12x12, 24x24 and 48x48; found sides {sorted(ordered)}")
    first, second, third = (ordered[side] for side in SIDES)
    x = torch.from_numpy(np.array(image)).permute(2, 1, 0)[None].float()  # (1, 3, w, h)
    with torch.inference_mode():
        boxes = _proposed(first, x)
        if len(boxes):
            boxes = _refined(second, x, boxes)
        if len(boxes):
            yield from _marked(third, x, boxes, image.shape[:2])


def _proposed(net: Net, x: Tensor) -> Tensor:
    """Square boxes (n, 4) where the first net sees a face at one of the scales."""
    found = []
    w, h = x.shape[2:]
    scale = SIDES[0] / SMALLEST
    while min(w, h) * scale >= SIDES[0]:
        size = [int(np.ceil(w * scale)), int(np.ceil(h * scale))]
        out = _run(net, _resized(x, size))
        score, offsets = out[2][0, FACE], out[4][0]
        place = (score >= THRESHOLDS[0]).nonzero()
        corner = place * STRIDE + 1
        boxes = torch.cat((corner, corner + SIDES[0] - 1), 1).div(scale).trunc()
        rows = torch.cat((boxes, score[place[:, 0], place[:, 1], None], offsets[:, place[:, 0], place[:, 1]].T), 1)
        found.append(rows[geometry.nms(rows[:, :4], rows[:, 4], threshold=0.5, pixels=1)])
        scale *= FACTOR
    rows = torch.cat(found) if found else torch.zeros(0, 9)
    rows = rows[geometry.nms(rows[:, :4], rows[:, 4], threshold=0.7, pixels=1)]
    size_of_box = (rows[:, 2:4] - rows[:, :2]).repeat(1, 2)
    return _square(rows[:, :4] + rows[:, 5:] * size_of_box).trunc()


def _refined(net: Net, x: Tensor, boxes: Tensor) -> Tensor:
    """Square boxes (n, 4) of those that are faces to the second net, too."""
    out = _run(net, _cut(x, boxes, SIDES[1]))
    score, offsets = out[2][:, FACE], out[4]
    passed = (score > THRESHOLDS[1]).nonzero().flatten()
    kept = passed[geometry.nms(boxes[passed], score[passed], threshold=0.7, pixels=1)]
    return _square(_moved(boxes[kept], offsets[kept])).trunc()


def _marked(net: Net, x: Tensor, boxes: Tensor, size: tuple[int, ...]) -> Iterator[Raw]:
    """The faces of the third net, whose points are the mean of those in the image and in its mirror image."""
    pictures = _cut(x, boxes, SIDES[2])
    out = _run(net, pictures)
    score = out[2][:, FACE]
    passed = (score > THRESHOLDS[2]).nonzero().flatten()
    moved = _moved(boxes, out[4])
    kept = passed[geometry.nms(moved[passed], score[passed], threshold=0.7, pixels=1, of_smaller=True)]
    if not len(kept):
        return
    mirrored = _run(net, pictures[kept].flip(2))[10]
    points = out[10][kept]
    swapped = torch.cat((1 - mirrored[:, [1, 0, 2, 4, 3]], mirrored[:, [6, 5, 7, 9, 8]]), 1)
    points = ((points + swapped) / 2).unflatten(1, (2, 5)).transpose(1, 2)
    corner, extent = boxes[kept, None, :2], (boxes[kept, 2:] - boxes[kept, :2] + 1)[:, None]
    places = points * extent + corner - 1
    final = moved[kept] - torch.tensor([1.0, 1, 0, 0])
    h, w = size[:2]
    for index, box in enumerate(clipped(final.double().numpy(), (h, w))):
        marks = tuple((float(px), float(py)) for px, py in places[index])
        yield Raw(FACE, float(score[kept[index]]), tuple(map(float, box)), marks)


def _run(net: Net, x: Tensor) -> Mapping[int, Tensor]:
    """The outputs by their number of channels: 2 scores, 4 offsets, 10 points; `x` with values from 0 to 255."""
    like = next(net.parameters(), torch.empty(0))
    found = net(((x - 127.5) * 0.0078125).to(like.device, like.dtype))
    outputs = found.values() if isinstance(found, dict) else [found]
    by_channels = {blob.shape[1]: blob.float().cpu() for blob in outputs}
    if not by_channels.keys() >= {2, 4}:
        raise NetError(f"expected outputs of 2 and of 4 channels, found {sorted(by_channels)}")
    return by_channels


def _resized(x: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear, and smoothed where it gets smaller, as MATLAB's imResample."""
    return interpolate(x, list(size), mode="bilinear", align_corners=False, antialias=True)


def _cut(x: Tensor, boxes: Tensor, side: int) -> Tensor:
    """The boxes' parts of the image, black where they reach beyond it, side x side (pad.m)."""
    w, h = x.shape[2:]
    pictures = []
    for x0, y0, x1, y1 in boxes.to(torch.int64).tolist():
        picture = x.new_zeros(1, 3, max(1, x1 - x0 + 1), max(1, y1 - y0 + 1))
        left, top, right, bottom = max(x0, 1), max(y0, 1), min(x1, w), min(y1, h)
        if left <= right and top <= bottom:
            part = x[:, :, left - 1 : right, top - 1 : bottom]
            picture[:, :, left - x0 : right - x0 + 1, top - y0 : bottom - y0 + 1] = part
        pictures.append(_resized(picture, (side, side)))
    return torch.cat(pictures)


def _moved(boxes: Tensor, offsets: Tensor) -> Tensor:
    """The boxes with each side moved by a part of the box's extent (bbreg.m)."""
    return boxes + offsets * (boxes[:, 2:] - boxes[:, :2] + 1).repeat(1, 2)


def _square(boxes: Tensor) -> Tensor:
    """Squares of the longer side around the same centres (rerec.m)."""
    size = boxes[:, 2:] - boxes[:, :2]
    side = size.max(1, keepdim=True).values
    low = boxes[:, :2] + size / 2 - side / 2
    return torch.cat((low, low + side), 1)
