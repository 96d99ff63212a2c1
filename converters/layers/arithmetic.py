"""Arithmetic: powers, exponentials and logarithms of each element (Caffe's neuron layers with a scale and a shift)."""

from __future__ import annotations

from dataclasses import dataclass
from math import e, exp, log
from typing import TYPE_CHECKING

import numpy as np

from ..escaping import python_literal
from ..net.onnx_form import Operand
from ..net.python_form import Form, plus, times
from .base import chain, refuse, register_layer, same_everywhere
from .neuron import Elementwise

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec
    from ..net.onnx_form import OnnxLayer
    from ..net.python_form import Site


@register_layer("Power")
@dataclass(frozen=True)
class Power(Elementwise):
    """(shift + scale * x)^power; shift^power, whatever x is, where the scale or the power is 0 (power_layer.cpp:28)."""

    power: float
    scale: float
    shift: float

    @classmethod
    def parse(cls, spec: LayerSpec) -> Power:
        message = spec.message.power_param
        return cls(message.power, message.scale, message.shift)

    @property
    def _constant(self) -> float | None:
        """The number that every element of the top is, as C's pow has it; None where it depends on x."""
        if not abs(self.power * self.scale) <= 2**-150:  # 0 as a float32; without NumPy, which breaks torch.compile
            return None
        with np.errstate(all="ignore"):
            return float(np.float32(self.shift) ** np.float32(self.power))

    def compute(self, x: Tensor) -> Tensor:
        import torch

        if self._constant is not None:
            return torch.full_like(x, self._constant)
        if self.power not in (1, 2):
            from .slopes import power

            return power(x, self.power, self.scale, self.shift)
        if self.scale != 1:
            x = x * self.scale
        if self.shift:
            x = x + self.shift
        return x if self.power == 1 else x.pow(2)

    def to_onnx(self, out: OnnxLayer) -> None:
        if self._constant is not None:
            same_everywhere(out, out.bottoms[0], self._constant)
            return
        steps = [("Mul", "scale", self.scale)] if self.scale != 1 else []
        steps += [("Add", "shift", self.shift)] if self.shift else []
        steps += [("Pow", "power", self.power)] if self.power != 1 else []
        chain(out, out.bottoms[0], steps)

    def to_python(self, site: Site) -> Form:
        if self._constant is not None:
            return Form((f"torch.full_like({site.x}, {python_literal(self._constant)})",))
        text = plus(times(site.x, self.scale), self.shift)
        if self.power == -0.5 and not self.shift:
            text += " + 0.0"  # as in slopes.py
        return Form((text if self.power == 1 else f"({text}).pow({python_literal(self.power)})",))


@register_layer("Exp")
@dataclass(frozen=True)
class Exp(Elementwise):
    """base^(shift + scale * x); a base of -1 stands for e.

    A scale of 0 or a base of 1 makes base^shift, whatever x is (caffe_cpu_scale, by OpenBLAS).
    """

    base: float
    scale: float
    shift: float

    @classmethod
    def parse(cls, spec: LayerSpec) -> Exp:
        message = spec.message.exp_param
        return cls(_base(spec, message.base), message.scale, message.shift)

    def compute(self, x: Tensor) -> Tensor:
        if self._inner == 0:
            import torch

            return torch.full_like(x, self._outer)
        top = (x * self._inner).exp()
        return top * self._outer if self.shift else top

    @property
    def _inner(self) -> float:
        return self.scale * log(self.base)

    @property
    def _outer(self) -> float:
        return exp(min(self.shift * log(self.base), 700))  # beyond: inf in float32

    def to_onnx(self, out: OnnxLayer) -> None:
        scale = self._inner
        if scale == 0:
            same_everywhere(out, out.bottoms[0], self._outer)
            return
        x: Operand = out.bottoms[0]
        if scale != 1:
            x = out.node("Mul", [x, out.constant("scale", np.float32(scale))], part="scaled")
        if not self.shift:
            out.top("Exp", [x])
            return
        power = out.node("Exp", [x], part="power")
        out.top("Mul", [power, out.constant("shift", np.float32(self._outer))])

    def to_python(self, site: Site) -> Form:
        if self._inner == 0:
            return Form((f"torch.full_like({site.x}, {python_literal(self._outer)})",))
        text = f"torch.exp({times(site.x, self._inner)})"
        return Form((times(text, self._outer) if self.shift else text,))


@register_layer("Log")
@dataclass(frozen=True)
class Log(Elementwise):
    """The logarithm of shift + scale * x to `base`; a base of -1 stands for e.

    A scale of 0 makes that of the shift, whatever x is (caffe_scal, by OpenBLAS).
    """

    base: float
    scale: float
    shift: float

    @classmethod
    def parse(cls, spec: LayerSpec) -> Log:
        message = spec.message.log_param
        base = _base(spec, message.base)
        if base == 1:
            raise refuse(spec, "there is no logarithm to base 1")
        return cls(base, message.scale, message.shift)

    def compute(self, x: Tensor) -> Tensor:
        if self.scale == 0:
            import torch

            return torch.full_like(x, self._of_shift)
        top = (self.shift + self.scale * x).log()
        return top / log(self.base) if self.base != exp(1) else top

    @property
    def _of_shift(self) -> float:
        with np.errstate(all="ignore"):
            return float(np.log(np.float64(self.shift)) / log(self.base))

    def to_onnx(self, out: OnnxLayer) -> None:
        if self.scale == 0:
            same_everywhere(out, out.bottoms[0], self._of_shift)
            return
        x: Operand = out.bottoms[0]
        if self.scale != 1:
            x = out.node("Mul", [x, out.constant("scale", np.float32(self.scale))], part="scaled")
        if self.shift:
            x = out.node("Add", [x, out.constant("shift", np.float32(self.shift))], part="shifted")
        if self.base == exp(1):
            out.top("Log", [x])
            return
        natural = out.node("Log", [x], part="natural")
        out.top("Div", [natural, out.constant("base", np.float32(log(self.base)))])

    def to_python(self, site: Site) -> Form:
        if self.scale == 0:
            return Form((f"torch.full_like({site.x}, {python_literal(self._of_shift)})",))
        text = f"torch.log({plus(times(site.x, self.scale), self.shift)})"
        return Form((text if self.base == e else f"{text} / {python_literal(log(self.base))}",))


def _base(spec: LayerSpec, base: float) -> float:
    if base == -1:
        return exp(1)
    if base <= 0:
        raise refuse(spec, f"base is {base}; it must be positive, or -1 for e")
    return base
