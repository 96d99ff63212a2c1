"""LSTM, RNN and LSTMUnit of Caffe 1.0, and the Lstm of junhyukoh's fork.

Source: recurrent_layer.cpp, lstm_layer.cpp, rnn_layer.cpp and lstm_unit_layer.cpp of BVLC Caffe; junhyukoh/caffe-lstm
and tianzhi0549/CTPN, lstm_layer.cpp. The bottom is (time, streams, ...).

Caffe's layers keep their state from one forward pass to the next, where `cont` says that a sequence goes on. So does a
CaffeNet while it is trained; at test every pass begins with zeros, as Caffe's first one does, unless the net feeds the
state itself (expose_hidden). Training an Lstm with a `cont` that goes on in its first row is refused: it would learn
something else than there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..net.reach import EVERYTHING, Reach
from .base import Layer, refuse, register_layer
from .fork import fork_fields, fork_message
from .recurrent_onnx import (
    UnrolledSteps,
    fixed_to_onnx,
    lstm_to_onnx,
    state_to_onnx,
    static_to_onnx,
    steps_of,
    truth_to_onnx,
    unit_to_onnx,
)
from .recurrent_states import beginning, check_beginning

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec, Shape
    from ..net.onnx_form import OnnxLayer


@dataclass(frozen=True)
class Recurrent(Layer):
    """Base of LSTM and RNN: bottoms x (T, N, ...), cont (T, N), perhaps a static one (N, ...), perhaps the state.

    `cont` is 0 where a stream begins anew. The state, with expose_hidden, is (1, N, num_output) for each of
    `states`, in the bottoms and in the tops.
    """

    num_output: int
    static: bool
    exposed: bool
    forget_bias: float = 0.0

    states: ClassVar[int] = 1
    gates: ClassVar[int] = 1
    output_blobs: ClassVar[bool] = False
    bottom_count: ClassVar[tuple[int, float]] = (2, 5)
    top_count: ClassVar[tuple[int, float]] = (1, 3)

    @classmethod
    def parse(cls, spec: LayerSpec) -> Recurrent:
        message = spec.message.recurrent_param
        if not message.num_output:
            raise refuse(spec, "num_output is missing or 0")
        _refuse_synopsys(spec)
        states = cls.states * message.expose_hidden
        least = 2 + states
        if len(spec.bottoms) not in (least, least + 1):
            raise refuse(spec, f"{len(spec.bottoms)} bottoms; expected {least}, or {least + 1} with a static one")
        if len(spec.tops) != 1 + states:
            raise refuse(spec, f"{len(spec.tops)} tops; expected {1 + states}")
        forget_bias = fork_fields(spec, "recurrent_param").number("forget_bias", 0)
        if forget_bias and cls.gates != 4:
            raise refuse(spec, "forget_bias is for LSTM only")
        return cls(message.num_output, len(spec.bottoms) > least, message.expose_hidden, forget_bias)

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        x, cont = bottoms[:2]
        if len(x) < 3 or cont != x[:2]:
            raise ValueError("expected x (time, streams, ...) and cont (time, streams)")
        if self.static and (len(bottoms[2]) < 2 or bottoms[2][0] != x[1]):
            raise ValueError(f"a static bottom of shape {bottoms[2]}; expected ({x[1]} streams, ...)")
        state = (1, x[1], self.num_output)
        given = bottoms[2 + self.static :]
        if any(shape != state for shape in given):
            raise ValueError(f"states of shape {list(given)}; expected {state} each")
        return ((*x[:2], self.num_output), *[state] * len(given))

    def blob_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        width = self.gates * self.num_output
        static = [(width, prod(bottoms[2][1:]))] if self.static else []
        own: list[Shape] = [(width, prod(bottoms[0][2:])), (width,), *static, (width, self.num_output)]
        return (*own, (self.num_output, self.num_output), (self.num_output,)) if self.output_blobs else tuple(own)

    def filler_fields(self) -> tuple[str, ...]:
        weight, bias = "recurrent_param.weight_filler", "recurrent_param.bias_filler"
        return (weight, bias, *[weight] * (1 + self.static), *([weight, bias] if self.output_blobs else []))

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        weights = [prod(shape) for shape in self.blob_shapes(bottoms) if len(shape) == 2]
        static = prod(self.blob_shapes(bottoms)[2]) if self.static else 0
        return prod(bottoms[0][:2]) * (sum(weights) - static) + bottoms[0][1] * static

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return EVERYTHING

    @property
    def goes_on(self) -> bool:
        """True where the state of a pass is that of the next one's beginning: the net does not feed it."""
        return not self.exposed

    def go_on(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], states: Sequence[Tensor] | None
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """The tops of a pass that begins with `states` (N, D), None for zeros, and the states for the next.

        No gradient goes from one pass to another (recurrent_layer.cpp, Forward_cpu and Backward_cpu).
        """
        begin = beginning(bottoms[0], states, count=self.states, width=self.num_output)
        top, ends = self._steps(bottoms, blobs, begin)
        return (top,), tuple(end.detach() for end in ends)

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        if training and not self.exposed:
            check_beginning(self, bottoms[1])
        given = [state.squeeze(0) for state in bottoms[2 + self.static :]] or None
        begin = beginning(bottoms[0], given, count=self.states, width=self.num_output)
        top, ends = self._steps(bottoms, blobs, begin)
        return (top, *(end.unsqueeze(0) for end in ends)) if self.exposed else (top,)

    def _steps(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], states: Sequence[Tensor]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The top, and the states (N, D) after the last step, of a pass that begins with `states`."""
        raise NotImplementedError

    def _inputs(self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The part of a step that hangs on no other (T, N, width), and cont (T, N, 1)."""
        from torch.nn.functional import linear

        x, cont = bottoms[0], bottoms[1].unsqueeze(2)
        fixed = linear(x.flatten(2), blobs[0], blobs[1])
        if self.static:
            fixed = fixed + linear(bottoms[2].flatten(1), blobs[2])
        if self.forget_bias:
            fixed = fixed + fixed.new_tensor(self._forget)
        return fixed, cont

    @property
    def _forget(self) -> list[float]:
        """The addition to the gates that forget_bias is (an older synopsys-caffe, lstm_unit_layer.cpp)."""
        return [self.forget_bias * (gate == 1) for gate in range(self.gates) for _ in range(self.num_output)]

    def _onnx_steps(self, out: OnnxLayer) -> tuple[UnrolledSteps, list[str]]:
        """The steps, and the states at the beginning, none where they are zeros."""
        static = static_to_onnx(out) if self.static else None
        fixed = fixed_to_onnx(out, [out.blob(0), out.blob(1)], static=static)
        if self.forget_bias:
            bias = out.constant("forget_bias", np.array(self._forget, np.float32))
            fixed = out.node("Add", [fixed, bias], part="fixed_forget")
        cont = out.reshape(out.bottoms[1], [steps_of(out, out.bottoms[0]), -1, 1], part="cont")
        given = out.bottoms[2 + self.static :]
        states = [state_to_onnx(out, state, width=self.num_output, part=f"begin{i}") for i, state in enumerate(given)]
        return UnrolledSteps(out, fixed, out.blob(2 + self.static), cont), states


