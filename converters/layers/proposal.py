"""Region proposals: Proposal of pvanet's and Intel's forks, of Synopsys', and py-faster-rcnn's Python:ProposalLayer.

All take the scores of 2 x A channels, background first, for the A anchors of each place, four offsets for each anchor,
and im_info: height and width of the image in the net's pixels, and by how much it was scaled. They make regions
[image, x1, y1, x2, y2], best first. How many there are, only their values tell: a shape says what the layer's own
setup says, and a forward pass makes as many as there are. Of equal scores the first counts as better, which Caffe
leaves open.

Sources: openvinotoolkit/training_toolbox_caffe, src/caffe/layers/proposal_layer.cpp and src/caffe/util/nms.cpp;
foss-for-synopsys-dwc-arc-processors/synopsys-caffe, src/caffe/layers/proposal_layer.cpp; rbgirshick/py-faster-rcnn,
lib/rpn/proposal_layer.py and generate_anchors.py; mahyarnajibi/SSH, SSH/layers/proposal_layer.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..arrays import to_array
from ..net.onnx_form import FLOAT
from . import proposal_onnx
from .anchors import generate_anchors
from .base import Layer, refuse, register_layer
from .boxes import nms
from .boxes_onnx import LOWEST, best_first, picked, refuse_in_opencv, with_image, zeros_like_column
from .fork import ForkMessage, fork_message
from .proposals import Proposals, as_regions, large_enough
from .python_params import numbers, python_params, whole
from .spans import Array
from .text_proposal import TextProposal

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec, Shape
    from ..net.onnx_form import OnnxLayer

RATIOS, SCALES = (0.5, 1.0, 2.0), (8.0, 16.0, 32.0)
"""The defaults of generate_anchors."""
USUAL_SCALES = {12: (4.0, *SCALES), 15: (2.0, 4.0, *SCALES)}
"""The scales of so many anchors in the nets that say them: py-faster-rcnn's and R-FCN's for COCO."""


@register_layer("Proposal")
@dataclass(frozen=True)
class Proposal(Proposals):
    """The post_nms_topn best of the pre_nms_topn best boxes that overlap by at most nms_thresh.

    Boxes smaller than `min_size` times the image's scale count as of score 0. im_info has the scales of height and
    width, or one for both. Of several images all have the first one's im_info (happynear/caffe-windows). A layer that
    gives neither ratios nor scales is of Synopsys' fork: see SynopsysProposal.
    """

    min_size: float
    before: int
    after: int
    threshold: float

    @classmethod
    def parse(cls, spec: LayerSpec) -> Layer:
        message = fork_message(spec, "proposal_param")
        if "ratio" not in message and "scale" not in message:
            return SynopsysProposal.parse(spec)
        base, stride = message.number("base_size", 16), message.number("feat_stride", 16)
        anchors = generate_anchors(
            base, _numbers(spec, message, "ratio"), _numbers(spec, message, "scale"), rounding=_half_up
        )
        threshold = message.number("nms_thresh", message.number("iou_threshold", 0.7))
        before, after = message.integer("pre_nms_topn", 6000), message.integer("post_nms_topn", 300)
        if min(before, after, stride) < 1:
            raise refuse(spec, f"pre_nms_topn {before}, post_nms_topn {after}, feat_stride {stride}: all at least 1")
        return cls(stride, anchors, len(spec.tops) > 1, message.number("min_size", 16), before, after, threshold)

    def shapes(self, images: int) -> tuple[Shape, ...]:
        return (images * self.after, 5), (images * self.after,)

    def regions(self, scores: Tensor, offsets: Tensor, im_info: Tensor, *, training: bool) -> tuple[Tensor, Tensor]:
        import torch

        scales = im_info[2:4].tolist()
        found = []
        for image in range(len(scores)):
            boxes = self.decoded(offsets[image], im_info)
            fine = large_enough(boxes, *(self.min_size * scale for scale in (scales[0], scales[-1])))
            score = self.by_place(scores[image, len(self.anchors) :], 1).flatten() * fine
            best = nms(boxes, score, threshold=self.threshold, top_k=self.before, pixels=1)[: self.after]
            found.append((as_regions(boxes[best], image), score[best]))
        regions, score = (torch.cat(tops) for tops in zip(*found, strict=True))
        return regions, score

    def to_onnx(self, out: OnnxLayer) -> None:
        refuse_in_opencv(out)
        numbers = prod(size or 1 for size in out.bottoms[2].shape)
        boxes = proposal_onnx.decoded(out, self.anchors, self.stride)
        least = proposal_onnx.least_size(out, self.min_size, [min(numbers, 4) - 1, 2])
        fine = out.node("Cast", [proposal_onnx.large_enough(out, boxes, least)], part="fine", to=FLOAT)
        scores = out.node("Mul", [proposal_onnx.foreground(out, len(self.anchors)), fine], part="scores")
        proposal_onnx.write_regions(out, boxes, scores, before=self.before, after=self.after, threshold=self.threshold)


def _numbers(spec: LayerSpec, message: ForkMessage, name: str) -> tuple[float, ...]:
    values = message.fields.get(name, [])
    if not values or not all(type(value) in (int, float) and value > 0 for value in values):
        raise refuse(spec, f"proposal_param.{name} is {values}; expected numbers above 0")
    return tuple(values)


def _half_up(values: Array) -> Array:
    """C's (int)(x + 0.5)."""
    rounded: Array = np.floor(values + 0.5)
    return rounded


