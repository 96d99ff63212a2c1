"""The outputs of YOLO nets: YoloDetectionOutput (v2), Yolov3DetectionOutput, and Region.

Sources: eric612/MobileNet-YOLO, src/caffe/layers/yolo_detection_output_layer.cpp and yolov3_detection_output_layer.cpp;
BirdeeChen/caffe_yolo_v2, src/caffe/layers/region_layer.cpp.

The rows of a detection output are [image, label, confidence, xmin, ymin, xmax, ymax], corners as parts of the image's
size and not cut to it, the label being 1 for the first class; how many there are, only the values tell. Both layers
sort the boxes of all images of a batch into one list and call the image 0, as they do in Caffe; in it a box goes where
a better one, of whatever class, overlaps it by nms_threshold or more. Where there is no box, each image has a row -1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..net.reach import EVERYTHING, Reach
from .base import Layer, Neuron, as_image, refuse, register_layer
from .boxes import CHOSEN, nms, refuse_traces
from .fork import ForkMessage, fork_message
from .yolo_onnx import Yolo, write_detections

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec, Shape
    from ..net.onnx_form import OnnxLayer


@dataclass(frozen=True)
class YoloOutput(Layer):
    """Base of the detection outputs; `boxes` is the number of anchors of each place, `anchors` width, height and so on.

    A bottom has for each anchor of a place x, y, width, height, objectness and `classes` scores.
    """

    classes: int
    boxes: int
    least: float
    threshold: float
    anchors: tuple[float, ...]

    softmax: ClassVar[bool] = True
    above: ClassVar[bool] = False
    bottom_count: ClassVar[tuple[int, float]] = (1, inf)
    top_count: ClassVar[tuple[int, float]] = (1, 1)

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        for shape in bottoms:
            channels = as_image(shape)[1]
            if channels != self.boxes * (5 + self.classes):
                raise ValueError(
                    f"{channels} channels; {self.boxes} boxes of {self.classes} classes need another number"
                )
        return ((1, 1, 1, 7),)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return EVERYTHING

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (1,)

    def anchor_sizes(self, bottom: int) -> list[tuple[float, float]]:
        """Width and height of each anchor of a bottom, in what `unit` counts in."""
        return list(zip(self.anchors[0::2], self.anchors[1::2], strict=True))[: self.boxes]

    def unit(self, bottom: int) -> float:
        """The part of an anchor's size that is one place of a bottom."""
        return 1

    def scores(self, classes: Tensor) -> Tensor:
        """The scores of classes (n, boxes, classes, h, w)."""
        return classes.softmax(2) if self.softmax else classes.sigmoid()

    def likely(self, confidence: Tensor) -> Tensor:
        """True for the boxes that count, by their confidence."""
        return confidence > self.least if self.above else confidence >= self.least

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        import torch

        rows = torch.cat([self._rows(x, position) for position, x in enumerate(bottoms)])
        # Of a box's classes only the best can stay: the others are the same box, and come after it.
        best = nms(rows[:, 3:], rows[:, 2], threshold=self.threshold, keep_equal=False)
        if not len(best):
            images = torch.arange(len(bottoms[0]), dtype=rows.dtype, device=rows.device)
            none = rows.new_full((len(images), 7), -1)
            none[:, 0] = images
            return (none[None, None],)
        return (rows[best][None, None],)

    def _rows(self, x: Tensor, position: int) -> Tensor:
        """The boxes of a bottom that count, with the best of their classes, as rows of the top."""
        import torch

        _, _, height, width = x.shape
        each = x.unflatten(1, (self.boxes, -1))
        confidence, label = (self.scores(each[:, :, 5:]) * each[:, :, 4:5].sigmoid()).max(2)
        rows = torch.arange(height, dtype=x.dtype, device=x.device)[:, None]
        columns = torch.arange(width, dtype=x.dtype, device=x.device)
        centre_x, centre_y = (each[:, :, 0].sigmoid() + columns) / width, (each[:, :, 1].sigmoid() + rows) / height
        sizes = x.new_tensor(self.anchor_sizes(position)) / self.unit(position)
        wide = each[:, :, 2].exp() * sizes[:, 0, None, None] / width
        high = each[:, :, 3].exp() * sizes[:, 1, None, None] / height
        corners = (centre_x - wide / 2, centre_y - high / 2, centre_x + wide / 2, centre_y + high / 2)
        found = torch.stack((torch.zeros_like(wide), label.to(x.dtype) + 1, confidence, *corners), -1)
        # Caffe goes through places first, and through the anchors of each.
        return found.permute(0, 2, 3, 1, 4)[self.likely(confidence).permute(0, 2, 3, 1)]

    def open_sizes(self) -> tuple[tuple[int, int], ...]:
        return ((0, 2),)

    def to_onnx(self, out: OnnxLayer) -> None:
        write_detections(self.form(len(out.bottoms)), out)

    def form(self, bottoms: int) -> Yolo:
        """The settings of the ONNX form."""
        anchors = tuple(np.array(self.anchor_sizes(bottom)) / self.unit(bottom) for bottom in range(bottoms))
        return Yolo(self.classes, anchors, self.least, self.threshold, softmax=self.softmax, above=self.above)