def _refuse_synopsys(spec: LayerSpec) -> None:
    """Refuse the fields with which Synopsys' fork changes what is computed."""
    fork = fork_fields(spec, "recurrent_param")
    changed = [name for name in ("default_initial", "continue_recur", "tf_rnn") if fork.flag(name, default=False)]
    changed += [name for name in ("activations", "linear_before_reset") if name in fork]
    if fork.word("direction", "forward") != "forward":
        changed.append("direction")
    if changed:
        raise refuse(spec, f"recurrent_param.{changed[0]} of Synopsys' fork is not supported")


@register_layer("LSTM")
@dataclass(frozen=True)
class LSTM(Recurrent):
    """Long short-term memory, gates in the order i, f, o, g; blobs W_xc, b_c, (W_xc_static), W_hc; states h, c."""

    states: ClassVar[int] = 2
    gates: ClassVar[int] = 4

    def _steps(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], states: Sequence[Tensor]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        import torch
        from torch.nn.functional import linear

        (fixed, cont), (h, c) = self._inputs(bottoms, blobs), states
        steps = []
        for gates, goes_on in zip(fixed.unbind(0), cont.unbind(0), strict=True):
            c, h = _unit(c, gates + linear(h * goes_on, blobs[2 + self.static]), goes_on)
            steps.append(h)
        return torch.stack(steps), (h, c)

    def to_onnx(self, out: OnnxLayer) -> None:
        steps, states = self._onnx_steps(out)
        h, c = states or (None, None)
        *ends, _ = lstm_to_onnx(steps, width=self.num_output, h=h, c=c)
        for index, end in enumerate(ends[: len(states)], 1):
            out.reshape(end, [1, -1, self.num_output], index=index)