@dataclass(frozen=True)
class SynopsysProposal(Proposals):
    """Proposal of Synopsys' fork (written at Lenovo): boxes of a score of 0.3 or more, the first max_rois that remain.

    They stay in the order of anchors and places, not of scores. Of two that overlap by more than 0.7 the better stays;
    a box counts as a pixel wider for its area than for what two have in common.
    """

    most: int

    least_score: ClassVar[float] = 0.3
    threshold: ClassVar[float] = 0.7

    @classmethod
    def parse(cls, spec: LayerSpec) -> SynopsysProposal:
        message = fork_message(spec, "proposal_param")
        ratios = RATIOS if message.integer("anchor_ratio", 3) == 3 else (1.0,)
        scales = SCALES if message.integer("anchor_scale", 3) == 3 else (32.0,)
        anchors = generate_anchors(message.integer("anchor_base_size", 16), ratios, scales, rounding=_half_up)
        return cls(message.integer("feat_stride", 16), anchors, len(spec.tops) > 1, message.integer("max_rois", 300))

    def shapes(self, images: int) -> tuple[Shape, ...]:
        return (1, 5), (1, 1)

    def regions(self, scores: Tensor, offsets: Tensor, im_info: Tensor, *, training: bool) -> tuple[Tensor, Tensor]:
        count = len(self.anchors)
        boxes = self.decoded(offsets[0], im_info).unflatten(0, (-1, count)).transpose(0, 1).flatten(0, 1)
        score = scores[0, count:].flatten()
        likely = score >= self.least_score
        boxes, score = boxes[likely], score[likely]
        with np.errstate(all="ignore"):
            left = _one_after_the_other(to_array(boxes), to_array(score), self.threshold)
        boxes, score = boxes[left[: self.most]], score[left[: self.most]]
        return as_regions(boxes), score[:, None]

    def to_onnx(self, out: OnnxLayer) -> None:
        raise out.refuse(
            "Synopsys' Proposal compares each box with those behind it and not by scores, which no ONNX operator does",
            hint="end the net before it with --outputs, and choose the boxes in your program",
        )


def _one_after_the_other(boxes: Array, scores: Array, threshold: float) -> list[int]:
    """The boxes that stay where each is compared with those behind it, and goes if a better one overlaps it."""
    areas = (boxes[:, 2] - boxes[:, 0] + 1) * (boxes[:, 3] - boxes[:, 1] + 1)
    alive = np.ones(len(boxes), bool)
    for first in range(len(boxes)):
        if not alive[first]:
            continue
        rest = first + 1 + np.flatnonzero(alive[first + 1 :])
        low = np.maximum(boxes[first, :2], boxes[rest, :2])
        size = np.minimum(boxes[first, 2:], boxes[rest, 2:]) - low
        common = size.prod(1) * (size > 0).all(1)
        overlapping = rest[common / (areas[first] + areas[rest] - common) > np.float32(threshold)]
        better = np.flatnonzero(scores[overlapping] > scores[first])
        if len(better):
            alive[first] = False
            overlapping = overlapping[: better[0]]
        alive[overlapping] = False
    left: list[int] = np.flatnonzero(alive).tolist()
    return left


