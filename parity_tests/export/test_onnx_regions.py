"""Layers of regions and YOLO in onnxruntime, with regions that a detector would have."""

from __future__ import annotations

import pytest
import torch

from converters import CaffeNet, parse_prototxt
from converters.export import ExportError
from parity_tests.export.onnx_models import blobs_in_onnxruntime, blobs_of, onnx_of, worst_blob
from parity_tests.layers.test_regions import regions
from parity_tests.tolerances import tolerance

HEAD = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 4 dim: 11 dim: 14 } } }
layer { name: "rois" type: "Input" top: "rois" input_param { shape { ROIS } } }
"""
FLAT, TALL = "dim: 12 dim: 5", "dim: 12 dim: 5 dim: 1 dim: 1"


@pytest.mark.parametrize("shape", [FLAT, TALL])
@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("ROIPooling", "roi_pooling_param { pooled_h: 3 pooled_w: 4 spatial_scale: 0.25 }"),
        ("ROIPooling", "roi_pooling_param { pooled_h: 7 pooled_w: 7 spatial_scale: 0.3 }"),
        ("ROIPooling", "roi_pooling_param { pooled_h: 3 pooled_w: 4 spatial_scale: 0.25 pad_ratio: 0.3 }"),
        ("ROIAlign", "roi_align_param { pooled_h: 3 pooled_w: 4 spatial_scale: 0.25 }"),
        ("ROIAlign", "roi_align_param { pooled_h: 3 pooled_w: 4 spatial_scale: 0.25 sampling_ratio: 2 }"),
    ],
)
@pytest.mark.parametrize("opset", [13, 17])
def test_regions(kind: str, settings: str, shape: str, opset: int) -> None:
    layer = f'layer {{ name: "it" type: "{kind}" bottom: "data" bottom: "rois" top: "it" {settings} }}'
    net = CaffeNet(parse_prototxt(HEAD.replace("ROIS", shape) + layer))
    generator = torch.Generator().manual_seed(0)
    for count, more in ((12, 0), (7, 3)):
        rois = torch.from_numpy(regions(count)).reshape(count, *net.inputs["rois"][1:])
        inputs = {"data": torch.randn(2, 4, 11 + more, 14 + more, generator=generator), "rois": rois}
        found = blobs_in_onnxruntime(onnx_of(net, opset=opset), inputs)
        assert worst_blob(found, blobs_of(net, inputs))[0] <= tolerance("onnx-forms")


@pytest.mark.parametrize(
    ("kind", "settings", "words"),
    [
        ("ROIAlign", "roi_pooling_param { pooled_h: 3 pooled_w: 4 pad_ratio: 0 }", "this fork's takes its corners"),
        ("PSROIPooling", "psroi_pooling_param { group_size: 2 output_dim: 1 }", "PSROIPooling has no ONNX form"),
    ],
)
def test_what_has_no_form_is_refused_by_name(kind: str, settings: str, words: str) -> None:
    layer = f'layer {{ name: "it" type: "{kind}" bottom: "data" bottom: "rois" top: "it" {settings} }}'
    with pytest.raises(ExportError, match=words):
        onnx_of(CaffeNet(parse_prototxt(HEAD.replace("ROIS", FLAT) + layer)))


def test_region_of_yolo() -> None:
    text = """
    layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 14 dim: 4 dim: 5 } } }
    layer { name: "it" type: "Region" bottom: "data" top: "it"
      region_param { classes: 2 boxes_of_each_grid: 2 softmax: true } }
    layer { name: "raw" type: "Region" bottom: "data" top: "raw" region_param { classes: 2 boxes_of_each_grid: 2 } }
    """
    net = CaffeNet(parse_prototxt(text))
    for h, w in ((4, 5), (7, 3)):
        inputs = {"data": torch.randn(2, 14, h, w, generator=torch.Generator().manual_seed(h))}
        found = blobs_in_onnxruntime(onnx_of(net), inputs)
        assert worst_blob(found, blobs_of(net, inputs))[0] <= tolerance("onnx-forms")


def test_reorg_of_yolo() -> None:
    text = """
    layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 8 dim: 4 dim: 6 } } }
    layer { name: "it" type: "Reorg" bottom: "data" top: "it" reorg_param { stride: 2 } }
    """
    net = CaffeNet(parse_prototxt(text))
    for h, w in ((4, 6), (10, 2)):
        inputs = {"data": torch.randn(2, 8, h, w)}
        assert worst_blob(blobs_in_onnxruntime(onnx_of(net), inputs), blobs_of(net, inputs))[0] == 0


def test_masks_of_mnc() -> None:
    text = """
    layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 9 } } }
    layer { name: "mask" type: "Python" bottom: "data" top: "mask" python_param { layer: "MaskLayer" } }
    """
    net = CaffeNet(parse_prototxt(text))
    inputs = {"data": torch.randn(3, 9)}
    found = blobs_in_onnxruntime(onnx_of(net), inputs)
    assert found["mask"].shape == (3, 1, 3, 3)
    assert worst_blob(found, blobs_of(net, inputs))[0] == 0
