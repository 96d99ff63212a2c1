"""Ways out of detectors of regions: inputs that are no images, equal scores, and what no trace records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from converters import CaffeNet, parse_prototxt
from converters.export import (
    ExportError,
    OnnxOptions,
    build_onnx,
    check,
    drawn,
    index_inputs,
    index_inputs_of_all,
    inputs_at,
    least_side,
    run_onnx,
    trials,
)
from converters.export.targets import worker
from converters.layers.boxes_onnx import last_first
from converters.net import images_at, infer_shapes
from fcn_port.exporting import export_net
from parity_tests.export.onnx_models import arrays_of, blobs_in_onnxruntime, blobs_of, caffe_net, onnx_of, worst_blob
from parity_tests.tolerances import tolerance

FAST_RCNN = """
input: "data" input_dim: 1 input_dim: 3 input_dim: 40 input_dim: 48
input: "rois" input_dim: 4 input_dim: 5 input_dim: 1 input_dim: 1
layer { name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 4 kernel_size: 3
  stride: 2 } }
layer { name: "roi" type: "ROIPooling" bottom: "c" bottom: "rois" top: "roi"
  roi_pooling_param { pooled_h: 3 pooled_w: 3 spatial_scale: 0.5 } }
layer { name: "fc" type: "InnerProduct" bottom: "roi" top: "fc" inner_product_param { num_output: 5 } }
"""
RECURRENT = """
input: "x" input_shape { dim: 4 dim: 2 dim: 6 }
input: "cont" input_shape { dim: 4 dim: 2 }
layer { name: "l" type: "LSTM" bottom: "x" bottom: "cont" top: "l" recurrent_param { num_output: 5 } }
"""


# Inputs of four axes that are no images


def test_regions_of_four_axes_are_no_images_of_the_size_that_is_fixed() -> None:
    """The published nets of Fast R-CNN have regions of 1x5x1x1: no option could fix the size of their image."""
    net = caffe_net(FAST_RCNN)
    model = build_onnx(net.spec, arrays_of(net), OnnxOptions(size=(50, 60)))
    assert model.own_shapes == {"data": (1, 3, 50, 60), "rois": (4, 5, 1, 1)}
    assert inputs_at(net.spec, (50, 60)) == model.own_shapes
    assert infer_shapes(net.spec, inputs_at(net.spec, (50, 60)))["roi"] == (4, 4, 3, 3)


def test_images_of_one_place_are_images_where_no_input_has_more() -> None:
    assert images_at({"data": (2, 3, 1, 1)}, (4, 5)) == {"data": (2, 3, 4, 5)}
    assert images_at({"data": (2, 3, 9, 9), "info": (1, 3)}, (4, 5), batch=1) == {"data": (1, 3, 4, 5), "info": (1, 3)}


def test_a_net_without_images_takes_its_own_size_only(tmp_path: Path) -> None:
    net = caffe_net(RECURRENT)
    assert least_side(net.spec) is None
    assert trials(net.spec) == ({"x": (4, 2, 6), "cont": (4, 2)},)
    assert not export_net(net, to="torch-export", out=tmp_path / "net.pt2").any_size


# The check of an export


def of_other_scale(scale: float) -> CaffeNet:
    return caffe_net(FAST_RCNN.replace("spatial_scale: 0.5", f"spatial_scale: {scale}"))


@pytest.mark.parametrize(("scale", "wrong"), [(0.5, False), (0.45, True)])
def test_the_check_of_an_export_looks_at_regions_inside_the_image(scale: float, wrong: bool, tmp_path: Path) -> None:
    """All regions were the pixel in the corner, which is the same whatever a pooling makes of regions."""
    net = caffe_net(FAST_RCNN)
    with (tmp_path / "net.onnx").open("wb") as file:
        onnx_of(of_other_scale(scale)).write(file)
    run = run_onnx(tmp_path / "net.onnx", inputs=list(net.inputs), outputs=["fc"])
    shapes = trials(net.spec)
    indices = index_inputs_of_all(net.spec, shapes)
    if not wrong:
        assert check(net, run, shapes, outputs=["fc"], indices=indices).error <= tolerance("onnx")
        return
    with pytest.raises(ExportError, match="what came out is wrong: fc"):
        check(net, run, shapes, outputs=["fc"], indices=indices)


def test_regions_are_drawn_inside_the_image_and_of_images_that_there_are() -> None:
    spec = parse_prototxt(FAST_RCNN)
    shapes = {"data": (2, 3, 40, 48), "rois": (64, 5, 1, 1)}
    regions = drawn(index_inputs(spec, shapes)["rois"], shapes["rois"], np.random.default_rng(0)).reshape(64, 5)
    assert set(regions[:, 0]) == {0, 1}
    assert (regions[:, 1:3] >= 0).all()
    assert (regions[:, 1:3] <= regions[:, 3:5]).all()
    assert (regions[:, 3:5] < (48, 40)).all()
    assert regions[:, 3].max() > 40
    small = index_inputs_of_all(spec, [shapes, {"data": (1, 3, 20, 20), "rois": (64, 5, 1, 1)}])["rois"]
    assert drawn(small, shapes["rois"], np.random.default_rng(0)).max() < 20


# Equal scores, and numbers of boxes


BOXES = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 7 dim: 5 dim: 6 } } }
layer { name: "it" type: "BoxOutput" bottom: "data" top: "it" top: "scored" box_output_param { fg_thr: -9 iou_thr: 0.3
  field_w: 40 field_h: 30 downsample_rate: 7.5 max_nms_num: 25 max_post_nms_num: 9 min_size: 1 } }
"""


