"""Back to Caffe: what we write, Caffe and OpenCV load, and compute the same with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from converters.diff import diff_nets
from converters.errors import MismatchError
from converters.execution.caffe_net import CaffeNet
from converters.export.caffe import write_caffe
from converters.export.checking import ExportError
from converters.formats.caffemodel import read_caffemodel
from converters.formats.prototxt import format_prototxt, parse_prototxt, read_prototxt
from converters.net.coord_map import crops_of
from converters.net.shapes import infer_blobs, infer_shapes
from converters.passes.inputs import with_input_shapes
from fcn_port.exporting import definition, export, export_net
from fcn_port.inspection import blobs
from fcn_port.loading import load
from fcn_port.nets import NETS
from fcn_port.porting import net_definition
from parity_tests.goldens import compare, formats, shapes
from parity_tests.nets import narrow_net, random_inputs, with_random_weights
from parity_tests.oracle.client import Oracle
from parity_tests.tolerances import tolerance

SIZE = (75, 101)

FAMILIES = list({family.make: name for name, family in reversed(NETS.items())}.values())
"""The name of one net of each class."""


def outputs(net: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    with torch.no_grad():
        found = net(**inputs)
    return {name: x.numpy() for name, x in (found if isinstance(found, dict) else {"score": found}).items()}


@pytest.mark.parametrize("name", NETS)
def test_the_prototxt_has_the_published_blobs_parameters_and_crops(name: str) -> None:
    spec, expected = parse_prototxt(format_prototxt(net_definition(name))), shapes()[name]
    assert infer_blobs(spec) == dict(expected.params)
    assert crops_of(spec) == {layer: crop.offset for layer, crop in expected.crops.items()}
    for layer, crop in expected.crops.items():
        assert spec.layer(layer).bottoms == crop.bottoms and spec.layer(layer).params.axis == crop.axis
    for size, found in expected.blobs.items():
        inputs = {blob: (1, shape[1], *size) for blob, shape in spec.inputs.items()}
        assert infer_shapes(spec, inputs) == dict(found), size


@pytest.mark.parametrize("name", NETS)
def test_the_prototxt_tells_the_solver_what_the_release_did(name: str) -> None:
    untold = 7 if name == "voc-fcn-alexnet" else 0
    for layer in net_definition(name).layers:
        rates = [(p.lr_mult, p.decay_mult) for p in layer.param_specs]
        if layer.type == "Convolution":
            assert rates == [(1, 1), (2, 0)] or not rates
            untold -= not rates
        elif layer.type in ("Deconvolution", "Scale"):
            assert rates == [(0, 1)], layer.name
    assert untold == 0


@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_written_is_read_again_as_the_same_net(name: str, tmp_path: Path) -> None:
    net = with_random_weights(narrow_net(name))
    report = export_net(net, to="caffe", out=tmp_path / "net.caffemodel", name=name)
    assert report.files == (str(tmp_path / "net.caffemodel"), str(tmp_path / "net.prototxt"))
    assert report.any_size and report.error == 0 and len(report.inputs) == 5
    again = load(tmp_path / "net.caffemodel")
    assert type(again) is type(net)
    for key, value in net.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key
    assert not diff_nets(read_prototxt(tmp_path / "net.prototxt"), definition(net, name=name))


@pytest.mark.parametrize("name", ["voc-fcn8s-atonce", "voc-fcn-alexnet", "siftflow-fcn8s", "nyud-fcn32s-color-hha"])
def test_opencv_computes_the_same(name: str, tmp_path: Path) -> None:
    net = with_random_weights(narrow_net(name))
    inputs = random_inputs(net, SIZE)
    spec = with_input_shapes(definition(net, name=name), {key: tuple(x.shape) for key, x in inputs.items()})
    write_caffe(spec, net.state_dict(), tmp_path / "net.caffemodel", prototxt=tmp_path / "net.prototxt")
    theirs = cv2.dnn.readNetFromCaffe(str(tmp_path / "net.prototxt"), str(tmp_path / "net.caffemodel"))
    theirs.enableWinograd(False)
    for key, x in inputs.items():
        theirs.setInput(x.numpy(), key)
    for key, blob in outputs(net, inputs).items():
        assert compare(blob, theirs.forward(key)) <= tolerance("opencv-forward"), key


def test_weights_of_another_net_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    net = narrow_net("voc-fcn8s")
    spec = definition(net, name="voc-fcn8s")
    state = dict(net.state_dict())
    out = tmp_path / "net.caffemodel"
    with pytest.raises(MismatchError, match="score_pool3"):
        write_caffe(spec, {**state, "score_pool3.bias": torch.zeros(20)}, out)
    with pytest.raises(MismatchError, match="score_pool4b"):
        write_caffe(spec, {**state, "score_pool4b.bias": torch.zeros(20)}, out)
    assert not list(tmp_path.iterdir())


def test_a_fine_tuned_state_dict_goes_back(tmp_path: Path) -> None:
    net = load(formats("fcn8s-mini.caffemodel"))
    with torch.no_grad():
        net.score_fr.bias += 1
    torch.save(net.state_dict(), tmp_path / "tuned.pth")
    report = export(tmp_path / "tuned.pth", to="caffe", out=tmp_path / "tuned.caffemodel.h5")
    assert report.files[1].endswith("tuned.prototxt")
    with h5py.File(report.files[0]) as file:
        np.testing.assert_array_equal(file["data/score_fr/1"][()], net.score_fr.bias.detach().numpy())
    model = read_caffemodel(report.files[0])
    again = CaffeNet(read_prototxt(report.files[1]))
    again.load_state_dict({f"{layer}.{('weight', 'bias')[i]}": torch.from_numpy(np.array(b))
                           for layer, own in model.blobs.items() for i, b in enumerate(own)})  # fmt: skip
    inputs = random_inputs(net, SIZE)
    np.testing.assert_array_equal(outputs(again, inputs)["score"], outputs(net, inputs)["score"])


def test_an_h5_that_caffe_would_read_without_a_word_and_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="slash, such as conv1/7x7_s2"):
        export_net(narrow_net("voc-fcn-googlenet"), to="hdf5", out=tmp_path / "net.caffemodel.h5")
    assert not list(tmp_path.iterdir())


HOLES = {"hole: 2": [2], "hole_h: 2 hole_w: 3": [2, 3], "hole: 3 hole_w: 1": [3, 1], "hole: 1": [1]}


def with_holes(hole: str) -> CaffeNet:
    """A net with holes in each of the layers that may have them, as DeepLab's forks write it."""
    conv = "num_output: 4 kernel_size: 3 weight_filler { type: 'xavier' }"
    layers = (
        f'layer {{ name: "{kind}" type: "{kind}" bottom: "data" top: "{kind}" convolution_param {{ {conv} {hole} }} }}'
        for kind in ("Convolution", "Deconvolution", "Im2col")
    )
    data = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [1, 3, 33, 40] } } }'
    return with_random_weights(CaffeNet(parse_prototxt("\n".join([data, *layers]))))


