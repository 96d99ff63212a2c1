"""Blobs that layers share, which an .h5 of Caffe's has once and a .caffemodel for each layer: the same weights."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch

import fcn_port
from converters import CaffeModel, LimitError, convert, parse_prototxt, read_caffemodel, write_caffemodel, write_hdf5
from converters.diff import diff_blobs
from converters.formats import with_lent
from fcn_port.opencv.source import read_source
from fcn_port.verification import verify

SHAPE = "input_param { shape { dim: 2 dim: 1 dim: 9 dim: 9 } }"
INPUTS = f"""
layer {{ name: "i" type: "Input" top: "data" {SHAPE} }} layer {{ name: "j" type: "Input" top: "data_p" {SHAPE} }}"""
PAIRS = """
layer { name: "pairs" type: "Data" top: "pairs" top: "sim" }
layer { name: "slice" type: "Slice" bottom: "pairs" top: "data" top: "data_p"
  slice_param { slice_dim: 1 slice_point: 1 } }"""
LOSS = 'layer { name: "loss" type: "ContrastiveLoss" bottom: "feat" bottom: "feat_p" bottom: "sim" top: "loss" }'
"""What BVLC's mnist_siamese_train_test.prototxt reads, two images in one blob without a size, and what it ends in."""


def tower(suffix: str, *, own_bias: bool) -> str:
    """Layers over data{suffix} that share their weights by name, and their biases unless they have their own."""

    def shared(name: str) -> str:
        return f'param {{ name: "{name}_w" }}' + ("" if own_bias else f' param {{ name: "{name}_b" }}')

    return f"""
layer {{ name: "conv{suffix}" type: "Convolution" bottom: "data{suffix}" top: "conv{suffix}" {shared("conv")}
  convolution_param {{ num_output: 3 kernel_size: 3 }} }}
layer {{ name: "ip{suffix}" type: "InnerProduct" bottom: "conv{suffix}" top: "ip{suffix}" {shared("ip")}
  inner_product_param {{ num_output: 4 }} }}
layer {{ name: "feat{suffix}" type: "InnerProduct" bottom: "ip{suffix}" top: "feat{suffix}" {shared("feat")}
  inner_product_param {{ num_output: 2 }} }}"""


def two_files(folder: Path, *, own_bias: bool) -> tuple[Path, Path, str]:
    """The .caffemodel and the .h5 of one net, and the text of its layers."""
    layers = tower("", own_bias=own_bias) + tower("_p", own_bias=own_bias)
    spec = parse_prototxt(INPUTS + layers)
    random = np.random.RandomState(0)
    blobs = {}
    for name, shapes in {"conv": ((3, 1, 3, 3), (3,)), "ip": ((4, 147), (4,)), "feat": ((2, 4), (2,))}.items():
        weight, bias, other = (random.standard_normal(shape).astype(np.float32) for shape in (*shapes, shapes[1]))
        blobs[name], blobs[f"{name}_p"] = (weight, bias), (weight, other if own_bias else bias)
    model = CaffeModel(spec, MappingProxyType(blobs))
    write_caffemodel(model, folder / "net.caffemodel")
    write_hdf5(model, folder / "net.caffemodel.h5")
    return folder / "net.caffemodel", folder / "net.caffemodel.h5", layers


@pytest.mark.parametrize(("inputs", "loss"), [(INPUTS, ""), (PAIRS, LOSS)], ids=["inputs", "pairs"])
@pytest.mark.parametrize("own_bias", [False, True], ids=["all shared", "own bias"])
def test_an_h5_makes_the_net_of_the_caffemodel(inputs: str, loss: str, own_bias: bool, tmp_path: Path) -> None:
    """The size and the channels of both inputs follow from it, and what it computes is the same to the bit."""
    binary, h5, layers = two_files(tmp_path, own_bias=own_bias)
    (tmp_path / "net.prototxt").write_text(inputs + layers + loss)
    nets = []
    for name, weights in {"binary": binary, "h5": h5}.items():
        report = convert(weights, tmp_path / f"{name}.safetensors", prototxt=tmp_path / "net.prototxt")
        assert report.no_net is None
        nets.append(fcn_port.load(report.out))
    assert dict(nets[0].inputs) == dict(nets[1].inputs)
    x = [
        torch.from_numpy(np.random.RandomState(1).randn(*shape).astype(np.float32)) for shape in nets[0].inputs.values()
    ]
    expected, found = (net(*x) for net in nets)
    assert expected.keys() == found.keys() and all(torch.equal(expected[k], found[k]) for k in expected)


