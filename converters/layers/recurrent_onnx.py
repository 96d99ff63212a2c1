"""The ONNX forms of LSTM, RNN, LSTMUnit and Lstm: the steps one after the other, for a known number of them.

ONNX's own LSTM cannot begin a stream anew within a sequence, as Caffe's `cont` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..net.onnx_form import BOOL, FLOAT, Operand

if TYPE_CHECKING:
    from ..net.onnx_form import OnnxLayer, OnnxValue

MOST_STEPS = 512
"""Of a sequence in a model: each is a dozen nodes."""


def steps_of(out: OnnxLayer, x: OnnxValue) -> int:
    """The number of steps; refuses one that is free, or beyond what a model should hold."""
    steps = x.shape[0]
    if steps is None or steps > MOST_STEPS:
        raise out.refuse(
            f"a sequence of {'a free number of' if steps is None else steps} steps; ONNX holds up to {MOST_STEPS}",
            hint=f"give the length of the sequences, {MOST_STEPS} at most: --batch STEPS",
        )
    return steps


def fixed_to_onnx(out: OnnxLayer, blobs: Sequence[Operand], *, streams: bool = True, static: Operand = None) -> str:
    """The part of each step that depends on no other, (steps, streams, width): x by a weight and a bias."""
    x = out.bottoms[0]
    rows = out.node("Flatten", [x], part="rows", axis=2 if streams else 1)
    product = out.node("Gemm", [rows, *blobs], part="inputs", transB=1)
    width = out.blob_shape(0)[0]
    fixed = out.reshape(product, [steps_of(out, x), -1, width], part="fixed")
    return fixed if static is None else out.node("Add", [fixed, static], part="fixed_static")


def static_to_onnx(out: OnnxLayer) -> str:
    """The share of the static bottom in every step, (streams, width)."""
    flat = out.node("Flatten", [out.bottoms[2]], part="static", axis=1)
    return out.node("Gemm", [flat, out.blob(2)], part="static_inputs", transB=1)


class UnrolledSteps:
    """The steps of a recurrent layer, put down one after the other; `cont` is (steps, streams, 1), None without one."""

    def __init__(self, out: OnnxLayer, fixed: str, weight: str, cont: Operand) -> None:
        self.out = out
        self.count = steps_of(out, out.bottoms[0])
        self._fixed, self._weight, self._cont = fixed, weight, cont

    def at(self, value: Operand, number: int, name: str) -> str:
        """One row of a value (steps, ...)."""
        index = self.out.constant(f"{name}{number}_at", np.array(number, np.int64))
        return self.out.node("Gather", [value, index], part=f"{name}{number}", axis=0)

    def begin(self, number: int, h: str | None) -> tuple[str, str | None]:
        """The gates of a step, with what the state adds, and its cont."""
        gates = self.at(self._fixed, number, "fixed")
        if h is None:
            return gates, None
        cont = None if self._cont is None else self.at(self._cont, number, "cont")
        h = h if cont is None else self.out.node("Mul", [h, cont], part=f"on{number}")
        # Two nodes, as the classic engine of OpenCV 5 leaves out what a Gemm adds unless it is a constant.
        product = self.out.node("Gemm", [h, self._weight], part=f"from_state{number}", transB=1)
        return self.out.node("Add", [product, gates], part=f"gates{number}"), cont

    def together(self, each: Sequence[str], *, part: str | None = None) -> str:
        """(steps, streams, width) of the (streams, width) of each step; makes the first top, or a value between."""
        width = self._width
        rows = [self.out.reshape(value, [1, -1, width], part=f"row{i}") for i, value in enumerate(each)]
        return self.out.make("Concat", rows, part=part, axis=0)

    @property
    def _width(self) -> int:
        shape = self.out.tops[0].shape
        width = shape[2] if len(shape) == 3 else shape[1]
        assert width is not None
        return width


def unit_to_onnx(
    out: OnnxLayer, gates: Operand, c: Operand, cont: Operand, *, width: int, axis: int = 1, name: str = ""
) -> tuple[str, str]:
    """The next c and h of an LSTM whose gates are i, f, o, g along `axis`; without c it begins with zeros."""
    quarters = out.constant(f"quarters{name}", [width] * 4)
    parts = out.node_of_several("Split", [gates, quarters], [f"{gate}{name}" for gate in "ifog"], axis=axis)
    i, f, o = (out.node("Sigmoid", [parts[n]], part=f"{gate}{name}_open") for n, gate in enumerate("ifo"))
    new = out.node("Mul", [i, out.node("Tanh", [parts[3]], part=f"g{name}_tanh")], part=f"new{name}")
    if c is not None:
        kept = out.node("Mul", [f, c], part=f"kept{name}")
        kept = kept if cont is None else out.node("Mul", [kept, cont], part=f"kept{name}_on")
        new = out.node("Add", [kept, new], part=f"c{name}")
    return new, out.node("Mul", [o, out.node("Tanh", [new], part=f"c{name}_tanh")], part=f"h{name}")


def lstm_to_onnx(
    steps: UnrolledSteps, *, width: int, h: str | None, c: str | None, part: str | None = None
) -> tuple[str, str, str]:
    """All steps of an LSTM, whose h together make the first top; returns the last h and c, and all h."""
    each = []
    for number in range(steps.count):
        gates, cont = steps.begin(number, h)
        c, h = unit_to_onnx(steps.out, gates, c, cont, width=width, name=str(number))
        each.append(h)
    together = steps.together(each, part=part)
    assert h is not None and c is not None
    return h, c, together


def state_to_onnx(out: OnnxLayer, state: Operand, *, width: int, part: str) -> str:
    """A state (1, streams, width) as (streams, width)."""
    return out.reshape(state, [-1, width], part=part)


def truth_to_onnx(out: OnnxLayer, value: Operand) -> str:
    """1 where a value is not 0, else 0."""
    return out.node("Cast", [out.node("Cast", [value], part="begun", to=BOOL)], part="goes_on", to=FLOAT)
