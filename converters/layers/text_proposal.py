"""CTPN's Python:ProposalLayer: slices of text lines, 16 pixels wide.

Source: tianzhi0549/CTPN, src/layers/text_proposal_layer.py and src/anchor.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from .anchors import Anchors
from .boxes import clip_boxes
from .boxes_onnx import clipped, flat, image_ends, number, refuse_in_opencv
from .proposal_onnx import foreground, placed
from .proposals import Proposals

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import Shape
    from ..net.onnx_form import OnnxLayer

HEIGHTS = (11, 16, 23, 33, 48, 68, 97, 139, 198, 283)


@dataclass(frozen=True)
class TextProposal(Proposals):
    """The boxes (h * w * 10, 4), without an image's number, and the scores of every anchor, in the order of places.

    Two offsets for each anchor move its centre and its height; where it begins and ends in x stays.
    """

    offsets: ClassVar[int] = 2
    top_count: ClassVar[tuple[int, float]] = (2, 2)

    @classmethod
    def of_stride(cls, stride: float) -> TextProposal:
        # Corners are whole numbers there, cut towards zero: -0.5 is 0, 15.5 is 15.
        boxes = ((0.0, float(int(7.5 - h // 2)), 15.0, float(int(7.5 + h // 2))) for h in HEIGHTS)
        return cls(stride, Anchors(tuple(boxes)), scored=True)

    def shapes(self, images: int) -> tuple[Shape, ...]:
        if images != 1:
            raise ValueError(f"{images} images; this layer takes one at a time")
        return (1, 4), (1, 1)

    def regions(self, scores: Tensor, offsets: Tensor, im_info: Tensor, *, training: bool) -> tuple[Tensor, Tensor]:
        import torch

        anchors = self.anchors.placed(offsets.shape[2:], self.stride, like=offsets)
        shift, growth = self.by_place(offsets[0], 2).unbind(1)
        size = anchors[:, 3] - anchors[:, 1] + 1
        height = growth.exp() * size
        top = shift * size + (anchors[:, 1] + anchors[:, 3]) / 2 - height / 2
        boxes = torch.stack((anchors[:, 0], top, anchors[:, 2], top + height), 1)
        h, w = (max(size - 1, 0) for size in im_info[:2].tolist())
        return clip_boxes(boxes, height=h, width=w), self.by_place(scores[0, len(self.anchors) :], 1)

    def to_onnx(self, out: OnnxLayer) -> None:
        refuse_in_opencv(out)
        anchors = placed(out, self.anchors, self.stride)
        half, one = number(out, "half", 0.5), number(out, "one", 1)
        left, top, right, bottom = (out.slice(anchors, [2], [i], [i + 1], part="side") for i in range(4))
        moves = flat(out, out.bottoms[1].name, 2)
        shift, growth = (out.slice(moves, [2], [i], [i + 1], part="move") for i in range(2))
        size = out.node("Add", [out.node("Sub", [bottom, top], part="size"), one], part="size")
        height = out.node("Mul", [out.node("Exp", [growth], part="growth"), size], part="height")
        middle = out.node("Mul", [out.node("Add", [top, bottom], part="middle"), half], part="middle")
        centre = out.node("Add", [out.node("Mul", [shift, size], part="shift"), middle], part="centre")
        first = out.node("Sub", [centre, out.node("Mul", [height, half], part="extent")], part="first")
        last = out.node("Add", [first, height], part="last")
        boxes = out.node("Concat", [left, first, right, last], part="boxes", axis=2)
        out.reshape(clipped(out, boxes, image_ends(out, 2)), [-1, 4])
        out.reshape(foreground(out, len(self.anchors)), [-1, 1], index=1)
