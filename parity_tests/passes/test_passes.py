"""Phases, deployment, splits and wiring: as Caffe filters and refuses, and nets that run as the trained ones do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converters import NetError, NetSpec, parse_prototxt, read_caffemodel, read_prototxt, to_deploy
from converters.formats.prototxt import format_prototxt
from converters.net.validate import validate
from converters.passes import inputs
from converters.passes.filter_phase import filter_phase
from converters.passes.merge_splits import merge_splits
from parity_tests.goldens import formats

NETS = ("fcn8s-mini", "layer-zoo-0", "layer-zoo-1", "v1-mini", "v0-mini")


def layers(spec: NetSpec) -> list[str]:
    return [layer.name for layer in spec.layers]


def layer(name: str, kind: str, bottoms: str = "", tops: str = "", more: str = "") -> str:
    """One layer's text; bottoms and tops with spaces between."""
    wires = [f'bottom: "{blob}"' for blob in bottoms.split()] + [f'top: "{blob}"' for blob in tops.split()]
    return f'layer {{ name: "{name}" type: "{kind}" {" ".join(wires)} {more} }}\n'


def net(*texts: str) -> NetSpec:
    return parse_prototxt("".join(texts))


CONV = "convolution_param { num_output: 2 kernel_size: 1 }"
INPUT = layer("data", "Input", "", "data", "input_param { shape { dim: 1 dim: 3 dim: 4 dim: 5 } }")


# Phases (net.cpp, FilterNet and StateMeetsRule; test_oracle_text.py asks Caffe itself)


@pytest.mark.parametrize(
    ("rules", "kept"),
    [
        ("", True),
        ("include { }", True),
        ("exclude { }", False),
        ("include { phase: TEST }", True),
        ("include { phase: TRAIN }", False),
        ("exclude { phase: TRAIN }", True),
        ("include { phase: TRAIN } include { phase: TEST }", True),
        ("exclude { phase: TRAIN } exclude { min_level: 1 }", False),
        ("include { min_level: 1 max_level: 1 }", True),
        ("include { min_level: 2 }", False),
        ("include { max_level: 0 }", False),
        ('include { stage: "deploy" }', True),
        ('include { stage: "deploy" stage: "own" }', True),
        ('include { stage: "deploy" stage: "other" }', False),
        ('include { not_stage: "other" }', True),
        ('include { not_stage: "other" not_stage: "own" }', False),
        ('include { phase: TEST stage: "other" } include { phase: TEST level: 9 }', True),
    ],
)
def test_rules_admit_layers_as_in_caffe(rules: str, kept: bool) -> None:
    """In phase TEST at level 1 with the stage "deploy", of a net whose state has the stage "own"."""
    text = 'state { phase: TRAIN level: 5 stage: "own" }' + layer("a", "ReLU", more=rules) + layer("b", "ReLU")
    spec = filter_phase(parse_prototxt(text), phase="TEST", level=1, stages=["deploy"])
    assert layers(spec) == (["a", "b"] if kept else ["b"])


def test_rules_of_both_kinds_are_refused() -> None:
    with pytest.raises(NetError, match=r"layer 'a' \(ReLU, line 1\): both include and exclude rules"):
        filter_phase(net(layer("a", "ReLU", more="include { } exclude { }")))


# Deployment

TRAIN = (
    layer("data", "Python", "", "data label", "python_param { module: 'voc_layers' layer: 'SBDDSegDataLayer' }"),
    layer("conv", "Convolution", "data", "conv", CONV),
    layer("relu", "ReLU", "conv", "conv"),
    layer("up", "Deconvolution", "conv", "up", CONV),
    layer("score", "Crop", "up data", "score"),
    layer("loss", "SoftmaxWithLoss", "score label", "loss", "loss_param { ignore_label: 255 }"),
)


