"""DataAugmentation of FlowNet's and DispNet's fork, as their nets use it at test: a crop, and the mean subtracted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..net.reach import EVERYTHING, Reach
from .base import LARGEST, Layer, Pair, as_image, refuse, register_layer
from .fork import fork_message

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec, Shape
    from ..net.onnx_form import OnnxLayer, Operand


@register_layer("DataAugmentation")
@dataclass(frozen=True)
class DataAugmentation(Layer):
    """The bottom (n, c, h, w) less its mean: of each channel, or of each pixel where `per_pixel` (mean_per_pixel).

    With `recompute_mean` the blobs are the number of passes (1, 1, 1, 1), the mean of each pixel (1, c, h, w) and that
    of each channel (1, c, 1, 1); before so many passes the source goes on to average, here the stored mean counts.
    Without it `mean` has a number for each of three channels, subtracted unless `per_pixel`, which is the default. A
    crop is the middle, read bilinearly at half pixels where its border is odd, and never beyond 1.05 pixels before the
    end, as the source's kernel does. What it draws at random, in training or with `augment_during_test`, is refused.

    Source: lmb-freiburg/flownet2, src/caffe/layers/data_augmentation_layer.cpp, .cu (SpatialAugmentation, Forward_gpu)
    and augmentation_layer_base.cpp (fromCoeff).
    """

    crop: Pair | None
    recompute: bool
    per_pixel: bool
    mean: tuple[float, ...]

    bottom_count: ClassVar[tuple[int, float]] = (1, 1)
    top_count: ClassVar[tuple[int, float]] = (1, 1)

    @classmethod
    def parse(cls, spec: LayerSpec) -> DataAugmentation:
        message = fork_message(spec, "augmentation_param")
        if message.flag("augment_during_test", default=False):
            raise refuse(spec, "augment_during_test draws changes at random", hint="write false for the trained net")
        if len(spec.bottoms) > 1 or len(spec.tops) > 1:
            raise refuse(spec, "changes that were drawn at random, of or for another layer, are training's")
        crop = message.integer("crop_height", 0), message.integer("crop_width", 0)
        given = "crop_height" in message and "crop_width" in message
        if given and not 1 <= min(crop) <= max(crop) <= LARGEST:
            raise refuse(spec, f"crop_height and crop_width are {crop}; expected 1 to {LARGEST}")
        recompute = message.integer("recompute_mean", 0) > 0
        per_pixel, mean = message.flag("mean_per_pixel", default=True), message.numbers("mean")
        return cls(crop if given else None, recompute, per_pixel, () if recompute or len(mean) != 3 else mean)

    @property
    def blob_ranks(self) -> tuple[int, ...]:  # type: ignore[override]
        return (4, 4, 4) if self.recompute else (4,)

    def statistics(self) -> tuple[int, ...]:
        return tuple(range(len(self.blob_ranks)))

    def filler_fields(self) -> tuple[str, ...]:
        return ()

    def blob_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        ((_, c, h, w),) = self.top_shapes(bottoms)
        return ((1, 1, 1, 1), (1, c, h, w), (1, c, 1, 1)) if self.recompute else ((1, 1, 1, 1),)

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        n, c, h, w = as_image(bottoms[0])
        if self._subtracted() and len(self.mean) == 3 != c:
            raise ValueError(f"a mean of three channels for {c}")
        if self.crop is None:
            return (bottoms[0],)
        if self.crop[0] > h or self.crop[1] > w or min(h, w) < 2:
            raise ValueError(f"a crop of {self.crop[0]} x {self.crop[1]} of {h} x {w}")
        return ((n, c, *self.crop),)

    def _subtracted(self) -> bool:
        return self.recompute or (len(self.mean) == 3 and not self.per_pixel)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return EVERYTHING

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (bottoms[0],)

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return prod(tops[0]) * (5 if self.crop else 1)

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        import torch

        x = bottoms[0]
        if self.crop is not None:
            pairs = zip(x.shape[2:], self.crop, strict=True)
            rows, columns = (torch.from_numpy(_middle(*pair)).to(x.dtype).to(x.device) for pair in pairs)
            x = rows @ x @ columns.t()
        if not self._subtracted():
            return (x.clone() if x is bottoms[0] else x,)
        if self.recompute:
            return (x - blobs[1 if self.per_pixel else 2],)
        return (x - x.new_tensor(self.mean).reshape(1, 3, 1, 1),)

    def to_onnx(self, out: OnnxLayer) -> None:
        x: Operand = out.bottoms[0]
        part = "cropped" if self._subtracted() else None
        if self.crop is not None:
            size = out.size(out.bottoms[0], (2, 3)).known
            if size is None:
                raise out.refuse("DataAugmentation's crop of free sizes", hint="give --size HxW")
            rows, columns = (_middle(*pair) for pair in zip(size, self.crop, strict=True))
            tall = out.node("MatMul", [out.constant("rows", rows), x], part="tall")
            x = out.make("MatMul", [tall, out.constant("columns", np.ascontiguousarray(columns.T))], part=part)
        if self.recompute:
            out.top("Sub", [x, out.blob(1 if self.per_pixel else 2)])
        elif self._subtracted():
            out.top("Sub", [x, out.constant("mean", np.array(self.mean, np.float32).reshape(1, 3, 1, 1))])
        elif self.crop is None:
            out.top("Identity", [x])


def _middle(size: int, crop: int) -> np.ndarray:
    """(crop, size): where each pixel of the middle is read, with float32's places."""
    most = np.float32(size) - np.float32(1.05)
    places = np.arange(crop, dtype=np.float32) - np.float32(0.5) * np.float32(crop) + np.float32(0.5) * np.float32(size)
    places = np.clip(places, 0, most)
    found: np.ndarray = np.maximum(0, 1 - np.abs(places[:, None] - np.arange(size, dtype=np.float32)))
    return found.astype(np.float32)
