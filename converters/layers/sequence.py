"""Small layers of the nets that read text and sequences, and of Intel's training toolbox."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..net.onnx_form import FLOAT, INT64
from ..net.python_form import Form, call, number
from ..net.reach import EVERYTHING, PIXEL, Reach
from .base import Layer, Neuron, OneToOne, canonical_axis, image_axis, in_order, refuse, register_layer
from .fork import fork_message

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec, Shape
    from ..net.onnx_form import OnnxLayer, Operand
    from ..net.python_form import Site


@register_layer("Reverse")
@dataclass(frozen=True)
class Reverse(OneToOne):
    """The bottom backwards along `axis`, 0 unless given; along each of them in Synopsys' fork.

    Source: tianzhi0549/CTPN, reverse_layer.cpp; synopsys-caffe, reverse_layer.cpp.
    """

    axes: tuple[int, ...]

    @classmethod
    def parse(cls, spec: LayerSpec) -> Reverse:
        return cls(fork_message(spec, "reverse_param").integers("axis") or (0,))

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        for axis in self.axes:
            canonical_axis(axis, bottoms[0])
        return (bottoms[0],)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return EVERYTHING if axis in map(image_axis, self.axes) else PIXEL

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (bottoms[0],)

    @property
    def moves(self) -> bool:
        return True

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        return (bottoms[0].flip(self.axes),)

    def to_onnx(self, out: OnnxLayer) -> None:
        backwards_to_onnx(out, [axis % len(out.bottoms[0].shape) for axis in self.axes])

    def to_python(self, site: Site) -> Form:
        return Form((f"{site.x}.flip({tuple(axis % site.rank for axis in self.axes)})",))


@register_layer("Flip")
@dataclass(frozen=True)
class Flip(OneToOne):
    """The image mirrored along w (flip_width, true unless given) and h (happynear/caffe-windows, flip_layer.cpp)."""

    dims: tuple[int, ...]

    @classmethod
    def parse(cls, spec: LayerSpec) -> Flip:
        message = fork_message(spec, "flip_param")
        chosen = {3: message.flag("flip_width", default=True), 2: message.flag("flip_height", default=False)}
        return cls(tuple(axis for axis, flipped in chosen.items() if flipped))

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        if len(bottoms[0]) != 4:
            raise ValueError(f"a bottom of shape {bottoms[0]}; expected (n, c, h, w)")
        return (bottoms[0],)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return EVERYTHING if axis in self.dims else PIXEL

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (bottoms[0],)

    @property
    def moves(self) -> bool:
        return True

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        return (bottoms[0].flip(self.dims),)

    def to_onnx(self, out: OnnxLayer) -> None:
        backwards_to_onnx(out, self.dims)

    def to_python(self, site: Site) -> Form:
        return Form((f"{site.x}.flip({self.dims})",))


def backwards_to_onnx(out: OnnxLayer, axes: Sequence[int]) -> None:
    """The first bottom backwards along these axes, by slices with a step of -1."""
    if not axes:
        out.top("Identity", [out.bottoms[0]])
        return
    numbers = {"last": [-1], "first": [-(2**62)], "step": [-1]}
    starts, ends, steps = (out.constant(name, value * len(axes)) for name, value in numbers.items())
    inputs: list[Operand] = [out.bottoms[0], starts, ends, out.constant("axes", list(axes)), steps]
    out.top("Slice", inputs)


@register_layer("Transpose")
@dataclass(frozen=True)
class Transpose(OneToOne):
    """The axes in the order that `dim` gives, one for each axis (tianzhi0549/CTPN, transpose_layer.cpp)."""

    order: tuple[int, ...]

    @classmethod
    def parse(cls, spec: LayerSpec) -> Transpose:
        order = fork_message(spec, "transpose_param").integers("dim")
        if sorted(order) != list(range(len(order))) or not order:
            raise refuse(spec, f"dim {order}; expected each axis once")
        return cls(order)

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        if len(bottoms[0]) != len(self.order):
            raise ValueError(f"{len(self.order)} dims; the bottom has {len(bottoms[0])} axes")
        return (tuple(bottoms[0][axis] for axis in self.order),)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return PIXEL if self.order[2:] == (2, 3) else EVERYTHING

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (bottoms[0],) if self.order[1:2] == (1,) else None

    @property
    def moves(self) -> bool:
        return True

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        return (in_order(bottoms[0].permute(self.order)),)

    def to_onnx(self, out: OnnxLayer) -> None:
        out.top("Transpose", [out.bottoms[0]], perm=list(self.order))

    def to_python(self, site: Site) -> Form:
        return Form((call(f"{site.x}.permute", *self.order),))


@register_layer("ContinuationIndicator")
@dataclass(frozen=True)
class ContinuationIndicator(Layer):
    """A blob (time_step, batch_size) of ones, with zeros in its first row: every sequence begins there.

    Source: intel/caffe, continuation_indicator_layer.cpp.
    """

    shape: tuple[int, int]

    bottom_count: ClassVar[tuple[int, float]] = (0, 0)
    top_count: ClassVar[tuple[int, float]] = (1, 1)

    @classmethod
    def parse(cls, spec: LayerSpec) -> ContinuationIndicator:
        message = fork_message(spec, "continuation_indicator_param")
        shape = message.integer("time_step", 0), message.integer("batch_size", 0)
        if min(shape) < 1:
            raise refuse(spec, f"time_step and batch_size are {shape}; both must be at least 1")
        return cls(shape)

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        return (self.shape,)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return EVERYTHING

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        import torch

        top = torch.ones(self.shape)
        top[0] = 0
        return (top,)

    def to_onnx(self, out: OnnxLayer) -> None:
        ones = np.ones(self.shape, np.float32)
        ones[0] = 0
        out.top("Identity", [out.constant("ones", ones)])


@register_layer("CTCGreedyDecoder")
@dataclass(frozen=True)
class CTCGreedyDecoder(Layer):
    """The most likely class of each step, blanks left out and, with ctc_merge_repeated, repeats merged; -1 behind.

    Bottoms (T, N, C) and (T, N), which is 0 where a sequence has ended; tops (N, T, 1, 1), and the score of each, less
    the sum of the largest. The blank is the last class where blank_index is below 0, as it is unless given. With one
    bottom, as in senlinuc/caffe_ocr, no sequence ends before the last step, and the blank is class 0. Source:
    openvinotoolkit/training_toolbox_caffe (first of its branches), ctc_decoder_layer.cpp.
    """

    merge: bool
    blank: int
    scores: bool

    bottom_count: ClassVar[tuple[int, float]] = (1, 2)
    top_count: ClassVar[tuple[int, float]] = (1, 2)

    @classmethod
    def parse(cls, spec: LayerSpec) -> CTCGreedyDecoder:
        message = fork_message(spec, "ctc_decoder_param")
        merge = message.flag("ctc_merge_repeated", default=True)
        blank = message.integer("blank_index", -1 if len(spec.bottoms) > 1 else 0)
        return cls(merge, blank, len(spec.tops) > 1)

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        x = bottoms[0]
        if len(x) != 3 or any(ends[:2] != x[:2] for ends in bottoms[1:]) or self.blank >= x[2]:
            raise ValueError("expected classes (time, streams, c), the blank one of them, and (time, streams)")
        return ((x[1], x[0], 1, 1), *([(x[1], 1, 1, 1)] if self.scores else []))

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return EVERYTHING

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        import torch

        x = bottoms[0]
        largest, best = x.max(2)
        goes_on = torch.ones_like(best, dtype=torch.bool) if len(bottoms) == 1 else bottoms[1].flatten(1) != 0
        goes_on[0] = True  # the first step always counts
        goes_on = goes_on.long().cumprod(0) != 0
        kept = goes_on & (best != (self.blank if self.blank >= 0 else x.shape[2] - 1))
        if self.merge:
            repeats = torch.zeros_like(kept)
            repeats[1:] = best[1:] == best[:-1]
            kept = kept & ~repeats
        order = (~kept).to(torch.uint8).sort(dim=0, stable=True).indices
        top = torch.where(kept, best, -1).gather(0, order).to(x.dtype).t()[:, :, None, None]
        scores = -torch.where(goes_on, largest, 0).sum(0)[:, None, None, None]
        return (top, scores) if self.scores else (top,)

    def to_onnx(self, out: OnnxLayer) -> None:
        x = out.bottoms[0]
        time, streams = (out.size(x, [axis]) for axis in (0, 1))
        best = out.node("ArgMax", [x], part="best", axis=2, keepdims=0)
        kept = self._kept(out, best, self._goes_on(out))
        # Kept classes go to the place that they are the nth of, all others to a row that is cut off.
        counted = out.node("Cast", [kept], part="counted", to=INT64)
        nth = out.node("CumSum", [counted, out.constant("axis", np.int64(0))], part="nth")
        nth = out.node("Sub", [nth, out.constant("one", [1])], part="nth")
        place = out.node("Where", [kept, nth, time], part="place")
        blank = out.constant("blank", np.array([-1], np.float32))
        empty = out.node("Expand", [blank, out.sizes([time + 1, streams])], part="empty")
        classes = out.node("Where", [kept, out.node("Cast", [best], part="class", to=FLOAT), blank], part="class")
        rows = out.node("ScatterElements", [empty, place, classes], part="rows", axis=0)
        rows = out.slice(rows, [0], [0], time, part="rows")
        out.reshape(out.node("Transpose", [rows], part="streams", perm=[1, 0]), [streams, time, 1, 1])
        if self.scores:
            largest = out.reduce("ReduceMax", x, (2,), keepdims=False, part="largest")
            nought = out.constant("nought", np.float32(0))
            counting = out.node("Where", [self._goes_on(out), largest, nought], part="counting")
            total = out.reduce("ReduceSum", counting, (0,), keepdims=False, part="total")
            out.reshape(out.node("Neg", [total], part="score"), [streams, 1, 1, 1], index=1)

    def _goes_on(self, out: OnnxLayer) -> str:
        """True (T, N) for the steps before a sequence's end; the first step always counts."""
        time, streams = (out.size(out.bottoms[0], [axis]) for axis in (0, 1))
        if len(out.bottoms) == 1:
            return out.node(
                "Expand", [out.constant("yes", np.array([True])), out.sizes([time, streams])], part="goes_on"
            )
        flags = out.reshape(out.bottoms[1], [time, streams], part="flags")
        ended = out.node("Equal", [flags, out.constant("no", np.float32(0))], part="ended")
        ended = out.node("Cast", [ended], part="ended", to=FLOAT)
        later = out.slice(ended, [0], [1], [1 << 30], part="later")
        ended = out.pad(later, [1, 0, 0, 0], part="ended")
        before = out.node("CumSum", [ended, out.constant("axis", np.int64(0))], part="before")
        return out.node("Equal", [before, out.constant("no", np.float32(0))], part="goes_on")

    def _kept(self, out: OnnxLayer, best: str, goes_on: str) -> str:
        classes = out.bottoms[0].shape[2] or 0
        blank = out.node("Equal", [best, out.constant("blank_class", [self.blank if self.blank >= 0 else classes - 1])],
                         part="is_blank")  # fmt: skip
        kept = out.node("And", [goes_on, out.node("Not", [blank], part="is_class")], part="kept")
        if not self.merge:
            return kept
        numbers = out.node("Cast", [best], part="numbers", to=FLOAT)
        before = out.pad(out.slice(numbers, [0], [0], [-1], part="before"), [1, 0, 0, 0], constant=-1, part="before")
        repeats = out.node("Equal", [numbers, before], part="repeats")
        return out.node("And", [kept, out.node("Not", [repeats], part="first")], part="kept")


