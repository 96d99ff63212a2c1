"""Small nets that find what is drawn: every weight is chosen by hand."""

from __future__ import annotations

import torch

from converters import CaffeNet, parse_prototxt
from fcn_port.loading import attach
from weights.card import Card
from weights.records import InputRecipe, Preprocessing

CELL, SIDE = 8, 32
SSD = f"""
layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: [1, 3, {SIDE}, {SIDE}] }} }} }}
layer {{ name: "conf" type: "Convolution" bottom: "data" top: "conf"
  convolution_param {{ num_output: 3 kernel_size: {CELL} stride: {CELL} }} }}
layer {{ name: "perm" type: "Permute" bottom: "conf" top: "perm" permute_param {{ order: [0, 2, 3, 1] }} }}
layer {{ name: "rows" type: "Reshape" bottom: "perm" top: "rows" reshape_param {{ shape {{ dim: [0, -1, 3] }} }} }}
layer {{ name: "prob" type: "Softmax" bottom: "rows" top: "prob" softmax_param {{ axis: 2 }} }}
layer {{ name: "flat" type: "Flatten" bottom: "prob" top: "flat" }}
layer {{ name: "loc" type: "Convolution" bottom: "data" top: "loc"
  convolution_param {{ num_output: 4 kernel_size: {CELL} stride: {CELL} }} }}
layer {{ name: "loc_perm" type: "Permute" bottom: "loc" top: "loc_perm" permute_param {{ order: [0, 2, 3, 1] }} }}
layer {{ name: "loc_flat" type: "Flatten" bottom: "loc_perm" top: "loc_flat" }}
layer {{ name: "priors" type: "PriorBox" bottom: "conf" bottom: "data" top: "priors"
  prior_box_param {{ min_size: {CELL} clip: false variance: 0.1 }} }}
layer {{ name: "found" type: "DetectionOutput" bottom: "loc_flat" bottom: "flat" bottom: "priors" top: "found"
  detection_output_param {{ num_classes: 3 share_location: true background_label_id: 0 keep_top_k: 50
    nms_param {{ nms_threshold: 0.45 top_k: 50 }} code_type: CENTER_SIZE confidence_threshold: 0.4 }} }}
"""
NAMES = ("background", "red thing", "blue thing")


def ssd(*, told: bool = True) -> CaffeNet:
    """A net that scores each cell of 8 x 8 pixels: class 1 where it is red, class 2 where it is blue, else neither."""
    net = CaffeNet(parse_prototxt(SSD))
    with torch.no_grad():
        weight, bias = net.conf.weight, net.conf.bias  # type: ignore[union-attr]
        weight.zero_()
        for label, channel in ((1, 2), (2, 0)):  # inputs are BGR
            weight[label] = -4 / 255 / CELL**2
            weight[label, channel] = 8 / 255 / CELL**2
        bias.copy_(torch.tensor([4.0, 0, 0]))
    if told:
        recipe = InputRecipe("data", "color", "bgr", (0.0, 0.0, 0.0))
        attach(net, Card(preprocessing=Preprocessing((recipe,)), classes={"found": NAMES}))
    return net
