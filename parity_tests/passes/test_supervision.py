"""What only trains or judges a net is left out by what it does in the graph, and a net never vanishes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from converters import NetError, to_deploy, write_caffemodel
from converters.formats import CaffeModel
from fcn_port.cli import run
from parity_tests.passes.texts import CONV, INPUT, layer, layers, net

RPN = (
    layer("input", "Python", "", "data im_info gt_boxes", 'python_param { module: "roi" layer: "RoIDataLayer" }'),
    layer("conv", "Convolution", "data", "conv", CONV),
    layer("rpn", "Convolution", "conv", "rpn_score", CONV),
)


def _python(name: str, bottoms: str, tops: str, code: str) -> str:
    return layer(name, "Python", bottoms, tops, f'python_param {{ module: "m" layer: "{code}" }}')


def test_targets_of_anchors_go_and_what_they_judge_stays() -> None:
    """py-faster-rcnn's first stage: an unknown layer that reads labels and leads to a loss."""
    spec = to_deploy(
        net(
            *RPN,
            _python("anchors", "rpn_score gt_boxes im_info", "labels weights", "NobodysAnchorTargetLayer"),
            layer("shape", "Flatten", "labels", "flat"),
            layer("loss", "SoftmaxWithLoss", "rpn_score flat", "loss"),
            layer("loss2", "NobodysOwn", "rpn_score weights", "loss2", "loss_weight: 1"),
        )
    )
    assert layers(spec) == ["input", "conv", "rpn"] and spec.outputs == ("rpn_score",)
    assert spec.layers[0].tops == ("data",)
    assert any("'anchors'" in note and "left out" in note for note in spec.notes)


def test_a_sampler_of_proposals_lets_them_go_on() -> None:
    """py-faster-rcnn's end to end net: at test the proposals go where in training the sampled ones go."""
    spec = to_deploy(
        net(
            *RPN,
            layer("proposals", "InnerProduct", "rpn_score", "rpn_rois"),
            _python("sampler", "rpn_rois gt_boxes", "rois labels", "NobodysProposalTargetLayer"),
            layer("fc", "InnerProduct", "rois", "fc"),
            layer("loss", "SoftmaxWithLoss", "fc labels", "loss"),
        )
    )
    assert layers(spec) == ["input", "conv", "rpn", "proposals", "fc"]
    assert spec.layers[-1].bottoms == ("rpn_rois",) and spec.outputs == ("fc",)
    assert any("'sampler'" in note and "'rpn_rois' goes on" in note for note in spec.notes)


def test_an_evaluator_goes_and_an_unknown_last_layer_of_a_net_to_run_stays() -> None:
    data = layer("data", "Data", "", "data label")
    conv = layer("conv", "Convolution", "data", "conv", CONV)
    spec = to_deploy(net(data, conv, layer("eval", "NobodysEvaluate", "conv label", "map")))
    assert layers(spec) == ["data", "conv"] and spec.outputs == ("conv",)
    spec = to_deploy(net(INPUT, conv, layer("decode", "NobodysDecoder", "conv", "boxes")))
    assert layers(spec)[-1] == "decode", "it may be what the net is run for: whoever runs it is told that it is unknown"


def test_python_losses_go() -> None:
    data = layer("data", "Data", "", "data label")
    conv = layer("conv", "Convolution", "data", "conv", CONV)
    spec = to_deploy(net(data, conv, _python("l", "conv label", "l", "MyLossLayer")))
    assert layers(spec) == ["data", "conv"] and spec.outputs == ("conv",)


def test_a_net_that_ends_in_silence_keeps_its_bottoms() -> None:
    conv = layer("conv", "Convolution", "data", "conv", CONV)
    spec = to_deploy(net(INPUT, conv, layer("hush", "Silence", "conv")))
    assert [entry.type for entry in spec.layers] == ["Input", "Convolution"] and spec.outputs == ("conv",)
    assert to_deploy(spec) == spec


def test_layers_that_go_with_their_weights_are_told() -> None:
    spec = to_deploy(
        net(
            INPUT,
            layer("conv", "Convolution", "data", "conv", CONV),
            layer("aux", "Convolution", "conv", "aux", CONV),
            layer("hush", "Silence", "aux"),
            layer("prob", "Softmax", "conv", "prob"),
        )
    )
    assert spec.outputs == ("prob",)
    assert any("left out with their weights" in note and "'aux'" in note for note in spec.notes)


