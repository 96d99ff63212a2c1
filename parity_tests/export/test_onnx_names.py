"""The blobs of an ONNX model: each under its Caffe name, beside what Caffe and CaffeNet compute, and free sizes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from converters import CaffeNet, parse_prototxt, read_caffemodel
from converters.export import ExportError, build_onnx
from fcn_port import onnx_export
from parity_tests.export.onnx_models import (
    FULLY_CONNECTED,
    IN_PLACE,
    blobs_in_onnxruntime,
    blobs_of,
    caffe_net,
    inputs_for,
    onnx_of,
    serialized,
    session_of,
    shapes_at,
    with_all_blobs,
    worst_blob,
)
from parity_tests.goldens import compare, format_blobs, formats, golden, parse_id
from parity_tests.nets import filled_inputs, filled_net, narrow_net, with_random_weights
from parity_tests.tolerances import tolerance

# Every blob by its name


@pytest.mark.parametrize("name", ["fcn8s-mini", "layer-zoo-0", "layer-zoo-1", "v1-mini", "v0-mini"])
def test_every_blob_of_every_golden_by_name(name: str) -> None:
    """Asked of onnxruntime under Caffe's names, beside what Caffe computed."""
    from parity_tests.execution.test_caffe_net import CLAIMS, inputs_of
    from parity_tests.execution.test_caffe_net import load as load_golden

    model = read_caffemodel(formats(f"{name}.caffemodel"))
    spec = parse_prototxt(formats(f"{name}.prototxt").read_text())
    net = load_golden(spec, Path(model.path or ""))
    recorded, filtered = format_blobs(name), behind_a_filter(net)
    outputs = tuple(blob for blob in recorded if blob not in filtered and blob not in net.inputs)
    found = blobs_in_onnxruntime(onnx_of(net, outputs=outputs), inputs_of(net, name))
    assert set(found) | filtered | set(net.inputs) == set(recorded)
    assert worst_blob(found, recorded)[0] <= tolerance(CLAIMS[name])


RECORDED = (
    "voc-fcn-googlenet-75x122-random",
    "voc-fcn-alexnet-100x100-bilinear",
    "siftflow-fcn8s-75x122-random",
)
"""Recordings of real Caffe, of nets of full width."""


@pytest.mark.parametrize("name", RECORDED)
def test_every_blob_of_caffes_recordings_by_name(name: str, tmp_path: Path) -> None:
    recorded = parse_id(name)
    net = onnx_export.source_of(filled_net(recorded))
    model = with_all_blobs(build_onnx(net.spec, net.arrays))
    with (tmp_path / "net.onnx").open("wb") as file:
        model.write(file)
    feed = {blob: x.numpy() for blob, x in filled_inputs(recorded).items()}
    names = [end.name for end in model.outputs]
    found = dict(zip(names, session_of(str(tmp_path / "net.onnx")).run(names, feed), strict=True))
    expected = golden(recorded.net, recorded.size, recorded.fill).blobs
    assert found.keys() | feed.keys() >= expected.keys()
    for blob in expected.keys() - feed.keys():
        assert compare(found[blob], expected[blob]) <= tolerance("fcn-blobs"), blob


def behind_a_filter(net: CaffeNet) -> set[str]:
    """The blobs of which ONNX cannot tell how many items they have."""
    found: set[str] = set()
    for layer in net.spec.layers:
        if layer.type == "Filter" or found.intersection(layer.bottoms):
            found.update(layer.tops)
    return found


FAMILY = (
    "voc-fcn32s", "voc-fcn8s-atonce", "voc-fcn-alexnet", "voc-fcn-googlenet", "siftflow-fcn16s", "nyud-fcn32s-color-d",
    "nyud-fcn32s-color-hha",
)  # fmt: skip
"""One of each architecture; the others differ in their classes."""


@pytest.mark.parametrize("name", FAMILY)
def test_every_blob_of_the_family_at_an_odd_size(name: str) -> None:
    hand_written = with_random_weights(narrow_net(name))
    net = CaffeNet(hand_written.spec)
    net.load_state_dict(hand_written.state_dict())
    model = onnx_of(net)
    inputs = inputs_for(net.spec, {blob: (2, shape[1], 67, 98) for blob, shape in net.inputs.items()})
    assert worst_blob(blobs_in_onnxruntime(model, inputs), blobs_of(net, inputs))[0] <= tolerance("fcn-blobs")


def test_a_blob_that_is_overwritten_ends_under_its_name() -> None:
    net = caffe_net(IN_PLACE)
    model = onnx_of(net)
    nodes = {node.name: list(node.output) for node in model.graph.nodes}
    assert nodes["conv"] == ["conv/conv"] and nodes["bn"] == ["conv/bn"] and nodes["relu"] == ["conv"]
    inputs = inputs_for(net.spec, net.inputs)
    assert worst_blob(blobs_in_onnxruntime(model, inputs), blobs_of(net, inputs))[0] <= tolerance("onnx")


IN_PLACE_ON_THE_INPUT = """
input: "data" input_shape { dim: 1 dim: 3 dim: 4 dim: 4 }
layer { name: "twice" type: "Power" bottom: "data" top: "data" power_param { scale: 2 } }
layer { name: "flat" type: "Flatten" bottom: "data" top: "flat" }
layer { name: "relu" type: "ReLU" bottom: "flat" top: "flat" }
"""


