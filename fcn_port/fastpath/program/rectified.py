"""The values about half of whose numbers are 0: what a ReLU made, or a clipping from 0 on, wherever it is moved to.

A product with them may leave out the zeros (native/sparse.c), which gives the same sums however many there are. Behind
a sum with what went before, as in ResNet, they are too few, a quarter.
"""

from __future__ import annotations

from converters.layers import blocks, concat, dropout, eltwise, neuron, reshape
from converters.net import Layer

from ..flow import Flow

CARRIERS = concat.Concat, concat.Slice, concat.Split, dropout.Dropout, reshape.Permute, blocks.ShuffleChannel
"""Types of layers that put numbers elsewhere."""


def rectified(flow: Flow) -> frozenset[str]:
    """The names of these values."""
    found: set[str] = set()
    for operation in flow.operations:
        last = operation.parts[-1].params
        carried = isinstance(last, CARRIERS) and found.issuperset(operation.bottoms)
        is_sum = any(isinstance(part.params, eltwise.Eltwise) for part in operation.parts)
        if carried or (_is_zero_below(last) and not is_sum):
            found.update(operation.tops)
    return frozenset(found)


def _is_zero_below(params: Layer) -> bool:
    """True for a layer that makes 0 of every number below it."""
    if isinstance(params, neuron.ReLU):
        return not params.negative_slope
    if isinstance(params, neuron.BoundedReLU):
        return not params.negative_slope and max(params.low, 0) == 0
    return isinstance(params, neuron.Clip) and params.low == 0
