"""Nets that refine regions once or several times: MS-CNN and Cascade R-CNN, with what their scripts do around the net.

A deploy net ends in scores and boxes (DecodeBBox) of each stage, `cls_prob_3rd` (or the mean of all stages,
`cls_prob_3rd_avg`) and `output_bbox_3rd`, of which the last stage's count; a first MS-CNN in offsets, scores and
regions, `bbox_pred`, `cls_pred` and `proposals_score`. Cascade R-CNN's nets for tests end in FrcnnOutput's rows.

Sources: zhaoweicai/mscnn, examples/kitti_car/run_mscnn_detection.m and run_cascademscnn.m; zhaoweicai/cascade-rcnn,
examples/coco/run_cascadercnn_coco.m and src/caffe/layers/eval_data_layer.cpp; utils/bbNms.m of both ("maxg").
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from converters.layers import boxes as geometry
from converters.net import NetSpec
from weights.records import InputRecipe

from ..predict.resizing import resize
from .feeding import blobs_of, image_inputs
from .raw import Raw, clipped
from .resizing import resize_cubic

if TYPE_CHECKING:
    from torch import Tensor

    from ..nets import Net

OVERLAP = 0.5
"""Of the best of two boxes of a class that overlap by more only one stays (pNms)."""
LEAST_SCORE, MOST = 0.001, 100
"""The score from which on a box of a Cascade R-CNN counts, and how many of an image do (det_thr, max_per_img)."""
SIZES = {False: (600, 1000), True: (800, 1312)}
"""The shorter and the longer side of Cascade R-CNN's images; with FPN the larger ones."""
MULTIPLE = 32
DEVIATIONS = (0.1, 0.1, 0.2, 0.2)
"""The numbers that MS-CNN's offsets are divided by in training (bbox_stds); their means are 0."""
FIRST = ("bbox_pred", "cls_pred", "proposals_score")
ROWS = "FrcnnOutput"


def refines_regions(spec: NetSpec) -> bool:
    """True for a net that ends in MS-CNN's or Cascade R-CNN's blobs."""
    return bool(_rows(spec)) or _last_stage(spec) is not None or _made(spec).issuperset(FIRST)


def from_refined(net: Net, image: np.ndarray, recipe: InputRecipe) -> Iterator[Raw]:
    """The objects that the net finds in an image (h, w, 3) uint8 RGB."""
    import torch

    size = _size(net, (image.shape[0], image.shape[1]))
    rows, stage = _rows(net.spec), _last_stage(net.spec)
    seen = resize(image, size) if rows else resize_cubic(image, size)
    scales = (size[0] / image.shape[0], size[1] / image.shape[1])
    names = (rows,) if rows else stage or FIRST
    blobs = blobs_of(net, seen, recipe, names, scales=scales)
    shape, by = (image.shape[0], image.shape[1]), torch.tensor([scales[1], scales[0]] * 2)
    if rows:
        return _read(blobs[0], shape, by)
    if stage:
        return _staged(blobs[0], blobs[1], shape, by, cascade=_of_groups(net.spec))
    return _single(blobs[0], blobs[1], blobs[2], shape, by)


def _made(spec: NetSpec) -> set[str]:
    return {top for layer in spec.layers if layer.type != "Input" for top in layer.tops}


def _rows(spec: NetSpec) -> str:
    """The last output of FrcnnOutput, that of the mean over stages if there is one; "" if there is none."""
    rows = [top for layer in spec.layers if layer.type == ROWS for top in layer.tops if top in spec.outputs]
    return max(rows, key=_stage, default="")


def _last_stage(spec: NetSpec) -> tuple[str, str] | None:
    """The blobs with the boxes and the scores of the last stage, None where the net has no stages."""
    made = _made(spec)
    boxes = [name for name in made if re.fullmatch(r"output_bbox_\d\w\w", name)]
    for box in sorted(boxes, key=_stage, reverse=True):
        scores = "cls_prob" + box.removeprefix("output_bbox")
        for name in (f"{scores}_avg", scores):
            if name in made:
                return box, name
    return None