@pytest.mark.parametrize("own_bias", [False, True], ids=["all shared", "own bias"])
def test_neither_diff_nor_verify_tells_them_apart(own_bias: bool, tmp_path: Path) -> None:
    binary, h5, _ = two_files(tmp_path, own_bias=own_bias)
    first, second = read_caffemodel(binary), read_caffemodel(h5)
    assert diff_blobs(first.blobs, second.blobs)
    assert not diff_blobs(with_lent(first.blobs, first.spec), with_lent(second.blobs, first.spec))
    (tmp_path / "net.prototxt").write_text(INPUTS + tower("", own_bias=own_bias) + tower("_p", own_bias=own_bias))
    for source, against in ((h5, binary), (binary, h5)):
        out = tmp_path / "out.safetensors"
        convert(source, out, prototxt=tmp_path / "net.prototxt")
        assert {c.what: c.ok for c in verify(out, against)}["blobs"] is True
        checks = {c.what.partition(" ")[0]: c for c in verify(out, against, prototxt=tmp_path / "net.prototxt")}
        assert checks["blobs"].ok and checks["opencv"].ok is not False, checks
        assert "cannot run" not in checks["opencv"].details


def test_verify_tells_a_lent_blob_that_is_another(tmp_path: Path) -> None:
    binary, h5, _ = two_files(tmp_path, own_bias=False)
    model = read_caffemodel(binary)
    other = (model.blobs["ip_p"][0] + 1, model.blobs["ip_p"][1])
    write_caffemodel(CaffeModel(model.spec, {**model.blobs, "ip_p": other}), tmp_path / "other.caffemodel")
    (tmp_path / "net.prototxt").write_text(INPUTS + tower("", own_bias=False) + tower("_p", own_bias=False))
    convert(h5, tmp_path / "out.safetensors", prototxt=tmp_path / "net.prototxt")
    found = {check.what: check for check in verify(tmp_path / "out.safetensors", tmp_path / "other.caffemodel")}
    assert found["blobs"].ok is False and "ip_p.weight" in found["blobs"].details


def test_the_opencv_door_has_a_number_for_every_blob(tmp_path: Path) -> None:
    """Blobs that nobody gives are NaN there, and those of a layer that borrows them are given."""
    _, h5, layers = two_files(tmp_path, own_bias=False)
    source = read_source((INPUTS + layers).encode(), h5, {})
    assert source.arrays and all(np.isfinite(array).all() for array in source.arrays.values())


def test_the_opencv_door_makes_no_more_numbers_than_a_net_may_ask_for() -> None:
    """Of a definition alone all blobs are NaN, and a few lines may ask for any number of them."""
    fc = 'layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: %d } }'
    net = 'input: "data" input_shape { dim: 1 dim: 30000 }' + fc
    with pytest.raises(LimitError, match=r"layer 'fc' .*: the weights .* would take 4800160000 bytes"):
        read_source((net % 40000).encode(), None, {})
    assert np.isnan(read_source((net % 4).encode(), None, {}).arrays["fc.weight"]).all()


def test_a_permissive_blob_of_another_shape_stays_left_out() -> None:
    text = INPUTS + tower("", own_bias=True).replace('name: "ip_w"', 'name: "conv_w" share_mode: PERMISSIVE')
    spec = parse_prototxt(text)
    assert with_lent({"conv": (np.zeros((3, 1, 3, 3)),)}, spec).keys() == {"conv"}
