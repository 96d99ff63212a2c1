"""MS-CNN's and Cascade R-CNN's nets in `detect`, against their scripts' steps in loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import fcn_port
from converters import CaffeNet, parse_prototxt
from fcn_port.detection.resizing import resize_cubic
from fcn_port.loading import attach
from fcn_port.predict.resizing import resize
from weights.card import Card
from weights.records import InputRecipe, Preprocessing

MEAN, CLASSES = (104.0, 117.0, 123.0), 3
Found = tuple[int, float, tuple[float, ...]]

TRUNK = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [1, 3, 64, 96] } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 8 stride: 8 } }
"""
MSCNN = """
layer { name: "LFCN" type: "Convolution" bottom: "conv" top: "LFCN" convolution_param { num_output: 7 kernel_size: 1 } }
layer { name: "box" type: "BoxOutput" bottom: "LFCN" top: "proposals" top: "proposals_score"
  box_output_param { fg_thr: -5 iou_thr: 0.7 nms_type: "IOU" field_w: 30 field_h: 30 downsample_rate: 8 field_whr: 2
    field_xyr: 2 max_nms_num: 60 max_post_nms_num: 20 min_size: 5 } }
layer { name: "pool" type: "ROIPooling" bottom: "conv" bottom: "proposals" top: "pool"
  roi_pooling_param { pooled_w: 2 pooled_h: 2 spatial_scale: 0.125 } }
layer { name: "cls_pred" type: "InnerProduct" bottom: "pool" top: "cls_pred" inner_product_param { num_output: 3 } }
layer { name: "bbox_pred" type: "InnerProduct" bottom: "pool" top: "bbox_pred"
  inner_product_param { num_output: 12 } }
"""
CASCADE = """
layer { name: "rpn_cls" type: "Convolution" bottom: "conv" top: "rpn_cls"
  convolution_param { num_output: 2 kernel_size: 1 } }
layer { name: "rpn_prob" type: "Softmax" bottom: "rpn_cls" top: "rpn_prob" }
layer { name: "rpn_bbox" type: "Convolution" bottom: "conv" top: "rpn_bbox"
  convolution_param { num_output: 4 kernel_size: 1 } }
layer { name: "box" type: "BoxGroupOutput" bottom: "rpn_prob" bottom: "rpn_bbox" top: "proposals"
  box_group_output_param { fg_thr: 0.2 iou_thr: 0.7 nms_type: "IOU" field_whr: 2 field_xyr: 2 max_nms_num: 60
    max_post_nms_num: 40 min_size: 5 box_group_param { field_w: 40 field_h: 40 stride: 8 } } }
layer { name: "pool" type: "ROIPooling" bottom: "conv" bottom: "proposals" top: "pool"
  roi_pooling_param { pooled_w: 2 pooled_h: 2 spatial_scale: 0.125 } }
layer { name: "cls_pred" type: "InnerProduct" bottom: "pool" top: "cls_pred" inner_product_param { num_output: 3 } }
layer { name: "cls_prob_1st" type: "Softmax" bottom: "cls_pred" top: "cls_prob_1st" }
layer { name: "bbox_pred" type: "InnerProduct" bottom: "pool" top: "bbox_pred" inner_product_param { num_output: 8 } }
"""
DECODED = """
layer { name: "output_bbox_1st" type: "DecodeBBox" bottom: "bbox_pred" bottom: "proposals" top: "output_bbox_1st"
  bbox_reg_param { bbox_mean: [0, 0, 0, 0] bbox_std: [0.1, 0.1, 0.2, 0.2] } }
"""
ROWS = """
layer { name: "image_sizes" type: "Input" top: "image_sizes" input_param { shape { dim: [1, 2] } } }
layer { name: "out" type: "FrcnnOutput" bottom: "cls_prob_1st" bottom: "bbox_pred" bottom: "proposals"
  bottom: "image_sizes" top: "out" bbox_reg_param { bbox_mean: [0, 0, 0, 0] bbox_std: [0.1, 0.1, 0.2, 0.2]
    cls_aware: false } frcnn_output_param { conf_thr: 0.3 iou_thr: 0.5 nms_type: "IOU" } }
"""


