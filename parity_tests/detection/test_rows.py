"""Nets in `detect` that end in rows of boxes: both forms of YOLO, and those that are told about the image."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import fcn_port
from converters import CaffeNet, NetError, parse_prototxt
from fcn_port.detection.resizing import image_info
from fcn_port.loading import attach
from weights.card import Card
from weights.records import InputRecipe, Preprocessing

INFO = """
layer { name: "im_info" type: "Input" top: "im_info" input_param { shape { dim: [1, 6] } } }
layer { name: "kept" type: "Power" bottom: "im_info" top: "kept" }
"""
YOLO = """
layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: [1, 3, 64, 64] }} }} }}
layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param {{ num_output: 7 kernel_size: 16 stride: 16 }} }}
layer {{ name: "found" type: "{kind}" bottom: "conv" top: "found" {param} {{ num_classes: 2 num_box: 1
  biases: [1, 2] confidence_threshold: 0.5 nms_threshold: 0.4 {more} }} }}
"""
SETTINGS = {
    "YoloDetectionOutput": {"kind": "YoloDetectionOutput", "param": "yolo_detection_output_param", "more": ""},
    "caffe-yolov2": {"kind": "DetectionOutput", "param": "detection_output_param", "more": "side: 4"},
}
RECIPE = InputRecipe("data", "color", "file", (0.0, 0.0, 0.0))


def told(net: CaffeNet, output: str) -> CaffeNet:
    attach(net, Card(preprocessing=Preprocessing((RECIPE,)), classes={output: ("none", "cat", "dog")}))
    return net


@pytest.mark.parametrize("which", SETTINGS)
def test_yolo_finds_a_white_cell(which: str) -> None:
    """Its anchor is a cell wide and two high, in the middle of the cell; the second class is the more likely."""
    net = CaffeNet(parse_prototxt(YOLO.format(**SETTINGS[which])))
    with torch.no_grad():
        net.conv.weight.zero_()  # type: ignore[union-attr]
        net.conv.weight[4] = 20 / 255 / (3 * 16 * 16)  # type: ignore[union-attr]
        net.conv.bias.copy_(torch.tensor([0.0, 0, 0, 0, -10, 0, 3]))  # type: ignore[union-attr]
    image = np.zeros((64, 128, 3), np.uint8)
    image[16:32, 64:96] = 255  # row 1, column 2 of cells that are twice as wide in the image
    (found,) = fcn_port.detect(told(net, "found"), image)
    assert (found.class_id, found.name) == (2, "dog")
    np.testing.assert_allclose(found.box, (64, 8, 96, 40), atol=1e-3)
    assert found.score == pytest.approx(1 / (1 + np.exp(-10)) / (1 + np.exp(-3)), abs=1e-5)


def test_an_image_s_size_and_scale_are_told() -> None:
    """Intel's nets of PVANET end in a DetectionOutput and have an im_info of six numbers."""
    net = CaffeNet(parse_prototxt(YOLO.format(**SETTINGS["YoloDetectionOutput"]) + INFO))
    seen = []
    net.register_forward_hook(lambda _, __, outputs: seen.append(outputs["kept"]))
    fcn_port.detect(told(net, "found"), np.zeros((128, 256, 3), np.uint8))
    assert [each.tolist() for each in seen] == [[[64, 64, 0.5, 0.25, 0.5, 0.25]]]


def test_the_forms_of_im_info() -> None:
    assert image_info((1, 4, 1, 1), (40, 80), (0.5, 0.25)).flatten().tolist() == [40, 80, 0.5, 0.25]
    assert image_info((1, 3), (40, 80), (0.5, 0.5)).tolist() == [[40, 80, 0.5]]
    with pytest.raises(NetError, match="im_info has 5 numbers"):
        image_info((1, 5), (40, 80), (0.5, 0.25))
