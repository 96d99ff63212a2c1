"""Layers that forks read otherwise are told apart by what fits the net, and the note says which was taken."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from converters import CaffeNet, NetError, to_deploy
from converters.net import infer_shapes
from converters.passes import prepare
from parity_tests.passes.texts import layer, net

INPUT = layer("data", "Input", "", "data", "input_param { shape { dim: 1 dim: 2 dim: 8 dim: 12 } }")
HALF = "pooling_param { kernel_size: 2 stride: 2 }"


def test_zoom_is_intels_where_only_that_fits() -> None:
    """training_toolbox_caffe, interp_layer.cpp: 4x6 becomes 8x12, where DeepLab's is 7x11."""
    parts = (
        INPUT,
        layer("half", "Pooling", "data", "half", HALF),
        layer("quarter", "Pooling", "half", "quarter", HALF),
        layer("up", "Interp", "quarter", "up", "interp_param { zoom_factor: 2 }"),
        layer("up2", "Interp", "up", "up2", "interp_param { zoom_factor: 2 }"),
    )
    usual = prepare(net(*parts))
    assert infer_shapes(usual)["up2"] == (1, 2, 5, 9) and not any("Intel" in note for note in usual.notes)
    spec = prepare(net(*parts, layer("sum", "Eltwise", "data up2", "sum")))
    shapes = infer_shapes(spec)
    assert shapes["up"] == (1, 2, 4, 6) and shapes["up2"] == shapes["sum"] == (1, 2, 8, 12)
    assert any("zoom_factor multiplies the size in Interp 'up', 'up2'" in note for note in spec.notes)


@pytest.mark.parametrize(("operation", "kind"), [("SUM", "Bias"), ("PROD", "Scale")])
@pytest.mark.parametrize(("dims", "axis"), [("", 0), ("dim: 2", 1), ("dim: 8 dim: 12", 2)])
def test_a_second_bottom_is_spread(operation: str, kind: str, dims: str, axis: int) -> None:
    """synopsys-caffe, eltwise_layer.cpp, Reshape and Forward_cpu."""
    spec = prepare(
        net(
            INPUT,
            layer("second", "Parameter", "", "second", f"parameter_param {{ shape {{ {dims} }} }}"),
            layer("it", "Eltwise", "data second", "it", f"eltwise_param {{ operation: {operation} }}"),
        )
    )
    assert spec.layer("it").type == kind and any("spreads its second bottom" in note for note in spec.notes)
    module = CaffeNet(spec)
    second = torch.randn(module.state_dict()["second.weight"].shape)
    module.load_state_dict({"second.weight": second})
    x = np.random.default_rng(1).standard_normal((1, 2, 8, 12)).astype(np.float32)
    expected = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        other = second.numpy()[place[axis : axis + second.ndim]]
        expected[place] = x[place] + other if operation == "SUM" else x[place] * other
    with torch.no_grad():
        np.testing.assert_allclose(module(torch.from_numpy(x)).numpy(), expected, rtol=1e-6)


def test_what_no_fork_spreads_stays_an_error() -> None:
    text = layer("second", "Parameter", "", "second", "parameter_param { shape { dim: 3 } }")
    spec = prepare(net(INPUT, text, layer("it", "Eltwise", "data second", "it")))
    with pytest.raises(NetError, match="the bottoms must have one shape"):
        infer_shapes(spec)


def _ssd(boxes: int) -> tuple[str, ...]:
    def flat(name: str, channels: int) -> tuple[str, ...]:
        conv = f"convolution_param {{ num_output: {channels} kernel_size: 1 }}"
        order = "permute_param { order: 0 order: 2 order: 3 order: 1 }"
        return (
            layer(f"{name}c", "Convolution", "half", f"{name}c", conv),
            layer(f"{name}p", "Permute", f"{name}c", f"{name}p", order),
            layer(name, "Flatten", f"{name}p", name),
        )

    return (
        INPUT,
        layer("half", "Pooling", "data", "half", HALF),
        *flat("loc", boxes * 4),
        *flat("conf", boxes * 2),
        layer("prior", "PriorBox", "half data", "prior", "prior_box_param { min_size: 4 aspect_ratio: 3 flip: false }"),
        layer("found", "DetectionOutput", "loc conf prior", "found", "detection_output_param { num_classes: 2 }"),
    )


def test_boxes_are_there_twice_where_the_heads_say_so() -> None:
    """MhLiao/TextBoxes, prior_box_layer.cpp: each box, and the same half a cell lower."""
    spec = prepare(net(*_ssd(4)))
    assert infer_shapes(spec)["prior"] == (1, 2, 4 * 6 * 4 * 4)
    assert any("as in TextBoxes' fork" in note for note in spec.notes)
    assert infer_shapes(prepare(net(*_ssd(2))))["prior"] == (1, 2, 4 * 6 * 2 * 4)
    with pytest.raises(NetError, match="priors"):
        infer_shapes(prepare(net(*_ssd(3))))


def test_dense_boxes_are_there_where_the_heads_say_so() -> None:
    """sfzhang15/FaceBoxes, prior_box_layer.cpp: sixteen boxes of 32 pixels at a cell, four of 64, one of all others."""
    parts = [text.replace("min_size: 4 aspect_ratio: 3 flip: false", "min_size: 32 min_size: 64 min_size: 128")
             for text in _ssd(21)]  # fmt: skip
    spec = prepare(net(*parts))
    assert infer_shapes(spec)["prior"] == (1, 2, 4 * 6 * 21 * 4)
    assert any("as in FaceBoxes' fork" in note for note in spec.notes)


def test_a_margin_for_the_labels_sake_lets_the_scores_go_on() -> None:
    spec = to_deploy(
        net(
            layer("data", "Data", "", "data label", "transform_param { crop_size: 4 }"),
            layer("fc", "InnerProduct", "data", "fc", "inner_product_param { num_output: 3 normalize: true }"),
            layer("margin", "LabelSpecificAdd", "fc label", "margined", "label_specific_add_param { bias: -0.35 }"),
            layer("scale", "Scale", "margined", "scaled"),
            layer("loss", "SoftmaxWithLoss", "scaled label", "loss"),
        )
    )
    assert spec.layer("scale").bottoms == ("fc",) and spec.outputs == ("scaled",)


@pytest.mark.parametrize("bias", ["true", "false"])
def test_rows_take_the_place_of_one_where_only_that_fits(bias: str) -> None:
    """peteanderson80/bottom-up-attention, embed_layer.cpp, Reshape; BVLC's makes an axis more."""
    parts = (
        layer("data", "Input", "", "data", "input_param { shape { dim: 3 dim: 5 } }"),
        layer("best", "ArgMax", "data", "best", "argmax_param { axis: 1 }"),
        layer("rows", "Embed", "best", "rows", f"embed_param {{ num_output: 4 input_dim: 5 bias_term: {bias} }}"),
    )
    assert infer_shapes(prepare(net(*parts)))["rows"] == (3, 1, 4)
    spec = prepare(net(*parts, layer("both", "Concat", "data rows", "both")))
    assert infer_shapes(spec)["both"] == (3, 9) and any("bottom-up-attention's fork" in note for note in spec.notes)
    module = CaffeNet(spec)
    weights = {name: torch.randn(blob.shape) for name, blob in module.state_dict().items()}
    module.load_state_dict(weights)
    x = torch.randn(3, 5)
    with torch.no_grad():
        found = module(x).numpy()
    for row in range(3):
        expected = weights["rows.weight"][int(x[row].argmax())] + weights.get("rows.bias", 0)
        np.testing.assert_array_equal(found[row, 5:], expected.numpy())
