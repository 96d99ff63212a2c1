"""Nets that would find objects were they whole: refused in words that say what they lack, and never read as labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fcn_port
from converters import CaffeNet, NetError, parse_prototxt
from converters.export import write_caffe
from fcn_port.cli import run
from fcn_port.nets import as_net
from parity_tests.detection.nets import SSD
from parity_tests.detection.test_regions import NET, rcnn

RCNN = NET.format(boxes=12)
GIVEN = """
layer { name: "rois" type: "Input" top: "rois" input_param { shape { dim: [1, 5] } } }
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [1, 3, 96, 96] } } }
layer { name: "im_info" type: "Input" top: "im_info" input_param { shape { dim: [1, 3] } } }
layer { name: "pool" type: "ROIPooling" bottom: "data" bottom: "rois" top: "pool"
  roi_pooling_param { pooled_w: 2 pooled_h: 2 spatial_scale: 0.0625 } }
layer { name: "cls_prob" type: "Softmax" bottom: "pool" top: "cls_prob" }
layer { name: "bbox_pred" type: "InnerProduct" bottom: "pool" top: "bbox_pred" inner_product_param { num_output: 8 } }
"""


def up_to(text: str, layer: str) -> str:
    """A net without the layers from one on."""
    return text[: text.index(f'layer {{ name: "{layer}"')]


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        (up_to(SSD, "found"), "without the DetectionOutput", "deploy.prototxt"),
        (GIVEN, "given as its input 'rois', and proposes none", "regions from elsewhere"),
        (RCNN.replace('type: "Softmax"', 'type: "Sigmoid"').replace('"cls_prob"', '"chances"'), "'cls_prob'", "test."),
        (up_to(RCNN, "pool"), "proposes regions and does not say what they show", "net that scores them"),
        (up_to(RCNN, "proposal").replace('"rpn_cls"', '"rpn_cls_score"').replace('"rpn_bbox"', '"rpn_bbox_pred"'),
         "is the one that is trained", "net for tests"),
    ],
)  # fmt: skip
def test_what_is_missing_is_said(text: str, said: str, hint: str) -> None:
    net, image = CaffeNet(parse_prototxt(text)), np.zeros((8, 8, 3), np.uint8)
    for call in (fcn_port.detect, fcn_port.see):
        with pytest.raises(NetError) as error:
            call(net, image)
        assert said in error.value.problem and hint in (error.value.hint or "")


def test_regions_go_by_what_is_pooled() -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3)).astype(np.uint8)
    net = rcnn(boxes=12)
    other = CaffeNet(parse_prototxt(RCNN.replace('"rois"', '"regions"')))
    other.load_state_dict(net.state_dict())
    found, expected = (fcn_port.detect(each, image, preprocessing=as_net(net).preprocessing) for each in (other, net))
    assert len(found) > 0 and [each.box for each in found] == [each.box for each in expected]


def test_the_program_makes_im_info_and_refuses_half_a_net(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net, image = rcnn(boxes=12), np.random.default_rng(1).integers(0, 256, (60, 80, 3)).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    write_caffe(net.spec, net.state_dict(), tmp_path / "n.caffemodel", prototxt=tmp_path / "n.prototxt")
    call = ["predict", str(tmp_path / "n.caffemodel"), str(tmp_path / "a.png"), "-o", str(tmp_path / "out")]
    call += ["--mean", "102.9801,115.9465,122.7717", "--prototxt"]
    assert run([*call, str(tmp_path / "n.prototxt")]) == 0
    found = fcn_port.detect(net, image, threshold=0.3)
    assert len(capsys.readouterr().out.splitlines()) == len(found) + 2 > 2
    (tmp_path / "half.prototxt").write_text(up_to(RCNN, "pool"))
    assert run([*call, str(tmp_path / "half.prototxt")]) == 3
    assert "does not say what they show" in capsys.readouterr().err