def _unit(c: Tensor, gates: Tensor, cont: Tensor) -> tuple[Tensor, Tensor]:
    """The next c and h (lstm_unit_layer.cpp, Forward_cpu)."""
    i, f, o, g = gates.chunk(4, -1)
    c = cont * f.sigmoid() * c + i.sigmoid() * g.tanh()
    return c, o.sigmoid() * c.tanh()


@register_layer("LSTMUnit")
@dataclass(frozen=True)
class LSTMUnit(Layer):
    """One step of an LSTM: bottoms c (1, N, D), gates (1, N, 4 D) and cont (1, N); tops the next c and h."""

    bottom_count: ClassVar[tuple[int, float]] = (3, 3)
    top_count: ClassVar[tuple[int, float]] = (2, 2)

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        c, gates, cont = bottoms
        if len(c) != 3 or c[0] != 1 or gates != (*c[:2], 4 * c[2]) or cont != c[:2]:
            raise ValueError("expected c (1, n, d), gates (1, n, 4 d) and cont (1, n)")
        return (c, c)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return EVERYTHING

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        return _unit(bottoms[0], bottoms[1], bottoms[2].unsqueeze(2))

    def to_onnx(self, out: OnnxLayer) -> None:
        c, gates, cont = out.bottoms
        width = c.shape[2]
        if width is None:
            raise out.refuse("an LSTMUnit of a free width")
        on = out.reshape(cont, [1, -1, 1], part="on")
        new, h = unit_to_onnx(out, gates, c, on, width=width, axis=2)
        out.top("Identity", [new])
        out.top("Identity", [h], index=1)


@register_layer("RNN")
@dataclass(frozen=True)
class RNN(Recurrent):
    """h = tanh(W_xh x + b_h + W_hh h), o = tanh(W_ho h + b_o); blobs W_xh, b_h, (W_xh_static), W_hh, W_ho, b_o."""

    output_blobs: ClassVar[bool] = True

    def _steps(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], states: Sequence[Tensor]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        import torch
        from torch.nn.functional import linear

        hidden, out, bias = blobs[2 + self.static :]
        (fixed, cont), (h,) = self._inputs(bottoms, blobs), states
        steps = []
        for gates, goes_on in zip(fixed.unbind(0), cont.unbind(0), strict=True):
            h = (gates + linear(h * goes_on, hidden)).tanh()
            steps.append(h)
        return linear(torch.stack(steps), out, bias).tanh(), (h,)

    def to_onnx(self, out: OnnxLayer) -> None:
        steps, states = self._onnx_steps(out)
        h: str | None = states[0] if states else None
        each = []
        for number in range(steps.count):
            gates, _ = steps.begin(number, h)
            h = out.node("Tanh", [gates], part=f"h{number}")
            each.append(h)
        rows = out.node("Concat", each, part="hidden", axis=0)
        product = out.node("Gemm", [rows, out.blob(3 + self.static), out.blob(4 + self.static)], part="out", transB=1)
        out.reshape(out.node("Tanh", [product], part="tanh"), [steps.count, -1, self.num_output])
        if self.exposed:
            out.reshape(h, [1, -1, self.num_output], index=1)