def made(text: str) -> CaffeNet:
    net = CaffeNet(parse_prototxt(text)).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("weight"):
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * (0.002 if "conv" in name else 0.2))
    attach(net, Card(preprocessing=Preprocessing((InputRecipe("data", "color", "bgr", MEAN),))))
    return net


def blobs(net: CaffeNet, seen: np.ndarray, *more: torch.Tensor) -> dict[str, np.ndarray]:
    x = seen[:, :, ::-1].astype(np.float32) - np.array(MEAN, np.float32)
    with torch.no_grad():
        found = net.blobs(torch.from_numpy(x.transpose(2, 0, 1).copy())[None], *more)
    return {name: blob.flatten(1).numpy() for name, blob in found.items() if blob.ndim > 1}


def greedy(boxes: list[list[float]], scores: list[float]) -> list[int]:
    """bbNms.m, 'maxg' with 0.5 of the union, on x, y, width, height."""
    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda each: -scores[each]):
        for j in kept:
            across = min(boxes[i][0] + boxes[i][2], boxes[j][0] + boxes[j][2]) - max(boxes[i][0], boxes[j][0])
            down = min(boxes[i][1] + boxes[i][3], boxes[j][1] + boxes[j][3]) - max(boxes[i][1], boxes[j][1])
            if across > 0 and down > 0:
                common = across * down
                if common / (boxes[i][2] * boxes[i][3] + boxes[j][2] * boxes[j][3] - common) > 0.5:
                    break
        else:
            kept.append(i)
    return kept


def mscnn_by_hand(net: CaffeNet, image: np.ndarray, *, normalised: bool = True) -> set[Found]:
    """run_mscnn_detection.m."""
    h, w = image.shape[:2]
    across, down = 96 / w, 64 / h
    found = blobs(net, resize_cubic(image, (64, 96)))
    result: set[Found] = set()
    for label in range(1, CLASSES):
        boxes, scores = [], []
        for row, offsets, proposal in zip(
            found["cls_pred"], found["bbox_pred"], found["proposals_score"][:, 1:], strict=True
        ):
            x, y, pw, ph = proposal[0], proposal[1], proposal[2] - proposal[0], proposal[3] - proposal[1]
            if pw == 0 or ph == 0:
                continue
            std = (0.1, 0.1, 0.2, 0.2) if normalised else (1, 1, 1, 1)
            dx, dy, dw, dh = (offsets[4 * label + k] * std[k] for k in range(4))
            tw, th = pw * math.exp(dw), ph * math.exp(dh)
            tx, ty = dx * pw + x + pw / 2 - tw / 2, dy * ph + y + ph / 2 - th / 2
            tx, ty = max(0, tx / across), max(0, ty / down)
            boxes.append([tx, ty, min(tw / across, w - tx), min(th / down, h - ty)])
            scores.append(float(np.exp(row[label]) / np.exp(row).sum()))
        for i in greedy(boxes, scores):
            x, y, bw, bh = boxes[i]
            result.add((label, scores[i], (x, y, x + bw, y + bh)))
    return result


def cascade_by_hand(net: CaffeNet, image: np.ndarray) -> set[Found]:
    """run_cascadercnn_coco.m, without FPN."""
    h, w = image.shape[:2]
    ratio = 600 / min(h, w)
    high, wide = (int(min(ratio * side, 1000) / 32 + 0.5) * 32 for side in (h, w))
    found = blobs(net, resize_cubic(image, (high, wide)))
    result: list[Found] = []
    for label in range(1, CLASSES):
        boxes, scores = [], []
        for row, box in zip(found["cls_prob_1st"], found["output_bbox_1st"][:, 1:], strict=True):
            if row[label] < 0.001:
                continue
            x1, x2, y1, y2 = box[0] / (wide / w), box[2] / (wide / w), box[1] / (high / h), box[3] / (high / h)
            x1, y1, x2, y2 = max(0, x1), max(0, y1), min(x2, w), min(y2, h)
            boxes.append([x1, y1, x2 - x1 + 1, y2 - y1 + 1])
            scores.append(float(row[label]))
        for i in greedy(boxes, scores):
            x, y, bw, bh = boxes[i]
            result.append((label, scores[i], (x, y, x + bw - 1, y + bh - 1)))
    return set(sorted(result, key=lambda each: -each[1])[:100])