def _fields(spec: LayerSpec, message: ForkMessage, boxes: int) -> dict[str, Any]:
    """The settings that both outputs have."""
    numbers = message.fields.get("biases", [])
    if len(numbers) % 2 or not all(type(number) in (int, float) for number in numbers):
        raise refuse(spec, f"biases are {len(numbers)} numbers; expected a width and a height for each anchor")
    if message.integer("coords", 4) != 4:
        raise refuse(spec, f"coords is {message.integer('coords', 4)}; boxes have 4")
    classes, boxes = message.integer("num_classes", 20), message.integer("num_box", boxes)
    if min(classes, boxes) < 1:
        raise refuse(spec, f"num_classes {classes} and num_box {boxes}: both must be at least 1")
    return {
        "classes": classes,
        "boxes": boxes,
        "least": message.number("confidence_threshold", 0.01),
        "threshold": message.number("nms_threshold", 0.45),
        "anchors": tuple(map(float, numbers)),
    }


@register_layer("YoloDetectionOutput")
@dataclass(frozen=True)
class YoloDetectionOutput(YoloOutput):
    """YOLO v2: anchors in places, classes by softmax; with two bottoms, those of both together."""

    bottom_count: ClassVar[tuple[int, float]] = (1, 2)

    @classmethod
    def parse(cls, spec: LayerSpec) -> YoloDetectionOutput:
        message = fork_message(spec, "yolo_detection_output_param")
        layer = cls(**_fields(spec, message, 5))
        message.integer("side", 13)  # Caffe takes the bottom's width instead
        if len(layer.anchors) < 2 * layer.boxes:
            raise refuse(spec, f"{len(layer.anchors)} biases; {layer.boxes} boxes need {2 * layer.boxes}")
        return layer


@dataclass(frozen=True)
class RegionDetections(YoloDetectionOutput):
    """DetectionOutput of one bottom, as gklz1982/caffe-yolov2 has it: YOLO v2's boxes in the order of their places.

    Rows are [image, class from 0 on, confidence, x, y, width, height], x and y being the centre. A box goes where one
    before it, better or not, overlaps it by nms_threshold or more, both cut to the image. Sources: its
    detection_output_layer.cpp and include/caffe/util/bbox_util.hpp, ApplyNms.
    """

    side: int = 13

    bottom_count: ClassVar[tuple[int, float]] = (1, 1)

    @classmethod
    def parse(cls, spec: LayerSpec) -> RegionDetections:
        message = fork_message(spec, "detection_output_param")
        layer = cls(**_fields(spec, message, 5), side=message.integer("side", 13))
        if len(layer.anchors) < 2 * layer.boxes:
            raise refuse(spec, f"{len(layer.anchors)} biases; {layer.boxes} boxes need {2 * layer.boxes}")
        return layer

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        count, _, *size = as_image(bottoms[0])
        if count != 1 or size != [self.side, self.side]:
            raise ValueError(f"one image and {self.side} x {self.side} places are what this layer takes")
        return super().top_shapes(bottoms)

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        import torch

        refuse_traces(CHOSEN)
        rows = self._rows(bottoms[0], 0)
        turn = -torch.arange(len(rows), dtype=rows.dtype, device=rows.device)
        kept = rows[nms(rows[:, 3:].clamp(0, 1), turn, threshold=self.threshold, keep_equal=False)]
        if not len(kept):
            none = rows.new_full((1, 1, 1, 7), -1)
            none[..., 0] = 0
            return (none,)
        first, last = kept[:, 3:5], kept[:, 5:7]
        return (
            torch.cat((kept[:, :1], kept[:, 1:2] - 1, kept[:, 2:3], (first + last) / 2, last - first), 1)[None, None],
        )

    def form(self, bottoms: int) -> Yolo:
        return replace(super().form(bottoms), centred=True)


