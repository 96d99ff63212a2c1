"""Nets like the famous ones: CaffeNet beside OpenCV 4 reading the Caffe files, and the exports for each program."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from converters.export import OnnxOptions, difference
from fcn_port.loading import load
from fcn_port.onnx_export import export_onnx
from parity_tests.famous_nets import NETS, write

TARGETS = ("onnxruntime", "openvino", "opencv4")
OPENCV_LACKS = {"segnet": "BN", "enet": "BN"}
"""Layers of forks that OpenCV's own reader has not."""


def image(spec_input: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(spec_input) * 50).astype(np.float32)


@pytest.mark.parametrize("name", sorted(set(NETS) - set(OPENCV_LACKS)))
def test_caffenet_is_what_opencv_makes_of_the_caffe_files(name: str, tmp_path: Path) -> None:
    prototxt, model = write(name, tmp_path)
    net = load(model, prototxt=prototxt)
    ((_, shape),) = net.spec.inputs.items()
    theirs = cv2.dnn.readNetFromCaffe(str(prototxt), str(model))
    theirs.enableWinograd(False)
    x = image(shape)
    theirs.setInput(x)
    expected = theirs.forward()
    with torch.no_grad():
        found = net(torch.from_numpy(x))
    found = found["sigmoid-fuse"] if isinstance(found, dict) else found  # HED has an output for each side
    assert np.isfinite(expected).all() and np.ptp(expected) > 0
    assert difference(expected, found.numpy()) <= 1e-5


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", NETS)
def test_a_net_goes_to_each_program(name: str, target: str, tmp_path: Path) -> None:
    prototxt, model = write(name, tmp_path)
    report = export_onnx(model, tmp_path / "net.onnx", prototxt=prototxt, options=OnnxOptions(target=target))
    assert report.checked and "not checked" not in report.programs[0]