@pytest.mark.parametrize("hole", HOLES)
def test_deeplabs_hole_is_caffes_dilation(hole: str, tmp_path: Path) -> None:
    net = with_holes(hole)
    report = export_net(net, to="caffe", out=tmp_path / "net.caffemodel")
    assert report.error == 0 and "hole" not in (tmp_path / "net.prototxt").read_text()
    for spec in (read_prototxt(tmp_path / "net.prototxt"), read_caffemodel(tmp_path / "net.caffemodel").spec):
        for layer in spec.layers[1:]:
            assert not layer.extra
            assert list(layer.to_message().convolution_param.dilation) == HOLES[hole]
            assert layer.params == net.spec.layer(layer.name).params


def test_opencv_computes_the_same_with_holes(tmp_path: Path) -> None:
    """OpenCV knows no Im2col, and its Deconvolution knows no dilation."""
    net = with_holes("hole_h: 2 hole_w: 3")
    spec = net.spec.replace_layers(net.spec.layers[:2])
    state = {key: value for key, value in net.state_dict().items() if key.startswith("Convolution")}
    write_caffe(spec, state, tmp_path / "net.caffemodel", prototxt=tmp_path / "net.prototxt")
    theirs = cv2.dnn.readNetFromCaffe(str(tmp_path / "net.prototxt"), str(tmp_path / "net.caffemodel"))
    theirs.enableWinograd(False)
    x = torch.randn(1, 3, 33, 40, generator=torch.Generator().manual_seed(1))
    theirs.setInput(x.numpy(), "data")
    assert compare(outputs(net, {"data": x})["Convolution"], theirs.forward("Convolution")) <= (
        tolerance("opencv-forward")
    )


