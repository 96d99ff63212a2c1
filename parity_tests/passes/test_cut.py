"""cut: of a net is left what some of its blobs need."""

from __future__ import annotations

import pytest

from converters import NetError
from converters.passes.cut import cut
from parity_tests.passes.texts import CONV, INPUT, layer, layers, net

SPEC = net(
    INPUT,
    layer("slice", "Slice", "data", "left right"),
    layer("conv", "Convolution", "left", "conv", CONV),
    layer("relu", "ReLU", "conv", "conv"),
    layer("pool", "Pooling", "conv", "pool"),
    layer("aux", "Softmax", "right", "aux"),
)


@pytest.mark.parametrize(
    ("outputs", "left"),
    [
        (["pool"], ["data", "slice", "conv", "relu", "pool"]),
        (["conv"], ["data", "slice", "conv", "relu"]),
        (["right"], ["data", "slice"]),
        (["aux", "conv"], ["data", "slice", "conv", "relu", "aux"]),
        (["data"], ["data"]),
    ],
)
def test_layers_that_the_outputs_need_are_left_in_their_order(outputs: list[str], left: list[str]) -> None:
    """A blob that a layer changes in place is meant as that layer leaves it."""
    assert layers(cut(SPEC, outputs)) == left
    assert all(layer in SPEC.layers for layer in cut(SPEC, outputs).layers)


@pytest.mark.parametrize(
    ("outputs", "problem"),
    [
        (["score"], "makes no blob 'score'\n  its blobs: data, left, right, conv, pool, aux"),
        ([], "no outputs are named"),
    ],
)
def test_blobs_that_are_not_there_are_told(outputs: list[str], problem: str) -> None:
    with pytest.raises(NetError, match=problem):
        cut(SPEC, outputs)