@register_layer("Lstm")
@dataclass(frozen=True)
class Lstm(Layer):
    """junhyukoh's LSTM, gates in the order i, f, o, g; blobs (4 H, I), (4 H, H) and the bias (4 H).

    With `num_output` in lstm_param it is CTPN's: bottom (T, N, ...), top (T, N, H), and a second bottom (T, N) that is
    0 where a stream begins anew. With num_output in inner_product_param it is the first one: one stream, bottom
    (T, ...), top (T, H, 1, 1), and no bias where bias_term is false. Their clipping_threshold is for gradients.
    junhyukoh's latest has num_output in lstm_param as well, and `flat` bottoms (T * N, I), `batch_size` N of them for
    each step (lstm_layer.cpp:19-23, 67-79): a bottom of two axes, or a batch_size, is read so.
    """

    num_output: int
    streams: bool
    bias: bool
    batch: int | None = None

    bottom_count: ClassVar[tuple[int, float]] = (1, 2)
    top_count: ClassVar[tuple[int, float]] = (1, 1)

    @classmethod
    def parse(cls, spec: LayerSpec) -> Lstm:
        own, product = fork_message(spec, "lstm_param"), spec.message.inner_product_param
        streams = "num_output" in own
        batch = own.integer("batch_size", 1) if "batch_size" in own else None
        layer = cls(own.integer("num_output", product.num_output), streams, streams or product.bias_term, batch)
        if batch is not None and (batch < 1 or not streams):
            raise refuse(spec, f"batch_size is {batch}; expected 1 or more, in lstm_param with num_output")
        if layer.num_output < 1:
            raise refuse(spec, "num_output is missing or 0")
        if not streams and len(spec.bottoms) > 1:
            raise refuse(spec, "a second bottom goes with num_output in lstm_param only")
        return layer

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        x = bottoms[0]
        if self._is_flat(x):
            if x[0] % (self.batch or 1):
                raise ValueError(f"{x[0]} rows are not a multiple of batch_size {self.batch}")
            if len(bottoms) > 1 and prod(bottoms[1]) != x[0]:
                raise ValueError(f"a second bottom of shape {bottoms[1]}; expected {x[0]} numbers")
            return ((x[0], self.num_output),)
        if len(x) < 2 + self.streams:
            raise ValueError(f"a bottom of shape {x}; expected (time, {'streams, ' * self.streams}...)")
        if len(bottoms) > 1 and prod(bottoms[1]) != prod(x[:2]):
            raise ValueError(f"a second bottom of shape {bottoms[1]}; expected a number for each step and stream")
        return ((*x[:2], self.num_output) if self.streams else (x[0], self.num_output, 1, 1),)

    def _is_flat(self, x: Shape) -> bool:
        """True where time and streams are one axis."""
        return self.streams and (self.batch is not None or len(x) == 2)

    def times(self, x: Shape) -> tuple[int, int]:
        """The steps, and the streams that go through them, in a bottom of this shape."""
        if self._is_flat(x):
            return x[0] // (self.batch or 1), self.batch or 1
        return (x[0], x[1]) if self.streams else (x[0], 1)

    def blob_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        width, size = 4 * self.num_output, prod(bottoms[0][1 + (self.streams and not self._is_flat(bottoms[0])) :])
        return ((width, size), (width, self.num_output), *([(width,)] if self.bias else []))

    def filler_fields(self) -> tuple[str, ...]:
        return ("inner_product_param.weight_filler",) * 2 + ("inner_product_param.bias_filler",) * self.bias

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return sum(map(prod, self.blob_shapes(bottoms)[:2])) * prod(tops[0]) // self.num_output

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return EVERYTHING

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return None if self.streams else (self.num_output,)

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        import torch
        from torch.nn.functional import linear

        flat = self._is_flat(tuple(bottoms[0].shape))
        x = bottoms[0].reshape(*self.times(tuple(bottoms[0].shape)), -1)
        fixed = linear(x, blobs[0], blobs[2] if self.bias else None)
        h = c = x.new_zeros(x.shape[1], self.num_output)
        cont = x.new_ones(*x.shape[:2], 1)
        if len(bottoms) > 1:
            cont = (bottoms[1] != 0).to(x.dtype).reshape(cont.shape)
            if training:
                check_beginning(self, cont)
        steps = []
        for gates, on in zip(fixed.unbind(0), cont.unbind(0), strict=True):
            i, f, o, g = (gates + linear(h * on, blobs[1])).chunk(4, -1)
            c = on * f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            steps.append(h)
        top = torch.stack(steps)
        if flat:
            return (top.flatten(0, 1),)
        return (top if self.streams else top.reshape(-1, self.num_output, 1, 1),)

    def to_onnx(self, out: OnnxLayer) -> None:
        if self._is_flat(tuple(size or 0 for size in out.bottoms[0].shape)):
            raise out.refuse("Lstm of rows (time * streams, numbers) has no ONNX form")
        blobs = [out.blob(0), *([out.blob(2)] if self.bias else [])]
        fixed, cont = fixed_to_onnx(out, blobs, streams=self.streams), None
        if len(out.bottoms) > 1:
            whole = truth_to_onnx(out, out.bottoms[1])
            cont = out.reshape(whole, [steps_of(out, out.bottoms[0]), -1, 1], part="cont")
        steps = UnrolledSteps(out, fixed, out.blob(1), cont)
        part = None if self.streams else "together"
        together = lstm_to_onnx(steps, width=self.num_output, h=None, c=None, part=part)[2]
        if part:
            out.reshape(together, [-1, self.num_output, 1, 1])