@pytest.mark.parametrize(
    "said", ["", "lrn_param { local_size: 3 }", "lrn_param { norm_region: WITHIN_CHANNEL }", "lrn_param { alpha: 0.5 }"]
)
def test_opencv_computes_the_same_with_an_lrn_that_says_no_alpha(said: str, tmp_path: Path) -> None:
    """It takes 0.0001 then, and Caffe 1."""
    text = 'input: "data" input_shape { dim: 1 dim: 6 dim: 9 dim: 7 }'
    net = CaffeNet(parse_prototxt(f'{text} layer {{ name: "lrn" type: "LRN" bottom: "data" top: "lrn" {said} }}'))
    write_caffe(net.spec, {}, tmp_path / "net.caffemodel", prototxt=tmp_path / "net.prototxt")
    theirs = cv2.dnn.readNetFromCaffe(str(tmp_path / "net.prototxt"), str(tmp_path / "net.caffemodel"))
    x = 20 * torch.randn(1, 6, 9, 7, generator=torch.Generator().manual_seed(2))
    theirs.setInput(x.numpy(), "data")
    assert compare(net(x).numpy(), theirs.forward()) <= tolerance("opencv-forward")


@pytest.mark.oracle
@pytest.mark.parametrize("hole", HOLES)
def test_caffe_computes_the_same_with_holes(oracle: Oracle, hole: str, tmp_path: Path) -> None:
    net = with_holes(hole)
    inputs = {"data": torch.randn(1, 3, 33, 40, generator=torch.Generator().manual_seed(1))}
    write_caffe(net.spec, net.state_dict(), tmp_path / "a.caffemodel", prototxt=tmp_path / "a.prototxt")
    text = (tmp_path / "a.prototxt").read_text()
    done = oracle.forward(text, weights=tmp_path / "a.caffemodel", inputs={"data": inputs["data"].numpy()})
    for key, blob in outputs(net, inputs).items():
        assert compare(blob, done.blobs[key]) <= tolerance("oracle-live"), key


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("name", "hdf5"),
    [(name, hdf5) for name in FAMILIES for hdf5 in (False, True) if not (hdf5 and name == "voc-fcn-googlenet")],
)
def test_caffe_loads_it_and_computes_the_same(oracle: Oracle, name: str, hdf5: bool, tmp_path: Path) -> None:
    net = with_random_weights(narrow_net(name))
    inputs = random_inputs(net, SIZE)
    weights, prototxt = tmp_path / ("net.caffemodel" + ".h5" * hdf5), tmp_path / "net.prototxt"
    write_caffe(definition(net, name=name), net.state_dict(), weights, prototxt=prototxt, hdf5=hdf5)
    done = oracle.forward(prototxt.read_text(), weights=weights, inputs={key: x.numpy() for key, x in inputs.items()})
    found = blobs(net, **inputs)
    assert set(done.outputs) == set(outputs(net, inputs))
    for key, blob in done.blobs.items():
        assert compare(found[key].numpy(), blob) <= tolerance("oracle-live"), key


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["layer-zoo-0", "layer-zoo-1"])
def test_caffe_loads_every_layer_type_again(oracle: Oracle, name: str, tmp_path: Path) -> None:
    path, scale = formats(f"{name}.caffemodel"), 1.0
    report = export(path, to="caffe", prototxt=formats(f"{name}.prototxt"), out=tmp_path / "zoo.caffemodel")
    text = formats(f"{name}.prototxt").read_text()
    expected = oracle.forward(text, weights=path, input_scale=scale)
    done = oracle.forward(Path(report.files[1]).read_text(), weights=Path(report.files[0]), input_scale=scale)
    for key, blob in done.blobs.items():
        np.testing.assert_array_equal(blob, expected.blobs[key], err_msg=key)


def test_an_input_of_two_tops_has_a_shape_for_each() -> None:
    """NYUD's late fusion: Caffe takes one shape for both tops, OpenCV refuses it."""
    from converters.export.caffe import to_caffe
    from converters.formats.prototxt import parse_prototxt

    shape = "input_param { shape { dim: 1 dim: 3 dim: 4 dim: 5 } }"
    spec = parse_prototxt(f'layer {{ name: "in" type: "Input" top: "color" top: "hha" {shape} }}')
    written = to_caffe(spec)
    assert [list(each.dim) for each in written.layers[0].message.input_param.shape] == [[1, 3, 4, 5]] * 2
    assert dict(written.inputs) == dict(spec.inputs)
