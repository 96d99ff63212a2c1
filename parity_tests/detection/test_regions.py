"""Faster R-CNN's and R-FCN's nets in `detect`, against py-faster-rcnn's im_detect and demo.py in loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import fcn_port
from converters import CaffeNet, parse_prototxt
from fcn_port.detection.regions import LEAST_SCORE, OVERLAP
from fcn_port.loading import attach
from fcn_port.predict.resizing import resize
from parity_tests.layers.test_boxes import nms_of_py_faster_rcnn
from weights.card import Card
from weights.records import InputRecipe, Preprocessing

CLASSES = 3
NET = """
layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: [1, 3, 96, 96] }} }} }}
layer {{ name: "im_info" type: "Input" top: "im_info" input_param {{ shape {{ dim: [1, 3] }} }} }}
layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param {{ num_output: 4 kernel_size: 16 stride: 16 }} }}
layer {{ name: "rpn_cls" type: "Convolution" bottom: "conv" top: "rpn_cls"
  convolution_param {{ num_output: 18 kernel_size: 1 }} }}
layer {{ name: "rpn_bbox" type: "Convolution" bottom: "conv" top: "rpn_bbox"
  convolution_param {{ num_output: 36 kernel_size: 1 }} }}
layer {{ name: "proposal" type: "Python" bottom: "rpn_cls" bottom: "rpn_bbox" bottom: "im_info" top: "rois"
  python_param {{ module: "rpn.proposal_layer" layer: "ProposalLayer" param_str: "'feat_stride': 16" }} }}
layer {{ name: "pool" type: "ROIPooling" bottom: "conv" bottom: "rois" top: "pool"
  roi_pooling_param {{ pooled_w: 2 pooled_h: 2 spatial_scale: 0.0625 }} }}
layer {{ name: "cls_score" type: "InnerProduct" bottom: "pool" top: "cls_score"
  inner_product_param {{ num_output: 3 }} }}
layer {{ name: "cls_prob" type: "Softmax" bottom: "cls_score" top: "cls_prob" }}
layer {{ name: "bbox_pred" type: "InnerProduct" bottom: "pool" top: "bbox_pred"
  inner_product_param {{ num_output: {boxes} }} }}
"""


def rcnn(*, boxes: int) -> CaffeNet:
    net = CaffeNet(parse_prototxt(NET.format(boxes=boxes)))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("weight"):
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * (0.001 if "conv" in name else 0.1))
    recipe = InputRecipe("data", "color", "bgr", (102.9801, 115.9465, 122.7717))
    attach(net, Card(preprocessing=Preprocessing((recipe,)), classes={"cls_prob": ("none", "cat", "dog")}))
    return net


def by_hand(net: CaffeNet, image: np.ndarray, *, agnostic: bool) -> set[tuple[int, float, tuple[float, ...]]]:
    """im_detect for one scale, then demo.py's suppression of each class."""
    h, w = image.shape[:2]
    scale = 600 / min(h, w)
    if round(scale * max(h, w)) > 1000:
        scale = 1000 / max(h, w)
    seen = resize(image, (round(h * scale), round(w * scale))).astype(np.float32)
    x = seen[:, :, ::-1] - np.array([102.9801, 115.9465, 122.7717], np.float32)
    info = torch.tensor([[seen.shape[0], seen.shape[1], scale]], dtype=torch.float32)
    with torch.no_grad():
        blobs = net.blobs(torch.from_numpy(x.transpose(2, 0, 1).copy())[None], info)
    rois, scores, offsets = (blobs[name].numpy() for name in ("rois", "cls_prob", "bbox_pred"))
    found = set()
    for label in range(1, CLASSES):
        boxes = []
        for row, roi in zip(offsets, rois[:, 1:] / scale, strict=True):
            dx, dy, dw, dh = row[4:] if agnostic else row[4 * label : 4 * label + 4]
            width, height = roi[2] - roi[0] + 1, roi[3] - roi[1] + 1
            cx, cy = dx * width + roi[0] + width / 2, dy * height + roi[1] + height / 2
            pw, ph = math.exp(dw) * width, math.exp(dh) * height
            box = (cx - pw / 2, cy - ph / 2, cx + pw / 2, cy + ph / 2)
            boxes.append([max(min(value, (w, h)[i % 2] - 1), 0) for i, value in enumerate(box)])
        good = [index for index in range(len(boxes)) if scores[index, label] > LEAST_SCORE]
        kept = nms_of_py_faster_rcnn(np.array(boxes, np.float32)[good], scores[good, label], OVERLAP)
        found |= {(label, float(scores[good[k], label]), tuple(boxes[good[k]])) for k in kept}
    return found


@pytest.mark.parametrize("size", [(120, 200), (90, 400), (300, 220)])
@pytest.mark.parametrize("agnostic", [False, True])
def test_regions_become_boxes_in_pixels_of_the_image(size: tuple[int, int], agnostic: bool) -> None:
    """Of R-FCN's eight columns the last four are for all classes."""
    net = rcnn(boxes=8 if agnostic else 4 * CLASSES)
    image = np.random.default_rng(1).integers(0, 256, (*size, 3)).astype(np.uint8)
    found = fcn_port.detect(net, image)
    expected = sorted(by_hand(net, image, agnostic=agnostic), key=lambda each: -each[1])
    assert len(found) == len(expected) > 3
    for each, (label, score, box) in zip(found, expected, strict=True):
        assert (each.class_id, each.name) == (label, ("none", "cat", "dog")[label])
        np.testing.assert_allclose(each.score, score, atol=1e-6)
        np.testing.assert_allclose(each.box, box, atol=0.01)
