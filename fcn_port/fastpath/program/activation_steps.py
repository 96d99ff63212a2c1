"""Activations as the C code has them: a number, and what it is told of them."""

from __future__ import annotations

from collections.abc import Mapping

from converters.layers import activations, neuron

from ..flow import ACTIVATIONS, FlowStep
from ..native.steps import (
    ABSOLUTE,
    CLIP,
    ELU,
    HARD_SIGMOID,
    HARD_SWISH,
    LEAKY,
    MISH,
    NONE,
    PRELU,
    RELU,
    SIGMOID,
    SWISH,
    TANH,
)


def activation_of(operation: FlowStep) -> tuple[int, tuple[float, ...]]:
    """Its number in the C code, and its parameters; that of the operation itself where it is nothing else."""
    part = operation.activation or (operation.main if type(operation.main.params) in ACTIVATIONS else None)
    if part is None:
        return NONE, ()
    params = part.params
    match params:
        case neuron.ReLU():
            return (LEAKY, (params.negative_slope,)) if params.negative_slope else (RELU, ())
        case neuron.BoundedReLU():
            return CLIP, (max(params.low, 0.0), params.high)
        case neuron.Clip():
            return CLIP, (params.low, params.high)
        case neuron.ELU():
            return ELU, (params.alpha,)
        case neuron.Swish():
            return SWISH, (params.beta,)
        case activations.HardTanH():
            return CLIP, (-1, 1)
        case activations.HardSigmoid():
            return HARD_SIGMOID, (params.alpha, params.beta, 1)
        case activations.HardSwish():
            return HARD_SWISH, (1, 3, 6)
    return PLAIN.get(type(params), NONE), ()


PLAIN: Mapping[type, int] = {
    neuron.PReLU: PRELU, neuron.Sigmoid: SIGMOID, neuron.TanH: TANH, neuron.AbsVal: ABSOLUTE, activations.Mish: MISH,
}  # fmt: skip
"""Those that nothing is told of but their slopes."""
