"""A net that is easy to be right about: each pixel's label is the largest of its channels, red, green or blue."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from converters import CaffeModel, CaffeNet, parse_prototxt
from converters.formats import write_caffemodel
from fcn_port.loading import attach
from fcn_port.nets import Net
from fcn_port.nets.net import as_net
from weights.card import Card
from weights.records import InputRecipe, Preprocessing

PROTOTXT = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [1, 3, 16, 16] } } }
layer { name: "score" type: "Convolution" bottom: "data" top: "score"
  convolution_param { num_output: 3 kernel_size: 1 } }
"""
NAMES = ("background", "<script>alert(1)</script>", "blue\u202ethings")


def largest_channel(names: Sequence[str] = NAMES) -> Net:
    """The net, on nets' usual BGR."""
    net = CaffeNet(parse_prototxt(PROTOTXT)).eval()
    with torch.no_grad():
        net.score.weight.copy_(torch.eye(3).flip(0)[:, :, None, None])  # type: ignore[union-attr]
        net.score.bias.zero_()  # type: ignore[union-attr]
    recipe = InputRecipe("data", "color", "bgr", (0.0, 0.0, 0.0))
    attach(net, Card(preprocessing=Preprocessing((recipe,)), classes={"score": tuple(names)}))
    return as_net(net)


def of_four_channels() -> Net:
    """A net whose label is the largest of the four channels that an image stores, none of them turned."""
    net = CaffeNet(parse_prototxt(PROTOTXT.replace("1, 3,", "1, 4,").replace("num_output: 3", "num_output: 4"))).eval()
    with torch.no_grad():
        net.score.weight.copy_(torch.eye(4)[:, :, None, None])  # type: ignore[union-attr]
        net.score.bias.zero_()  # type: ignore[union-attr]
    attach(net, Card(preprocessing=Preprocessing((InputRecipe("data", "bands", "file", (0.0,) * 4),))))
    return as_net(net)


def of_whole_images(names: Sequence[str] = NAMES) -> Net:
    """A net that names an image after the channel that is largest on average over its 16 x 16 pixels."""
    more = """
layer { name: "pool" type: "Pooling" bottom: "score" top: "pool" pooling_param { pool: AVE global_pooling: true } }
layer { name: "prob" type: "Softmax" bottom: "pool" top: "prob" }
"""
    net = CaffeNet(parse_prototxt(PROTOTXT + more)).eval()
    net.load_state_dict(largest_channel().state_dict())
    recipe = InputRecipe("data", "color", "bgr", (0.0, 0.0, 0.0), scale=0.01)
    attach(net, Card(preprocessing=Preprocessing((recipe,)), classes={"prob": tuple(names)}))
    return as_net(net)


def of_values(*, sigmoid: bool = False) -> Net:
    """A net that gives each pixel its redness: a value of any size, or from 0 to 1."""
    text = PROTOTXT.replace("num_output: 3", "num_output: 1")
    if sigmoid:
        text += 'layer { name: "edge" type: "Sigmoid" bottom: "score" top: "edge" }'
    net = CaffeNet(parse_prototxt(text)).eval()
    with torch.no_grad():
        net.score.weight.copy_(torch.tensor([0.0, 0.0, 1.0])[None, :, None, None])  # type: ignore[union-attr]
        net.score.bias.fill_(-100)  # type: ignore[union-attr]
    attach(net, Card(preprocessing=Preprocessing((InputRecipe("data", "color", "bgr", (0.0, 0.0, 0.0)),))))
    return as_net(net)


def write_largest_channel(path: Path) -> None:
    """The net as a Caffe file, which says nothing of inputs and classes."""
    net = largest_channel()
    blobs = {"score": tuple(each.detach().numpy() for each in (net.score.weight, net.score.bias))}  # type: ignore[union-attr]
    write_caffemodel(CaffeModel(spec=parse_prototxt(PROTOTXT), blobs=blobs), path)


def stripes(size: tuple[int, int] = (12, 20)) -> np.ndarray:
    """An image (h, w, 3) whose left half is red (label 0), its right half blue (label 2), its last row green (1)."""
    image = np.zeros((*size, 3), np.uint8)
    image[:, : size[1] // 2, 0] = 200
    image[:, size[1] // 2 :, 2] = 200
    image[-1] = (0, 200, 0)
    return image


def png_of(image: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(image).save(out, format="PNG")
    return out.getvalue()
