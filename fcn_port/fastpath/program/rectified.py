"""The values of which many numbers are 0: what a ReLU made, or a clipping from 0 on, wherever it is moved to.

A product with them may leave out the zeros (native/sparse.c), which gives the same sums however many there are. About
half are 0 behind a product, and behind a sum of products, as in the first block of each of ResNet's stages; behind a
sum with what a ReLU made, as in its other blocks, a quarter, and a third of the greatest of some that are half 0
(docs/log.md).
"""

from __future__ import annotations

from collections.abc import Mapping

from converters.layers import (
    blocks,
    concat,
    convolution,
    dropout,
    eltwise,
    inner_product,
    neuron,
    padded,
    pooling,
    reshape,
)
from converters.net import Layer

from ..flow import Flow, FlowStep

CARRIERS = concat.Concat, concat.Slice, concat.Split, dropout.Dropout, reshape.Permute, blocks.ShuffleChannel
"""Types of layers that put numbers elsewhere."""
PRODUCTS = convolution.Convolution, inner_product.InnerProduct
"""Types of layers half of whose numbers are below 0."""
POOLINGS = pooling.Pooling, padded.PaddedPooling
"""Types of layers few of whose numbers are below 0, as they are the greatest of several."""
OF_PRODUCTS, OF_SUMS, OF_THE_GREATEST = 0.5, 0.75, 0.65
"""The shares that are not 0."""


def shares(flow: Flow) -> Mapping[str, float]:
    """The share of numbers that are not 0, by value, where it is below 1: a guess, which costs time at most."""
    found: dict[str, float] = {}
    balanced, greatest = set[str](), set[str]()  # half of their numbers are below 0, and few
    for operation in flow.operations:
        last = operation.parts[-1].params
        is_sum = any(isinstance(part.params, eltwise.Eltwise) for part in operation.parts)
        is_even = not is_sum or _is_balanced(operation, balanced)
        if _is_zero_below(last):
            if len(operation.parts) > 1 or greatest.isdisjoint(operation.bottoms):
                found.update(dict.fromkeys(operation.tops, OF_PRODUCTS if is_even else OF_SUMS))
        elif isinstance(last, CARRIERS) and found.keys() >= set(operation.bottoms):
            found.update(dict.fromkeys(operation.tops, max(found[name] for name in operation.bottoms)))
        elif isinstance(last, POOLINGS):
            greatest.update(operation.tops)
            if last.method == "MAX" and found.get(operation.bottoms[0]) == OF_PRODUCTS:
                found[operation.tops[0]] = OF_THE_GREATEST
        elif (
            is_even and operation.activation is None and isinstance(operation.main.params, (*PRODUCTS, eltwise.Eltwise))
        ):
            balanced.update(operation.tops)
    return found


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