def _stage(name: str) -> tuple[int, bool]:
    """The number of a stage in the name of its blob, and whether it is a mean over stages."""
    found = re.search(r"_(\d)(?:st|nd|rd|th)(_avg)?$", name)
    return (int(found[1]), bool(found[2])) if found else (0, False)


def _of_groups(spec: NetSpec) -> bool:
    """True for Cascade R-CNN's nets, whose regions BoxGroupOutput makes."""
    return any(layer.type == "BoxGroupOutput" for layer in spec.layers)


def _size(net: Net, size: tuple[int, int]) -> tuple[int, int]:
    """The size (h, w) at which the net sees an image: an MS-CNN its own; a Cascade R-CNN by the image's."""
    if not _of_groups(net.spec):
        high, wide = next((net.inputs[name][2:] for name in image_inputs(net.spec)), size)
        return int(high), int(wide)
    shorter, longer = SIZES[sum(layer.type == "BoxGroupOutput" for layer in net.spec.layers) > 1]
    scaled = [shorter / min(size) * side for side in size]
    if _rows(net.spec):  # the data layer of the net for tests rounds to pixels first
        scaled = [int(side + 0.5) for side in scaled]
    high, wide = (max(1, int(min(side, longer) / MULTIPLE + 0.5)) * MULTIPLE for side in scaled)
    return high, wide


def _read(rows: Tensor, size: tuple[int, int], by: Tensor) -> Iterator[Raw]:
    """FrcnnOutput's rows, image, box in pixels of the net's input, class, score, without the first, of -1."""
    found = rows[rows[:, 5] >= 1]
    boxes = clipped((found[:, 1:5] / by).double().numpy(), size)
    for row, box in zip(found.tolist(), boxes, strict=True):
        yield Raw(int(row[5]), row[6], tuple(map(float, box)))


def _staged(boxes: Tensor, scores: Tensor, size: tuple[int, int], by: Tensor, *, cascade: bool) -> Iterator[Raw]:
    """The boxes of a stage in pixels of the image, cut to it, the same for all classes; x2 and y2 the last pixel."""
    import torch

    h, w = size
    corners = boxes[:, 1:5] / by
    corners = torch.cat((corners[:, :2].clamp(min=0), torch.minimum(corners[:, 2:], corners.new_tensor([w, h]))), 1)
    found: list[Raw] = []
    for label in range(1, scores.shape[1]):
        likely = (scores[:, label] >= (LEAST_SCORE if cascade else -1)).nonzero().flatten()
        kept = likely[geometry.nms(corners[likely], scores[likely, label], threshold=OVERLAP, pixels=1)]
        found += [Raw(label, float(scores[i, label]), tuple(map(float, clipped(corners[i].double().numpy(), size))))
                  for i in kept.tolist()]  # fmt: skip
    if cascade and len(found) > MOST:
        least = sorted((each.score for each in found), reverse=True)[MOST - 1]
        found = [each for each in found if each.score >= least]
    yield from found


def _single(offsets: Tensor, scores: Tensor, regions: Tensor, size: tuple[int, int], by: Tensor) -> Iterator[Raw]:
    """MS-CNN's regions moved by each class's offsets, in pixels of the image.

    A box that begins before the image begins with it there, as wide as before, and ends with it.
    """
    import torch

    corner, extent = regions[:, 1:3], regions[:, 3:5] - regions[:, 1:3]
    real = (extent != 0).all(1)
    corner, extent, probabilities = corner[real], extent[real], scores[real].softmax(1)
    end = offsets.new_tensor([size[1], size[0]])
    for label in range(1, scores.shape[1]):
        moves = offsets[real, 4 * label : 4 * label + 4] * offsets.new_tensor(DEVIATIONS)
        wide = extent * moves[:, 2:].exp()
        first = ((moves[:, :2] * extent + corner + extent / 2 - wide / 2) / by[:2]).clamp(min=0)
        boxes = torch.cat((first, first + torch.minimum(wide / by[:2], end - first)), 1)
        for index in geometry.nms(boxes, probabilities[:, label], threshold=OVERLAP).tolist():
            box = clipped(boxes[index].double().numpy(), size)
            yield Raw(label, float(probabilities[index, label]), tuple(map(float, box)))
