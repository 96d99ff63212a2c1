"""Upsample of SegNet's and ENet's forks (upsample_layer.cpp) and Interp of DeepLab's (interp_layer.cpp)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..net.onnx_form import INT64, OPENCV
from ..net.python_form import Form, call, times
from ..net.reach import EVERYTHING, NOTHING, Reach, Transposed
from .base import LARGEST, Layer, Pair, as_image, kept, may_be_one, refuse, register_layer
from .between import Between, Interpolating, along_corners, scaled
from .fork import fork_message
from .opencv_onnx import TO_THE_END, zoomed

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec, Shape
    from ..net.onnx_form import OnnxLayer, OnnxValue, Operand, Sizes
    from ..net.python_form import Site


@register_layer("Upsample")
@dataclass(frozen=True)
class Upsample(Layer):
    """Unpooling: each value goes to the place that a MAX pooling's second top recorded, zeros elsewhere.

    The size is `size` (upsample_h, upsample_w), else the bottom's times `scale` minus `cut` (pad_out). With one bottom
    it is the Upsample of other forks: each value fills scale x scale places.
    """

    size: Pair | None
    scale: Pair
    cut: Pair
    unpool: bool

    bottom_count: ClassVar[tuple[int, float]] = (1, 2)
    top_count: ClassVar[tuple[int, float]] = (1, 1)

    @classmethod
    def parse(cls, spec: LayerSpec) -> Upsample:
        message = fork_message(spec, "upsample_param")
        size = message.integer("upsample_h", 0), message.integer("upsample_w", 0)
        scale = message.integer("scale", 2)
        layer = cls(
            size=size if "upsample_h" in message and "upsample_w" in message else None,
            scale=(message.integer("scale_h", scale), message.integer("scale_w", scale)),
            cut=(message.flag("pad_out_h", default=False), message.flag("pad_out_w", default=False)),
            unpool=len(spec.bottoms) > 1,
        )
        if min(layer.size or layer.scale) < 1:
            raise refuse(spec, f"upsample size {layer.size}, scale {layer.scale}: all must be at least 1")
        if layer.size is not None and not layer.unpool:
            raise refuse(spec, "upsample_h and upsample_w need a pooling mask as second bottom")
        return layer

    @property
    def moves(self) -> bool:
        return not self.unpool

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        n, c, h, w = as_image(bottoms[0])
        if self.unpool and bottoms[1] != bottoms[0]:
            raise ValueError("the mask must have the shape of the first bottom")
        return ((n, c, *self._size((h, w))),)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return EVERYTHING if self.unpool else Transposed(self.scale[axis - 2], self.scale[axis - 2])

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (bottoms[0],)

    def _size(self, size: Sequence[int]) -> Pair:
        if self.size is not None:
            return self.size
        h, w = (x * scale - cut for x, scale, cut in zip(size, self.scale, self.cut, strict=True))
        return h, w

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        from .functions import unpool

        x = bottoms[0]
        h, w = self._size(x.shape[2:])
        if not self.unpool:
            wide = x.repeat_interleave(self.scale[0], 2).repeat_interleave(self.scale[1], 3)
            return (wide[:, :, :h, :w],)
        return (unpool(x, bottoms[1], h, w),)

    def to_onnx(self, out: OnnxLayer) -> None:
        if self.unpool:
            self._unpool_to_onnx(out)
            return
        scales = out.constant("scales", np.array((1, 1, *self.scale), np.float32))
        how: dict[str, Any] = {
            "mode": "nearest",
            "coordinate_transformation_mode": "asymmetric",
            "nearest_mode": "floor",
        }
        wide = out.make("Resize", [out.bottoms[0], None, scales], part="wide" if any(self.cut) else None, **how)
        if any(self.cut):
            ends = [-1 if cut else TO_THE_END for cut in self.cut]
            out.slice(wide, (2, 3), (0, 0), ends)

    def _unpool_to_onnx(self, out: OnnxLayer) -> None:
        x, cut = out.bottoms[0], [int(each) for each in self.cut]
        if out.target in OPENCV and None in x.shape and (self.size is None or None not in x.shape[2:]):
            self._unpool_in_opencv(out)
            return
        goal = out.sizes(self.size) if self.size is not None else out.size(x, (2, 3)) * self.scale - cut
        leading = out.size(x, (0, 1))
        zero = out.constant("zero", np.zeros((1, 1, 1), np.float32))
        blank = out.node("Expand", [zero, out.sizes([leading, goal.product()])], part="blank")
        place = out.node("Cast", [out.reshape(out.bottoms[1], [0, 0, -1], part="mask")], part="place", to=INT64)
        flat = out.reshape(x, [0, 0, -1], part="values")
        filled = out.node("ScatterElements", [blank, place, flat], part="filled", axis=2)
        out.reshape(filled, [*kept(x, 2), goal])

    def _unpool_in_opencv(self, out: OnnxLayer) -> None:
        """OpenCV's MaxUnpool, whose window says the size; it takes one image: the planes of all become those of one."""
        x = out.bottoms[0]
        if self.size is None:
            window = [scale - int(gone) for scale, gone in zip(self.scale, self.cut, strict=True)]
        else:
            places = zip(self.size, x.shape[2:], self.scale, strict=True)
            window = [size - ((count or 1) - 1) * scale for size, count, scale in places]
        settings: dict[str, Any] = {"kernel_shape": window, "strides": self.scale}
        if x.shape[0] == 1 or x.shape[1] is None:
            out.top("MaxUnpool", out.bottoms, **settings)
            return
        names = ("values", "mask")
        planes = [out.reshape(each, [1, -1, 0, 0], part=name) for each, name in zip(out.bottoms, names, strict=True)]
        out.reshape(out.node("MaxUnpool", planes, part="filled", **settings), [-1, x.shape[1], 0, 0])

    def to_python(self, site: Site) -> Form:
        x, (h, w), cuts = site.x, self.scale, self.cut
        if not self.unpool:
            top = f"{x}.repeat_interleave({h}, 2).repeat_interleave({w}, 3)"
            ends = (":-1" if cut else ":" for cut in cuts)
            return Form((f"{top}[:, :, {', '.join(ends)}]" if any(cuts) else top,))
        size: Sequence[object] = self.size or [
            f"{times(f'{x}.shape[{i}]', scale)}{' - 1' if cut else ''}"
            for i, scale, cut in zip((2, 3), self.scale, cuts, strict=True)
        ]
        return Form((call("unpool", x, site.bottoms[1], *size),))


