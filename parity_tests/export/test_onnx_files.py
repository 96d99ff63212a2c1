"""ONNX files: bytes as onnx writes them, names, ends, sizes, options, and what is left where something goes wrong."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from converters import CaffeNet, parse_prototxt, read_caffemodel
from converters.errors import NetError
from converters.export import ExportError, OnnxOptions, build_onnx
from converters.export.onnx import net as onnx_net
from converters.export.onnx import streaming
from converters.safety import sha256_of
from fcn_port import onnx_export
from fcn_port.cli import run
from fcn_port.exporting import export, export_net
from fcn_port.onnx_export import export_onnx
from parity_tests.export.onnx_models import (
    arrays_of,
    blobs_in_onnxruntime,
    blobs_of,
    inputs_for,
    names_of,
    onnx_of,
    serialized,
    session_of,
    shapes_at,
    with_all_blobs,
    with_drawn_weights,
    worst_blob,
)
from parity_tests.goldens import compare, format_blobs, formats, golden, parse_id
from parity_tests.nets import filled_inputs, filled_net, narrow_net, with_random_weights
from parity_tests.test_architecture import ROOT
from parity_tests.tolerances import tolerance

MINI = formats("fcn8s-mini.caffemodel")
SAMPLE = ROOT / "weights" / "sample" / "shapes-fcn8s.caffemodel"


def caffe_net(text: str) -> CaffeNet:
    return with_drawn_weights(parse_prototxt(text))


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


IN_PLACE = """
input: "data" input_shape { dim: 1 dim: 3 dim: 9 dim: 7 }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 3 kernel_size: 3 } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "late" type: "Power" bottom: "conv" top: "late" power_param { scale: 3 } }
"""


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


FULLY_CONNECTED = """
input: "data" input_shape { dim: 2 dim: 3 dim: 8 dim: 8 }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 5 } }
"""
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
    with pytest.raises(ExportError, match=r"layer 'ip' .*needs|does not fit|blob 0 has"):
        try:
            onnx_of(caffe_net(FULLY_CONNECTED), size=(9, 9))
        except ValueError as error:
            raise ExportError(str(error)) from error


# Bytes


def test_the_stream_is_what_onnx_serializes() -> None:
    data = serialized(onnx_of(caffe_net(IN_PLACE)))
    assert onnx.load_from_string(data).SerializeToString(deterministic=True) == data


def test_weights_beside_are_found_and_mapped(tmp_path: Path) -> None:
    report = export_onnx(MINI, tmp_path / "net.onnx", external_data=True)
    assert [Path(file).name for file in report.files] == ["net.onnx", "net.onnx.data"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.onnx", "net.onnx.data"]
    model = onnx.load(tmp_path / "net.onnx", load_external_data=False)
    outside = [each for each in model.graph.initializer if each.external_data]
    offsets = [int(entry.value) for each in outside for entry in each.external_data if entry.key == "offset"]
    assert outside and all(offset % 4096 == 0 for offset in offsets)
    inside = onnx.load(export_onnx(MINI, tmp_path / "whole.onnx", check=False).files[0])
    whole = onnx.load(tmp_path / "net.onnx")
    pairs = zip(inside.graph.initializer, whole.graph.initializer, strict=True)
    assert all(a.name == b.name and a.raw_data == b.raw_data for a, b in pairs)


def test_more_than_a_model_can_hold_goes_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_export, "MOST_INSIDE", onnx_export._MARGIN + 1000)
    assert len(export_onnx(MINI, tmp_path / "net.onnx").files) == 2
    assert (tmp_path / "net.onnx").stat().st_size < 100_000


def test_weights_beside_replace_no_strangers_file(tmp_path: Path) -> None:
    (tmp_path / "net.onnx.data").write_text("mine")
    with pytest.raises(ExportError, match="would replace this file"):
        export_onnx(MINI, tmp_path / "net.onnx", external_data=True)
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx.data"]


def test_types_of_caffes_files_become_float32(tmp_path: Path) -> None:
    """Doubles, and halves of NVCaffe, by way of pieces of a MiB; not a byte of the others is changed."""
    net = caffe_net(FULLY_CONNECTED)
    for kind in (np.float64, np.float16):
        arrays = {key: value.astype(kind) for key, value in arrays_of(net).items()}
        file = io.BytesIO()
        build_onnx(net.spec, arrays).write(file)
        found = onnx.numpy_helper.to_array(onnx.load_from_string(file.getvalue()).graph.initializer[0])
        assert found.dtype == np.float32 and np.array_equal(found, arrays["ip.weight"].astype(np.float32))


# Options


def test_outputs_of_ones_own(tmp_path: Path) -> None:
    report = export_onnx(MINI, tmp_path / "net.onnx", options=OnnxOptions(outputs=("pool3", "score_pool4")))
    model = onnx.load(report.files[0])
    assert names_of(model.graph.output) == ["pool3", "score_pool4"] and report.error <= tolerance("onnx")
    assert "upscore2" not in {node.name for node in model.graph.node}


def test_an_output_that_there_is_not(tmp_path: Path) -> None:
    with pytest.raises(NetError, match="the net makes no blob 'pool9'"):
        export_onnx(MINI, tmp_path / "net.onnx", options=OnnxOptions(outputs=("pool9",)))
    assert not list(tmp_path.iterdir())


def test_half_the_bytes(tmp_path: Path) -> None:
    report = export_onnx(MINI, tmp_path / "net.onnx", options=OnnxOptions(fp16=True))
    whole = export_onnx(MINI, tmp_path / "whole.onnx", check=False)
    assert 1e-6 < report.error < onnx_export.FP16_TOLERANCE
    assert (tmp_path / "net.onnx").stat().st_size < 0.6 * Path(whole.files[0]).stat().st_size
    kinds = {each.data_type for each in onnx.load(tmp_path / "net.onnx").graph.initializer}
    assert onnx.TensorProto.FLOAT16 in kinds


FOLDS = """
input: "data" input_shape { dim: 1 dim: 4 dim: 12 dim: 11 }
layer { name: "c1" type: "Convolution" bottom: "data" top: "c1"
        convolution_param { num_output: 6 kernel_size: 3 group: 2 bias_term: false } }
