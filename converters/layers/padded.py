"""Convolution and Pooling with a pad of its own on each side, or TensorFlow's SAME (Synopsys' fork of Caffe).

Source: synopsys-caffe (github.com/foss-for-synopsys-dwc-arc-processors), src/caffe/proto/caffe.proto,
PoolingParameter; src/caffe/layers/conv_layer.cpp and pooling_layer.cpp; src/caffe/util/im2col.cpp.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ..net.onnx_form import CLASSIC, OPENCV
from ..net.reach import EVERYTHING, Reach, Transposed, Window
from .base import Layer, Pair, as_image, refuse
from .fork import ForkMessage
from .padded_onnx import have_gaps, known_same_pads, padded_pooling_to_onnx, pads_are_known, same_pads

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec, Shape
    from ..net.onnx_form import OnnxLayer

SIDES = ("pad_t", "pad_b", "pad_l", "pad_r")


@dataclass(frozen=True)
class Around:
    """The pads along h and along w, each (before, after); None for SAME, whose pads follow from the size."""

    pads: tuple[Pair, Pair] | None

    def along(self, axis: int, size: int, kernel: int, stride: int) -> Pair:
        """(before, after) along h (0) or w (1) of a blob of this size; dilation does not count (im2col.cpp)."""
        if self.pads is not None:
            return self.pads[axis]
        whole = max(kernel - (stride if size % stride == 0 else size % stride), 0)
        return whole // 2, whole - whole // 2

    @property
    def same(self) -> bool:
        return self.pads is None


def read_around(spec: LayerSpec, fork: ForkMessage, *, plain: bool) -> Around | None:
    """The pads that only Synopsys' fields give; None where there are none. `plain` is true where Caffe's own are set.

    `pad_type: 1` is SAME, whatever pad_h and pad_w are: its newer version refuses them there, and the windows of the
    older one, for which nets have both, do not read them. Pads of 0 say nothing.
    """
    same = fork.integer("pad_type", 0)
    if same not in (0, 1):
        raise refuse(spec, f"pad_type is {same}; expected 0 (given pads) or 1 (SAME)")
    t, b, left, r = (fork.integer(side, 0) for side in SIDES)
    if not (same or any((t, b, left, r))):
        return None
    if any((t, b, left, r)) and (plain or same):
        raise refuse(spec, "pad_t, pad_b, pad_l, pad_r go without pad and pad_type", hint="keep one kind of padding")
    if min(t, b, left, r) < 0:
        raise refuse(spec, f"pads {(t, b, left, r)} on the four sides; expected 0 or more")
    return Around(None if same else ((t, b), (left, r)))


@dataclass(frozen=True)
class Steps:
    """The windows of a convolution without padding along (h, w)."""

    kernel: Pair
    stride: Pair
    dilation: Pair


@dataclass(frozen=True)
class PaddedConvolution(Layer):
    """A Convolution over its bottom with zeros around it, by Synopsys' pad_t, pad_b, pad_l and pad_r or pad_type: 1.

    `inner` is the convolution without padding. SAME gives ceil(size / stride) outputs; its pads count the kernel
    without its dilation, as the source does.
    """

    inner: Layer
    steps: Steps
    around: Around

    blob_ranks: ClassVar[tuple[int, ...]] = (4, 1)
    bottom_count: ClassVar[tuple[int, float]] = (1, 1)
    top_count: ClassVar[tuple[int, float]] = (1, 1)

    def _along(self, axis: int) -> tuple[int, int, int]:
        return self.steps.kernel[axis], self.steps.stride[axis], self.steps.dilation[axis]

    def pads_before(self, size: Pair) -> Pair:
        """The zeros above and to the left of a bottom of this size (h, w); SAME's follow from it."""
        (top, _), (left, _) = self._pads(size)
        return top, left

    def _pads(self, size: Sequence[int]) -> tuple[Pair, Pair]:
        """Before and after along each axis so that whole windows fill it; less than 0 cuts."""
        first, second = (self._pad(axis, length) for axis, length in enumerate(size))
        return first, second

    def _pad(self, axis: int, size: int) -> Pair:
        kernel, stride, dilation = self._along(axis)
        before, after = self.around.along(axis, size, kernel, stride)
        if self.around.same:
            after = (-(-size // stride) - 1) * stride + dilation * (kernel - 1) + 1 - size - before
        return before, after

    def _padded(self, shape: Shape) -> Shape:
        n, c, h, w = as_image(shape)
        (top, bottom), (left, right) = self._pads((h, w))
        return n, c, h + top + bottom, w + left + right

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        return self.inner.top_shapes([self._padded(shape) for shape in bottoms])

    def blob_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        return self.inner.blob_shapes(bottoms)

    def filler_fields(self) -> tuple[str, ...] | None:
        return self.inner.filler_fields()

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return self.inner.macs(bottoms, tops)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        kernel, stride, dilation = self._along(axis - 2)
        if self.around.pads is not None:
            return Window(kernel, stride, self.around.pads[axis - 2][0], dilation)
        return Window(kernel, 1, (kernel - 1) // 2, dilation) if stride == 1 else EVERYTHING

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return self.inner.channels(bottoms)

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        return self.inner.forward([_pad(bottoms[0], self._pads(bottoms[0].shape[2:]), 0)], blobs)

    def to_onnx(self, out: OnnxLayer) -> None:
        convolution: Any = self.inner
        kernel, stride = self.steps.kernel, self.steps.stride
        holes = self.steps.dilation != (1, 1)
        known = pads_are_known(out, kernel, stride)
        if self.around.pads is not None:
            before, after = zip(*self.around.pads, strict=True)
            convolution.padded_to_onnx(out, pads=(*before, *after))
        elif not holes and (known or (out.target in OPENCV and out.target != CLASSIC)):
            convolution.padded_to_onnx(out, pads=known_same_pads(out, kernel, stride))
        elif not holes and (out.target == CLASSIC or not have_gaps(kernel, stride)):
            convolution.padded_to_onnx(out, auto_pad="SAME_UPPER", pads=None)
        else:
            extent = [d * (k - 1) + 1 for d, k in zip(self.steps.dilation, kernel, strict=True)]
            pads = same_pads(out, out.size(out.bottoms[0], (2, 3)), kernel, stride, extent)
            convolution.padded_to_onnx(out, out.pad(out.bottoms[0], pads, part="padded"), pads=None)


@dataclass(frozen=True)
class PaddedDeconvolution(Layer):
    """A Deconvolution whose top loses pad_t, pad_b, pad_l and pad_r on its four sides.

    `inner` is the deconvolution without padding. Source: synopsys-caffe, deconv_layer.cpp, compute_output_shape.
    """

    inner: Layer
    steps: Steps
    cut: tuple[Pair, Pair]

    blob_ranks: ClassVar[tuple[int, ...]] = (4, 1)
    bottom_count: ClassVar[tuple[int, float]] = (1, 1)
    top_count: ClassVar[tuple[int, float]] = (1, 1)

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        n, c, h, w = as_image(self.inner.top_shapes(bottoms)[0])
        return ((n, c, h - sum(self.cut[0]), w - sum(self.cut[1])),)

    def blob_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        return self.inner.blob_shapes(bottoms)

    def filler_fields(self) -> tuple[str, ...] | None:
        return self.inner.filler_fields()

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return self.inner.macs(bottoms, tops)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        along = axis - 2
        return Transposed(
            self.steps.kernel[along], self.steps.stride[along], self.cut[along][0], self.steps.dilation[along]
        )

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return self.inner.channels(bottoms)

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        (top,) = self.inner.forward(bottoms, blobs)
        (above, below), (left, right) = self.cut
        return (top[:, :, above : top.shape[2] - below, left : top.shape[3] - right],)

    def to_onnx(self, out: OnnxLayer) -> None:
        convolution: Any = self.inner
        before, after = zip(*self.cut, strict=True)
        convolution.padded_to_onnx(out, pads=(*before, *after))


@dataclass(frozen=True)
class PaddedPooling(Layer):
    """MAX or AVE pooling with a pad of its own on each side, or SAME; AVE_EXC_PAD divides by what lies in the blob.

    AVE_TF is its older name. Elsewhere sizes and windows are Pooling's. Source: synopsys-caffe, pooling_layer.cpp,
    Reshape and Forward_cpu.
    """

    method: str
    kernel: Pair
    stride: Pair
    around: Around
    ceil: bool

    bottom_count: ClassVar[tuple[int, float]] = (1, 1)
    top_count: ClassVar[tuple[int, float]] = (1, 1)

    def _along(self, axis: int, size: int) -> tuple[int, int, int]:
        """The windows along h (0) or w (1), and the pads before and after."""
        kernel, stride = self.kernel[axis], self.stride[axis]
        before, after = self.around.along(axis, size, kernel, stride)
        if self.around.same:
            return -(-size // stride), before, after
        return (size + before + self.beyond[axis] - kernel) // stride + 1, before, after

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        n, c, h, w = as_image(bottoms[0])
        return ((n, c, self._along(0, h)[0], self._along(1, w)[0]),)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        kernel, stride = self.kernel[axis - 2], self.stride[axis - 2]
        if self.around.pads is not None:
            return Window(kernel, stride, self.around.pads[axis - 2][0])
        return Window(kernel, 1, (kernel - 1) // 2) if stride == 1 else EVERYTHING

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (bottoms[0],)

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        import torch
        from torch.nn.functional import avg_pool2d, max_pool2d

        x = bottoms[0]
        pads = []
        for axis, size in enumerate(x.shape[2:]):
            windows, before, _ = self._along(axis, size)
            pads.append((before, (windows - 1) * self.stride[axis] + self.kernel[axis] - size - before))
        if self.method == "MAX":
            return (max_pool2d(_pad(x, pads, torch.finfo(x.dtype).min), self.kernel, self.stride),)
        sums = avg_pool2d(_pad(x, pads, 0), self.kernel, self.stride) * (self.kernel[0] * self.kernel[1])
        rows, columns = (self._counts(axis, x) for axis in (0, 1))
        return (sums / (rows[:, None] * columns),)

    def _counts(self, axis: int, x: Tensor) -> Tensor:
        """By how many places the average divides along one axis."""
        import torch

        size = x.shape[2 + axis]
        windows, before, after = self._along(axis, size)
        start = torch.arange(windows, device=x.device) * self.stride[axis] - before
        end = (start + self.kernel[axis]).clamp(max=size + after)
        if self.method == "AVE_EXC_PAD":
            start, end = start.clamp(min=0), end.clamp(max=size)
        return (end - start).to(x.dtype)

    @property
    def same(self) -> bool:
        return self.around.same

    def pads_before(self, size: Pair) -> Pair:
        """The places above and to the left of a bottom of this size (h, w); SAME's follow from it."""
        return self._along(0, size[0])[1], self._along(1, size[1])[1]

    def pads_after(self, size: Pair) -> Pair:
        """The places below and behind a bottom of this size (h, w) that windows may reach into."""
        return self._along(0, size[0])[2], self._along(1, size[1])[2]

    @property
    def before(self) -> Pair:
        """The pads before the blob; with SAME they follow from its size, and this is 0."""
        h, w = (pads[0] for pads in self.around.pads or ((0, 0), (0, 0)))
        return h, w

    @property
    def after(self) -> Pair:
        h, w = (pads[1] for pads in self.around.pads or ((0, 0), (0, 0)))
        return h, w

    @property
    def beyond(self) -> Pair:
        """The length past the blob's end up to which windows reach at most, so that they come out by rounding down."""
        padded = self.around.pads is not None and any(map(any, self.around.pads))
        h, w = (
            # Where there is padding, the last window starts inside.
            min(after + (s - 1) * self.ceil, k - 1) if padded else after + (s - 1) * self.ceil
            for after, s, k in zip(self.after, self.stride, self.kernel, strict=True)
        )
        return h, w

    def to_onnx(self, out: OnnxLayer) -> None:
        padded_pooling_to_onnx(self, out)


def _pad(x: Tensor, pads: Sequence[Pair], value: float) -> Tensor:
    """`x` with `value` around it, (before, after) along h and along w; less than 0 cuts."""
    from torch.nn.functional import pad

    (top, bottom), (left, right) = pads
    sides = left, right, top, bottom
    more = pad(x, [max(side, 0) for side in sides], value=value)  # first, as more may be cut than there was
    return pad(more, [min(side, 0) for side in sides]) if min(sides) < 0 else more