def of_equal_scores() -> dict[str, torch.Tensor]:
    x = torch.randn(2, 7, 5, 6, generator=torch.Generator().manual_seed(3))
    x[:, :3] = x[:, :3].round()
    x[:, 3:] *= 0.3
    return {"data": x}


def test_of_equal_scores_the_last_box_is_the_best_as_in_mscnn(monkeypatch: pytest.MonkeyPatch) -> None:
    """MS-CNN sorts pairs of a score and a place from the largest down (box_output_layer.cpp)."""
    net, inputs = CaffeNet(parse_prototxt(BOXES)), of_equal_scores()
    expected = blobs_of(net, inputs)
    assert worst_blob(blobs_in_onnxruntime(onnx_of(net), inputs), expected)[0] <= tolerance("onnx-forms")
    assert expected["it"][:, 3].max() == 45
    assert expected["it"][:, 4].max() == 37, "width and height of the image are whole numbers: 5 * 7.5 is 37"

    monkeypatch.setattr(f"{last_first.__module__}.last_first", lambda out, value, **_: value)
    found = blobs_in_onnxruntime(onnx_of(net), inputs)["it"]
    assert found.shape != expected["it"].shape or not np.allclose(found, expected["it"])


@pytest.mark.parametrize("most", [0, 3, 50])
@pytest.mark.parametrize("opset", [13, 17])
def test_the_best_detections_of_a_cascade(most: int, opset: int) -> None:
    """With max_det_num the model was one that ONNX Runtime calls invalid."""
    text = f"""
    layer {{ name: "prob" type: "Input" top: "prob" input_param {{ shape {{ dim: 9 dim: 3 }} }} }}
    layer {{ name: "bbox" type: "Input" top: "bbox" input_param {{ shape {{ dim: 9 dim: 12 }} }} }}
    layer {{ name: "rois" type: "Input" top: "rois" input_param {{ shape {{ dim: 9 dim: 5 }} }} }}
    layer {{ name: "size" type: "Input" top: "size" input_param {{ shape {{ dim: 1 dim: 2 }} }} }}
    layer {{ name: "it" type: "FrcnnOutput" bottom: "prob" bottom: "bbox" bottom: "rois" bottom: "size" top: "it"
      frcnn_output_param {{ conf_thr: 0.2 iou_thr: 0.3 max_det_num: {most} }} }}
    """
    net, random = CaffeNet(parse_prototxt(text)), np.random.default_rng(0)
    first = random.uniform(-5, 60, (9, 2))
    arrays = {
        "prob": random.random((9, 3)),
        "bbox": random.standard_normal((9, 12)) * 0.2,
        "rois": np.concatenate([np.zeros((9, 1)), first, first + random.uniform(5, 60, (9, 2))], 1),
        "size": np.array([[70, 80]]),
    }
    inputs = {name: torch.from_numpy(array.astype(np.float32)) for name, array in arrays.items()}
    expected = blobs_of(net, inputs)
    assert len(expected["it"]) == 4 if most == 3 else len(expected["it"]) > 6
    assert worst_blob(blobs_in_onnxruntime(onnx_of(net, opset=opset), inputs), expected)[0] <= tolerance("onnx-forms")


# What no trace records, and what a program does not give


def test_torch_export_says_why_regions_cannot_be_traced(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    said = r"ROIPooling.*cut out by their numbers, which a trace of PyTorch cannot record\n  export the net to ONNX"
    with pytest.raises(ExportError, match=said):
        export_net(caffe_net(FAST_RCNN), to="torch-export", out=tmp_path / "net.pt2")
    assert "def forward" not in capfd.readouterr().err


PROPOSAL = """
input: "s" input_shape { dim: 1 dim: 2 dim: 3 dim: 4 }
input: "o" input_shape { dim: 1 dim: 4 dim: 3 dim: 4 }
input: "im_info" input_shape { dim: 1 dim: 3 }
layer { name: "it" type: "Proposal" bottom: "s" bottom: "o" bottom: "im_info" top: "it"
  proposal_param { ratio: 1 scale: 2 feat_stride: 16 } }
"""
ROUTE = """
input: "r" input_shape { dim: 6 dim: 5 }
layer { name: "it" type: "ScaleRoute" bottom: "r" top: "it" scale_route_param { low_scale: 20 } }
"""


@pytest.mark.parametrize("text", [PROPOSAL, ROUTE, BOXES], ids=["proposal", "route", "boxes"])
def test_torch_export_says_why_boxes_cannot_be_traced(
    text: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ExportError, match="chosen by their numbers, which a trace of PyTorch cannot record"):
        export_net(CaffeNet(parse_prototxt(text)), to="torch-export", out=tmp_path / "net.pt2")
    assert "def forward" not in capfd.readouterr().err


def test_an_output_that_a_program_gives_no_numbers_for_is_what_it_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenCV gives None for an array without elements, which was written as an object that nobody reads again."""

    def nothing(job: dict[str, Any]) -> tuple[str, worker.Run]:
        return "1", lambda inputs: [None]

    monkeypatch.setitem(worker.RUNNERS, "opencv4", nothing)
    np.savez(tmp_path / "inputs.npz", np.zeros(1))
    trial = {"inputs": str(tmp_path / "inputs.npz"), "names": {}, "outputs": str(tmp_path / "outputs.npz")}
    job = {"library": "opencv4", "trials": [trial], "result": str(tmp_path / "result.json")}
    (tmp_path / "job.json").write_text(json.dumps(job))
    worker.main(str(tmp_path / "job.json"))
    assert json.loads((tmp_path / "result.json").read_text())["trials"] == ["it gives an output without numbers"]