layer { name: "b1" type: "BatchNorm" bottom: "c1" top: "c1" }
layer { name: "s1" type: "Scale" bottom: "c1" top: "c1" scale_param { bias_term: true } }
layer { name: "r1" type: "ReLU" bottom: "c1" top: "c1" }
layer { name: "d2" type: "Deconvolution" bottom: "c1" top: "d2"
        convolution_param { num_output: 4 kernel_size: 2 stride: 2 group: 2 } }
layer { name: "b2" type: "BatchNorm" bottom: "d2" top: "b2" }
layer { name: "s2" type: "Scale" bottom: "b2" top: "s2" }
layer { name: "read" type: "Power" bottom: "s2" top: "read" power_param { scale: 2 } }
layer { name: "b3" type: "BatchNorm" bottom: "s2" top: "b3" batch_norm_param { use_global_stats: false } }
layer { name: "pool" type: "Pooling" bottom: "b3" top: "pool" pooling_param { pool: AVE global_pooling: true } }
layer { name: "ip" type: "InnerProduct" bottom: "pool" top: "ip" inner_product_param { num_output: 5 } }
layer { name: "bias" type: "Bias" bottom: "ip" top: "bias" bias_param { axis: 1 num_axes: 1 } }
"""


def test_batch_norm_and_scale_are_folded() -> None:
    net = caffe_net(FOLDS)
    model = onnx_of(net, fold=True)
    kinds = [node.op_type for node in model.graph.nodes]
    assert "BatchNormalization" not in kinds and kinds.count("Conv") == kinds.count("ConvTranspose") == 1
    assert {"c1", "d2", "ip"} <= {node.name for node in model.graph.nodes}
    inputs = inputs_for(net.spec, shapes_at(model, 2))
    found = blobs_in_onnxruntime(model, inputs)
    assert {"b1", "s1", "b2", "s2", "bias"} & {layer.name for layer in model.spec.layers} == set()
    assert {"c1", "s2", "bias", "read"} <= found.keys() and "d2" not in found
    assert worst_blob(found, blobs_of(net, inputs))[0] <= onnx_export.FOLDED_TOLERANCE


def test_what_somebody_else_reads_is_not_folded() -> None:
    text = FOLDS.replace('bottom: "s2" top: "read"', 'bottom: "d2" top: "read"')
    assert "b2" in {node.name for node in onnx_of(caffe_net(text), fold=True).graph.nodes}
    kept = onnx_of(caffe_net(FOLDS), fold=True, outputs=("d2", "bias"))
    assert "b2" in {node.name for node in kept.graph.nodes}


@pytest.mark.parametrize(("opset", "right"), [(12, False), (13, True), (21, True), (99, False)])
def test_opsets(opset: int, right: bool) -> None:
    net = caffe_net(IN_PLACE)
    if not right:
        with pytest.raises(ExportError, match=f"opset {opset}; expected 13 to"):
            onnx_of(net, opset=opset)
        return
    model = onnx.load_from_string(serialized(onnx_of(net, opset=opset)))
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version == opset


# Metadata


def test_the_file_says_what_it_was_made_of(tmp_path: Path) -> None:
    (file,) = export_onnx(SAMPLE, tmp_path / "sample.onnx", check=False).files
    said = {each.key: each.value for each in onnx.load(file).metadata_props}
    assert said["source"] == SAMPLE.name and said["source_sha256"] == sha256_of(SAMPLE)
    assert said["release"] == "sample" and "mean" in said["preprocessing"] and json.loads(said["classes"])
    assert 'name: "conv1_1"' in said["prototxt"]
    converted = export(SAMPLE, to="safetensors", out=tmp_path / "sample.safetensors").files[0]
    again = onnx.load(export_onnx(converted, tmp_path / "again.onnx", check=False).files[0])
    assert {each.key for each in again.metadata_props} >= said.keys()


def test_the_same_file_gives_the_same_bytes(tmp_path: Path) -> None:
    one, two = (export_onnx(SAMPLE, tmp_path / name, check=False).files[0] for name in ("one.onnx", "two.onnx"))
    assert Path(one).read_bytes() == Path(two).read_bytes()


def test_a_pytorch_state_dict_says_which_net_it_is(tmp_path: Path) -> None:
    net = with_random_weights(narrow_net("voc-fcn8s"))
    torch.save(net.state_dict(), tmp_path / "mine.pth")
    report = export_onnx(tmp_path / "mine.pth", tmp_path / "mine.onnx")
    assert report.error <= tolerance("onnx") and report.any_size
    assert export_net(net, to="onnx", out=tmp_path / "again.onnx").error == report.error


# Bad input


@pytest.mark.parametrize("keep", [0.2, 0.6, 0.999])
def test_a_damaged_file_leaves_nothing(keep: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = MINI.read_bytes()
    (tmp_path / "bad.caffemodel").write_bytes(content[: int(keep * len(content))])
    assert run(["export", str(tmp_path / "bad.caffemodel"), "--to", "onnx", "-o", str(tmp_path / "out.onnx")]) == 3
    assert "bad.caffemodel" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["bad.caffemodel"]


def test_a_file_that_changes_meanwhile_is_not_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "net.caffemodel"
    source.write_bytes(MINI.read_bytes())
    write = onnx_net.write_model

    def changing(*arguments: object, **named: object) -> None:
        write(*arguments, **named)  # type: ignore[arg-type]
        os.utime(source, ns=(1, 1))

    monkeypatch.setattr(onnx_net, "write_model", changing)
    with pytest.raises(ValueError, match="changed while it was being exported"):
        export_onnx(source, tmp_path / "net.onnx", check=False)
    assert [path.name for path in tmp_path.iterdir()] == ["net.caffemodel"]


def test_what_computes_something_else_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "_pieces", lambda each: iter([np.zeros(each.nbytes, np.uint8)]))
    with pytest.raises(ExportError, match="what came out"):
        export_net(caffe_net(IN_PLACE), to="onnx", out=tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--fp16"], "--fp16 is for onnx, not for caffe"),
        (["--outputs", "score"], "--outputs is for onnx"),
        (["--no-check"], "--no-check is for onnx"),
    ],
)
def test_options_of_other_formats(options: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", str(MINI), "--to", "caffe", *options]) == 2
    assert said in capsys.readouterr().err


def test_without_a_check_nothing_is_run(tmp_path: Path) -> None:
    """Neither torch nor onnxruntime is imported, and the weights are not held: the process may have little memory."""
    script = f"""
