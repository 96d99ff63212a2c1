"""PriorBox of SSD's fork (prior_box_layer.cpp) and PriorBoxClustered of Intel's (prior_box_clustered_layer.cpp)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from typing import TYPE_CHECKING, ClassVar

from ..net.reach import NOTHING, Reach
from .base import LARGEST, Layer, Pair, legacy_shape, refuse, register_layer
from .fork import ForkMessage, fork_message, read_as

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec, Shape
    from ..net.onnx_form import OnnxLayer

Corners = tuple[float, float, float, float]
"""(left, top, right, bottom) of a box, as seen from the centre of its cell, in pixels of the image."""

TF_SMALLEST, TF_INSET = 60, 0.05
"""Synopsys' `tf`: a box of this min_size is by so much of the image smaller on each side."""
FACEBOXES = {32: (-2, 2, 8), 64: (-1, 1, 16)}
"""FaceBoxes' dense anchors: at these min_sizes boxes stand at every `step` pixels from `low` to `high` steps."""


@register_layer("PriorBox", "PriorBoxClustered")
@dataclass(frozen=True)
class PriorBox(Layer):
    """The prior boxes of each cell (h, w) of the first bottom and their variances, (1, 2, h * w * boxes * 4).

    Coordinates are parts of the image, which is the second bottom's size or `image` (h, w). `step` (h, w) is the
    distance of cells in pixels, None where it is image / cells. Sizes with fractions count as they are written
    (SSD512's 35.84), as before June 2016 in SSD's fork, and in OpenCV, TensorRT and OpenVINO; since then the fork cuts
    them to whole pixels (`int min_size_ = min_sizes_[s]`, weiliu89/caffe#843), and no file says which it was made with.
    Sources: weiliu89/caffe (branch ssd), src/caffe/layers/prior_box_layer.cpp;
    openvinotoolkit/training_toolbox_caffe, prior_box_clustered_layer.cpp; for box_width, box_height, faceboxes, tf,
    keras and yx_order foss-for-synopsys-dwc-arc-processors/synopsys-caffe, prior_box_layer.cpp. With
    `fork: "TextBoxes"` (MhLiao/TextBoxes, src/caffe/layers/prior_box_layer.cpp) each box is there twice, the second
    `lower` by half a cell, and with `denser_prior_boxes` (MhLiao/TextBoxes_plusplus, prior_box_layer.cpp) the second at
    the lower border of the cell. `fork: "FaceBoxes"` (sfzhang15/FaceBoxes, prior_box_layer.cpp:133-167) is `faceboxes`.
    """

    boxes: tuple[Corners, ...]
    insets: tuple[float, ...]
    lower: tuple[float, ...]
    variance: tuple[float, ...]
    image: Pair | None
    step: tuple[float, float] | None
    offset: float
    clip: bool
    yx_order: bool

    bottom_count: ClassVar[tuple[int, float]] = (2, 2)
    top_count: ClassVar[tuple[int, float]] = (1, 1)

    @classmethod
    def parse(cls, spec: LayerSpec) -> PriorBox:
        message, fork = fork_message(spec, "prior_box_param"), read_as(spec)
        if fork not in ("", "TextBoxes", "FaceBoxes"):
            raise refuse(spec, f"fork is {fork}; PriorBox knows TextBoxes and FaceBoxes")
        found = tuple(_clustered(spec, message) if spec.type == "PriorBoxClustered" else _boxes(spec, message))
        image = _size(spec, message, "img", "img_size")
        offset = message.number("offset", 0.5)
        if not isfinite(offset) or not all(map(isfinite, (x for corners, _ in found for x in corners))):
            raise refuse(spec, f"offset {offset}, sizes {[corners for corners, _ in found]}: all must be finite")
        places: tuple[float, ...] = (0.0, 0.5) if fork == "TextBoxes" else (0.0,)
        if message.flag("denser_prior_boxes", default=False):
            places = (0.0, 1.0 - offset)
        return cls(
            boxes=tuple(corners for corners, _ in found for _ in places),
            insets=tuple(inset for _, inset in found for _ in places),
            lower=places * len(found),
            variance=_variance(spec, message),
            image=None if image is None else (int(image[0]), int(image[1])),
            step=_size(spec, message, "step", "step"),
            offset=offset,
            clip=message.flag("clip", default=False),
            yx_order=message.flag("yx_order", default=False),
        )

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        _, _, h, w = legacy_shape(bottoms[0])
        legacy_shape(bottoms[1])
        return ((1, 2, h * w * len(self.boxes) * 4),)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return NOTHING

    def to_onnx(self, out: OnnxLayer) -> None:
        from .prior_box_onnx import write_priors

        write_priors(self, out)

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        import torch

        cells = legacy_shape(tuple(bottoms[0].shape))[2:]
        image = self.image or legacy_shape(tuple(bottoms[1].shape))[2:]
        steps = self.step or tuple(size / count for size, count in zip(image, cells, strict=True))

        def vector(values: Sequence[object]) -> Tensor:
            return torch.tensor(values, dtype=torch.float64, device=bottoms[0].device)

        y, x = (
            (torch.arange(count, dtype=torch.float64, device=bottoms[0].device) + self.offset) * step
            for count, step in zip(cells, steps, strict=True)
        )
        centre = torch.stack((x.expand(cells), y[:, None].expand(cells)), -1)[:, :, None, None]
        lower = vector([(0.0, part * steps[0]) for part in self.lower])[:, None]
        priors = (centre + vector(self.boxes).unflatten(1, (2, 2)) + lower) / vector([image[1], image[0]])
        inset = vector(self.insets)[:, None, None]
        priors = priors + torch.cat((inset, -inset), 1)
        priors = priors.flip(-1) if self.yx_order else priors
        priors = (priors.clamp(0, 1) if self.clip else priors).reshape(1, -1)
        variance = vector(self.variance).repeat(priors.shape[1] // 4)[None]
        return (torch.cat((priors, variance))[None].to(bottoms[0].dtype),)


def _boxes(spec: LayerSpec, message: ForkMessage) -> Iterator[tuple[Corners, float]]:
    """Each box of a PriorBox's cell, in Caffe's order, and its inset."""
    widths, heights = message.numbers("box_width"), message.numbers("box_height")
    if widths:
        if len(widths) != len(heights):
            raise refuse(spec, f"{len(widths)} box_width and {len(heights)} box_height; expected as many")
        yield from ((_around(w, h), 0.0) for w, h in zip(widths, heights, strict=True))
        return
    least, most = _lengths(spec, message, "min_size"), _lengths(spec, message, "max_size")
    if not least:
        raise refuse(spec, "min_size is missing", hint="give at least one min_size")
    if most and len(most) != len(least):
        raise refuse(spec, f"{len(most)} max_size and {len(least)} min_size; expected as many, or no max_size")
    if any(a > b for a, b in zip(least, most, strict=False)):
        raise refuse(spec, f"max_size {most} must be greater than min_size {least}")
    tf, keras = message.flag("tf", default=False), message.flag("keras", default=False)
    ratios = _ratios(spec, message, keras=keras)
    faceboxes = message.flag("faceboxes", default=False) or read_as(spec) == "FaceBoxes"
    for index, size in enumerate(least):
        if faceboxes:
            first = [(corners, 0.0) for corners in _dense(size)]
        else:
            first = [(_around(size, size), TF_INSET if tf and size == TF_SMALLEST and not keras else 0.0)]
        side = sqrt(size * most[index]) if most else 0
        second = [(_around(side, side), 0.0)] if most else []
        rest = [(_around(size * sqrt(ratio), size / sqrt(ratio)), 0.0) for ratio in ratios]
        yield from second + first + rest if keras else first + rest + second if tf else first + second + rest


def _clustered(spec: LayerSpec, message: ForkMessage) -> Iterator[tuple[Corners, float]]:
    """Each box of a PriorBoxClustered's cell: widths and heights go in pairs."""
    widths, heights = message.numbers("width"), message.numbers("height")
    if not widths or len(widths) != len(heights):
        raise refuse(spec, f"{len(widths)} width and {len(heights)} height; expected as many, and at least one")
    if min(widths + heights) <= 0:
        raise refuse(spec, f"width {widths} and height {heights} must be positive")
    yield from ((_around(w, h), 0.0) for w, h in zip(widths, heights, strict=True))


def _around(width: float, height: float) -> Corners:
    return -width / 2, -height / 2, width / 2, height / 2


def _dense(size: float) -> list[Corners]:
    """FaceBoxes' boxes of one min_size; they end at the centre of their last pixel."""
    low, high, step = FACEBOXES.get(int(size), (0, 1, 0))
    half = (size - 1) / 2
    return [
        (x * step - half, y * step - half, x * step + half, y * step + half)
        for y in range(low, high)
        for x in range(low, high)
    ]


def _lengths(spec: LayerSpec, message: ForkMessage, field: str) -> list[float]:
    """The sizes of a field, in pixels."""
    sizes = message.numbers(field)
    if not all(0 < size <= LARGEST for size in sizes):
        raise refuse(spec, f"{field} {sizes} must be above 0, and at most {LARGEST}")
    return list(sizes)


def _ratios(spec: LayerSpec, message: ForkMessage, *, keras: bool) -> list[float]:
    """The aspect ratios besides 1, each once, each followed by its inverse (`keras`: all inverses at the end)."""
    given = message.numbers("aspect_ratio")
    if not all(0 < ratio <= LARGEST for ratio in given):
        raise refuse(spec, f"aspect_ratio {given} must be above 0, and at most {LARGEST}")
    flip = message.flag("flip", default=True)
    ratios = [1.0]

    def add(ratio: float) -> bool:
        new = all(abs(ratio - known) >= 1e-6 for known in ratios)
        if new:
            ratios.append(ratio)
        return new

    for ratio in given:
        if add(ratio) and flip and not keras:
            ratios.append(1 / ratio)
    if flip and keras:
        for ratio in given:
            add(1 / ratio)
    return [ratio for ratio in ratios if abs(ratio - 1) >= 1e-6]


def _variance(spec: LayerSpec, message: ForkMessage) -> tuple[float, ...]:
    given = message.numbers("variance") or (0.1,)
    if len(given) not in (1, 4) or not all(0 < value <= LARGEST for value in given):
        raise refuse(spec, f"variance {given}; expected one or four numbers above 0 and at most {LARGEST}")
    return given * (4 // len(given))


def _size(spec: LayerSpec, message: ForkMessage, stem: str, both: str) -> tuple[float, float] | None:
    """(h, w) of a size given as `both`, or as stem_h and stem_w; None where it is not given, or 0."""
    h, w = message.number(f"{stem}_h", 0), message.number(f"{stem}_w", 0)
    one = message.number(both, 0)
    if (h or w) and one:
        raise refuse(spec, f"both {both} and {stem}_h/{stem}_w are given", hint="keep one of them")
    if not all(0 <= value <= LARGEST for value in (h, w, one)) or (h > 0) != (w > 0):
        raise refuse(spec, f"{both} {one}, {stem}_h {h} and {stem}_w {w} must be positive")
    return (one, one) if one else (h, w) if h else None
