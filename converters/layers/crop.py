"""Crop (crop_layer.cpp)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..net.onnx_form import OPENCV
from ..net.python_form import Form, call
from ..net.reach import NOTHING, Reach, Window
from .base import Layer, canonical_axis, image_axis, kept, register_layer
from .opencv_onnx import opencv_crop

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec, Shape
    from ..net.onnx_form import OnnxLayer
    from ..net.python_form import Site


@register_layer("Crop")
@dataclass(frozen=True)
class Crop(Layer):
    """The part of the first bottom, from `axis` on, that starts at the offset and has the second bottom's size.

    `offset` has one value for every cropped axis, or one for all of them; where it is missing it is 0. Axes before
    `axis` keep the first bottom's size.
    """

    axis: int
    offset: tuple[int, ...]

    bottom_count: ClassVar[tuple[int, float]] = (2, 2)
    top_count: ClassVar[tuple[int, float]] = (1, 1)

    @classmethod
    def parse(cls, spec: LayerSpec) -> Crop:
        message = spec.message.crop_param
        return cls(message.axis, tuple(message.offset))

    def _offsets(self, shape: Sequence[object]) -> list[tuple[int, int]]:
        """(axis, offset) of every cropped axis."""
        start = canonical_axis(self.axis, shape)
        offsets = self.offset or (0,)
        if len(offsets) == 1:
            offsets = offsets * (len(shape) - start)
        if len(offsets) != len(shape) - start:
            raise ValueError(f"{len(offsets)} offsets for the {len(shape) - start} axes from axis {start} on")
        return list(enumerate(offsets, start))

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        top, reference = list(bottoms[0]), bottoms[1]
        for axis, offset in self._offsets(top):
            if axis >= len(reference):
                raise ValueError(f"the second bottom has no axis {axis} to give a size")
            if offset + reference[axis] > top[axis]:
                raise ValueError(
                    f"axis {axis}: {reference[axis]} from offset {offset} on does not fit into {top[axis]}"
                )
            top[axis] = reference[axis]
        return (tuple(top),)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        if bottom:
            return NOTHING
        return Window(pad=-self.offset_along(axis))

    def offset_along(self, axis: int) -> int:
        """The offset along an axis of a blob (n, c, h, w); 0 where the axis is not cropped."""
        start = image_axis(self.axis)
        if start is None or axis < start or not self.offset:
            return 0
        return self.offset[min(axis - start, len(self.offset) - 1)]

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        start = image_axis(self.axis)
        return (bottoms[1 if start is not None and start <= 1 else 0],)

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        import torch

        from .functions import crop

        top, reference = bottoms
        axes, offsets = zip(*self._offsets(top.shape), strict=True)
        if not torch.compiler.is_compiling():
            return (crop(top, reference, axes[0], offsets),)
        # A slice makes torch.export prove that the part fits at every size, which it cannot; indices need no proof.
        for axis, offset in zip(axes, offsets, strict=True):
            top = top.index_select(axis, torch.arange(reference.shape[axis], device=top.device) + offset)
        return (top,)

    def to_onnx(self, out: OnnxLayer) -> None:
        x, reference = out.bottoms
        axes, offsets = zip(*self._offsets(x.shape), strict=True)
        if out.target in OPENCV and None in (reference.shape[axis] for axis in axes):
            opencv_crop(out, axis=axes[0], offsets=offsets)
            return
        size = out.size(reference, axes)
        free = None in [blob.shape[axis] for axis in axes for blob in (x, reference)]
        if not free or out.target in OPENCV:
            out.slice(x, axes, offsets, size + offsets)
            return
        # A slice takes what is there; what does not fit ends Caffe (crop_layer.cpp, Reshape), and a Reshape.
        part = out.slice(x, axes, offsets, size + offsets, part="part")
        out.reshape(part, [*kept(x, axes[0]), size])

    def to_python(self, site: Site) -> Form:
        axes, offsets = zip(*self._offsets(site.shapes[0]), strict=True)
        return Form((call("crop", *site.bottoms, axis=axes[0], offsets=offsets),))
