"""DetectionOutput of SSD's fork, with what RefineDet, Synopsys and Intel added to it (detection_output_layer.cpp)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, prod
from typing import TYPE_CHECKING, ClassVar

from ..net.reach import EVERYTHING, Reach
from .base import LARGEST, Layer, refuse, register_layer
from .boxes import CODE_TYPES, CodeType, decode_boxes, nms
from .detection_heads import Heads, Layout, Suppression
from .fork import ForkMessage, fork_message
from .std_sort import best, descending
from .yolo import RegionDetections

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec, Shape
    from ..net.onnx_form import OnnxLayer


@register_layer("DetectionOutput", "DetectionOutputExtended")
@dataclass(frozen=True)
class DetectionOutput(Layer):
    """The detections (1, 1, k, 7): image, class, score, xmin, ymin, xmax, ymax, the box in parts of the image.

    Boxes are decoded, and suppressed class by class; the best `keep_top_k` of each image stay, in order of image, class
    and score. Where there is none at all the top has a row (image, -1, -1 ...) for each image, as in Caffe. k depends
    on the numbers: the shape rule says 1, as Caffe's Reshape does before the first forward pass. `extended` adds the
    anchor and the cell's x and y of each detection, (1, 1, k, 10).

    `clip`, which the face detector of OpenCV's samples has, keeps boxes inside the image.

    Sources: weiliu89/caffe (branch ssd), src/caffe/layers/detection_output_layer.cpp and src/caffe/util/bbox_util.cpp;
    openvinotoolkit/training_toolbox_caffe, detection_output_extended_layer.cpp; for clip opencv/opencv,
    modules/dnn/src/layers/detection_output_layer.cpp (DecodeBBox). Caffe stops at background_label_id -1
    with share_location; here it means that no class is the background, as in OpenVINO.
    """

    heads: Heads
    suppression: Suppression
    code: CodeType
    background: int
    objectness: float
    visualize: bool
    extended: bool
    clip: bool = False

    bottom_count: ClassVar[tuple[int, float]] = (3, 64)
    top_count: ClassVar[tuple[int, float]] = (1, 1)

    @classmethod
    def parse(cls, spec: LayerSpec) -> Layer:
        if len(spec.bottoms) == 1:
            return RegionDetections.parse(spec)
        message = fork_message(spec, "detection_output_param")
        for field in ("tflite_detection", "arm_conf_no_concat", "arm_loc_no_concat"):
            if message.flag(field, default=False):
                raise refuse(spec, f"detection_output_param.{field} is not supported")
        extended = spec.type == "DetectionOutputExtended"
        heads = _heads(spec, message)
        if extended and heads.classes != 2:
            raise refuse(spec, f"num_classes is {heads.classes}; DetectionOutputExtended takes 2")
        return cls(
            heads=heads,
            suppression=_suppression(spec, message),
            code=read_code_type(spec, message),
            background=0 if extended else message.integer("background_label_id", 0),
            objectness=message.number("objectness_score", 0.01),
            visualize=message.flag("visualize", default=False),
            extended=extended,
            clip=message.flag("clip", default=False),
        )

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        priors = self.heads.count(bottoms)
        if not self.heads.separate:
            self.refinement(bottoms, priors)
        if self.extended and (len(bottoms[0]) != 4 or bottoms[0][3] % (4 * self.heads.box_classes)):
            raise ValueError("the location predictions must be (n, h, w, anchors * 4)")
        return ((1, 1, 1, 10 if self.extended else 7),)

    def open_sizes(self) -> tuple[tuple[int, int], ...]:
        return ((0, 2),)

    def refinement(self, bottoms: Sequence[Shape], priors: int) -> tuple[bool, bool]:
        """True where the fourth and the fifth bottom are RefineDet's; the fourth may be the image to draw on."""
        extra = bottoms[3:5]
        if self.visualize or (extra and prod(extra[0][1:]) != 2 * priors):
            if len(bottoms) > 4:
                raise ValueError(f"the fourth bottom must have two scores for each of {priors} priors")
            return False, False
        if len(extra) > 1 and (self.heads.box_classes > 1 or prod(extra[1][1:]) != 4 * priors):
            raise ValueError(f"the fifth bottom must have one offset for each of {priors} priors, for all classes")
        if any(shape[0] != bottoms[0][0] for shape in extra):
            raise ValueError("the anchors' refinement is for another number of images")
        return len(extra) > 0, len(extra) > 1

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return EVERYTHING

    def to_onnx(self, out: OnnxLayer) -> None:
        from .detection_output_onnx import write_detections

        write_detections(self, out)

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        import torch

        boxes, scores = self.decode(bottoms)
        found = [self._detect(image, boxes[image], scores[image]) for image in range(len(boxes))]
        rows = torch.cat([row for row, _ in found])
        if not len(rows):
            rows = scores.new_full((len(boxes), 7), -1)
            rows[:, 0] = torch.arange(len(boxes))
        if self.extended:
            rows = torch.cat((rows, self._cells(bottoms[0], torch.cat([index for _, index in found]), len(rows))), 1)
        return (rows[None, None],)

    def decode(self, bottoms: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The boxes (n, p, l, 4) and scores (n, p, classes) of all priors, l = 1 where the classes share them."""
        import torch

        heads = self.heads.gather(bottoms)
        scores, priors, variances = heads.scores, heads.priors, heads.variances
        refined = (False, False)
        if not self.heads.separate:
            refined = self.refinement([tuple(bottom.shape) for bottom in bottoms], len(priors))
        if refined[0]:
            easy = bottoms[3].reshape(len(scores), -1, 2)[..., 1:] < self.objectness
            scores = torch.where(easy, torch.eye(scores.shape[-1])[0].to(scores), scores)
        if refined[1]:
            offsets = bottoms[4].reshape(len(scores), -1, 4)
            priors = decode_boxes(offsets, priors, variances, code=self.code)
        priors = priors[..., None, :]
        variances = None if variances is None else variances[:, None]
        boxes = decode_boxes(heads.offsets, priors, variances, code=self.code)
        return boxes.clamp(0, 1) if self.clip else boxes, scores

    def _detect(self, image: int, boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        """The rows (k, 7) of one image, and the prior (k,) of each."""
        import torch

        how = self.suppression
        labels, indices = [], []
        for each in range(scores.shape[1]):
            if each == self.background:
                continue
            kept = nms(
                boxes[:, each if boxes.shape[1] > 1 else 0],
                scores[:, each],
                threshold=how.threshold,
                score_threshold=how.score_threshold,
                top_k=how.top_k,
                eta=how.eta,
            )
            if scores.shape[1] - (0 <= self.background < scores.shape[1]) == 1 and how.keep_top_k > -1:
                kept = kept[: how.keep_top_k]
            indices.append(kept)
            labels.append(torch.full_like(kept, each))
        index = torch.cat([*indices, torch.zeros(0, dtype=torch.long, device=scores.device)])
        label = torch.cat([*labels, index[:0]])
        if -1 < how.keep_top_k < len(index):
            place = _best(scores[index, label], how.keep_top_k)
            place = place[torch.sort(label[place], stable=True).indices]
            index, label = index[place], label[place]
        chosen = boxes[index, label if boxes.shape[1] > 1 else 0]
        columns = [torch.full_like(index, image).to(scores), label.to(scores), scores[index, label]]
        return torch.cat((torch.stack(columns, 1), chosen), 1), index

    def _cells(self, bottom: Tensor, index: Tensor, rows: int) -> Tensor:
        """Anchor, x and y (k, 3) of each detection; -1 where there is none at all."""
        import torch

        if not len(index):
            return bottom.new_full((rows, 3), -1)
        anchors, width = bottom.shape[3] // 4, bottom.shape[2]
        cell = index // anchors
        return torch.stack((index % anchors, cell % width, cell // width), 1).to(bottom)


def _best(scores: Tensor, count: int) -> Tensor:
    """The places of the best scores, the best first.

    Which of equal scores stay is open in Caffe, which calls std::sort. Here it is as in OpenCV, which with one class
    takes the first, with many detections calls std::partial_sort, and else std::sort (processDetections_).
    """
    import torch

    kept, order = torch.sort(scores, descending=True, stable=True)
    if bool((kept[1:] == kept[:-1]).any()):
        keys = scores.tolist()
        found = descending(keys) if 8 * count > len(keys) else best(keys, count)
        order = torch.tensor(found, dtype=torch.long, device=scores.device)
    return order[:count]


def _heads(spec: LayerSpec, message: ForkMessage) -> Heads:
    classes = message.integer("num_classes", 0)
    if not 0 < classes <= LARGEST:
        raise refuse(spec, f"num_classes is {classes}; expected at least 1")
    shared = message.flag("share_location", default=True)
    layout: Layout = "interleaved"
    if message.flag("ratio_permute", default=False):
        layout = "ratio_permute"
    elif message.flag("no_permute", default=False):
        layout = "no_permute"
    separate, bottoms = message.integer("nbottom", 6), len(spec.bottoms)
    if layout == "interleaved" and bottoms < separate:
        separate = 0
    else:
        if separate < 1 or bottoms not in (2 * separate + 1, 3 * separate):
            raise refuse(spec, f"{bottoms} bottoms for {separate} heads; expected {2 * separate + 1} or {3 * separate}")
        if layout == "no_permute" and bottoms == 3 * separate > 3:
            raise refuse(spec, "no_permute takes all priors as one bottom")
        if layout == "ratio_permute" and not shared:
            raise refuse(spec, "ratio_permute takes boxes that all classes share")
    ratios = tuple(message.integer(f"ratio{head}", 3 if head == 0 else 6) for head in range(separate))
    if layout == "ratio_permute" and (separate > 6 or min(ratios) < 1):
        raise refuse(spec, f"the ratios of {separate} heads are {ratios}; expected at most 6, all positive")
    encoded = message.flag("variance_encoded_in_target", default=False)
    image = None
    if not message.flag("normalized", default=True):
        image = message.number("input_height", 1), message.number("input_width", 1)
        if separate or not encoded or min(image) <= 0:
            raise refuse(spec, "normalized: false needs variance_encoded_in_target, input_height and input_width")
    return Heads(classes, 1 if shared else classes, separate, layout, ratios, image, not encoded)


def _suppression(spec: LayerSpec, message: ForkMessage) -> Suppression:
    param = message.message("nms_param")
    threshold, eta = param.number("nms_threshold", 0.3), param.number("eta", 1)
    if not threshold >= 0 or not isfinite(threshold):
        raise refuse(spec, f"nms_threshold is {threshold}; expected at least 0")
    if not 0 < eta <= 1:
        raise refuse(spec, f"eta is {eta}; expected a number above 0 and up to 1")
    given = "confidence_threshold" in message
    return Suppression(
        threshold=threshold,
        eta=eta,
        top_k=param.integer("top_k", -1),
        keep_top_k=message.integer("keep_top_k", -1),
        score_threshold=message.number("confidence_threshold", 0) if given else None,
    )


def read_code_type(spec: LayerSpec, message: ForkMessage) -> CodeType:
    """`code_type` of a detection_output_param, given as a word or a number; raises NetError for another."""
    name = message.word("code_type", "CORNER").rpartition(".")[2]
    names: dict[str, CodeType] = {name: name for name in CODE_TYPES} | {str(i): c for i, c in enumerate(CODE_TYPES, 1)}
    if name not in names:
        raise refuse(spec, f"code_type is {name!r}; expected {', '.join(CODE_TYPES)}")
    return names[name]
