"""A conversion: what is in the file, that it is the same every time, and what cannot be converted."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from converters import CaffeFormatError, CaffeNet, MismatchError, convert, read_caffemodel, to_state_dict
from converters.conversion import TOOL
from converters.formats.caffemodel import write_caffemodel
from converters.formats.hdf5 import write_hdf5
from converters.formats.model import CaffeModel
from converters.formats.prototxt import parse_prototxt
from parity_tests.goldens import GOLDEN, formats
from parity_tests.small_files import PROTOTXT, blob_proto, small_blobs, small_h5, small_v1, small_v2

GOLDENS = sorted(path.name for path in (GOLDEN / "formats").glob("*.caffemodel"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "small.caffemodel"
    path.write_bytes(small_v2().SerializeToString())
    return path


def metadata_of(path: Path) -> dict[str, str]:
    with safe_open(path, framework="numpy") as file:
        return dict(file.metadata())


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# What is in the file


@pytest.mark.parametrize("name", GOLDENS)
def test_the_safetensors_library_reads_the_state_dict(tmp_path: Path, name: str) -> None:
    report = convert(formats(name), tmp_path / "out.safetensors")
    found = load_file(tmp_path / "out.safetensors")
    expected = to_state_dict(read_caffemodel(formats(name)))
    assert found.keys() == expected.keys() == {entry.key for entry in report.entries}
    for key, tensor in expected.items():
        assert found[key].dtype == tensor.numpy().dtype and found[key].shape == tensor.shape
        assert found[key].tobytes() == tensor.numpy().tobytes()
    assert report.parameters == sum(tensor.numel() for tensor in expected.values())
    assert report.unused == () and not any("NaN" in warning for warning in report.warnings)


@pytest.mark.parametrize("name", ["fcn8s-mini.caffemodel", "layer-zoo-1.caffemodel"])
def test_metadata_says_where_it_comes_from_and_what_net_it_is(tmp_path: Path, name: str) -> None:
    out = tmp_path / "out.safetensors"
    report = convert(formats(name), out, metadata={"classes": "[1, 2]", "tool": "not theirs to say"})
    metadata = metadata_of(out)
    raw = formats(name).read_bytes()
    assert metadata.pop("source_sha256") == report.source_sha256 == hashlib.sha256(raw).hexdigest()
    assert report.source_size == len(raw)
    net = CaffeNet(parse_prototxt(metadata.pop("prototxt")))
    assert metadata == {"format": "pt", "tool": TOOL, "source": name, "classes": "[1, 2]"}
    net.load_state_dict(to_state_dict(read_caffemodel(formats(name))), strict=True)


def test_the_same_source_gives_the_same_bytes(tmp_path: Path) -> None:
    """In another folder, another process, with other hash seeds and metadata in another order too."""
    code = (
        "import sys, converters\nconverters.convert(sys.argv[1], sys.argv[2], metadata={k: k for k in sys.argv[3]})\n"
    )
    found = set()
    for seed, order in (("1", "abc"), ("2", "cba"), ("3", "bac")):
        folder = tmp_path / seed
        folder.mkdir()
        arguments = [formats("fcn8s-mini.caffemodel"), folder / "out", order]
        subprocess.run([sys.executable, "-c", code, *arguments], check=True, env={**os.environ, "PYTHONHASHSEED": seed})
        found.add((folder / "out").read_bytes())
    assert len(found) == 1


def test_tensors_lie_at_multiples_of_their_size(tmp_path: Path) -> None:
    """Whoever maps the file can use them as they lie; half values first would put the doubles at odd places."""
    blobs = {
        "conv": (np.ones((3, 3, 1, 1), np.float16), np.ones(3, np.float16)),
        "fc": (np.ones((1, 192), np.float64), np.ones(1, np.float32)),
    }
    model, net = tmp_path / "a.caffemodel", small_v2({"conv": (), "fc": ()})
    for layer in net.layer:
        layer.blobs.extend(blob_proto(blob) for blob in blobs.get(layer.name, ()))
    net.layer[1].convolution_param.num_output, net.layer[3].inner_product_param.num_output = 3, 1
    net.layer[1].convolution_param.kernel_size[0], net.layer[3].bottom[0] = 1, "data"
    model.write_bytes(net.SerializeToString())
    convert(model, tmp_path / "out")
    raw = (tmp_path / "out").read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    header.pop("__metadata__")
    sizes = {"F16": 2, "F32": 4, "F64": 8}
    assert length % 8 == 0
    assert {t["dtype"] for t in header.values()} == set(sizes)
    assert all(t["data_offsets"][0] % sizes[t["dtype"]] == 0 for t in header.values())
    for key, array in load_file(tmp_path / "out").items():
        assert array.dtype == to_state_dict(read_caffemodel(model))[key].numpy().dtype


def test_large_and_odd_blobs_are_copied_whole(tmp_path: Path) -> None:
    """Longer than the buffer, unpacked (values five bytes apart), and without values or axes."""
    prototxt = """
    layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 1 dim: 600 dim: 1001 } } }
    layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: 2 } }
    layer { name: "p" type: "PReLU" bottom: "data" top: "p" prelu_param { channel_shared: true } }
    """
    blobs = {
        "fc": (np.random.RandomState(0).standard_normal((2, 600 * 1001)).astype(np.float32), np.float32([1, 2])),
        "p": (np.float32(0.25).reshape(()),),
    }
    write_caffemodel(CaffeModel(parse_prototxt(prototxt), blobs), tmp_path / "a.caffemodel")
    convert(tmp_path / "a.caffemodel", tmp_path / "out")
    found = load_file(tmp_path / "out")
    np.testing.assert_array_equal(found["fc.weight"], blobs["fc"][0])
    assert found["p.weight"].shape == () and found["p.weight"] == 0.25


@pytest.mark.parametrize("with_net", [False, True])
def test_an_h5_with_and_without_its_prototxt(tmp_path: Path, with_net: bool) -> None:
    legacy = {name: tuple(b.reshape((1,) * (4 - b.ndim) + b.shape) for b in own) for name, own in small_blobs().items()}
    source, prototxt = tmp_path / "a.h5", tmp_path / "a.prototxt"
    source.write_bytes(small_h5(legacy))
    prototxt.write_text(PROTOTXT)
    report = convert(source, tmp_path / "out", prototxt=prototxt if with_net else None)
    shape = load_file(tmp_path / "out")["fc.weight"].shape
    if with_net:
        assert shape == (2, 144) and report.net == "small" and not report.warnings
        assert "prototxt" in metadata_of(tmp_path / "out")
    else:
        assert shape == (1, 1, 2, 144) and report.net is None
        assert "give its prototxt" in report.warnings[0]
        assert "prototxt" not in metadata_of(tmp_path / "out")


def test_the_three_forms_give_the_same_tensors(tmp_path: Path) -> None:
    files = {"v2": small_v2().SerializeToString(), "v1": small_v1().SerializeToString(), "h5": small_h5()}
    (tmp_path / "net.prototxt").write_text(PROTOTXT)
    found = []
    for name, raw in files.items():
        (tmp_path / name).write_bytes(raw)
        convert(tmp_path / name, tmp_path / "out", prototxt=tmp_path / "net.prototxt")
        found.append({key: (a.shape, a.tobytes()) for key, a in load_file(tmp_path / "out").items()})
    assert found[0] == found[1] == found[2]


# The report


def test_the_report_accounts_for_every_blob(tmp_path: Path) -> None:
    """With a net that lacks a layer of the file: entries and unused blobs are all that there is."""
    (tmp_path / "net.prototxt").write_text(PROTOTXT[: PROTOTXT.index('layer { name: "fc"')])
    (tmp_path / "a.caffemodel").write_bytes(small_v1().SerializeToString())
    report = convert(tmp_path / "a.caffemodel", tmp_path / "out", prototxt=tmp_path / "net.prototxt")
    assert [(e.key, e.source_shape, e.shape, e.fit) for e in report.entries] == [
        ("conv.weight", (4, 3, 3, 3), (4, 3, 3, 3), "as it is"),
        ("conv.bias", (1, 1, 1, 4), (4,), "legacy dims reduced"),
    ]
    assert report.unused == (("fc", 0, (1, 1, 2, 144)), ("fc", 1, (1, 1, 1, 2)))
    assert report.parameters == 4 * 27 + 4
    assert any("from the form of 2014" in warning for warning in report.warnings)
    assert json.loads(json.dumps(report.to_json()))["parameters"] == report.parameters
    assert load_file(tmp_path / "out").keys() == {"conv.weight", "conv.bias"}


def test_crops_and_upsampling_of_fcn8s(tmp_path: Path) -> None:
    report = convert(formats("fcn8s-mini.caffemodel"), tmp_path / "out")
    assert report.crops == {"score_pool4c": (5,), "score_pool3c": (9,), "score": (31,)}
    assert report.upsampling == {"upscore2": "learned", "upscore_pool4": "learned", "upscore8": "learned"}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_what_is_not_finite_is_kept_and_warned_of(tmp_path: Path, value: float, dtype: type) -> None:
    blobs = {name: tuple(b.astype(dtype) for b in own) for name, own in small_blobs().items()}
    blobs["fc"][0][1, 143] = value
    (tmp_path / "a.caffemodel").write_bytes(small_v2(blobs).SerializeToString())
    report = convert(tmp_path / "a.caffemodel", tmp_path / "out")
    assert report.warnings == ("fc.weight holds NaN or infinity",)
    np.testing.assert_array_equal(load_file(tmp_path / "out")["fc.weight"], blobs["fc"][0])


def test_huge_values_are_finite(tmp_path: Path) -> None:
    """Their squares, and their sum, are not."""
    blobs = {name: tuple(np.full_like(b, 3e38) for b in own) for name, own in small_blobs().items()}
    (tmp_path / "a.caffemodel").write_bytes(small_v2(blobs).SerializeToString())
    assert convert(tmp_path / "a.caffemodel", tmp_path / "out").warnings == ()


def test_progress_counts_bytes_up_to_the_last(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = convert(formats("fcn8s-mini.caffemodel"), tmp_path / "out", progress=lambda *step: seen.append(step))
    assert {total for _, total in seen} == {4 * report.parameters}
    assert [done for done, _ in seen] == sorted({done for done, _ in seen}) and seen[-1][0] == seen[-1][1]


# What cannot be converted


def no_weights() -> bytes:
    return small_v2({"conv": (), "fc": ()}).SerializeToString()


@pytest.mark.parametrize(
    ("raw", "error", "problem"),
    [
        (no_weights, MismatchError, "'conv'.*the net has 2 blobs; found 0"),
        (lambda: small_h5({"none": ()}), MismatchError, "there are no weights in this file"),
        (lambda: small_v2().SerializeToString()[:-1], CaffeFormatError, "run past the end"),
        (lambda: b"PK\x03\x04", CaffeFormatError, "zip archive"),
    ],
)
def test_a_bad_source_leaves_nothing(
    tmp_path: Path, raw: Callable[[], bytes], error: type[Exception], problem: str
) -> None:
    (tmp_path / "bad").write_bytes(raw())
    with pytest.raises(error, match=problem) as caught:
        convert(tmp_path / "bad", tmp_path / "out")
    assert str(tmp_path / "bad") in str(caught.value)
    assert left_in(tmp_path) == ["bad"]


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        convert(tmp_path / "nothing", tmp_path / "out")
    (tmp_path / "there").write_bytes(small_v2().SerializeToString())
    with pytest.raises(FileNotFoundError):
        convert(tmp_path / "there", tmp_path / "out", prototxt=tmp_path / "nothing")
    assert left_in(tmp_path) == ["there"]


def test_a_net_of_other_weights_is_refused(tmp_path: Path, source: Path) -> None:
    (tmp_path / "net.prototxt").write_text(PROTOTXT.replace("num_output: 4", "num_output: 5"))
    with pytest.raises(MismatchError, match=r"'conv'.* blob 0: the net needs shape \(5, 3, 3, 3\)") as caught:
        convert(source, tmp_path / "out", prototxt=tmp_path / "net.prototxt")
    assert str(source) in str(caught.value) and "net.prototxt" in str(caught.value)


def test_back_to_caffe_from_both_forms(tmp_path: Path) -> None:
    """What was converted is what Caffe had: a model made of it again has the same bytes."""
    model = read_caffemodel(formats("fcn8s-mini.caffemodel"))
    write_hdf5(model, tmp_path / "a.h5")
    h5 = replace(read_caffemodel(tmp_path / "a.h5"), spec=model.spec)
    write_caffemodel(h5, tmp_path / "a.caffemodel")
    assert (tmp_path / "a.caffemodel").read_bytes() == formats("fcn8s-mini.caffemodel").read_bytes()


def test_an_odd_file_name_is_in_the_metadata_as_json_can_hold_it(tmp_path: Path) -> None:
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xc3\xa9.caffemodel")
    Path(odd).write_bytes(small_v2().SerializeToString())
    convert(odd, tmp_path / "out")
    assert metadata_of(tmp_path / "out")["source"] == "?é.caffemodel"


def test_of_a_training_net_the_deploy_net_goes_into_the_file(tmp_path: Path, source: Path) -> None:
    data, loss = (
        'layer { name: "data" type: "Data" top: "data" top: "label" transform_param { crop_size: 8 } }',
        'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }',
    )
    lines = [data if '"Input"' in line else line for line in PROTOTXT.splitlines()]
    (tmp_path / "train.prototxt").write_text("\n".join([*lines, loss]))
    convert(source, tmp_path / "out", prototxt=tmp_path / "train.prototxt")
    deploy = parse_prototxt(metadata_of(tmp_path / "out")["prototxt"])
    assert dict(deploy.inputs) == {"data": (1, 3, 8, 8)} and deploy.outputs == ("fc",)
