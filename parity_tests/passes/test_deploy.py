"""to_deploy: a net to train becomes the net that people run, and one to run comes back as it was."""

from __future__ import annotations

import pytest

from converters import NetError, read_prototxt, to_deploy
from converters.formats.prototxt import format_prototxt
from converters.net.validate import validate
from parity_tests.goldens import formats
from parity_tests.passes.texts import CONV, INPUT, NETS, TRAIN, layer, layers, net


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


def test_a_net_that_computes_nothing_is_no_empty_one() -> None:
    with pytest.raises(NetError, match="nothing is left of the net"):
        to_deploy(net(INPUT, layer("end", "Silence", "data")))


TRAINED = {
    "BatchNorm": ("phase: TRAIN", "", True),
    "BatchNorm of stored statistics": ("phase: TRAIN batch_norm_param { use_global_stats: true }", "", False),
    "Dropout": ("phase: TRAIN", "", True),
    "ReLU": ("phase: TRAIN", "", False),
    "Pooling": ("phase: TRAIN pooling_param { pool: STOCHASTIC kernel_size: 2 }", "", True),
    "Dropout of a test": ("phase: TEST", "", False),
    "Dropout of a net that was saved while it trained": ("phase: TRAIN", "phase: TRAIN", False),
}


@pytest.mark.parametrize("case", TRAINED)
def test_a_layer_that_is_of_training_by_its_own_word(case: str) -> None:
    """net.cpp, Init: a layer has the phase of its net only where it says none (asked in test_oracle_text.py)."""
    own, others, refused = TRAINED[case]
    spec = net(INPUT, layer("conv", "Convolution", "data", "conv", f"{CONV} {others}"),
               layer("apart", case.partition(" ")[0], "conv", "apart", own))  # fmt: skip
    if not refused:
        assert to_deploy(spec).outputs == ("apart",)
        return
    with pytest.raises(NetError, match=r"'apart'.*phase is TRAIN in a net that is run"):
        to_deploy(spec)
    assert to_deploy(spec, phase="TRAIN").outputs == ("apart",)