def test_a_training_net_of_the_release_becomes_the_net_that_people_run() -> None:
    spec = to_deploy(net(*TRAIN))
    assert layers(spec) == ["data", "conv", "relu", "up", "score"]
    assert dict(spec.inputs) == {"data": (1, 3, 500, 500)}
    assert spec.outputs == ("score",)
    assert spec.notes == ("the net does not give the size of input 'data'; 1x3x500x500 is assumed",)
    assert spec.layers[1:] == net(*TRAIN).layers[1:5]


@pytest.mark.parametrize("name", NETS)
def test_a_net_to_run_comes_back_as_it_was(name: str) -> None:
    spec = read_prototxt(formats(f"{name}.prototxt"))
    assert to_deploy(spec) == spec


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


def test_phases_are_chosen_and_their_rules_dropped() -> None:
    spec = net(
        layer("data", "Data", "", "data label", "include { phase: TRAIN }"),
        layer("data", "Data", "", "data label", "include { phase: TEST } transform_param { crop_size: 9 }"),
        layer("conv", "Convolution", "data", "conv", CONV),
        layer("relu", "ReLU", "conv", "conv", "include { phase: TEST fork: 1 }"),
        layer("acc", "Accuracy", "conv label", "acc"),
        layer("prob", "Softmax", "conv", "prob", "exclude { phase: TRAIN }"),
    )
    deploy = to_deploy(spec)
    assert dict(deploy.inputs) == {"data": (1, 3, 9, 9)}
    assert deploy.outputs == ("prob",)
    assert "clude" not in format_prototxt(deploy) and "fork" not in format_prototxt(deploy)
    assert layers(deploy) == ["data", "conv", "relu", "prob"]
    assert layers(to_deploy(spec, phase="TRAIN")) == ["data", "conv"]


def test_what_feeds_only_labels_goes() -> None:
    """A label's own layers, Caffe's Split copies of it, its Silence, and weights of a loss."""
    spec = to_deploy(
        net(
            layer("data", "Data", "", "data label weight unused"),
            layer("split", "Split", "label", "label_0 label_1 label_2"),
            layer("shrink", "Pooling", "label_1", "small"),
            layer("hush", "Silence", "label_2"),
            layer("conv", "Convolution", "data", "score", CONV),
            layer("half", "Pooling", "score", "half"),
            layer("loss", "SoftmaxWithLoss", "score label_0 weight", "loss"),
            layer("loss2", "SoftmaxWithLoss", "half small", "loss2", "loss_weight: 0.5"),
            layer("scaled", "Power", "loss2", "scaled"),
            layer("out", "HDF5Output", "score label_0"),
        )
    )
    assert layers(spec) == ["data", "conv", "half"]
    assert spec.layers[0].tops == ("data",)


@pytest.mark.parametrize("order", ["score label", "label score"])
def test_a_prediction_is_known_by_its_weights_not_by_its_place(order: str) -> None:
    spec = net(
        layer("data", "Data", "", "data label"),
        layer("fc", "InnerProduct", "data", "fc"),
        layer("sig", "Sigmoid", "fc", "score"),
        layer("loss", "EuclideanLoss", order, "loss"),
    )
    assert to_deploy(spec).outputs == ("score",) and layers(to_deploy(spec)) == ["data", "fc", "sig"]


def test_both_branches_of_a_siamese_net_stay() -> None:
    spec = to_deploy(
        net(
            layer("pair", "Data", "", "pair sim"),
            layer("slice", "Slice", "pair", "left right", "slice_param { slice_point: 1 }"),
            layer("a", "InnerProduct", "left", "a"),
            layer("b", "InnerProduct", "right", "b"),
            layer("loss", "ContrastiveLoss", "a b sim", "loss"),
        )
    )
    assert layers(spec) == ["pair", "slice", "a", "b"] and spec.outputs == ("a", "b")


def test_a_loss_made_of_ordinary_layers_goes() -> None:
    spec = to_deploy(
        net(
            layer("data", "Data", "", "data label"),
            layer("fc", "InnerProduct", "data", "fc"),
            layer("minus", "Eltwise", "fc label", "difference"),
            layer("sum", "Reduction", "difference", "loss", "loss_weight: 1"),
        )
    )
    assert spec.outputs == ("difference",) and set(spec.inputs) == {"data", "label"}, "it is still computed from both"


