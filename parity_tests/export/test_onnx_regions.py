"""Layers of regions and YOLO in onnxruntime, with regions that a detector would have."""

from __future__ import annotations

import numpy as np
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


OWN = "dim: 2 dim: 12 dim: 11 dim: 14"
POSITION_SENSITIVE = [
    ("PSROIPooling", "psroi_pooling_param { output_dim: 3 group_size: 2 spatial_scale: 0.25 }"),
    ("PSROIPooling", "psroi_pooling_param { output_dim: 3 group_size: 2 spatial_scale: 1 }"),
    ("PSROIAlign", "psroi_align_param { output_dim: 3 group_size: 2 spatial_scale: 0.25 sampling_ratio: 3 }"),
    ("PSROIAlign", "psroi_align_param { output_dim: 3 group_size: 2 spatial_scale: 0.3 }"),
    ("ROIAlign", "roi_pooling_param { pooled_h: 2 pooled_w: 4 spatial_scale: 0.25 pad_ratio: 0.25 }"),
    ("ROIAlign", "roi_pooling_param { pooled_h: 3 pooled_w: 2 spatial_scale: 0.3 }"),
]


def worst_of_regions(kind: str, settings: str, **options: object) -> float:
    """The largest difference for regions inside and outside of two images, at two sizes."""
    head = HEAD.replace("ROIS", FLAT).replace("dim: 2 dim: 4 dim: 11 dim: 14", OWN)
    layer = f'layer {{ name: "it" type: "{kind}" bottom: "data" bottom: "rois" top: "it" {settings} }}'
    net = CaffeNet(parse_prototxt(head + layer))
    generator = torch.Generator().manual_seed(0)
    found = 0.0
    for count, more in ((12, 0), (7, 3)):
        rois = torch.from_numpy(regions(count)).reshape(count, 5)
        inputs = {"data": torch.randn(2, 12, 11 + more, 14 + more, generator=generator), "rois": rois}
        theirs = blobs_in_onnxruntime(onnx_of(net, **options), inputs)
        found = max(found, worst_blob(theirs, blobs_of(net, inputs))[0])
    return found


@pytest.mark.parametrize(("kind", "settings"), POSITION_SENSITIVE)
def test_regions_whose_bins_are_products_of_matrices(kind: str, settings: str) -> None:
    assert worst_of_regions(kind, settings) <= tolerance("onnx-forms")


def test_a_region_read_in_another_image_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    from converters.layers.roi_onnx import RegionReader

    def first_image(self: RegionReader, rows: str) -> str:
        self.image = self.out.constant("first", np.zeros((1, 1), np.float32))
        return right(self, rows)

    right = RegionReader.with_image
    monkeypatch.setattr(RegionReader, "with_image", first_image)
    assert worst_of_regions(*POSITION_SENSITIVE[0]) > 0.1


def test_points_that_only_a_run_counts_are_refused() -> None:
    settings = "psroi_align_param { output_dim: 3 group_size: 2 spatial_scale: 0.25 sampling_ratio: 0 }"
    with pytest.raises(ExportError, match=r"layer 'it' \(PSROIAlign.*which only a run tells\n  give the layer"):
        worst_of_regions("PSROIAlign", settings)
    for target in ("opencv5", "opencv4"):
        with pytest.raises(ExportError, match="OpenCV has no operator"):
            worst_of_regions("PSROIAlign", settings.replace("sampling_ratio: 0", "sampling_ratio: 2"), target=target)


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


def given(**shapes: tuple[int, ...]) -> str:
    """Input layers of these shapes."""
    dims = {name: " ".join(f"dim: {size}" for size in shape) for name, shape in shapes.items()}
    return "".join(
        f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {text} }} }} }} '
        for name, text in dims.items()
    )


def proposals(kind: str, *, anchors: int, offsets: int = 4, tops: int) -> str:
    inputs = given(scores=(1, 2 * anchors, 5, 7), offsets=(1, offsets * anchors, 5, 7), im_info=(1, 3))
    names = " ".join(f'top: "it{index}"' for index in range(tops))
    return f'{inputs} layer {{ name: "it" bottom: "scores" bottom: "offsets" bottom: "im_info" {names} {kind} }}'


def python(module: str, settings: str = "") -> str:
    settings = f"'feat_stride': 16{settings}"
    return f'type: "Python" python_param {{ module: "{module}" layer: "ProposalLayer" param_str: "{settings}" }}'


SSH = python("SSH.layers.proposal_layer", ", 'scales': [1, 2], 'ratios': [1]")
IN_ORDER = """layer { name: "it" type: "DetectionOutput" bottom: "data" top: "it" detection_output_param {
    num_classes: 3 num_box: 2 side: 5 biases: 1.5 biases: 2 biases: 3 biases: 1
    nms_threshold: 0.3 confidence_threshold: THIS } }"""
CHOSEN = {
    "CTPN's slices": proposals(python("layers.text_proposal_layer"), anchors=10, offsets=2, tops=2),
    **{
        f"{name}, {tops}": proposals(kind, anchors=anchors, tops=tops)
        for name, kind, anchors in (
            ("SSH's", SSH, 2),
            ("py-faster-rcnn's", python("rpn.proposal_layer"), 9),
            ("frcnn's", 'type: "FrcnnProposal"', 9),
        )
        for tops in (1, 2)
    },
    **{
        f"YOLO v2's in the order of places above {least}": given(data=(1, 16, 5, 5)) + IN_ORDER.replace("THIS", least)
        for least in ("0.1", "0.4", "0.99")
    },
}


@pytest.mark.parametrize("name", CHOSEN)
def test_boxes_that_are_chosen(name: str) -> None:
    net = CaffeNet(parse_prototxt(CHOSEN[name]))
    model = onnx_of(net)
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        inputs = {blob: torch.randn(shape, generator=generator) for blob, shape in net.inputs.items()}
        if "im_info" in inputs:
            inputs["im_info"] = torch.tensor([[80.0, 112.0, 1.0]])
            inputs["offsets"] *= 0.3
        assert worst_blob(blobs_in_onnxruntime(model, inputs), blobs_of(net, inputs))[0] <= tolerance("onnx-forms")
