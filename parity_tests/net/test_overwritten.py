"""Gradients that Caffe computes of numbers which a layer in place has overwritten: refused, and asked of it live."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from converters import CaffeNet, NetError, parse_prototxt
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
    ("Clip* clip_param { min: 0 max: 6 }", "Dropout"),
    ("Swish", "Scale"),
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


def test_what_no_loss_hangs_on_may_be_lost() -> None:
    """net.cpp, Init: a layer that is under no loss has no way back."""
    side = """layer { name: "side" type: "TanH" bottom: "conv" top: "side" }
              layer { name: "drop" type: "Dropout" bottom: "side" top: "side" }
              layer { name: "told" type: "Accuracy" bottom: "side" bottom: "label" top: "told" }"""
    text = net("ReLU*", "Dropout")
    task_of(parse_prototxt(text + side.replace('top: "told"', 'top: "told" include { phase: TEST }')))
    task_of(parse_prototxt(text.replace('layer { name: "score"', side + ' layer { name: "score"')))


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


VIEWS = {
    "Split": ('"Split" bottom: "conv" top: "view" top: "copy"', "copy"),
    "Reshape": ('"Reshape" bottom: "conv" top: "view" reshape_param { shape { dim: [0, 0, 0, 0] } }', "conv"),
    "Flatten": ('"Flatten" bottom: "conv" top: "view" flatten_param { axis: 3 }', "conv"),
    "Slice": ('"Slice" bottom: "conv" top: "view"', "conv"),
}
"""Layers that give a blob another name, "view", and a name that it keeps."""


def net_of_views(view: str, *, first: bool, place: str = "view", reader: str = '"Softmax"') -> str:
    """A net with a Sigmoid in place under one name of a blob, after or before (`first`) a reader of another name."""
    made, kept = VIEWS[view]
    sigmoid = f'layer {{ name: "changer" type: "Sigmoid" bottom: "view" top: "{place}" }}\n'
    other = f'layer {{ name: "reader" type: {reader} bottom: "{kept}" top: "two" }}\n'
    both = sigmoid + other if first else other + sigmoid
    return NET.format(
        first=made,
        second=f'"Eltwise" bottom: "{place}" bottom: "two" top: "second"',
        score="second",
    ).replace('layer { name: "second"', f'{both}layer {{ name: "second"')


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("view", VIEWS)
def test_a_layer_in_place_beside_a_reader_of_another_name_is_refused(view: str, *, first: bool) -> None:
    with pytest.raises(NetError, match=r"'reader'.*layer 'changer'.*overwrites in place what it reads, as 'view'"):
        task_of(parse_prototxt(net_of_views(view, first=first)))
    task_of(parse_prototxt(net_of_views(view, first=first, place="own")))


@pytest.mark.parametrize(("changer", "refused"), [("Scale", True), ("Sigmoid", False)])
def test_a_loss_of_the_image_beside_what_is_learned_in_place(changer: str, *, refused: bool) -> None:
    """Its gradient goes past the Scale in Caffe, which changes what the loss reads (net 300474 of the random ones)."""
    beside = (
        'layer { name: "two" type: "Split" bottom: "data" top: "one" top: "two" } '
        f'layer {{ name: "changer" type: "{changer}" bottom: "one" top: "one" }} '
        'layer { name: "own" type: "SoftmaxWithLoss" bottom: "two" bottom: "label" top: "own" } '
    )
    text = net("BNLL", "Dropout") + beside
    text = text.replace('bottom: "data" top: "conv"', 'bottom: "image" top: "conv"')
    text = f'layer {{ name: "i" type: "Input" top: "image" input_param {{ shape {{ dim: [2, 3, 4, 5] }} }} }}{text}'
    if refused:
        with pytest.raises(NetError, match=r"layer 'own'.*layer 'changer'.*overwrites in place what it reads"):
            task_of(parse_prototxt(text))
    else:
        task_of(parse_prototxt(text))


def test_a_layer_in_place_under_another_name_loses_what_was_made_before() -> None:
    lost = net("Sigmoid", "Reshape reshape_param { shape { dim: [0, 0, 0, 0] } }", apart=True)
    for place, kept in (("apart", False), ("own", True)):
        scale = f'layer {{ name: "third" type: "Scale" bottom: "apart" top: "{place}" }}\n'
        text = lost.replace('layer { name: "score"', f'{scale}layer {{ name: "score"', 1)
        if kept:
            task_of(parse_prototxt(text.replace('bottom: "apart" top: "score"', 'bottom: "own" top: "score"')))
        else:
            with pytest.raises(NetError, match=r"layer 'first'.*layer 'third'.*overwrites in place"):
                task_of(parse_prototxt(text))


def test_a_product_in_place_is_refused() -> None:
    """eltwise_layer.cpp, Backward_cpu: the gradient of its second bottom needs its first, which it overwrote."""
    for top in ("conv", "own"):
        text = NET.format(
            first='"Convolution" bottom: "data" top: "first" convolution_param { num_output: 3 kernel_size: 1 }',
            second=f'"Eltwise" bottom: "conv" bottom: "first" top: "{top}" eltwise_param {{ operation: PROD }}',
            score=top,
        )
        if top == "own":
            task_of(parse_prototxt(text))
        else:
            with pytest.raises(NetError, match=r"layer 'second'.*overwrites in place"):
                task_of(parse_prototxt(text))


def test_a_parameter_that_a_layer_in_place_overwrites_is_refused() -> None:
    """Whether it leads to a loss or not: its blob is its top's memory (parameter_layer.hpp, LayerSetUp)."""
    for top in ("p", "own"):
        beside = (
            'layer { name: "p" type: "Parameter" top: "p" parameter_param { shape { dim: 3 } } } '
            f'layer {{ name: "norm" type: "Scale" bottom: "p" top: "{top}" scale_param {{ axis: 0 }} }} '
        )
        text = net("BNLL", "Dropout").replace('layer { name: "score"', f'{beside}layer {{ name: "score"')
        if top == "own":
            task_of(parse_prototxt(text))
        else:
            with pytest.raises(NetError, match=r"layer 'p'.*layer 'norm'.*overwrites in place"):
                task_of(parse_prototxt(text))


