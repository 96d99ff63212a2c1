"""The common part of region proposals: boxes decoded from anchors and offsets, and their form as regions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..net.reach import EVERYTHING, Reach
from .anchors import Anchors
from .base import Layer, as_image
from .boxes import CHOSEN, clip_boxes, decode_regions, refuse_traces

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import Shape


@dataclass(frozen=True)
class Proposals(Layer):
    """Base of the types that make regions of scores, offsets and im_info; a second top has the regions' scores."""

    stride: float
    anchors: Anchors
    scored: bool

    bottom_count: ClassVar[tuple[int, float]] = (3, 3)
    top_count: ClassVar[tuple[int, float]] = (1, 2)
    offsets: ClassVar[int] = 4

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        (images, scores, *size), (_, offsets, *same) = map(as_image, bottoms[:2])
        count = len(self.for_scores(scores).anchors)
        if scores != 2 * count or offsets != self.offsets * count or size != same:
            raise ValueError(
                f"{count} anchors need {2 * count} channels of scores and {self.offsets * count} of offsets, of a size"
            )
        return self.shapes(images)[: 1 + self.scored]

    def bottom_shapes(self) -> dict[int, tuple[int | None, ...]]:
        return {2: (1, 3)}

    def shapes(self, images: int) -> tuple[Shape, ...]:
        """Both tops as the layer's setup shapes them."""
        raise NotImplementedError

    def open_sizes(self) -> tuple[tuple[int, int], ...]:
        return ((0, 0), (1, 0))[: 1 + self.scored]

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return EVERYTHING

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        refuse_traces(CHOSEN)
        scores, offsets, im_info = bottoms
        layer = self.for_scores(scores.shape[1])
        return layer.regions(scores, offsets, im_info.flatten(), training=training)[: 1 + self.scored]

    def for_scores(self, channels: int) -> Proposals:
        """The layer with the anchors that it takes for so many channels of scores."""
        return self

    def regions(self, scores: Tensor, offsets: Tensor, im_info: Tensor, *, training: bool) -> tuple[Tensor, Tensor]:
        """Both tops; `im_info` is flat."""
        raise NotImplementedError

    def by_place(self, x: Tensor, each: int) -> Tensor:
        """A bottom's numbers of one image (c, h, w) as rows of `each`, the anchors of a place together."""
        return x.permute(1, 2, 0).reshape(-1, each)

    def decoded(self, offsets: Tensor, im_info: Tensor) -> Tensor:
        """The boxes (h * w * anchors, 4) of one image's offsets (4 * anchors, h, w), cut to the image."""
        anchors = self.anchors.placed(offsets.shape[1:], self.stride, like=offsets)
        height, width = (max(size - 1, 0) for size in im_info[:2].tolist())
        return clip_boxes(decode_regions(self.by_place(offsets, 4), anchors), height=height, width=width)


def large_enough(boxes: Tensor, height: float, width: float) -> Tensor:
    """True for boxes (n, 4) that are at least so large, the last pixel counted."""
    wide, high = boxes[:, 2] - boxes[:, 0] + 1, boxes[:, 3] - boxes[:, 1] + 1
    return (wide >= width) & (high >= height)


def as_regions(boxes: Tensor, image: int = 0) -> Tensor:
    """The boxes (n, 4) with the image that they are of before them."""
    import torch

    return torch.cat((boxes.new_full((len(boxes), 1), image), boxes), 1)
