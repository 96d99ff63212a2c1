"""Layers that OpenCV computes otherwise where sizes are free, or that would take too much: refused by name."""

from __future__ import annotations

import pytest

from converters.export import ExportError, OnnxOptions, build_onnx
from parity_tests.export.onnx_models import arrays_of, caffe_net
from parity_tests.export.test_opencv_forms import DATA, ROIS

REFUSED = {
    "InnerDistance.*another number of items": """layer { name: "it" type: "InnerDistance" bottom: "data" top: "it"
        inner_distance_param { num_output: 5 } }""",
    "PriorBox has no img_size": """layer { name: "large" type: "Input" top: "large"
        input_param { shape { dim: 1 dim: 3 dim: 24 dim: 32 } } }
        layer { name: "it" type: "PriorBox" bottom: "data" bottom: "large" top: "it"
                 prior_box_param { min_size: 6 img_h: 30 img_w: 40 } }""",
    **{
        reason: """layer { name: "large" type: "Input" top: "large"
        input_param { shape { dim: 1 dim: 3 dim: 24 dim: 32 } } }
        layer { name: "it" type: "PriorBox" bottom: "data" bottom: "large" top: "it"
                 prior_box_param { min_size: 6 SETTING } }""".replace("SETTING", setting)
        for reason, setting in {
            "PriorBox has no such boxes": "yx_order: true",
            "OpenCV's PriorBox has no such boxes": "denser_prior_boxes: true",
        }.items()
    },
    "SAME with a stride, at free sizes": """layer { name: "it" type: "Pooling" bottom: "data" top: "it"
        pooling_param { pool: AVE kernel_size: 3 stride: 2 pad_type: 1 } }""",
    "Convolution.*SAME with a stride": """layer { name: "it" type: "Convolution" bottom: "data" top: "it"
        convolution_param { num_output: 2 kernel_size: 3 stride: 2 pad_type: 1 } }""",
    "ROIPooling has no pad_ratio": f"""{ROIS} layer {{ name: "it" type: "ROIPooling" bottom: "data" bottom: "rois"
        top: "it" roi_pooling_param {{ pooled_w: 3 pooled_h: 2 pad_ratio: 0.2 }} }}""",
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_opencv_computes_otherwise_at_free_sizes_is_refused_with_what_to_do(reason: str) -> None:
    """Such as nothing tells from the outside: the door reads a model without running it first."""
    net = caffe_net(DATA + REFUSED[reason])
    with pytest.raises(ExportError, match=rf"layer 'it' .*{reason}.*\n  .*--(size HxW|batch N|outputs)"):
        build_onnx(net.spec, arrays_of(net), OnnxOptions(target="opencv5"))
    if "pad_ratio" not in reason:
        size = None if "InnerDistance" in reason else (6, 8)
        assert build_onnx(net.spec, arrays_of(net), OnnxOptions(target="opencv5", size=size, batch=1)).outputs


@pytest.mark.parametrize("zoom", [4096, 65536])
def test_a_kernel_that_enlarges_is_refused_before_it_is_made(zoom: int) -> None:
    """A line of a definition may ask for 192 GiB of one, which ended in a MemoryError."""
    layer = f'layer {{ name: "it" type: "Interp" bottom: "data" top: "it" interp_param {{ zoom_factor: {zoom} }} }}'
    spec = caffe_net(DATA + layer).spec
    with pytest.raises(ExportError, match=rf"'it'.* enlarges 8 channels {zoom} times would take [\d,]+ numbers"):
        build_onnx(spec, {}, OnnxOptions(target="opencv4"))