@register_layer("GRN")
@dataclass(frozen=True)
class GRN(OneToOne):
    """x / sqrt(the sum of x^2 over the channels + bias) (openvinotoolkit/training_toolbox_caffe, grn_layer.cpp)."""

    bias: float

    @classmethod
    def parse(cls, spec: LayerSpec) -> GRN:
        bias = fork_message(spec, "grn_param").number("bias", 1.0)
        if bias < 0:
            raise refuse(spec, f"bias is {bias}; it must be 0 or more")
        return cls(bias)

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        if len(bottoms[0]) < 2:
            raise ValueError(f"a bottom of shape {bottoms[0]}; expected (n, c, ...)")
        return (bottoms[0],)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return PIXEL

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (bottoms[0],)

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        x = bottoms[0]
        return (x / (x.square().sum(1, keepdim=True) + self.bias).sqrt(),)

    def to_onnx(self, out: OnnxLayer) -> None:
        x = out.bottoms[0]
        squares = out.reduce("ReduceSum", out.node("Mul", [x, x], part="square"), (1,), part="squares")
        biased = out.node("Add", [squares, out.constant("bias", np.float32(self.bias))], part="biased")
        out.top("Div", [x, out.node("Sqrt", [biased], part="norm")])

    def to_python(self, site: Site) -> Form:
        return Form((f"{site.x} / ({site.x}.square().sum(1, keepdim=True) + {number(self.bias)}).sqrt()",))


@register_layer("ScaleFilter")
@dataclass(frozen=True)
class ScaleFilter(Neuron):
    """At test its bottom; noise in training (openvinotoolkit/training_toolbox_caffe, scale_filter_layer.cpp)."""

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return PIXEL

    @property
    def idle(self) -> bool:
        return True

    @property
    def moves(self) -> bool:
        return True

    def to_onnx(self, out: OnnxLayer) -> None:
        out.top("Identity", [out.bottoms[0]])

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        return (bottoms[0],)

    def to_python(self, site: Site) -> Form:
        return Form((site.x,))
