"""MS-CNN's and Cascade R-CNN's regions: BoxOutput and BoxGroupOutput.

Sources: zhaoweicai/mscnn, src/caffe/layers/box_output_layer.cpp; zhaoweicai/cascade-rcnn,
src/caffe/layers/box_group_output_layer.cpp and src/caffe/util/bbox_util.cpp. How many rows a top has, only the values
tell; a shape says what the layer's own setup says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf, log
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..arrays import to_array
from . import boxes_onnx
from . import cascade_onnx as form
from .base import as_image, refuse, register_layer
from .box_layer import BoxLayer, offset_statistics
from .boxes import CHOSEN, refuse_traces
from .fork import fork_message
from .regions import float32
from .spans import Array
from .suppression import MODES, suppressed

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec, Shape
    from ..net.onnx_form import OnnxLayer, Sizes
    from .fork import ForkMessage


@dataclass(frozen=True)
class RegionOutput(BoxLayer):
    """Base of BoxOutput and BoxGroupOutput: which boxes are regions, and how many."""

    least: float
    overlap: float
    mode: str
    field_whr: float
    field_xyr: float
    before: int
    after: int
    min_size: float

    top_count: ClassVar[tuple[int, float]] = (1, 2)
    scored: bool = field(default=False, kw_only=True)
    wider: ClassVar[int] = 0

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        return ((1, 5, 1, 1), (1, 6, 1, 1))[: 1 + self.scored]

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (5, 6)[: 1 + self.scored]

    def decoded(self, offsets: Tensor, width: float, height: float, stride: float) -> tuple[Tensor, ...]:
        """x, y, w, h (h, w) of offsets (4, h, w) from a field of so many pixels around each place."""
        import torch

        shape = (-1, 1, 1)
        x, y, w, h = offsets * offsets.new_tensor(self.std).view(shape) + offsets.new_tensor(self.mean).view(shape)
        rows, columns = (torch.arange(size, dtype=x.dtype, device=x.device) + 0.5 for size in x.shape)
        least, most = -1 / self.field_xyr, 1 / self.field_xyr
        x = x.clamp(least, most) * width + columns * stride
        y = y.clamp(least, most) * height + rows[:, None] * stride
        bound = log(self.field_whr)
        w, h = w.clamp(-bound, bound).exp() * width, h.clamp(-bound, bound).exp() * height
        return x - w / 2, y - h / 2, w, h

    def best(self, found: Array) -> Array:
        """The rows x1, y1, x2, y2, score that stay, best first."""
        order = np.lexsort((-np.arange(len(found)), -found[:, 4]))
        found = found[order[: self.before] if self.before else order]
        found = found[suppressed(found[:, :4], mode=self.mode, threshold=self.overlap, wider=self.wider)]
        return found[: self.after] if self.after else found

    def output(self, like: Tensor, images: Sequence[Array]) -> tuple[Tensor, ...]:
        """The tops for the rows of each image."""
        rows = np.concatenate([np.insert(found, 0, image, axis=1) for image, found in enumerate(images)])
        if len(rows):
            top = like.new_tensor(rows)
            return (top[:, :5, None, None], top[:, :, None, None])[: 1 + self.scored]
        none = like.new_tensor([[0, 1, 1, 10, 10]])
        return (none[..., None, None], like.new_zeros(1, 6, 1, 1))[: 1 + self.scored]

    def open_sizes(self) -> tuple[tuple[int, int], ...]:
        return ((0, 0), (1, 0))[: 1 + self.scored]


def _output_fields(spec: LayerSpec, message: ForkMessage) -> dict[str, Any]:
    """The fields of both types, with what there is of the offsets."""
    mode = message.word("nms_type", "IOU")
    whr, xyr = message.number("field_whr", 2), message.number("field_xyr", 2)
    before, after = message.integer("max_nms_num", 0), message.integer("max_post_nms_num", 0)
    if mode not in MODES or min(whr, xyr) <= 0 or min(before, after) < 0:
        raise refuse(
            spec, f"nms_type {mode}, field_whr {whr}, field_xyr {xyr}: expected one of {', '.join(MODES)}, above 0"
        )
    mean, std = offset_statistics(spec)
    return {
        "mean": mean,
        "std": std,
        "least": float32(message.number("fg_thr", 0)),
        "overlap": float32(message.number("iou_thr", 0.5)),
        "mode": mode,
        "field_whr": float32(whr),
        "field_xyr": float32(xyr),
        "before": before,
        "after": after,
        "min_size": message.number("min_size", 15),
        "scored": len(spec.tops) > 1,
    }


@register_layer("BoxOutput")
@dataclass(frozen=True)
class BoxOutput(RegionOutput):
    """MS-CNN's regions: boxes whose best class beats the background by fg_thr, of bottoms of several scales.

    Each bottom has the scores of its classes, background first, and four offsets from a field of field_w x field_h
    pixels around each place, the places downsample_rate pixels apart. The tops are regions [image, x1, y1, x2, y2] and
    the same with their scores; where there is none, one of 1 to 10.
    """

    fields: tuple[tuple[float, float, float], ...] = ()

    bottom_count: ClassVar[tuple[int, float]] = (1, inf)

    @classmethod
    def parse(cls, spec: LayerSpec) -> BoxOutput:
        message = fork_message(spec, "box_output_param")
        sizes = [message.numbers(name) for name in ("field_w", "field_h", "downsample_rate")]
        if any(len(size) != len(spec.bottoms) or min(size, default=0) <= 0 for size in sizes):
            raise refuse(spec, f"{len(spec.bottoms)} bottoms need as many field_w, field_h and downsample_rate")
        fields = tuple(zip(*sizes, strict=True))
        return cls(**_output_fields(spec, message), fields=fields)

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        if len({as_image(shape)[:2] for shape in bottoms}) > 1 or bottoms[0][1] < 6:
            raise ValueError("the bottoms need equal images and channels: two classes or more and four offsets")
        return super().top_shapes(bottoms)

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        refuse_traces(CHOSEN)
        images = [
            self.best(np.concatenate([self._boxes(x[image], *self.fields[i]) for i, x in enumerate(bottoms)]))
            for image in range(len(bottoms[0]))
        ]
        return self.output(bottoms[0], images)

    def _boxes(self, x: Tensor, width: float, height: float, stride: float) -> Array:
        import torch

        score = x[1:-4].amax(0) - x[0]
        left, top, w, h = self.decoded(x[-4:], width, height, stride)
        left, top = left.clamp(min=0), top.clamp(min=0)
        w, h = torch.minimum(w, int(x.shape[2] * stride) - left), torch.minimum(h, int(x.shape[1] * stride) - top)
        likely = (score >= self.least) & (w >= self.min_size) & (h >= self.min_size)
        rows = torch.stack((left, top, left + w, top + h, score), -1)[likely]
        return to_array(rows)

    def to_onnx(self, out: OnnxLayer) -> None:
        form.check_mode(out, self.mode)
        boxes, scores = [], []
        for bottom, (width, height, stride) in enumerate(self.fields):
            x = out.node("Transpose", [out.bottoms[bottom]], part="by_place", perm=[0, 2, 3, 1])
            classes = out.reduce("ReduceMax", out.slice(x, [3], [1], [-4], part="classes"), (3,), part="best_class")
            score = out.node("Sub", [classes, out.slice(x, [3], [0], [1], part="background")], part="score")
            size = np.array(width), np.array(height)
            offsets = out.slice(x, [3], [-4], [1 << 30], part="offsets")
            first, wide, nought = form.fields(self, out, offsets, size, stride, bottom)
            first = out.node("Max", [first, nought], part="first")
            room = out.node("Sub", [form.image_size(out, bottom, stride, whole=True), first], part="room")
            wide = out.node("Min", [wide, room], part="wide")
            box = out.node("Concat", [first, out.node("Add", [first, wide], part="last")], part="box", axis=3)
            boxes.append(out.reshape(box, [images_of(out), -1, 4], part="boxes"))
            scores.append(out.reshape(form.likely(out, self, score, wide), [images_of(out), -1], part="scores"))
        form.write_regions(self, out, boxes, scores)


@register_layer("BoxGroupOutput")
@dataclass(frozen=True)
class BoxGroupOutput(RegionOutput):
    """Cascade R-CNN's regions: boxes that are background by at most 1 - fg_thr.

    Bottoms come in pairs, scores (n * fields, classes, h, w) and offsets (n * fields, 4, h, w), with a box_group_param
    for each: its fields' field_w and field_h, and its stride. x2 and y2 are the last pixel.
    """

    groups: tuple[tuple[tuple[float, ...], tuple[float, ...], float], ...] = ()

    bottom_count: ClassVar[tuple[int, float]] = (2, inf)
    wider: ClassVar[int] = 1

    @classmethod
    def parse(cls, spec: LayerSpec) -> BoxGroupOutput:
        message = fork_message(spec, "box_group_output_param")
        groups = []
        for each in message.messages("box_group_param"):
            wide, high, stride = each.numbers("field_w"), each.numbers("field_h"), each.number("stride", 1)
            if not wide or len(wide) != len(high) or min(*wide, *high, stride) <= 0:
                raise refuse(
                    spec, f"box_group_param: field_w {wide}, field_h {high}, stride {stride}: as many, above 0"
                )
            groups.append((wide, high, stride))
        if 2 * len(groups) != len(spec.bottoms):
            raise refuse(spec, f"{len(spec.bottoms)} bottoms and {len(groups)} box_group_param; expected two for each")
        return cls(**_output_fields(spec, message), groups=tuple(groups))

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        images = {as_image(shape)[0] / len(self.groups[i // 2][0]) for i, shape in enumerate(bottoms)}
        sizes = all(a[2:] == b[2:] for a, b in zip(bottoms[::2], bottoms[1::2], strict=True))
        if len(images) > 1 or not images.pop().is_integer() or not sizes or any(b[1] != 4 for b in bottoms[1::2]):
            raise ValueError("each pair needs scores and four offsets for every field of every image")
        return super().top_shapes(bottoms)

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        refuse_traces(CHOSEN)
        count = len(bottoms[0]) // len(self.groups[0][0])
        images = []
        for image in range(count):
            found = []
            for pair, (wide, high, stride) in enumerate(self.groups):
                for k, size in enumerate(zip(wide, high, strict=True)):
                    place = image * len(wide) + k
                    found.append(self._boxes(bottoms[2 * pair][place], bottoms[2 * pair + 1][place], *size, stride))
            images.append(self.best(np.concatenate(found)))
        return self.output(bottoms[0], images)

    def _boxes(self, scores: Tensor, offsets: Tensor, width: float, height: float, stride: float) -> Array:
        import torch

        score = 1 - scores[0]
        left, top, w, h = self.decoded(offsets, width, height, stride)
        right = (left + w - 1).clamp(max=int(offsets.shape[2] * stride))
        bottom = (top + h - 1).clamp(max=int(offsets.shape[1] * stride))
        left, top = left.clamp(min=0), top.clamp(min=0)
        likely = (score >= self.least) & (right - left + 1 >= self.min_size) & (bottom - top + 1 >= self.min_size)
        return to_array(torch.stack((left, top, right, bottom, score), -1)[likely])

    def to_onnx(self, out: OnnxLayer) -> None:
        form.check_mode(out, self.mode)
        images = images_of(out) // len(self.groups[0][0])
        boxes, scores = [], []
        for pair, (wide, high, stride) in enumerate(self.groups):
            count, bottom = len(wide), 2 * pair
            background = out.slice(out.bottoms[bottom], [1], [0], [1], part="background")
            score = out.node("Sub", [boxes_onnx.number(out, "certain", 1), background], part="score")
            h, w = (out.size(out.bottoms[bottom], [axis]) for axis in (2, 3))
            score = out.reshape(score, [-1, count, h, w, 1], part="score")
            offsets = out.reshape(out.bottoms[bottom + 1], [-1, count, 4, h, w], part="offsets")
            offsets = out.node("Transpose", [offsets], part="offsets", perm=[0, 1, 3, 4, 2])
            size = (np.array(each).reshape(-1, 1, 1) for each in (wide, high))
            first, extent, nought = form.fields(self, out, offsets, tuple(size), stride, bottom)
            one = boxes_onnx.number(out, "one", 1)
            last = out.node("Sub", [out.node("Add", [first, extent], part="beyond"), one], part="last")
            last = out.node("Min", [last, form.image_size(out, bottom, stride, whole=True)], part="last")
            first = out.node("Max", [first, nought], part="first")
            length = out.node("Add", [out.node("Sub", [last, first], part="length"), one], part="length")
            box = out.node("Concat", [first, last], part="box", axis=4)
            boxes.append(out.reshape(box, [images, -1, 4], part="boxes"))
            scores.append(out.reshape(form.likely(out, self, score, length), [images, -1], part="scores"))
        form.write_regions(self, out, boxes, scores)


def images_of(out: OnnxLayer) -> Sizes:
    """The number of images, or of a first bottom's rows of a kind."""
    return out.size(out.bottoms[0], [0])