def test_a_silenced_top_of_a_layer_that_stays_is_still_silenced() -> None:
    text = [
        INPUT,
        layer("conv", "Convolution", "data", "conv", CONV),
        layer("slice", "Slice", "conv", "left right"),
        layer("hush", "Silence", "right"),
        layer("dead", "Convolution", "left", "aux", CONV),
        layer("hush2", "Silence", "aux"),
    ]
    spec = to_deploy(net(*text, layer("prob", "Softmax", "left", "prob")))
    assert layers(spec) == ["data", "conv", "slice", "hush", "prob"]
    assert spec.outputs == ("prob",) and to_deploy(spec) == spec


def test_constant_blobs_and_unused_inputs_stay() -> None:
    spec = net(
        INPUT,
        layer("im_info", "Input", "", "im_info", "input_param { shape { dim: 1 dim: 3 } }"),
        layer("bias", "Parameter", "", "bias", "parameter_param { shape { dim: 3 } }"),
        layer("sum", "Bias", "data bias", "sum"),
    )
    assert to_deploy(spec) == spec


def test_a_net_without_weights_keeps_what_its_loss_judges() -> None:
    spec = net(
        layer("data", "Data", "", "data label"),
        layer("pool", "Pooling", "data", "pool"),
        layer("loss", "EuclideanLoss", "pool label", "loss"),
    )
    assert layers(to_deploy(spec)) == ["data", "pool"] and to_deploy(spec).outputs == ("pool",)


def test_a_net_that_was_saved_while_it_was_trained_is_taken_as_it_was_trained() -> None:
    spec = net(layer("d", "Data", "", "data label", "include { phase: TRAIN }"), *TRAIN[1:])
    assert layers(to_deploy(spec)) == ["d", "conv", "relu", "up", "score"]


@pytest.mark.parametrize("missing", ["data", "conv", "up"])
def test_wrong_variant_a_deploy_that_takes_out_too_much_is_caught(missing: str) -> None:
    whole = to_deploy(net(*TRAIN))
    validate(whole)
    with pytest.raises(NetError, match="no layer before it makes its bottom"):
        validate(whole.replace_layers(tuple(layer for layer in whole.layers if layer.name != missing)))


# Splits


@pytest.mark.parametrize("name", ["fcn8s-mini", "layer-zoo-0", "layer-zoo-1"])
def test_the_splits_of_a_caffemodel_are_undone(name: str) -> None:
    """Caffe wrote its copies into the file; without them it has the wires of the prototxt again."""

    def wires(spec: NetSpec) -> list[tuple]:
        return [(layer.name, layer.type, layer.bottoms, layer.tops) for layer in spec.layers]

    written = read_caffemodel(formats(f"{name}.caffemodel")).spec
    given_ = read_prototxt(formats(f"{name}.prototxt"))
    assert written is not None and wires(written) != wires(given_)
    assert wires(merge_splits(written)) == wires(given_)
    assert merge_splits(given_) == given_


def test_a_copy_that_is_an_output_keeps_its_split() -> None:
    first, second = "data_data_0_split", "data_data_0_split_0_x_0_split"
    spec = merge_splits(
        net(
            INPUT,
            layer(first, "Split", "data", f"{first}_0 {first}_1 {first}_2"),
            layer(second, "Split", f"{first}_0", f"{second}_0 {second}_1"),
            layer("r", "ReLU", f"{second}_0", "f"),
        )
    )
    assert [(layer.name, layer.bottoms, layer.tops) for layer in spec.layers] == [
        ("data", (), ("data",)),
        (first, ("data",), (f"{first}_1", f"{first}_2")),
        (second, ("data",), (f"{second}_1",)),
        ("r", ("data",), ("f",)),
    ]
    assert set(spec.outputs) == {f"{first}_1", f"{first}_2", f"{second}_1", "f"}