STAGES = (
    layer("train", "Data", "", "data label", 'include { stage: "train" }'),
    layer("val", "Data", "", "data label", 'include { stage: "val" }'),
    layer("conv", "Convolution", "data", "conv", CONV),
    layer("loss", "SoftmaxWithLoss", "conv label", "loss", 'exclude { stage: "deploy" }'),
)


def test_a_net_that_is_several_in_one_is_taken_as_one_that_is_whole() -> None:
    spec = to_deploy(net(*STAGES))
    assert layers(spec) == ["val", "conv"]
    assert any("stage 'val'" in note and "--stage" in note for note in spec.notes)
    assert layers(to_deploy(net(*STAGES), stages=["train"])) == ["train", "conv"]


def test_nothing_left_is_an_error_that_names_the_stages() -> None:
    only = layer("ip", "InnerProduct", "data", "ip", 'include { stage: "one" not_stage: "two" }')
    with pytest.raises(NetError, match=r"(?s)no layer .* for this phase, level and stage.*one, two.*--stage"):
        to_deploy(net(only))


def test_weights_that_can_become_no_net_are_no_success(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    spec = net(INPUT, layer("conv", "Convolution", "data", "conv", CONV), layer("x", "NobodysType", "conv", "x"))
    blobs = {"conv": (np.zeros((1, 3, 1, 1), np.float32), np.zeros(1, np.float32))}
    shapes = next(iter(_blob_shapes(spec)))
    blobs["conv"] = tuple(np.zeros(shape, np.float32) for shape in shapes)
    write_caffemodel(CaffeModel(spec=spec, blobs=blobs), tmp_path / "net.caffemodel")
    assert run(["convert", str(tmp_path / "net.caffemodel")]) == 1
    assert "no net can be made of them" in capfd.readouterr().err
    assert (tmp_path / "net.safetensors").is_file()


def _blob_shapes(spec: object) -> list[tuple[tuple[int, ...], ...]]:
    from converters.net import infer_blobs

    assert hasattr(spec, "replace_layers") and hasattr(spec, "layers")
    return list(infer_blobs(spec.replace_layers(spec.layers[:2])).values())


@pytest.mark.parametrize(("ends", "gone"), [("label", True), ("going", False)])
def test_a_decoder_that_compares_with_the_label_goes(ends: str, gone: bool) -> None:
    """senlinuc/caffe_ocr, ctc_decoder_layer.cpp: its second bottom is the label; in others it says where texts end."""
    spec = to_deploy(
        net(
            layer("data", "HDF5Data", "", "data label", 'hdf5_data_param { source: "x" batch_size: 1 }'),
            layer("going", "Input", "", "going", "input_param { shape { dim: 1 dim: 1 } }"),
            layer("fc", "InnerProduct", "data", "fc", "inner_product_param { num_output: 5 axis: 2 }"),
            layer("loss", "WarpCTCLoss", "fc label", "loss"),
            layer("acc", "CTCGreedyDecoder", f"fc {ends}", "acc"),
        )
    )
    assert ("acc" in layers(spec)) is not gone and ("fc" in spec.outputs) is gone


@pytest.mark.parametrize("kind", ["MarginInnerProduct", "LargeMarginInnerProduct"])
@pytest.mark.parametrize(("reader", "gone"), [("SoftmaxWithLoss", True), ("InnerProduct", False)])
def test_a_classifier_of_features_and_labels_goes(kind: str, reader: str, gone: bool) -> None:
    """SphereFace and L-Softmax: a trained net ends in the features; not where something else needs the scores."""
    made = net(
        layer("input", "Data", "", "data label", "transform_param { crop_size: 8 }"),
        layer("fc5", "InnerProduct", "data", "fc5"),
        layer("fc6", kind, "fc5 label", "fc6 lambda", "param { lr_mult: 1 }"),
        layer("last", reader, "fc6 label" if gone else "fc6", "last"),
    )
    spec = to_deploy(made)
    assert layers(spec) == (["input", "fc5"] if gone else ["input", "fc5", "fc6", "last"])
    assert any("its scores are of features and their labels" in note for note in spec.notes) == gone
