"""Inputs of a net: their shapes, from its data layers, from what the layers behind take, or as given."""

from __future__ import annotations

import numpy as np
import pytest

from converters import NetError, to_deploy
from converters.net import validate
from converters.passes import inputs
from parity_tests.passes.texts import CONV, INPUT, TRAIN, layer, layers, net


def test_two_inputs_keep_their_names_and_depth_has_one_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    """That depth has one is known to `weights`, whose nets are meant; Caffe has no such convention."""
    monkeypatch.setattr(inputs, "_channels_by_blob", {})
    for channels in (3, 1):
        assert_two_inputs(depth=channels)
        inputs.assume_channels("depth", 1)


def test_the_releases_say_that_depth_has_one_channel() -> None:
    import weights  # noqa: F401

    assert_two_inputs(depth=1)


def assert_two_inputs(*, depth: int) -> None:
    spec = to_deploy(
        net(
            layer("all", "Python", "", "color depth label"),
            layer("early", "Concat", "color depth", "data"),
            layer("conv", "Convolution", "data", "score", CONV),
            layer("loss", "SoftmaxWithLoss", "score label", "loss"),
        )
    )
    assert dict(spec.inputs) == {"color": (1, 3, 500, 500), "depth": (1, depth, 500, 500)}
    assert layers(spec) == ["all", "early", "conv"]


@pytest.mark.parametrize(
    ("data", "shape"),
    [
        (layer("d", "Data", "", "data label", "transform_param { crop_size: 227 }"), (1, 3, 227, 227)),
        (layer("d", "Data", "", "data", "transform_param { force_gray: true crop_size: 28 }"), (1, 1, 28, 28)),
        (layer("d", "ImageData", "", "data", "image_data_param { new_height: 9 new_width: 7 }"), (1, 3, 9, 7)),
        (layer("d", "ImageData", "", "data", "image_data_param { is_color: false }"), (1, 1, 500, 500)),
        (layer("d", "HDF5Data", "", "data label"), (1, 3, 500, 500)),
        (layer("d", "AnnotatedData", "", "data label", "annotated_data_param { }"), (1, 3, 500, 500)),
        (
            layer("d", "MemoryData", "", "data y", "memory_data_param { batch_size: 2 channels: 5 height: 6 width: 7}"),
            (2, 5, 6, 7),
        ),
        (layer("d", "DummyData", "", "data", "dummy_data_param { shape { dim: 4 dim: 2 } }"), (4, 2)),
        (
            layer("d", "DummyData", "", "data y", "dummy_data_param { num: 8 channels: [3, 1] height: 4 width: 5 }"),
            (8, 3, 4, 5),
        ),
        ('input: "data"\n', (1, 3, 500, 500)),
    ],
    ids=lambda value: value.split('"')[3] if isinstance(value, str) and "type" in value else None,
)
def test_the_shape_of_an_input_is_what_the_data_layer_tells(data: str, shape: tuple[int, ...]) -> None:
    spec = to_deploy(net(data, layer("conv", "Convolution", "data", "score", CONV)))
    assert dict(spec.inputs) == {"data": shape}
    assert to_deploy(spec) == spec


@pytest.mark.parametrize(
    ("kind", "more", "weight", "channels"),
    [
        ("Convolution", CONV, (2, 7, 1, 1), 7),
        ("Convolution", "convolution_param { num_output: 4 kernel_size: 1 group: 2 }", (4, 3, 1, 1), 6),
        ("InnerProduct", "", (2, 9), 3),
    ],
)
def test_channels_are_those_that_the_first_convolution_takes(
    kind: str, more: str, weight: tuple[int, ...], channels: int
) -> None:
    """Through layers that leave the channels alone, such as Caffe's Split and a BatchNorm on the data."""
    spec = net(
        layer("data", "Data", "", "data"),
        layer("split", "Split", "data", "data_0 data_1"),
        layer("norm", "BatchNorm", "data_0", "norm"),
        layer("first", kind, "norm", "score", more),
        layer("other", "Convolution", "data_1", "other", CONV),
    )
    blobs = {"norm": [np.zeros(channels)], "first": [np.zeros(weight)]}
    assert to_deploy(spec, blobs=blobs).inputs["data"][1] == channels


