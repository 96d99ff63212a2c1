"""Borders taken off or put on: DeepLab's Padding and waifu2x' CropCenter.

Source: TheLegendAli/DeepLab-Context, padding_layer.cpp; lltcggie/caffe, crop_center_layer.cpp.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..net.python_form import Form, call
from ..net.reach import Reach, Window
from .base import LARGEST, OneToOne, as_image, refuse, register_layer
from .fork import fork_message

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec, Shape
    from ..net.onnx_form import OnnxLayer
    from ..net.python_form import Site


@register_layer("Padding")
@dataclass(frozen=True)
class Padding(OneToOne):
    """Zeros before and after h and w, by pad_beg and pad_end; both below 0 crop."""

    begin: int
    end: int

    @classmethod
    def parse(cls, spec: LayerSpec) -> Padding:
        message = fork_message(spec, "padding_param")
        begin, end = message.integer("pad_beg", 0), message.integer("pad_end", 0)
        if begin * end < 0 or max(abs(begin), abs(end)) > LARGEST:
            raise refuse(spec, f"pad_beg {begin} and pad_end {end}; both pad or both crop")
        return cls(begin, end)

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        n, c, h, w = as_image(bottoms[0])
        return ((n, c, h + self.begin + self.end, w + self.begin + self.end),)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return Window(pad=self.begin)

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (bottoms[0],)

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        from torch.nn.functional import pad

        return (pad(bottoms[0], (self.begin, self.end) * 2),)

    def to_onnx(self, out: OnnxLayer) -> None:
        if self.begin > 0 or self.end > 0:
            out.pad(out.bottoms[0], [0, 0, self.begin, self.begin, 0, 0, self.end, self.end])
        else:
            end = self.end or 2**62
            out.slice(out.bottoms[0], (2, 3), [-self.begin] * 2, [end] * 2)

    def to_python(self, site: Site) -> Form:
        return Form((call("F.pad", site.x, [self.begin, self.end] * 2),))


@register_layer("CropCenter")
@dataclass(frozen=True)
class CropCenter(OneToOne):
    """The bottom without crop_size places at both ends of each axis, one number for each."""

    sizes: tuple[int, ...]

    @classmethod
    def parse(cls, spec: LayerSpec) -> CropCenter:
        sizes = fork_message(spec, "crop_center_param").integers("crop_size")
        if min(sizes, default=0) < 0:
            raise refuse(spec, f"crop_size {sizes}; expected 0 or more")
        return cls(sizes)

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        if len(self.sizes) != len(bottoms[0]):
            raise ValueError(f"{len(self.sizes)} crop_size for {len(bottoms[0])} axes")
        return (tuple(length - 2 * size for length, size in zip(bottoms[0], self.sizes, strict=True)),)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return Window(pad=-self.sizes[axis]) if len(self.sizes) == 4 else None

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (bottoms[0] - 2 * self.sizes[1],) if len(self.sizes) == 4 else None

    @property
    def moves(self) -> bool:
        return True

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        inside = tuple(slice(size, length - size) for size, length in zip(self.sizes, bottoms[0].shape, strict=True))
        return (bottoms[0][inside],)

    def to_onnx(self, out: OnnxLayer) -> None:
        axes = [axis for axis, size in enumerate(self.sizes) if size]
        if not axes:
            out.top("Identity", [out.bottoms[0]])
            return
        starts = [self.sizes[axis] for axis in axes]
        out.slice(out.bottoms[0], axes, starts, [-start for start in starts])

    def to_python(self, site: Site) -> Form:
        inside = [f"{size}:{-size}" if size else ":" for size in self.sizes]
        return Form((f"{site.x}[{', '.join(inside)}]",))
