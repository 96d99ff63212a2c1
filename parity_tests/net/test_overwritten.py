"""Gradients that Caffe computes of numbers which a layer in place has overwritten: refused, and asked of it live."""

from __future__ import annotations

import numpy as np
import pytest

from converters import NetError, parse_prototxt
from converters.formats import parse_caffemodel
from fcn_port.training import task_of
from parity_tests.fill import rs
from parity_tests.oracle.client import Oracle

NET = """
layer {{ name: "data" type: "Input" top: "data" top: "label"
  input_param {{ shape {{ dim: [2, 3, 4, 5] }} shape {{ dim: [2, 1, 4, 5] }} }} }}
layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param {{ num_output: 3 kernel_size: 1 }} }}
layer {{ name: "first" type: {first} }}
layer {{ name: "second" type: {second} }}
layer {{ name: "score" type: "Convolution" bottom: "{score}" top: "score"
  convolution_param {{ num_output: 3 kernel_size: 1 }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" }}
"""


def net(first: str, second: str, *, apart: bool = False) -> str:
    """A net of two layers between convolutions, the first in place where it says so (*), the second unless `apart`."""
    kind, _, settings = first.partition(" ")
    blob = "conv" if kind.endswith("*") else "first"
    after, _, more = second.partition(" ")
    top = "apart" if apart else blob
    return NET.format(
        first=f'"{kind.rstrip("*")}" bottom: "conv" top: "{blob}" {settings}',
        second=f'"{after}" bottom: "{blob}" top: "{top}" {more}',
        score=top,
    )


LOST = [
    ("TanH", "Dropout"),
    ("Sigmoid*", "Scale"),
    ("ELU", "Dropout"),
    ("ReLU*", "BatchNorm"),
    ("ReLU* relu_param { negative_slope: -0.5 }", "Dropout"),
    ("BNLL*", "Dropout"),
    ("AbsVal*", "ReLU"),
    ("LRN", "Scale"),
    ("Softmax", "ReLU"),
    ("Power* power_param { scale: 2 }", "Dropout"),
    ("MVN*", "Dropout"),
    ("Exp", "ReLU relu_param { negative_slope: 0.1 }"),
]
KEPT = [
    ("ReLU*", "Dropout"),
    ("LRN", "ReLU"),
    ("TanH", "ReLU"),
    ("BatchNorm", "Scale"),
    ("ReLU", "BatchNorm"),
    ("BNLL", "Dropout"),
]


@pytest.mark.parametrize(("first", "second"), LOST)
def test_what_a_layer_in_place_loses_is_refused(first: str, second: str) -> None:
    with pytest.raises(NetError, match=r"layer 'first'.*overwrites in place what its gradient is computed of"):
        task_of(parse_prototxt(net(first, second)))
    if not first.partition(" ")[0].endswith("*"):
        task_of(parse_prototxt(net(first, second, apart=True)))


@pytest.mark.parametrize(("first", "second"), KEPT)
def test_what_is_not_lost_is_trained(first: str, second: str) -> None:
    task_of(parse_prototxt(net(first, second)))


def test_layers_that_no_loss_or_weight_needs_may_lose_theirs() -> None:
    """As where an image is scaled in place: no gradient goes there."""
    scaled = (
        'layer { name: "a" type: "TanH" bottom: "data" top: "t" } '
        'layer { name: "b" type: "Power" bottom: "t" top: "t" }'
    )
    text = net("ReLU*", "Dropout").replace('layer { name: "conv"', f'{scaled} layer {{ name: "conv"', 1)
    task_of(parse_prototxt(text.replace('bottom: "data" top: "conv"', 'bottom: "t" top: "conv"')))


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("first", "second", "lost"),
    [
        ("TanH", "Scale", True),
        ("LRN", "Scale", True),
        ("ReLU", "Scale", False),
        ("LRN", "ReLU", False),
        ("BNLL", "Scale", False),
        ("BNLL", "Power power_param { scale: 2 }", True),  # power_layer.cpp: caffe_set of the diff that it then reads
        ("ReLU", "MVN", True),
        ("ReLU", "ELU", False),
    ],
)
def test_caffe_learns_otherwise_where_numbers_are_lost(oracle: Oracle, first: str, second: str, *, lost: bool) -> None:
    r = rs("overwritten")
    fed = {
        "data": r.standard_normal((1, 2, 3, 4, 5)).astype(np.float32),
        "label": r.randint(0, 3, (1, 2, 1, 4, 5)).astype(np.float32),
    }
    weights = []
    for apart in (False, True):
        done = oracle.solve('base_lr: 1 lr_policy: "fixed"', net(first, second, apart=apart), fed, filling="zoo")
        weights.append(parse_caffemodel(done.model).blobs["conv"][0])
    assert np.allclose(weights[0], weights[1], rtol=0, atol=1e-6) != lost
    if lost:
        with pytest.raises(NetError, match="overwrites in place"):
            task_of(parse_prototxt(net(first, second)))
    else:
        task_of(parse_prototxt(net(first, second)))
