"""readNetFromCaffe of fcn_port.opencv in OpenCV 5, beside OpenCV 4 reading the same files and Caffe's goldens."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from parity_tests.famous_nets import write
from parity_tests.goldens import formats
from parity_tests.opencv5.asking import through_the_door

pytestmark = pytest.mark.opencv5

NETS = ("fcn8s-mini", "v1-mini")


def files(name: str) -> tuple[Path, Path]:
    return formats(f"{name}.prototxt"), formats(f"{name}.caffemodel")


def opencv4(name: str) -> cv2.dnn.Net:
    net = cv2.dnn.readNetFromCaffe(*map(str, files(name)))
    net.enableWinograd(False)
    return net


def recorded(name: str) -> dict[str, np.ndarray]:
    return dict(np.load(formats(f"{name}.npz")))


def close(found: np.ndarray, expected: np.ndarray) -> bool:
    return found.shape == expected.shape and float(np.abs(found - expected).max()) <= 1e-5 * float(
        np.abs(expected).max()
    )


@pytest.mark.parametrize("name", NETS)
def test_every_layer_is_there_under_opencv4s_name_and_computes_the_same(name: str, tmp_path: Path) -> None:
    theirs, inputs = opencv4(name), {"data": recorded(name)["data"]}
    layers = list(theirs.getLayerNames())
    read = through_the_door(tmp_path, *files(name), inputs, layers=layers)
    assert read.said["version"].startswith("5.") and not read.said["torch"] and not read.said["warnings"]
    assert same_names(read.said["names"], layers)
    wrong = []
    for layer in layers:
        theirs.setInput(inputs["data"])
        if not close(read.outputs[layer], theirs.forward(layer)):
            wrong.append(layer)
    assert not wrong
    theirs.setInput(inputs["data"])
    assert close(read.last, theirs.forward())


def same_names(names: list[str], layers: list[str]) -> bool:
    """The layers in OpenCV 4's order; parts of a layer, layer/part, may be between them."""
    parts = [each for each in names if each not in layers]
    return [each for each in names if each in layers] == layers and all(p.partition("/")[0] in layers for p in parts)


def test_a_zoo_of_layers_is_caffes_also_where_opencv4_cannot_run_it(tmp_path: Path) -> None:
    golden, name = recorded("layer-zoo-0"), "layer-zoo-0"
    theirs = opencv4(name)
    layers = list(theirs.getLayerNames())
    theirs.setInput(golden["data"])
    with pytest.raises(cv2.error, match="ArgMax"):
        theirs.forward()
    wanted = [layer for layer in layers if layer in golden]
    assert len(wanted) > 35
    read = through_the_door(tmp_path, *files(name), {"data": golden["data"]}, layers=wanted)
    assert same_names(read.said["names"], layers)
    assert [layer for layer in wanted if not close(read.outputs[layer], golden[layer])] == []


@pytest.mark.parametrize("name", ["fcn8s-mini", "v1-mini"])
def test_a_chain_has_exactly_opencv4s_names(name: str, tmp_path: Path) -> None:
    read = through_the_door(tmp_path, *files(name), {"data": recorded(name)["data"]})
    theirs = opencv4(name)
    assert [each for each in read.said["names"] if "/" not in each] == list(theirs.getLayerNames())
    assert read.said["unconnected"] == list(theirs.getUnconnectedOutLayersNames())


def test_a_convolution_is_called_as_its_top(tmp_path: Path) -> None:
    """As OpenCV 4 calls it, which calls every other layer by its own name."""
    import converters

    text = """input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 9 }
        layer { name: "first" type: "Convolution" bottom: "data" top: "a"
          convolution_param { num_output: 2 kernel_size: 3 } }
        layer { name: "bend" type: "ReLU" bottom: "a" top: "a" }
        layer { name: "a/bn" type: "BatchNorm" bottom: "a" top: "a" }
        layer { name: "a/bn/scale" type: "Sigmoid" bottom: "a" top: "a" }
        layer { name: "second" type: "Convolution" bottom: "a" top: "b"
          convolution_param { num_output: 2 kernel_size: 1 bias_term: false } }
        layer { name: "last" type: "Pooling" bottom: "b" top: "c" pooling_param { kernel_size: 2 } }"""
    prototxt, model = tmp_path / "net.prototxt", tmp_path / "net.caffemodel"
    prototxt.write_text(text)
    random = np.random.default_rng(0)
    shapes = {"first": ((2, 3, 3, 3), (2,)), "a/bn": ((2,), (2,), (1,)), "second": ((2, 2, 1, 1),)}
    blobs = {name: tuple(random.standard_normal(each).astype("f") for each in kinds) for name, kinds in shapes.items()}
    blobs["a/bn"] = tuple(np.abs(each) for each in blobs["a/bn"])
    converters.write_caffemodel(converters.CaffeModel(converters.read_prototxt(prototxt), blobs), model)
    theirs = cv2.dnn.readNetFromCaffe(str(prototxt), str(model))
    theirs.enableWinograd(False)
    theirs.enableFusion(False)
    layers = list(theirs.getLayerNames())
    x = random.standard_normal((1, 3, 8, 9)).astype(np.float32)
    turned = {"b": np.ascontiguousarray(blobs["second"][0][::-1])}
    theirs.getLayer(theirs.getLayerId("b")).blobs = [turned["b"]]
    read = through_the_door(tmp_path, prototxt, model, {"data": x}, layers=layers, blobs=turned)
    assert layers == read.said["names"] == ["a", "bend", "a/bn", "a/bn/scale", "b", "last"]
    for layer in layers:
        theirs.setInput(x)
        assert close(read.outputs[layer], theirs.forward(layer)), layer