@pytest.mark.parametrize(
    ("name", "tops"),
    [("s_split", "a b"), ("data_split", "a b"), ("data_data_0_split", "a b"), ("other_data_0_split", "a b")],
)
def test_a_split_that_somebody_wrote_stays(name: str, tops: str) -> None:
    """insert_splits.cpp names a Split and its tops after blob, layer and place; any other name is somebody's."""
    spec = net(INPUT, layer(name, "Split", "data", tops), layer("r", "ReLU", "a", "c"))
    assert merge_splits(spec) == spec


# Wiring (net.cpp, AppendTop and AppendBottom; insert_splits.cpp)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (layer("r", "ReLU", "dat", "a"), r"layer 'r' \(ReLU, line 2\): no layer .* bottom 'dat'\n.* mean 'data'"),
        (layer("r", "ReLU", "xyz", "a"), "blobs so far: data"),
        (layer("r", "ReLU", "b", "a") + layer("s", "ReLU", "data", "b"), "layer 's', which makes it, comes later"),
        (layer("r", "ReLU", "a", "a"), "no layer before it makes its bottom 'a'"),
        (layer("r", "ReLU", "data", "a") + layer("s", "ReLU", "data", "a"), r"top 'a' is made by two.*\n.*layer 'r'"),
        (layer("r", "Split", "data", "a a"), "top 'a' is made by two layers"),
        (layer("r", "Eltwise", "data data", "data"), "changes 'data' in place, which another layer reads"),
        (layer("r", "ReLU", "data", "a") + layer("s", "ReLU", "data", "data"), "changes 'data' in place"),
        (
            layer("r", "ReLU", "data", "a") + layer("s", "Eltwise", "data a", "a"),
            r"layer 's' \(Eltwise, line 3\): top 'a' is made by two layers\n.*bottom in the same position",
        ),
        (layer("r", "ReLU", "data", "a", "propagate_down: [true, true]"), "is given 2 times; expected 0 or 1"),
    ],
)
def test_wiring_that_caffe_refuses_is_refused(text: str, problem: str) -> None:
    with pytest.raises(NetError, match=problem):
        validate(net(INPUT, text))


@pytest.mark.parametrize("name", NETS)
def test_nets_that_caffe_runs_are_valid(name: str) -> None:
    validate(read_prototxt(formats(f"{name}.prototxt")))


KINDS = ("ReLU", "Convolution", "SoftmaxWithLoss", "Data", "Silence", "Split", "Accuracy", "Input", "Concat")


@st.composite
def wired(draw: st.DrawFn) -> str:
    """A net of up to ten layers, nearly always wired as Caffe wants it; no copy of a Split changes in place."""
    blobs, texts = ["a"], ['input: "a"\n']
    for index in range(draw(st.integers(0, 10))):
        kind = draw(st.sampled_from(KINDS))
        sources = 0 if kind in ("Data", "Input") else draw(st.integers(1, 2))
        bottoms = [draw(st.sampled_from(blobs[-4:])) for _ in range(sources)]
        copy = "copy" if kind == "Split" else ""
        tops = [f"{copy}{index}_{i}" for i in range(0 if kind == "Silence" else draw(st.integers(1, 2)))]
        if kind == "ReLU" and not bottoms[0].startswith("copy") and draw(st.booleans()):
            bottoms = tops = bottoms[:1]
        blobs += tops
        texts.append(layer(f"l{index}" + "_split" * (kind == "Split"), kind, " ".join(bottoms), " ".join(tops)))
    return "".join(texts)


@settings(max_examples=500)
@given(text=wired())
def test_passes_take_any_net_and_settle(text: str) -> None:
    """A second time changes nothing, and what is left of a valid net is valid."""
    spec = parse_prototxt(text)
    deploy, merged = to_deploy(spec), merge_splits(spec)
    assert to_deploy(deploy) == deploy
    assert merge_splits(merged) == merged
    assert all(deploy.inputs.values())
    assert not [left for left in deploy.layers if left.type in ("Data", "SoftmaxWithLoss", "Accuracy")]
    try:
        validate(spec)
    except NetError:
        return
    validate(deploy)
    validate(merged)
    assert set(merged.outputs) == set(spec.outputs)