def test_an_input_that_is_overwritten_is_still_fed_under_its_name() -> None:
    """Flatten gives the input's memory another name, so what changes that changes the input too."""
    net = caffe_net(IN_PLACE_ON_THE_INPUT)
    model = onnx_of(net)
    assert [end.name for end in model.inputs] == ["data"] and model.values["data"] == "data/relu"
    x = inputs_for(net.spec, net.inputs)
    found = session_of(serialized(replace(model, outputs=model.ends(["data", "flat"]))))
    data, flat = found.run(["data/relu", "flat"], {"data": x["data"].numpy()})
    assert np.array_equal(data, np.maximum(2 * x["data"].numpy(), 0)) and np.array_equal(data.ravel(), flat.ravel())


COLLISIONS = """
input: "conv/weight" input_shape { dim: 1 dim: 2 dim: 5 dim: 5 }
layer { name: "conv" type: "Convolution" bottom: "conv/weight" top: "a"
        convolution_param { num_output: 2 kernel_size: 3 } }
layer { name: "x" type: "ReLU" bottom: "a" top: "a" }
layer { name: "a/x" type: "TanH" bottom: "a" top: "a/conv" }
layer { name: "pool" type: "Pooling" bottom: "a" top: "pool/mean" pooling_param { pool: AVE kernel_size: 2 stride: 2 } }
"""


def test_names_of_helpers_stay_clear_of_blobs() -> None:
    net = caffe_net(COLLISIONS)
    model = onnx_of(net)
    values = [name for node in model.graph.nodes for name in node.output] + list(model.graph.initializers)
    assert len(set(values)) == len(values) and "conv/weight" not in values
    inputs = inputs_for(net.spec, shapes_at(model, 1))
    assert worst_blob(blobs_in_onnxruntime(model, inputs), blobs_of(net, inputs))[0] <= tolerance("onnx")


SHARED = """
input: "data" input_shape { dim: 1 dim: 3 dim: 6 dim: 6 }
layer { name: "one" type: "Convolution" bottom: "data" top: "one" param { name: "w" } param { name: "b" }
        convolution_param { num_output: 3 kernel_size: 3 } }
layer { name: "two" type: "Convolution" bottom: "one" top: "two" param { name: "w" } param { name: "b" }
        convolution_param { num_output: 3 kernel_size: 3 } }
"""


def test_shared_weights_are_in_the_file_once() -> None:
    net = caffe_net(SHARED)
    model = onnx_of(net)
    assert list(model.graph.initializers) == ["one/weight", "one/bias"]
    inputs = inputs_for(net.spec, net.inputs)
    assert worst_blob(blobs_in_onnxruntime(model, inputs), blobs_of(net, inputs))[0] <= tolerance("onnx")


# Sizes


TWO_IMAGES = """
input: "left" input_shape { dim: 1 dim: 2 dim: 8 dim: 8 } input: "right" input_shape { dim: 1 dim: 2 dim: 8 dim: 8 }
layer { name: "sum" type: "Eltwise" bottom: "left" bottom: "right" top: "sum" }
"""
REGIONS = """
input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 } input: "rois" input_shape { dim: 7 dim: 5 }
layer { name: "relu" type: "ReLU" bottom: "data" top: "relu" }
layer { name: "tanh" type: "TanH" bottom: "rois" top: "tanh" }
"""


MULTIPLES = """
input: "data" input_shape { dim: 1 dim: 2 dim: 64 dim: 128 }
layer { name: "deep" type: "Convolution" bottom: "data" top: "deep"
        convolution_param { num_output: 2 kernel_size: 64 stride: 64 } }
layer { name: "back" type: "Deconvolution" bottom: "deep" top: "back"
        convolution_param { num_output: 2 kernel_size: 64 stride: 64 } }
layer { name: "sum" type: "Eltwise" bottom: "data" bottom: "back" top: "sum" }
"""
"""A net that takes multiples of 64 alone."""


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        (MULTIPLES, {}, [("batch", 2, "height", "width")]),
        (FULLY_CONNECTED, {}, [("batch", 3, 8, 8)]),
        (FULLY_CONNECTED, {"batch": 4}, [(4, 3, 8, 8)]),
        (TWO_IMAGES, {}, [("batch", 2, "height", "width")] * 2),
        (TWO_IMAGES, {"size": (5, 6)}, [("batch", 2, 5, 6)] * 2),
        (REGIONS, {}, [("batch", 3, "height", "width"), ("rois_batch", 5)]),
        (REGIONS, {"batch": 2, "size": (9, 9)}, [(2, 3, 9, 9), (7, 5)]),
    ],
)
def test_what_is_free(text: str, options: dict[str, object], expected: list[tuple[object, ...]]) -> None:
    assert [end.dims for end in onnx_of(caffe_net(text), **options).inputs] == expected


def test_a_size_that_the_net_cannot_have_is_refused() -> None:
    with pytest.raises(ExportError, match="layer 'ip' has weights 5x192, and at this size they would be 5x243"):
        try:
            onnx_of(caffe_net(FULLY_CONNECTED), size=(9, 9))
        except ValueError as error:
            raise ExportError(str(error)) from error