def same(found: fcn_port.detection.Detections, expected: set[Found]) -> bool:
    """The same sets, numbers being equal within rounding."""
    left = list(found)
    for label, score, box in expected:
        like = [
            each for each in left
            if each.class_id == label and abs(each.score - score) < 1e-4 and np.allclose(each.box, box, atol=0.01)
        ]  # fmt: skip
        if not like:
            return False
        left.remove(like[0])
    return not left


@pytest.mark.parametrize("size", [(64, 96), (120, 100), (40, 200)])
def test_mscnn(size: tuple[int, int]) -> None:
    net, image = made(TRUNK + MSCNN), np.random.default_rng(1).integers(0, 256, (*size, 3)).astype(np.uint8)
    found = fcn_port.detect(net, image)
    assert len(found) > 3 and same(found, mscnn_by_hand(net, image))
    assert not same(found, mscnn_by_hand(net, image, normalised=False))


def test_a_stage_of_cascade_rcnn() -> None:
    net = made(TRUNK + CASCADE + DECODED)
    image = np.random.default_rng(1).integers(0, 256, (90, 140, 3)).astype(np.uint8)
    found = fcn_port.detect(net, image)
    assert len(found) > 3 and same(found, cascade_by_hand(net, image))


def test_the_last_stage_counts_and_the_mean_over_stages_most() -> None:
    """The second stage here is the first with its scores turned round."""
    turned = """
    layer { name: "turn" type: "Power" bottom: "cls_pred" top: "turned" power_param { scale: -1 } }
    layer { name: "p2" type: "Softmax" bottom: "turned" top: "cls_prob_2nd" }
    layer { name: "output_bbox_2nd" type: "DecodeBBox" bottom: "bbox_pred" bottom: "proposals" top: "output_bbox_2nd"
      bbox_reg_param { bbox_mean: [0, 0, 0, 0] bbox_std: [0.1, 0.1, 0.2, 0.2] } }
    """
    mean = """layer { name: "mean" type: "Eltwise" bottom: "cls_prob_1st" bottom: "cls_prob_2nd" top: "cls_prob_2nd_avg"
      eltwise_param { operation: SUM coeff: 0.5 coeff: 0.5 } }"""
    image = np.random.default_rng(1).integers(0, 256, (90, 140, 3)).astype(np.uint8)
    scores = []
    for text in ("", turned, turned + mean):
        found = fcn_port.detect(made(TRUNK + CASCADE + DECODED + text), image)
        scores.append([round(each.score, 6) for each in found])
    assert scores[0] != scores[1] != scores[2] != scores[0]


def test_rows_of_the_net_for_tests() -> None:
    """FrcnnOutput's are in pixels of the net's input, whose height and width it is told (eval_data_layer.cpp)."""
    net = made(TRUNK + CASCADE + ROWS)
    image = np.random.default_rng(2).integers(0, 256, (90, 140, 3)).astype(np.uint8)
    found = fcn_port.detect(net, image)
    rows = blobs(net, resize(image, (608, 928)), torch.tensor([[608.0, 928.0]]))["out"]
    expected = [(int(r[5]), r[6], (r[1] / 928 * 140, r[2] / 608 * 90, r[3] / 928 * 140, r[4] / 608 * 90)) for r in rows]
    assert len(found) > 3 and same(found, {each for each in expected if each[0] > 0})
