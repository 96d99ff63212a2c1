"""OpenCV's DNN module reads the same Caffe files with code of its own: a second opinion on weights and numbers."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from fcn_port.loading import load
from parity_tests.goldens import compare, formats
from parity_tests.tolerances import tolerance


def opencv_net(weights: str) -> cv2.dnn.Net:
    net = cv2.dnn.readNetFromCaffe(str(formats("fcn8s-mini.prototxt")), weights)
    net.enableWinograd(False)
    return net


def test_opencv_reads_the_same_weights() -> None:
    net = opencv_net(str(formats("fcn8s-mini.caffemodel")))
    for key, value in load(formats("fcn8s-mini.caffemodel")).state_dict().items():
        layer, name = key.rsplit(".", 1)
        if layer.startswith("upscore"):
            continue  # OpenCV keeps deconvolution weights transposed
        theirs = net.getParam(net.getLayerId(layer), ("weight", "bias").index(name))
        np.testing.assert_array_equal(theirs.ravel(), value.numpy().ravel())


@pytest.mark.parametrize("size", [(100, 100), (75, 122), (64, 41)])
def test_opencv_computes_the_same_scores(size: tuple[int, int]) -> None:
    x = (np.random.default_rng(0).standard_normal((1, 3, *size)) * 50).astype(np.float32)
    net = opencv_net(str(formats("fcn8s-mini.caffemodel")))
    net.setInput(x)
    expected = net.forward("score")
    with torch.no_grad():
        found = load(formats("fcn8s-mini.caffemodel"))(torch.from_numpy(x))
    assert compare(found.numpy(), expected) <= tolerance("opencv-forward")