SIDE = """
layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: [1, 2, 3, 4] }} }} }}
layer {{ name: "view" {view} }}
layer {{ name: "changer" type: "Sigmoid" bottom: "view" top: "view" }}
layer {{ name: "after" type: "Power" bottom: "{kept}" top: "after" power_param {{ scale: 2 }} }}
"""


@pytest.mark.parametrize("view", VIEWS)
def test_one_output_is_what_it_is_beside_all_others(view: str) -> None:
    """Caffe runs the whole net: a layer in place on a branch that is not asked for changes what others read."""
    made, kept = VIEWS[view]
    text = SIDE.format(view="type: " + made.replace('"conv"', '"data"'), kept=kept.replace("conv", "data"))
    x = torch.from_numpy(rs("side").standard_normal((1, 2, 3, 4)).astype(np.float32))
    for outputs in (None, ["after"]):
        found = CaffeNet(parse_prototxt(text), outputs=outputs).blobs(x)["after"]
        assert torch.allclose(found, 2 * x.sigmoid())
    assert [layer.name for layer in CaffeNet(parse_prototxt(text), outputs=["view"]).spec.layers] == [
        "data",
        "view",
        "changer",
    ]


@pytest.mark.oracle
@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("view", VIEWS)
def test_caffe_learns_otherwise_beside_a_reader_of_another_name(oracle: Oracle, view: str, *, first: bool) -> None:
    """Where the reader comes first, its scale is learned of numbers that it has not read."""
    texts = [net_of_views(view, first=first, place=place, reader='"Scale"') for place in ("view", "own")]
    one, two = (learned(oracle, text, "conv" if first else "reader") for text in texts)
    assert not np.allclose(one, two, rtol=0, atol=1e-3)


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
    weights = [learned(oracle, net(first, second, apart=apart), "conv") for apart in (False, True)]
    assert np.allclose(weights[0], weights[1], rtol=0, atol=1e-6) != lost
    if lost:
        with pytest.raises(NetError, match="overwrites in place"):
            task_of(parse_prototxt(net(first, second)))
    else:
        task_of(parse_prototxt(net(first, second)))


def learned(oracle: Oracle, text: str, layer: str) -> np.ndarray:
    """The first blob of a layer after a step of Caffe's."""
    r = rs("overwritten")
    fed = {
        "data": r.standard_normal((1, 2, 3, 4, 5)).astype(np.float32),
        "label": r.randint(0, 3, (1, 2, 1, 4, 5)).astype(np.float32),
    }
    done = oracle.solve('base_lr: 1 lr_policy: "fixed"', text, fed, filling="zoo")
    return np.array(parse_caffemodel(done.model).blobs[layer][0])
