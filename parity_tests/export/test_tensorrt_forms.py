"""What is written for TensorRT keeps to what its parser lists, and computes what Caffe does, in onnxruntime.

TensorRT needs a GPU and is not asked: what it does with a model is not checked here.
"""

from __future__ import annotations

import onnx
import pytest

from converters.export import ExportError, OnnxOptions, build_onnx
from converters.export.onnx.tensorrt import why_not_in_tensorrt
from parity_tests.export.onnx_models import (
    arrays_of,
    blobs_in_onnxruntime,
    blobs_of,
    caffe_net,
    inputs_for,
    serialized,
    shapes_at,
    worst_blob,
)

DATA = 'input: "data" input_shape { dim: 2 dim: 3 dim: 9 dim: 8 }'
NETS = {
    "places": """layer { name: "pool" type: "Pooling" bottom: "data" top: "pool" top: "place"
                 pooling_param { pool: MAX kernel_size: 3 stride: 2 pad: 1 } }""",
    "unpooled": """layer { name: "pool" type: "Pooling" bottom: "data" top: "pool" top: "place"
                   pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
                   layer { name: "up" type: "Upsample" bottom: "pool" bottom: "place" top: "up"
                           upsample_param { scale: 2 } }""",
    "holes": """layer { name: "pool" type: "Pooling" bottom: "data" top: "pool"
                pooling_param { pool: MAX kernel_size: 3 stride: 2 pad: 2 hole: 2 } }""",
    "items": """layer { name: "which" type: "Input" top: "which" input_param { shape { dim: 2 dim: 1 } } }
                layer { name: "filter" type: "Filter" bottom: "data" bottom: "which" top: "filter" }""",
}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize(("more", "options"), [(0, {}), (5, {}), (0, {"size": (11, 12), "batch": 3})])
def test_a_form_for_tensorrt_is_caffes_at_every_size(name: str, more: int, options: dict) -> None:  # type: ignore[type-arg]
    net = caffe_net(DATA + NETS[name])
    model = build_onnx(net.spec, arrays_of(net), OnnxOptions(target="tensorrt", **options))
    inputs = inputs_for(net.spec, shapes_at(model, more))
    inputs["data"][:, :, :2] = 1  # of equal values the first place counts
    assert worst_blob(blobs_in_onnxruntime(model, inputs), blobs_of(net, inputs))[0] <= 1e-6
    assert excluded(model) == []


def excluded(model) -> list[str]:  # type: ignore[no-untyped-def]
    """The nodes of a model that TensorRT's list excludes, asked of the file."""
    graph = onnx.load_from_string(serialized(model)).graph
    constants = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
    wrong = []
    for node in graph.node:
        holes = [value for each in node.attribute if each.name == "dilations" for value in each.ints]
        several = node.op_type == "MaxPool" and len(node.output) > 1
        many = node.op_type == "TopK" and constants.get(node.input[1], [0])[0] >= 3840
        missing = node.op_type in ("Compress", "MaxRoiPool", "MaxUnpool")
        if missing or several or many or (node.op_type.endswith("Pool") and set(holes) - {1}):
            wrong.append(node.name)
    return wrong


def test_the_standard_forms_are_excluded_which_the_test_sees() -> None:
    for name in ("places", "holes", "items"):
        net = caffe_net(DATA + NETS[name])
        assert excluded(build_onnx(net.spec, arrays_of(net))) != [], name


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        (
            """layer { name: "rois" type: "Input" top: "rois" input_param { shape { dim: 3 dim: 5 } } }
               layer { name: "roi" type: "ROIPooling" bottom: "data" bottom: "rois" top: "roi"
                       roi_pooling_param { pooled_w: 3 pooled_h: 2 } }""",
            r"layer 'roi' \(ROIPooling.*TensorRT has no MaxRoiPool\n  .*--outputs",
        ),
        (
            """layer { name: "wide" type: "Input" top: "wide" input_param { shape { dim: 1 dim: 5000 } } }
               layer { name: "best" type: "ArgMax" bottom: "wide" top: "best"
                       argmax_param { axis: 1 top_k: 4000 } }""",
            r"layer 'best' .*TopK gives up to 3839 values, and 4000 are asked for",
        ),
    ],
)
def test_what_tensorrt_does_not_take_is_refused_by_name(layers: str, reason: str) -> None:
    net = caffe_net(DATA + layers)
    with pytest.raises(ExportError, match=reason):
        build_onnx(net.spec, arrays_of(net), OnnxOptions(target="tensorrt"))
    assert build_onnx(net.spec, arrays_of(net)).outputs


def test_no_reason_is_given_against_plain_nodes() -> None:
    assert why_not_in_tensorrt("MaxPool", ["x"], [0], {"dilations": (1, 1)}, {}) is None
    assert why_not_in_tensorrt("TopK", ["x", "k"], ["values", 0], {}, {}) is None  # which only a run tells