@pytest.mark.parametrize("group", [1, 2, 6])
@pytest.mark.parametrize("behind", ["norm", "scale", "power"])
def test_what_follows_a_deconvolution_is_not_merged_into_it(behind: str, group: int, tmp_path: Path) -> None:
    """As programs run nets, which say nothing of fusion: OpenCV merges it wrongly, up to half of the largest off."""
    import converters

    layers = {
        "norm": """layer { name: "norm" type: "BatchNorm" bottom: "up" top: "up" }
            layer { name: "last" type: "Scale" bottom: "up" top: "up" scale_param { bias_term: true } }""",
        "scale": 'layer { name: "last" type: "Scale" bottom: "up" top: "last" scale_param { bias_term: true } }',
        "power": 'layer { name: "last" type: "Power" bottom: "up" top: "last" power_param { scale: 3 shift: 1 } }',
    }
    prototxt, model = tmp_path / "net.prototxt", tmp_path / "net.caffemodel"
    prototxt.write_text(f"""input: "data" input_shape {{ dim: 1 dim: 6 dim: 5 dim: 7 }}
        layer {{ name: "up" type: "Deconvolution" bottom: "data" top: "up"
          convolution_param {{ num_output: 6 group: {group} kernel_size: 4 stride: 2 pad: 1 }} }}
        {layers[behind]}""")
    random = np.random.default_rng(0)
    shapes = {"up": ((6, 6 // group, 4, 4), (6,)), "norm": ((6,), (6,), (1,)), "last": ((6,), (6,))}
    blobs = {
        name: tuple(0.5 + random.random(each).astype("f") for each in kinds)
        for name, kinds in shapes.items() if f'"{name}"' in prototxt.read_text() and (name, behind) != ("last", "power")
    }  # fmt: skip
    converters.write_caffemodel(converters.CaffeModel(converters.read_prototxt(prototxt), blobs), model)
    theirs = cv2.dnn.readNetFromCaffe(str(prototxt), str(model))
    theirs.enableFusion(False)
    for size in ((5, 7), (8, 9)):
        x = random.standard_normal((1, 6, *size)).astype(np.float32)
        theirs.setInput(x)
        read = through_the_door(tmp_path, prototxt, model, {"data": x}, fused=True)
        assert close(read.last, theirs.forward())


@pytest.mark.parametrize("size", [(100, 100), (75, 122), (64, 41)])
def test_any_size_in_both_engines(size: tuple[int, int], tmp_path: Path) -> None:
    x = (np.random.default_rng(0).standard_normal((1, 3, *size)) * 50).astype(np.float32)
    net = opencv4("fcn8s-mini")
    net.setInput(x)
    expected = net.forward()
    for engine in ("ENGINE_CLASSIC", "ENGINE_NEW"):
        read = through_the_door(tmp_path, *files("fcn8s-mini"), {"data": x}, layers=["score"], engine=engine)
        assert close(read.outputs["score"], expected), engine


@pytest.mark.parametrize("kind", ["bytes", "array"])
def test_buffers_as_files(kind: str, tmp_path: Path) -> None:
    golden = recorded("v1-mini")
    read = through_the_door(tmp_path, *files("v1-mini"), {"data": golden["data"]}, layers=["prob"], **{"as": kind})
    assert close(read.outputs["prob"], golden["prob"])


def test_the_blobs_of_a_layer_are_where_a_program_looks_for_them(tmp_path: Path) -> None:
    """Those of layers that ONNX has another form for are read, and set before the first forward."""
    paths = write("ages", tmp_path)
    theirs = cv2.dnn.readNetFromCaffe(*map(str, paths))
    theirs.enableWinograd(False)
    names = ("conv1", "fc6", "fc8")
    right = {name: list(theirs.getParam(name).shape) for name in names}
    turned = {"fc8": np.ascontiguousarray(theirs.getParam("fc8")[::-1])}
    number = theirs.getLayerId("fc8")
    theirs.getLayer(number).blobs = [turned["fc8"], theirs.getParam(number, 1)]
    x = np.random.default_rng(0).standard_normal((1, 3, 51, 51)).astype(np.float32)
    theirs.setInput(x)
    found = through_the_door(tmp_path, *paths, {"data": x}, params=names, set_param=True, set_blobs=turned)
    assert found.said["params"] == right
    assert close(found.last, theirs.forward())


def test_the_import_takes_less_than_a_third_of_a_second(tmp_path: Path) -> None:
    read = through_the_door(tmp_path, *files("v1-mini"), {"data": recorded("v1-mini")["data"]})
    assert read.said["import_seconds"] < 0.3  # of processor time


def colorization(folder: Path) -> tuple[Path, Path]:
    """A net with the two layers that colourisation programs give weights at run time, and a file without them."""
    text = """
        name: "colours"
        layer { name: "data_l" type: "Input" top: "data_l" input_param { shape { dim: 1 dim: 1 dim: 12 dim: 10 } } }
        layer { name: "conv1" type: "Convolution" bottom: "data_l" top: "conv1"
          convolution_param { num_output: 5 kernel_size: 3 pad: 1 weight_filler { type: "gaussian" std: 1 } } }
        layer { name: "conv8_313_rh" type: "Scale" bottom: "conv1" top: "conv8_313_rh"
          scale_param { bias_term: false } }
        layer { name: "class8_313_rh" type: "Softmax" bottom: "conv8_313_rh" top: "class8_313_rh" }
        layer { name: "class8_ab" type: "Convolution" bottom: "class8_313_rh" top: "class8_ab"
          convolution_param { num_output: 2 kernel_size: 1 bias_term: false } }
    """
    import converters

    prototxt, model = folder / "colours.prototxt", folder / "colours.caffemodel"
    prototxt.write_text(text)
    rng = np.random.default_rng(0)
    blobs = {"conv1": (rng.standard_normal((5, 1, 3, 3)).astype("f"), rng.standard_normal(5).astype("f"))}
    converters.write_caffemodel(converters.CaffeModel(converters.read_prototxt(prototxt), blobs), model)
    return prototxt, model


@pytest.mark.parametrize("how", ["blobs", "set_blobs"])
def test_weights_set_at_run_time(how: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((1, 1, 24, 20)).astype(np.float32)
    points = rng.standard_normal((2, 5, 1, 1)).astype(np.float32)
    later = {"class8_ab": points, "conv8_313_rh": np.full((1, 5), 2.606, np.float32)}
    paths = colorization(tmp_path)
    theirs = cv2.dnn.readNetFromCaffe(*map(str, paths))
    theirs.enableWinograd(False)
    for layer, value in later.items():
        theirs.getLayer(theirs.getLayerId(layer)).blobs = [value]
    theirs.setInput(x)
    read = through_the_door(tmp_path, *paths, {"data_l": x}, layers=["class8_ab"], **{how: later})  # type: ignore[arg-type]
    assert close(read.outputs["class8_ab"], theirs.forward())


def test_weights_that_nobody_gave_are_seen(tmp_path: Path) -> None:
    x = np.ones((1, 1, 12, 10), np.float32)
    read = through_the_door(tmp_path, *colorization(tmp_path), {"data_l": x}, layers=["conv1", "class8_ab"])
    assert np.isfinite(read.outputs["conv1"]).all() and np.isnan(read.outputs["class8_ab"]).all()


def test_a_net_that_needs_a_size_is_read_at_its_own(tmp_path: Path) -> None:
    """Both engines are refused averages with SAME padding and a stride at free sizes."""
    import converters

    text = """input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 9 }
        layer { name: "mean" type: "Pooling" bottom: "data" top: "mean"
          pooling_param { pool: AVE kernel_size: 3 stride: 2 pad_type: 1 } }
        layer { name: "last" type: "TanH" bottom: "mean" top: "last" }"""
    prototxt, model = tmp_path / "net.prototxt", tmp_path / "net.caffemodel"
    prototxt.write_text(text)
    spec = converters.read_prototxt(prototxt)
    converters.write_caffemodel(converters.CaffeModel(spec, {}), model)
    x = np.random.default_rng(0).standard_normal((1, 3, 8, 9)).astype(np.float32)
    read = through_the_door(tmp_path, prototxt, model, {"data": x}, layers=["mean", "last"])
    assert len(read.said["warnings"]) == 1 and "feed it no other" in read.said["warnings"][0]
    import torch

    assert close(read.last, converters.CaffeNet(spec)(torch.from_numpy(x)).numpy())