@register_layer("Yolov3DetectionOutput")
@dataclass(frozen=True)
class Yolov3DetectionOutput(YoloOutput):
    """YOLO v3: anchors in pixels, which ones a bottom has said by `mask`, its places `scales` pixels apart."""

    softmax: ClassVar[bool] = False
    above: ClassVar[bool] = True

    groups: int = 1
    mask: tuple[int, ...] = ()
    scales: tuple[int, ...] = ()

    @classmethod
    def parse(cls, spec: LayerSpec) -> Yolov3DetectionOutput:
        message = fork_message(spec, "yolov3_detection_output_param")
        groups = message.integer("mask_group_num", 2)
        layer = cls(
            **_fields(spec, message, 3),
            groups=groups,
            mask=message.integers("mask"),
            scales=message.integers("anchors_scale"),
        )
        if groups != len(spec.bottoms) or len(layer.scales) < groups:
            raise refuse(
                spec, f"{len(spec.bottoms)} bottoms, mask_group_num {groups}, {len(layer.scales)} anchors_scale"
            )
        if len(layer.mask) < groups * layer.boxes or len(layer.mask) % groups:
            raise refuse(spec, f"{len(layer.mask)} mask; {groups} bottoms of {layer.boxes} boxes need as many each")
        if not 0 <= min(layer.mask) <= max(layer.mask) < len(layer.anchors) // 2 or min(layer.scales) < 1:
            raise refuse(spec, f"mask {layer.mask} of {len(layer.anchors) // 2} anchors, anchors_scale {layer.scales}")
        return layer

    def anchor_sizes(self, bottom: int) -> list[tuple[float, float]]:
        sizes = list(zip(self.anchors[0::2], self.anchors[1::2], strict=True))
        first = bottom * (len(self.mask) // self.groups)
        return [sizes[place] for place in self.mask[first : first + self.boxes]]

    def unit(self, bottom: int) -> float:
        return self.scales[bottom]


@register_layer("Region")
@dataclass(frozen=True)
class Region(Neuron):
    """YOLO v2's bottom with objectness and classes made probabilities, the numbers of a box one after the other.

    The top has the bottom's shape, and in it, for each place by row and each of its boxes, x, y, width and height as
    they were, the logistic of the objectness, and the classes, softmax of them with `softmax`.
    """

    classes: int
    boxes: int
    softmax: bool

    @classmethod
    def parse(cls, spec: LayerSpec) -> Region:
        message = fork_message(spec, "region_param")
        if message.integer("coords", 4) != 4:
            raise refuse(spec, f"coords is {message.integer('coords', 4)}; boxes have 4")
        classes, boxes = message.integer("classes", 20), message.integer("boxes_of_each_grid", 5)
        return cls(classes, boxes, message.flag("softmax", default=False))

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        channels = as_image(bottoms[0])[1]
        if channels != self.boxes * (5 + self.classes):
            raise ValueError(f"{channels} channels; {self.boxes} boxes of {self.classes} classes need another number")
        return (bottoms[0],)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return EVERYTHING

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        import torch

        each = bottoms[0].permute(0, 2, 3, 1).unflatten(3, (self.boxes, -1))
        classes = each[..., 5:].softmax(-1) if self.softmax else each[..., 5:]
        top = torch.cat((each[..., :4], each[..., 4:5].sigmoid(), classes), -1)
        return (top.reshape(bottoms[0].shape),)

    def to_onnx(self, out: OnnxLayer) -> None:
        x, each = out.bottoms[0], 5 + self.classes
        last = out.node("Transpose", [x], part="places", perm=[0, 2, 3, 1])
        rows = out.reshape(last, [-1, each], part="rows")
        box = out.slice(rows, [1], [0], [4], part="box")
        score = out.node("Sigmoid", [out.slice(rows, [1], [4], [5], part="objectness")], part="object")
        classes = out.slice(rows, [1], [5], [each], part="classes")
        if self.softmax:
            classes = out.node("Softmax", [classes], part="probabilities", axis=1)
        numbers = out.node("Concat", [box, score, classes], part="numbers", axis=1)
        out.reshape(numbers, [out.size(x, [axis]) for axis in range(4)])
