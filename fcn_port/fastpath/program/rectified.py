"""The values about half of whose numbers are 0: what a ReLU made, or a clipping from 0 on, wherever it is moved to.

A product with them may leave out the zeros (native/sparse.c), which gives the same sums however many there are. Behind
a sum with what a ReLU made, as in ResNet, they are too few, a quarter; behind a sum of products, as in the first block
of its stages, they are half.
"""

from __future__ import annotations

from converters.layers import blocks, concat, convolution, dropout, eltwise, inner_product, neuron, reshape
from converters.net import Layer

from ..flow import Flow, FlowStep

CARRIERS = concat.Concat, concat.Slice, concat.Split, dropout.Dropout, reshape.Permute, blocks.ShuffleChannel
"""Types of layers that put numbers elsewhere."""
PRODUCTS = convolution.Convolution, inner_product.InnerProduct
"""Types of layers half of whose numbers are below 0."""


def rectified(flow: Flow) -> frozenset[str]:
    """The names of these values."""
    found: set[str] = set()
    balanced: set[str] = set()  # half of their numbers are below 0
    for operation in flow.operations:
        last = operation.parts[-1].params
        is_sum = any(isinstance(part.params, eltwise.Eltwise) for part in operation.parts)
        if is_sum and not _is_balanced(operation, balanced):
            continue
        if _is_zero_below(last) or (isinstance(last, CARRIERS) and found.issuperset(operation.bottoms)):
            found.update(operation.tops)
        elif operation.activation is None and isinstance(operation.main.params, (*PRODUCTS, eltwise.Eltwise)):
            balanced.update(operation.tops)
    return frozenset(found)


def _is_balanced(operation: FlowStep, balanced: set[str]) -> bool:
    """True for a sum of values half of whose numbers are below 0."""
    main = operation.main.params
    if isinstance(main, PRODUCTS):
        return operation.addend in balanced
    return isinstance(main, eltwise.Eltwise) and main.operation == "SUM" and balanced.issuperset(operation.bottoms)


def _is_zero_below(params: Layer) -> bool:
    """True for a layer that makes 0 of every number below it."""
    if isinstance(params, neuron.ReLU):
        return not params.negative_slope
    if isinstance(params, neuron.BoundedReLU):
        return not params.negative_slope and max(params.low, 0) == 0
    return isinstance(params, neuron.Clip) and params.low == 0