@register_layer("Interp")
@dataclass(frozen=True)
class Interp(Interpolating):
    """Bilinear interpolation that maps the corner pixels on each other, after cropping pad_beg and pad_end (<= 0).

    The size is given by `shrink` and `zoom` (size - 1 is divided, multiplied), by `size`, or by a second bottom, which
    use_blob_size (soeaver/caffe-model, NVIDIA/TensorRT's caffe parser) puts before all else.
    """

    shrink: int | None
    zoom: int | None
    size: Pair | None
    crop: Pair

    bottom_count: ClassVar[tuple[int, float]] = (1, 2)
    top_count: ClassVar[tuple[int, float]] = (1, 1)

    @classmethod
    def parse(cls, spec: LayerSpec) -> Interp:
        message = fork_message(spec, "interp_param")
        shrink = message.integer("shrink_factor", 1) if "shrink_factor" in message else None
        zoom = message.integer("zoom_factor", 1) if "zoom_factor" in message else None
        if min(shrink or 1, zoom or 1) < 1 or 0 in (shrink, zoom):
            raise refuse(spec, f"shrink_factor {shrink} and zoom_factor {zoom} must be at least 1")
        crop = -message.integer("pad_beg", 0), -message.integer("pad_end", 0)
        if min(crop) < 0:
            raise refuse(spec, "pad_beg and pad_end are positive; Interp can only crop")
        sized = "height" in message and "width" in message
        if not sized and shrink is None and zoom is None and len(spec.bottoms) < 2:
            raise refuse(spec, "interp_param gives no size", hint="give a factor, height and width, or a second bottom")
        # A single factor wins over height and width, which win over both factors together.
        size = message.integer("height", 0), message.integer("width", 0)
        if message.flag("use_blob_size", default=False):
            if len(spec.bottoms) < 2:
                raise refuse(spec, "use_blob_size with one bottom", hint="the second has the size")
            return cls(None, None, None, crop)
        return cls(shrink, zoom, size if sized and (shrink is None) == (zoom is None) else None, crop)

    def _size(self, size: Sequence[int], reference: Sequence[int]) -> tuple[int, ...]:
        if self.size is not None:
            return self.size
        if self.shrink is None and self.zoom is None:
            return tuple(reference)
        shrink, zoom = self.shrink or 1, self.zoom or 1
        return tuple((x - sum(self.crop) - 1) // shrink * zoom + 1 for x in size)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return NOTHING if bottom else EVERYTHING

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (bottoms[0],)

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        n, c, h, w = as_image(bottoms[0])
        if min(h, w) <= sum(self.crop):
            raise ValueError(f"nothing is left of {h} x {w} after cropping {self.crop}")
        return ((n, c, *self._size((h, w), as_image(bottoms[-1])[2:])),)

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return 4 * prod(tops[0])

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        from torch.nn.functional import interpolate

        x = bottoms[0]
        begin, end = self.crop
        size = self._size(x.shape[2:], bottoms[-1].shape[2:])
        inner = x[:, :, begin : x.shape[2] - end, begin : x.shape[3] - end] if begin or end else x
        if may_be_one(*size):
            return (along_corners(along_corners(inner, 2, size[0]), 3, size[1]),)
        return (interpolate(inner, list(size), mode="bilinear", align_corners=True),)

    def between(self, bottoms: Sequence[Shape]) -> tuple[Between, Between]:
        (top,), begin = self.top_shapes(bottoms), self.crop[0]
        pairs = zip(bottoms[0][2:], top[2:], strict=True)
        h, w = (Between.of_corners(size - sum(self.crop), goal).moved(begin) for size, goal in pairs)
        return h, w

    def to_onnx(self, out: OnnxLayer) -> None:
        x, (begin, end) = out.bottoms[0], self.crop
        inner: Operand = x
        if begin or end:
            inner = out.slice(x, (2, 3), (begin, begin), [-end if end else TO_THE_END] * 2, part="inner")
        channels, free = x.shape[1], None in x.shape[2:] and self.size is None
        if out.target in OPENCV and free and self.zoom is not None and (self.shrink or 1) == 1 and channels is not None:
            zoomed(out, inner, channels, self.zoom)
            return
        if out.target in OPENCV and self.size is not None and None in x.shape:
            out.top("Interp", [inner], height=self.size[0], width=self.size[1])
            return
        how: dict[str, Any] = {"mode": "linear", "coordinate_transformation_mode": "align_corners"}
        goal = self._goal(out, x)
        out.top("Resize", [inner, None, None, out.sizes([out.size(x, (0, 1)), goal])], **how)

    def _goal(self, out: OnnxLayer, x: OnnxValue) -> Sizes:
        if self.size is not None:
            return out.sizes(self.size)
        if self.shrink is None and self.zoom is None:
            return out.size(out.bottoms[-1], (2, 3))
        return (out.size(x, (2, 3)) - (sum(self.crop) + 1)) // (self.shrink or 1) * (self.zoom or 1) + 1

    def to_python(self, site: Site) -> Form:
        x, (begin, end) = site.x, self.crop
        inner = f"{x}[:, :, {begin}:{-end or ''}, {begin}:{-end or ''}]" if begin or end else x
        size: object = self.size
        if self.size is None and self.shrink is None and self.zoom is None:
            size = f"{site.bottoms[-1]}.shape[2:]"
        elif self.size is None:
            size = f"[(n - {begin + end + 1}) // {self.shrink or 1} * {self.zoom or 1} + 1 for n in {x}.shape[2:]]"
        return Form((call("F.interpolate", inner, size, mode="'bilinear'", align_corners=True),))


@register_layer("BilinearInterpolation")
@dataclass(frozen=True)
class BilinearInterpolation(Interp):
    """Bilinear interpolation that maps the corner pixels on each other, to the height and width of a second bottom.

    With one bottom, as in another fork, to `factor` (interpolation_factor) times its own. Both sources divide by the
    size - 1 of the top, so a side of one pixel is refused. Sources: bilinear_interpolation_layer.cpp of two forks, of
    2013's Caffe (vision_layers.hpp) and of 2015's (interpolation_layers.hpp), with these two forms.
    """

    factor: float | None = None

    @classmethod
    def parse(cls, spec: LayerSpec) -> BilinearInterpolation:
        factor = None
        if len(spec.bottoms) < 2:
            factor = fork_message(spec, "bilinear_interpolation_param").number("interpolation_factor", 0)
            if not 0 < factor <= LARGEST:
                raise refuse(spec, f"interpolation_factor is {factor}; expected above 0, or a second bottom")
        return cls(None, None, None, (0, 0), factor)

    def _size(self, size: Sequence[int], reference: Sequence[int]) -> tuple[int, ...]:
        return tuple(reference) if self.factor is None else tuple(scaled(n, self.factor) for n in size)

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        (top,) = super().top_shapes(bottoms)
        if min(top[2:]) < 2:
            raise ValueError(f"a top of {top[2:]}: a side of one pixel has no step")
        return (top,)

    def _goal(self, out: OnnxLayer, x: OnnxValue) -> Sizes:
        if self.factor is None:
            return out.size(out.bottoms[1], (2, 3))
        if self.factor != int(self.factor):
            raise out.refuse(f"BilinearInterpolation by {self.factor}", hint="give it a second bottom of that size")
        return out.size(x, (2, 3)) * int(self.factor)

    def to_python(self, site: Site) -> Form:
        size = f"[int(n * {self.factor}) for n in {site.x}.shape[2:]]"
        if self.factor is None:
            size = f"{site.bottoms[1]}.shape[2:]"
        return Form((call("F.interpolate", site.x, size, mode="'bilinear'", align_corners=True),))
