"""What a training net does not say of its inputs: their size, which its weights tell, and that one is a constant."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import fcn_port
from converters import (
    CaffeNet,
    MismatchError,
    convert,
    from_state_dict,
    read_caffemodel,
    to_deploy,
    to_state_dict,
    write_caffemodel,
)
from converters.formats.prototxt import format_prototxt, parse_prototxt
from converters.net.shapes import infer_blobs

CLASSIFIER = """
name: "classifier"
layer { name: "digits" type: "Data" top: "data" top: "label" data_param { source: "somewhere" batch_size: 64 } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
        convolution_param { num_output: 4 kernel_size: 5 } }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "conv2" type: "Convolution" bottom: "pool1" top: "conv2"
        convolution_param { num_output: 5 kernel_size: 5 } }
layer { name: "pool2" type: "Pooling" bottom: "conv2" top: "pool2" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "ip1" type: "InnerProduct" bottom: "pool2" top: "ip1" inner_product_param { num_output: 6 } }
layer { name: "ip2" type: "InnerProduct" bottom: "ip1" top: "ip2" inner_product_param { num_output: 3 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip2" bottom: "label" top: "loss" }
"""


def trained(folder: Path, size: tuple[int, int], *, channels: int = 1) -> Path:
    """A .caffemodel as Caffe writes it while it trains: the training net is in it."""
    spec = parse_prototxt(CLASSIFIER)
    net = CaffeNet(to_deploy(spec, input_shapes={"data": (1, channels, *size)}))
    path = folder / "weights.caffemodel"
    write_caffemodel(from_state_dict(net.state_dict(), spec), path)
    return path


@pytest.mark.parametrize(("side", "found", "least"), [(28, 28, 25), (20, 20, 17), (25, 28, 25), (99, 100, 97)])
def test_the_size_is_what_the_weights_fit(tmp_path: Path, side: int, found: int, least: int) -> None:
    """LeNet's 28, and others; of sizes that pooling takes to the same map, the largest."""
    path = trained(tmp_path, (side, side))
    report = convert(path, tmp_path / "out.safetensors")
    (note,) = report.warnings
    assert f"images of {found}x{found}, or any from {least}x{least}" in note
    for file in (path, tmp_path / "out.safetensors"):
        net = fcn_port.load(file)
        assert isinstance(net, CaffeNet) and net.inputs == {"data": (1, 1, found, found)}
        here = infer_blobs(net.spec, {"data": (1, 1, side, side)})
        assert here == infer_blobs(net.spec) == infer_blobs(net.spec, {"data": (1, 1, least, least)})
        assert here != infer_blobs(net.spec, {"data": (1, 1, least - 1, least - 1)})
        assert here != infer_blobs(net.spec, {"data": (1, 1, found + 1, found + 1)})


def test_what_is_not_square_is_never_refused(tmp_path: Path) -> None:
    """The map has 48 places, 4x12: the nearest to a square is taken and told, for the file is not wrong."""
    path = trained(tmp_path, (28, 60), channels=3)
    report = convert(path, tmp_path / "out.safetensors")
    assert any("images of 36x44" in note and "--input" in note for note in report.warnings)
    for file in (path, tmp_path / "out.safetensors"):
        net = fcn_port.load(file)
        assert isinstance(net, CaffeNet) and net.inputs == {"data": (1, 3, 36, 44)}
    deploy = tmp_path / "deploy.prototxt"
    deploy.write_text(format_prototxt(to_deploy(parse_prototxt(CLASSIFIER), input_shapes={"data": (1, 3, 28, 60)})))
    convert(path, tmp_path / "out.safetensors", prototxt=deploy)
    assert fcn_port.load(tmp_path / "out.safetensors")
    assert fcn_port.load(path, prototxt=deploy)


@pytest.mark.parametrize(("side", "channels"), [(28, 1), (60, 3), (44, 2)])
def test_a_net_of_an_assumed_size_becomes_that_of_its_weights(tmp_path: Path, side: int, channels: int) -> None:
    """The README's way: CaffeNet(model.spec), then load_state_dict."""
    model = read_caffemodel(trained(tmp_path, (side, side), channels=channels))
    net = CaffeNet(model.spec)
    assert net.inputs == {"data": (1, 3, 40, 40)}, "a classifier's size, for without weights nothing tells"
    net.load_state_dict(to_state_dict(model))
    assert net.inputs["data"][1] == channels
    assert net(torch.zeros(2, channels, side, side)).shape == (2, 3)


SIAMESE = """
layer { name: "pair" type: "Data" top: "pair" top: "sim" data_param { source: "somewhere" batch_size: 64 } }
layer { name: "slice" type: "Slice" bottom: "pair" top: "a" top: "b" slice_param { slice_dim: 1 slice_point: 1 } }
layer { name: "conv" type: "Convolution" bottom: "a" top: "conv" param { name: "w" } param { name: "v" }
        convolution_param { num_output: 4 kernel_size: 5 } }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip" inner_product_param { num_output: 2 } }
layer { name: "conv_p" type: "Convolution" bottom: "b" top: "conv_p" param { name: "w" } param { name: "v" }
        convolution_param { num_output: 4 kernel_size: 5 } }
layer { name: "ip_p" type: "InnerProduct" bottom: "conv_p" top: "ip_p" inner_product_param { num_output: 2 } }
layer { name: "loss" type: "ContrastiveLoss" bottom: "ip" bottom: "ip_p" bottom: "sim" top: "loss" }
"""


def test_a_siamese_net_is_never_refused(tmp_path: Path) -> None:
    """BVLC's mnist_siamese: one blob with both images as its channels, and a Slice between."""
    spec = parse_prototxt(SIAMESE)
    net = CaffeNet(to_deploy(spec, input_shapes={"pair": (1, 2, 28, 28)}))
    write_caffemodel(from_state_dict(net.state_dict(), spec), tmp_path / "siamese.caffemodel")
    convert(tmp_path / "siamese.caffemodel", tmp_path / "out.safetensors")
    again = fcn_port.load(tmp_path / "siamese.caffemodel")
    assert isinstance(again, CaffeNet) and again.inputs == {"pair": (1, 2, 28, 28)}


def test_wrong_sizes_that_the_net_itself_says_are_refused(tmp_path: Path) -> None:
    path = trained(tmp_path, (28, 28))
    deploy = tmp_path / "deploy.prototxt"
    deploy.write_text(format_prototxt(to_deploy(parse_prototxt(CLASSIFIER), input_shapes={"data": (1, 1, 60, 60)})))
    with pytest.raises(MismatchError, match="ip1"):
        convert(path, tmp_path / "out.safetensors", prototxt=deploy)


@pytest.mark.parametrize(
    ("filler", "value"),
    [("", "0"), ('data_filler { type: "constant" value: 2.5 }', "2.5"), ('data_filler { type: "gaussian" }', None)],
)
def test_a_constant_that_becomes_an_input_is_told(filler: str, value: str | None) -> None:
    shape = "shape { dim: 1 dim: 3 }"
    deploy = to_deploy(
        parse_prototxt(
            f'layer {{ name: "data" type: "Input" top: "data" input_param {{ {shape} }} }}\n'
            f'layer {{ name: "ones" type: "DummyData" top: "ones" dummy_data_param {{ {shape} {filler} }} }}\n'
            'layer { name: "sum" type: "Eltwise" bottom: "data" bottom: "ones" top: "sum" }'
        )
    )
    notes = [note for note in deploy.notes if "DummyData" in note]
    assert list(deploy.inputs) == ["data", "ones"]
    assert notes == ([] if value is None else [f"'ones' is an input here; Caffe's DummyData fills it with {value}"])


def inner(name: str, bottom: str, more: str = "") -> str:
    settings = f"inner_product_param {{ num_output: 5 {more} }}"
    return f'layer {{ name: "{name}" type: "InnerProduct" bottom: "{bottom}" top: "{name}" {settings} }}\n'


RNN = 'layer { name: "r" type: "RNN" %s top: "r" recurrent_param { num_output: 6 } }\n'
CONV = (
    'layer { name: "v" type: "Convolution" bottom: "%s" top: "v" convolution_param { num_output: 4 kernel_size: 3 } }\n'
)
SUM = 'layer { name: "sum" type: "Eltwise" bottom: "c" bottom: "d" top: "sum" }\n'
PUT = 'layer { name: "put" type: "Concat" bottom: "a" bottom: "b" top: "put" }\n'


@pytest.mark.parametrize(
    ("layers", "trained", "told"),
    [
        (inner("h", "a") + inner("s", "h"), {"a": (1, 13)}, {"a": (1, 13)}),
        (RNN % 'bottom: "a" bottom: "b"' + inner("s", "r", "axis: 2"), {"a": (4, 2, 9), "b": (4, 2)}, {"a": (1, 1, 9)}),
        (RNN % 'bottom: "a" bottom: "b" bottom: "k"', {"a": (4, 2, 9), "b": (4, 2), "k": (2, 7)}, {"k": (1, 7)}),
        (inner("e", "a", "axis: 2") + RNN % 'bottom: "e" bottom: "b"', {"a": (4, 2, 9), "b": (4, 2)}, {"b": (1, 1)}),
        (
            CONV % "a" + inner("c", "v") + inner("d", "b") + SUM,
            {"a": (1, 3, 24, 24), "b": (1, 11)},
            {"b": (1, 11)},
        ),
        (
            PUT + CONV % "put" + inner("s", "v"),
            {"a": (1, 3, 24, 24), "b": (1, 4, 24, 24)},
            {"b": (1, 4, 24, 24)},
        ),
    ],
    ids=["features", "sequence", "static", "sequence-embedded", "image-and-features", "image-and-more-channels"],
)
def test_what_is_no_image_is_as_its_weights_say(
    tmp_path: Path, layers: str, trained: dict[str, tuple[int, ...]], told: dict[str, tuple[int, ...]]
) -> None:
    """HDF5Data says nothing of its tops: features, sequences, and channels of several inputs follow from the weights.

    By all ways: convert and load, the snapshot alone, and the README's.
    """
    tops = " ".join(f'top: "{name}"' for name in trained)
    spec = parse_prototxt(f'layer {{ name: "data" type: "HDF5Data" {tops} }}\n{layers}')
    net = CaffeNet(to_deploy(spec, input_shapes=trained))
    path = tmp_path / "snapshot.caffemodel"
    write_caffemodel(from_state_dict(net.state_dict(), spec), path)
    report = convert(path, tmp_path / "out.safetensors")
    assert report.no_net is None
    for name, shape in told.items():
        assert f"{name} {'x'.join(map(str, shape))}" in report.warnings[0]
    model = read_caffemodel(path)
    again = CaffeNet(model.spec)
    again.load_state_dict(to_state_dict(model))
    for loaded in (fcn_port.load(tmp_path / "out.safetensors"), fcn_port.load(path), again):
        assert isinstance(loaded, CaffeNet)
        assert {name: shape[-1] for name, shape in loaded.inputs.items()} == {
            name: 1 if name == "b" and "RNN" in layers else shape[-1] for name, shape in trained.items()
        }
        fed = {name: torch.rand(shape) for name, shape in trained.items()}
        torch.testing.assert_close(loaded(**fed), net(**fed))


def test_weights_that_fit_no_guess_are_no_net_yet(tmp_path: Path) -> None:
    """Two vectors put together, of which only the sum is told: exit status 1, and the option that says it."""
    spec = parse_prototxt('layer { name: "data" type: "HDF5Data" top: "a" top: "b" }\n' + PUT + inner("s", "put"))
    net = CaffeNet(to_deploy(spec, input_shapes={"a": (1, 3), "b": (1, 4)}))
    write_caffemodel(from_state_dict(net.state_dict(), spec), tmp_path / "snapshot.caffemodel")
    report = convert(tmp_path / "snapshot.caffemodel", tmp_path / "out.safetensors")
    assert report.no_net is not None and "'s' has 35 weights" in report.no_net and "--input" in report.no_net