import resource, sys
from fcn_port.cli import run
assert run(["export", {str(SAMPLE)!r}, "--to", "onnx", "--no-check", "-o", "out.onnx", "--json"]) == 0
assert not {{"torch", "onnxruntime"}} & set(sys.modules), sorted(sys.modules)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["inputs"] == [] and report["error"] is None and (tmp_path / "out.onnx").is_file()


LARGE = """
layer {{ name: "in" type: "Input" top: "data" input_param {{ shape {{ dim: 1 dim: {inputs} }} }} }}
layer {{ name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
        inner_product_param {{ num_output: {outputs} bias_term: false }} }}
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="RssAnon is Linux's")
def test_weights_are_not_held(tmp_path: Path) -> None:
    """100 MB of weights go through a process that takes no more than a fifth of that beyond a small net's."""
    from converters import write_caffemodel, write_prototxt
    from converters.formats import CaffeModel

    spec = parse_prototxt(LARGE.format(inputs=5000, outputs=5000))
    write_prototxt(spec, tmp_path / "net.prototxt")
    large, small = tmp_path / "large.caffemodel", tmp_path / "small.caffemodel"
    write_caffemodel(CaffeModel(spec, {"ip": (np.ones((5000, 5000), np.float32),)}), large)
    small_spec = parse_prototxt(LARGE.format(inputs=5, outputs=5))
    write_caffemodel(CaffeModel(small_spec, {"ip": (np.ones((5, 5), np.float32),)}), small)
    script = """
import sys
from fcn_port.onnx_export import export_onnx
export_onnx(sys.argv[1], sys.argv[1] + ".onnx", check=False)
print(open("/proc/self/status").read())
"""
    taken = []
    for path in (small, large):
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", script, str(path)], env=environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        found = re.search(r"VmHWM:\s+(\d+)", done.stdout)
        anonymous = re.search(r"RssAnon:\s+(\d+)", done.stdout)
        assert found and anonymous
        taken.append(int(anonymous[1]))
    assert taken[1] - taken[0] < 20_000, taken
