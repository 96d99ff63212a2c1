"""`prepare`: the tensor that `segment` feeds, for one's own calls of a net."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import fcn_port
from converters import CaffeNet, parse_prototxt
from fcn_port.predict.images import to_input
from parity_tests.datasets import noise
from parity_tests.test_architecture import ROOT
from weights.records import InputRecipe, Preprocessing

SAMPLE = ROOT / "weights" / "sample" / "shapes-fcn8s.caffemodel"
PICTURE = ROOT / "weights" / "sample" / "shapes.png"


def test_a_photograph_goes_through_the_net_as_segment_sends_it() -> None:
    net = fcn_port.load(SAMPLE)
    x = fcn_port.prepare(net, PICTURE)
    image = np.asarray(Image.open(PICTURE).convert("RGB"))
    mean = np.array((104.00698793, 116.66876762, 122.67891434))
    assert np.array_equal(x[0].numpy(), (image[:, :, ::-1] - mean).astype(np.float32).transpose(2, 0, 1))
    with torch.inference_mode():
        scores = net(x)
    assert np.array_equal(scores[0].argmax(0).numpy(), fcn_port.segment(net, PICTURE).labels)
    assert fcn_port.blobs(net, x)["score"].equal(scores)


def test_it_is_of_the_net_s_type() -> None:
    assert fcn_port.prepare(fcn_port.load(SAMPLE).double(), PICTURE).dtype == torch.float64


def test_several_inputs_go_by_name() -> None:
    inputs = tuple(InputRecipe(name, "color", "file", (0.0,) * 3, scale=s) for name, s in (("a", 1.0), ("b", 2.0)))
    image, recipe = noise(1, (4, 5, 3)), Preprocessing(inputs)
    found = fcn_port.prepare(nn.Module(), {"b": image, "a": image}, preprocessing=recipe)
    assert found["b"].equal(2 * found["a"])
    for wrong in (image, {"a": image}, {"a": image, "b": image, "c": image}):
        with pytest.raises(ValueError, match="a, b"):
            fcn_port.prepare(nn.Module(), wrong, preprocessing=recipe)


def test_a_net_that_says_nothing() -> None:
    net = CaffeNet(parse_prototxt('input: "x" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }'))
    with pytest.raises(ValueError, match="preprocessing="):
        fcn_port.prepare(net, PICTURE)


def test_a_grey_net_sees_the_grey_of_a_photograph() -> None:
    image = noise(2, (6, 7, 3))
    found = to_input(image, InputRecipe("data", "color", "bgr", (10.0,)))
    luma = image @ np.array([0.299, 0.587, 0.114])
    assert found.shape == (1, 1, 6, 7) and np.abs(found[0, 0].numpy() + 10 - luma).max() <= 0.51
