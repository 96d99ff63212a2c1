"""Nets like the famous ones in both engines of OpenCV 5: the files that `--target opencv5` writes, and the door."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from converters.export import OnnxOptions, difference
from fcn_port.onnx_export import export_onnx
from parity_tests.famous_nets import NETS, write
from parity_tests.goldens import formats
from parity_tests.opencv5 import environment
from parity_tests.opencv5.asking import through_the_door

pytestmark = pytest.mark.opencv5


@pytest.fixture(autouse=True)
def the_other_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FCN_PORT_OPENCV5", str(environment.python()))


def files(name: str, folder: Path) -> tuple[Path, Path]:
    if name == "fcn8s":
        return formats("fcn8s-mini.prototxt"), formats("fcn8s-mini.caffemodel")
    return write(name, folder)


@pytest.mark.parametrize("name", ["fcn8s", *NETS])
def test_the_file_gives_caffes_numbers_in_both_engines(name: str, tmp_path: Path) -> None:
    prototxt, model = files(name, tmp_path)
    report = export_onnx(model, tmp_path / "net.onnx", prototxt=prototxt, options=OnnxOptions(target="opencv5"))
    assert [each.rpartition(" ")[0] for each in report.programs] == [
        "opencv5 ENGINE_NEW 5.0.0:",
        "opencv5 ENGINE_CLASSIC 5.0.0:",
    ]
    assert report.error <= 1e-5


@pytest.mark.parametrize("name", sorted(set(NETS) - {"segnet", "enet"}))  # OpenCV's own reader has no BN
def test_the_door_gives_what_opencv4_gave(name: str, tmp_path: Path) -> None:
    prototxt, model = files(name, tmp_path)
    theirs = cv2.dnn.readNetFromCaffe(str(prototxt), str(model))
    theirs.enableWinograd(False)
    theirs.enableFusion(False)
    layers = list(theirs.getLayerNames())
    blob = "image" if name == "openpose" else "data_l" if name == "colours" else "data"
    sizes = {"resnet": (65, 65), "googlenet": (67, 67), "ages": (51, 51), "mobilenet-ssd": (96, 96), "res10": (96, 96)}
    h, w = sizes.get(name, (56, 72))
    x = (np.random.default_rng(1).standard_normal((1, 1 if name == "colours" else 3, h, w)) * 50).astype(np.float32)
    read = through_the_door(tmp_path, prototxt, model, {blob: x}, layers=layers)
    assert not read.said["warnings"]
    names = [each for each in read.said["names"] if not each.startswith("detection_out/")]  # which is in parts
    assert names == layers
    wrong = []
    for layer in layers:
        theirs.setInput(x)
        if not difference(read.outputs[layer], theirs.forward(layer)) <= 1e-5:
            wrong.append(layer)
    assert not wrong
    theirs.setInput(x)
    assert difference(read.last, theirs.forward()) <= 1e-5
    if name != "hed":  # OpenCV 5 has outputs in the order of their names
        assert read.said["unconnected"] == list(theirs.getUnconnectedOutLayersNames())