@pytest.mark.parametrize(
    ("kind", "more", "channels"),
    [
        *((kind, "", 5) for kind in ("Swish", "BN", "Threshold", "BNLL", "Softmax", "Dropout", "Normalize")),
        ("Clip", "clip_param { min: 0 max: 1 }", 5),
        ("Pooling", "pooling_param { kernel_size: 2 stride: 2 }", 5),
        ("Tile", "tile_param { tiles: 5 }", 1),
        ("Tile", "tile_param { axis: 2 tiles: 5 }", 5),
        ("Im2col", "convolution_param { kernel_h: 1 kernel_w: 5 }", 1),
        ("Flatten", "", 3),
    ],
)
def test_channels_are_followed_through_layers_that_say_what_they_make_of_them(
    kind: str, more: str, channels: int
) -> None:
    """Flatten does not say, so 3 are assumed, as for any image."""
    spec = net(
        layer("data", "Data", "", "data"),
        layer("before", kind, "data", "before", more),
        layer("first", "Convolution", "before", "score", CONV),
    )
    assert to_deploy(spec, blobs={"first": [np.zeros((2, 5, 1, 1))]}).inputs["data"][1] == channels


def test_channels_are_followed_through_a_sum_of_channels() -> None:
    spec = net(
        layer("data", "Data", "", "data"),
        layer("twice", "Concat", "data data", "twice"),
        layer("first", "Convolution", "twice", "score", CONV),
    )
    assert to_deploy(spec, blobs={"first": [np.zeros((2, 10, 1, 1))]}).inputs["data"][1] == 5


def test_given_shapes_come_first() -> None:
    spec = to_deploy(net(*TRAIN), input_shapes={"data": (2, 3, 64, 48)})
    assert dict(spec.inputs) == {"data": (2, 3, 64, 48)}
    assert dict(to_deploy(spec, input_shapes={"data": (1, 3, 9, 9)}).inputs) == {"data": (1, 3, 9, 9)}
    with pytest.raises(NetError, match=r"the net has no input 'image'\n  inputs: data"):
        to_deploy(spec, input_shapes={"image": (1, 3, 9, 9)})


def test_a_net_without_a_source_gets_inputs() -> None:
    """DIGITS' standard networks begin at the blob 'data', which DIGITS' own data layer makes; the label only judges."""
    spec = to_deploy(
        net(
            layer("conv", "Convolution", "data", "conv", CONV),
            layer("loss", "SoftmaxWithLoss", "conv label", "loss"),
        )
    )
    assert dict(spec.inputs) == {"data": (1, 3, 500, 500)} and spec.outputs == ("conv",)
    assert any("no layer that brings data in; 'data' and 'label'" in note for note in spec.notes)


def test_a_net_with_a_source_and_a_blob_that_nobody_makes_is_no_net() -> None:
    with pytest.raises(NetError, match="no layer before it makes its bottom 'dta'"):
        validate(to_deploy(net(INPUT, layer("conv", "Convolution", "dta", "conv", CONV))))


PYRAMID = (
    layer("scores", "Convolution", "data", "scores", "convolution_param { num_output: 18 kernel_size: 1 }"),
    layer("boxes", "Convolution", "data", "boxes", "convolution_param { num_output: 36 kernel_size: 1 }"),
)


def test_an_input_that_only_its_reader_tells_of_is_added() -> None:
    """The net of bottom-up-attention for COCO asks for im_info and has no input of that name."""
    proposal = layer("proposal", "Proposal", "scores boxes im_info", "rois")
    spec = to_deploy(net(INPUT, *PYRAMID, proposal))
    assert dict(spec.inputs) == {"data": (1, 3, 4, 5), "im_info": (1, 3)}
    assert any("an input is missing; 'im_info', which no layer makes" in note for note in spec.notes)
    with pytest.raises(NetError, match="no layer before it makes its bottom 'boxez'"):  # a blob that it says nothing of
        validate(to_deploy(net(INPUT, *PYRAMID, layer("proposal", "Proposal", "scores boxez im_info", "rois"))))


def test_a_single_number_keeps_its_shape_without_axes() -> None:
    """dummy_data_layer.cpp: a shape without dims is one number (real Caffe, 600 random DummyData layers)."""
    shapes = "dummy_data_param { shape { } shape { dim: 2 dim: 3 } }"
    spec = to_deploy(
        net(layer("data", "DummyData", "", "one data", shapes), layer("scaled", "Scale", "data one", "scaled"))
    )
    assert dict(spec.inputs) == {"one": (), "data": (2, 3)}
