"""ReLU and its like are applied where results are made, before they are stored.

Needs `affine` and `sums` to have run. Ensures that no such layer follows a convolution, a product, a sum or an affine
operation whose result nobody else reads.
"""

from __future__ import annotations

from dataclasses import replace

from converters.layers import activations, between, convolution, eltwise, neuron, scale

from .affine import own_statistics
from .flow import Flow, FlowLayer, FlowStep
from .operands import operand_kind

ACTIVATIONS = (
    neuron.ReLU, neuron.PReLU, neuron.BoundedReLU, neuron.Clip, neuron.ELU, neuron.Sigmoid, neuron.TanH, neuron.AbsVal,
    neuron.Swish, activations.HardSigmoid, activations.HardSwish, activations.HardTanH, activations.Mish,
)  # fmt: skip
"""Types of layers that can be an operation's last part, `is_activation` permitting."""
COSTLY = neuron.Sigmoid, neuron.TanH, neuron.ELU, neuron.Swish, activations.Mish
"""Those that take a power of e of each number."""
FEW = 3
"""Channels, as of a picture, of which most registers hold several times as many."""


def merge_activations(flow: Flow) -> Flow:
    """The flow with its activations merged into what is before them."""
    operations: list[FlowStep | None] = list(flow.operations)
    for number, operation in enumerate(flow.operations):
        part = operation.main
        if not is_activation(part) or part.bottoms[0] not in flow.makers:
            continue
        found = flow.makers[part.bottoms[0]]
        before = operations[found]
        if before is not None and _takes(before, part) and flow.only_reader(part.bottoms[0]):
            operations[found], operations[number] = None, replace(before.followed_by(part), activation=part)
    return replace(flow, operations=tuple(each for each in operations if each is not None))


def is_activation(part: FlowLayer) -> bool:
    """True for a layer that changes each number by itself, as the C code can."""
    params = part.params
    if isinstance(params, neuron.BoundedReLU):
        return not params.negative_slope and max(params.low, 0) <= params.high
    if isinstance(params, neuron.Clip):
        return params.low == params.low and params.high == params.high
    if isinstance(params, neuron.Swish):
        return params.beta != 0  # which infinity times is no number
    return type(params) in ACTIVATIONS


def _takes(operation: FlowStep, part: FlowLayer) -> bool:
    if operation.activation is not None or len(operation.tops) != 1:
        return False
    params = operation.main.params
    if isinstance(params, convolution.Convolution) and params.num_output <= FEW and type(part.params) in COSTLY:
        return False  # which fill a register a few numbers at a time there, by itself all of it
    if isinstance(params, between.Interpolating):
        return not (params.nhwc and type(part.params) is neuron.PReLU)
    if type(params) in (scale.Scale, scale.Bias) and not operation.affine and not operation.main.bottoms[1:]:
        return type(part.params) is not neuron.PReLU  # factors along the last axis, and slopes along another
    return (
        type(params) is eltwise.Eltwise
        or operand_kind(params) is not None
        or bool(operation.affine)
        or own_statistics(params) is not None
        or (operation.weighted is not None and len(operation.main.bottoms) == 1)
    )
