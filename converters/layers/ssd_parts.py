"""SSDDecoder and SSDSort of Synopsys' fork: SSD's DetectionOutput in two layers (ssd_decoder_layer.cpp, ssd_sort_*)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, ClassVar

from ..net.reach import EVERYTHING, Reach
from ..net.reading import note_read
from .base import Layer, as_image, legacy_shape, refuse, register_layer
from .boxes import CodeType, decode_boxes
from .detection_output import DetectionOutput, read_code_type
from .fork import fork_message

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec, Shape
    from ..net.onnx_form import OnnxLayer


@register_layer("SSDDecoder")
@dataclass(frozen=True)
class SSDDecoder(Layer):
    """The boxes (1, 1, p, 4) of the location predictions (1, p * 4) and priors (1, 2, p * 4), in parts of the image.

    Source: synopsys-caffe, src/caffe/layers/ssd_decoder_layer.cpp. Its top is for one image, and its boxes are those
    that all classes share; for anything else it writes beyond its top or stops, and so it is refused here.
    """

    code: CodeType
    encoded: bool

    bottom_count: ClassVar[tuple[int, float]] = (2, 2)
    top_count: ClassVar[tuple[int, float]] = (1, 1)

    @classmethod
    def parse(cls, spec: LayerSpec) -> SSDDecoder:
        message = fork_message(spec, "detection_output_param")
        note_read("detection_output_param.*")  # SSDSort's are there as well
        if not message.flag("share_location", default=True):
            raise refuse(spec, "share_location is false; SSDDecoder has boxes that all classes share")
        return cls(read_code_type(spec, message), message.flag("variance_encoded_in_target", default=False))

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        _, channels, height, _ = legacy_shape(bottoms[1])
        priors = height // 4
        if not priors or channels < 2 - self.encoded:
            raise ValueError("the priors must be (1, 2, priors * 4), boxes and their variances")
        if bottoms[0][0] != 1 or prod(bottoms[0]) != priors * 4:
            raise ValueError(f"{priors} priors; expected (1, {priors * 4}) location predictions")
        return ((1, 1, priors, 4),)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return EVERYTHING

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (1,)

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        offsets, priors = bottoms[0].reshape(1, -1, 4), bottoms[1]
        variances = None if self.encoded else priors[0, 1].reshape(-1, 4)
        return (decode_boxes(offsets, priors[0, 0].reshape(-1, 4), variances, code=self.code)[None],)

    def to_onnx(self, out: OnnxLayer) -> None:
        from .detection_output_onnx import decode_offsets

        parts = [out.slice(out.bottoms[1], [0, 1], [0, 0], [1, 1], part="prior_boxes")]
        if not self.encoded:
            parts.append(out.slice(out.bottoms[1], [0, 1], [0, 1], [1, 2], part="variances"))
        priors, *variances = (out.reshape(part, [1, 1, -1, 4], part=f"rows{place}") for place, part in enumerate(parts))
        offsets = out.reshape(out.bottoms[0], [1, 1, -1, 4], part="offsets")
        boxes = decode_offsets(out, offsets, priors, variances[0] if variances else None, self.code)
        out.top("Identity", [boxes])


@register_layer("SSDSort")
@dataclass(frozen=True)
class SSDSort(DetectionOutput):
    """The detections (1, 1, k, 7) of decoded boxes (1, 1, p, 4) and confidences (1, p * classes), as DetectionOutput's.

    Source: synopsys-caffe, src/caffe/layers/ssd_sort_layer.cpp.
    """

    bottom_count: ClassVar[tuple[int, float]] = (2, 2)

    @classmethod
    def parse(cls, spec: LayerSpec) -> Layer:
        found = super().parse(replace(spec, bottoms=(*spec.bottoms, "")))
        assert isinstance(found, SSDSort)
        if found.heads.box_classes != 1:
            raise refuse(spec, "share_location is false; SSDSort has boxes that all classes share")
        return found

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        n, _, priors, _ = as_image(bottoms[0])
        if n != 1 or bottoms[0] != (1, 1, priors, 4):
            raise ValueError("the boxes must be (1, 1, priors, 4), of one image")
        if bottoms[1][0] != 1 or prod(bottoms[1]) != priors * self.heads.classes:
            raise ValueError(f"expected (1, {priors * self.heads.classes}) confidences")
        return ((1, 1, 1, 7),)

    def decode(self, bottoms: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        return bottoms[0].reshape(1, -1, 1, 4), bottoms[1].reshape(1, -1, self.heads.classes)

    def to_onnx(self, out: OnnxLayer) -> None:
        from .detection_output_onnx import write_decoded

        boxes = out.reshape(out.bottoms[0], [1, -1, 1, 4], part="boxes")
        scores = out.reshape(out.bottoms[1], [1, -1, self.heads.classes], part="scores")
        write_decoded(self, out, boxes, scores)
