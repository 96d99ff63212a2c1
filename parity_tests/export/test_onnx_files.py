"""ONNX files: bytes as onnx writes them, names, ends, sizes, options, and what is left where something goes wrong."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from converters import parse_prototxt, write_caffemodel
from converters.errors import NetError
from converters.execution import from_state_dict
from converters.export import ExportError, OnnxOptions, build_onnx
from converters.export.onnx import net as onnx_net
from converters.export.onnx import streaming
from converters.safety import sha256_of
from fcn_port import onnx_export
from fcn_port.cli import run
from fcn_port.exporting import export, export_net
from fcn_port.onnx_export import export_onnx
from parity_tests import famous_nets
from parity_tests.export.onnx_models import (
    FULLY_CONNECTED,
    IN_PLACE,
    arrays_of,
    blobs_in_onnxruntime,
    blobs_of,
    caffe_net,
    inputs_for,
    names_of,
    onnx_of,
    serialized,
    shapes_at,
    worst_blob,
)
from parity_tests.goldens import formats
from parity_tests.nets import narrow_net, with_random_weights
from parity_tests.test_architecture import ROOT
from parity_tests.tolerances import tolerance

MINI = formats("fcn8s-mini.caffemodel")
SAMPLE = ROOT / "weights" / "sample" / "shapes-fcn8s.caffemodel"


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


def test_an_output_of_a_layer_whose_blobs_belong_to_one_that_is_left_out(tmp_path: Path) -> None:
    """shared_a has them, in another shape."""
    zoo = formats("layer-zoo-1.caffemodel")
    options = OnnxOptions(outputs=("shared_ip",))
    report = export_onnx(zoo, tmp_path / "net.onnx", options=options)
    assert report.error is not None and report.error <= tolerance("onnx")


def test_an_output_that_there_is_not(tmp_path: Path) -> None:
    with pytest.raises(NetError, match="the net makes no blob 'pool9'"):
        export_onnx(MINI, tmp_path / "net.onnx", options=OnnxOptions(outputs=("pool9",)))
    assert not list(tmp_path.iterdir())


def test_half_the_bytes(tmp_path: Path) -> None:
    report = export_onnx(MINI, tmp_path / "net.onnx", options=OnnxOptions(fp16=True))
    whole = export_onnx(MINI, tmp_path / "whole.onnx", check=False)
    assert 1e-6 < report.error < 2e-2
    assert (tmp_path / "net.onnx").stat().st_size < 0.6 * Path(whole.files[0]).stat().st_size
    kinds = {each.data_type for each in onnx.load(tmp_path / "net.onnx").graph.initializer}
    assert onnx.TensorProto.FLOAT16 in kinds


@pytest.mark.parametrize("target", [None, "onnxruntime"])
def test_of_16_bits_the_file_is_held_to_the_rounded_weights(
    target: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Places of a pooling that another weight decides are the rounding's, and no fault; other weights are one."""
    prototxt, model = famous_nets.write("segnet", tmp_path)
    options = OnnxOptions(fp16=True, target=target)
    report = export_onnx(model, tmp_path / "net.onnx", prototxt=prototxt, options=options)
    assert report.error > 1e-3  # of the original
    monkeypatch.setattr(onnx_export, "rounded", lambda module: module)
    with pytest.raises(ExportError, match="prob differs"):
        export_onnx(model, tmp_path / "other.onnx", prototxt=prototxt, options=options)


def test_numbers_that_16_bits_cannot_hold_stay_whole(tmp_path: Path) -> None:
    text = """
    input: "data" input_shape { dim: 1 dim: 2 dim: 5 dim: 5 }
    layer { name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 2 kernel_size: 1 } }
    layer { name: "b" type: "BatchNorm" bottom: "c" top: "b" }
    """
    net = caffe_net(text)
    with torch.no_grad():
        net.get_parameter("c.weight")[0] = 1e5
        net.get_parameter("b.bias")[:] = 1e-9  # the variance
    (tmp_path / "net.prototxt").write_text(text, encoding="utf-8")
    write_caffemodel(from_state_dict(net.state_dict(), net.spec), tmp_path / "net.caffemodel")
    report = export_onnx(
        tmp_path / "net.caffemodel", tmp_path / "net.onnx", prototxt=tmp_path / "net.prototxt",
        options=OnnxOptions(fp16=True),
    )  # fmt: skip
    assert report.error == 0


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


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ('"InnerProduct" inner_product_param { num_output: 5 axis: 2 }', '"Scale"'),  # no number fits the other
        ('"InnerProduct" inner_product_param { num_output: 3 axis: 2 }', '"BatchNorm"'),  # and here every number does
        ('"InnerProduct" inner_product_param { num_output: 3 axis: 0 bias_term: false }', '"BatchNorm"'),
        ('"Convolution" convolution_param { num_output: 3 kernel_size: 3 axis: 2 }', '"Scale"'),
        ('"Deconvolution" convolution_param { num_output: 5 kernel_size: 3 axis: -3 }', '"Bias"'),
        ('"InnerProduct" inner_product_param { num_output: 3 }', '"BN" bn_param { bn_mode: INFERENCE }'),
        ('"Convolution" convolution_param { num_output: 3 kernel_size: 1 }', '"Scale" scale_param { max_value: 0.3 }'),
    ],
)
def test_folding_heeds_the_axis_of_the_outputs_the_shape_of_the_top_and_the_ends_of_a_scale(
    first: str, then: str
) -> None:
    shape = "2 dim: 3 dim: 3 dim: 6 dim: 7" if "axis: 2" in first or "axis: -3" in first else "2 dim: 3 dim: 6 dim: 7"
    text = f"""
    input: "data" input_shape {{ dim: {shape} }}
    layer {{ name: "first" bottom: "data" top: "first" type: {first} }}
    layer {{ name: "then" bottom: "first" top: "then" type: {then} }}
    """
    net = caffe_net(text)
    model = onnx_of(net, fold=True)
    inputs = inputs_for(net.spec, shapes_at(model, 0))
    (expected,) = (blobs_of(net, inputs)[blob] for blob in net.spec.outputs)
    found = blobs_in_onnxruntime(model, inputs)["then"]
    assert worst_blob({"then": found}, {"then": expected})[0] <= onnx_export.FOLDED_TOLERANCE


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