@register_layer("Python:ProposalLayer", "FrcnnProposal")
@dataclass(frozen=True)
class PythonProposal(Proposals):
    """ProposalLayer of py-faster-rcnn, and of the projects that took it over: R-FCN, MNC, bottom-up attention, SSH.

    param_str gives feat_stride, and ratios, scales and base_size where they are not the defaults. What else there is
    stands in the project's configuration and code and not in the net. Where nothing is said of 12 or 15 anchors, they
    are those of `USUAL_SCALES`. The rest is py-faster-rcnn's here (lib/fast_rcnn/config.py): boxes of at least 16
    pixels, the 6000 best before and the 300 best after an NMS of 0.7, in training 12000 and 2000.
    SSH's (module SSH.layers.proposal_layer) are its 1000 best, of any size, without NMS, and where there is none a box
    of 16 pixels. CTPN's (module layers.text_proposal_layer) is TextProposal. FrcnnProposal of makefile/frcnn
    (src/caffe/FRCNN/frcnn_proposal_layer.cpp) reads all but feat_stride from a file of settings, whose examples say the
    same (examples/FRCNN/config).
    """

    usual: bool = False
    min_size: float = 16
    test: tuple[int, int] = (6000, 300)
    train: tuple[int, int] = (12000, 2000)
    threshold: float | None = 0.7

    @classmethod
    def parse(cls, spec: LayerSpec) -> Layer:
        if spec.type == "FrcnnProposal":
            stride = fork_message(spec, "proposal_param").number("feat_stride", 0) or 16
            return cls(stride, generate_anchors(16, RATIOS, SCALES), len(spec.tops) > 1, usual=True)
        params, module = python_params(spec), spec.message.python_param.module
        stride, scored = whole(spec, params, "feat_stride"), len(spec.tops) > 1
        if "text_proposal" in module:
            return TextProposal.of_stride(stride)
        usual = not {"scales", "ratios", "base_size"} & params.keys()
        anchors = generate_anchors(
            whole(spec, params, "base_size", 16),
            numbers(spec, params, "ratios", RATIOS),
            numbers(spec, params, "scales", SCALES),
        )
        if module.split(".")[0] == "SSH":
            return cls(stride, anchors, scored, usual, 0, (1000, 1000), (1000, 1000), None)
        return cls(stride, anchors, scored, usual)

    def for_scores(self, channels: int) -> Proposals:
        scales = USUAL_SCALES.get(channels // 2) if self.usual else None
        return self if scales is None else replace(self, anchors=generate_anchors(16, RATIOS, scales))

    def shapes(self, images: int) -> tuple[Shape, ...]:
        if images != 1:
            raise ValueError(f"{images} images; this layer takes one at a time")
        return (1, 5), (1, 1)

    def regions(self, scores: Tensor, offsets: Tensor, im_info: Tensor, *, training: bool) -> tuple[Tensor, Tensor]:
        import torch

        before, after = self.train if training else self.test
        boxes, score = self.decoded(offsets[0], im_info), self.by_place(scores[0, len(self.anchors) :], 1).flatten()
        least = self.min_size * float(im_info[2])
        fine = large_enough(boxes, least, least)
        boxes, score = boxes[fine], score[fine]
        if self.threshold is None:
            best = torch.sort(score, descending=True, stable=True).indices[:after]
            if not len(best):
                return boxes.new_tensor([[0, 0, 0, 16, 16]]), score[:, None]
        else:
            best = nms(boxes, score, threshold=self.threshold, top_k=before, pixels=1)[:after]
        return as_regions(boxes[best]), score[best, None]

    def to_onnx(self, out: OnnxLayer) -> None:
        refuse_in_opencv(out)
        before, after = self.test
        layer = self.for_scores(out.bottoms[0].shape[1] or 0)
        boxes = proposal_onnx.decoded(out, layer.anchors, self.stride)
        scores = proposal_onnx.foreground(out, len(layer.anchors))
        if self.threshold is None:  # boxes of any size: there is always one
            best, places = best_first(out, scores, after)
            boxes = out.reshape(picked(out, boxes, places), [-1, 4], part="boxes")
            with_image(out, boxes, zeros_like_column(out, boxes))
            if self.scored:
                out.reshape(best, [-1, 1], index=1)
            return
        least = proposal_onnx.least_size(out, self.min_size, [2, 2])
        fine = proposal_onnx.large_enough(out, boxes, least)
        scores = out.node("Where", [fine, scores, out.constant("lowest", LOWEST)], part="ranked")
        proposal_onnx.write_regions(
            out, boxes, scores, before=before, after=after, threshold=self.threshold, least=float(LOWEST) / 2
        )
