"""Small nets whose outputs mean something else each, with weights chosen by hand."""

from __future__ import annotations

from pathlib import Path

import torch

from converters import CaffeNet, parse_prototxt
from converters.export import write_caffe
from fcn_port.loading import attach
from weights.card import Card
from weights.records import InputRecipe, Preprocessing

INPUT = 'layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: [1, {c}, {h}, {w}] }} }} }}'


def _conv(name: str, bottom: str, count: int, settings: str = "kernel_size: 1") -> str:
    return (
        f'layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}" '
        f"convolution_param {{ num_output: {count} {settings} }} }}\n"
    )


def _layer(name: str, type_: str, bottom: str, settings: str = "") -> str:
    return f'layer {{ name: "{name}" type: "{type_}" bottom: "{bottom}" top: "{name}" {settings} }}\n'


_COLOURS = _conv("score", "data", 3)
BODIES = {
    "scores": _COLOURS,
    "softmax": _COLOURS + _layer("prob", "Softmax", "score"),
    "argmax": _COLOURS + _layer("label", "ArgMax", "score", "argmax_param { axis: 1 }"),
    "sigmoid": _conv("one", "data", 1) + _layer("prob", "Sigmoid", "one"),
    "sigmoids": _COLOURS + _layer("prob", "Sigmoid", "score"),
    "threshold": _conv("one", "data", 1) + _layer("over", "Threshold", "one", "threshold_param { threshold: 0.5 }"),
    "map": _conv("one", "data", 1),
    "coarse": _conv("score", "data", 3, "kernel_size: 4 stride: 4"),
    "classes": _layer("pool", "Pooling", "data", "pooling_param { pool: AVE global_pooling: true }")
    + _conv("fc", "pool", 3)
    + _layer("prob", "Softmax", "fc"),
    "inner": _layer("fc", "InnerProduct", "data", "inner_product_param { num_output: 3 }")
    + _layer("prob", "Softmax", "fc"),
    "inner-argmax": _layer("fc", "InnerProduct", "data", "inner_product_param { num_output: 3 }")
    + _layer("best", "ArgMax", "fc", "argmax_param { top_k: 2 out_max_val: true }"),
    "fixed": _layer("fc", "InnerProduct", "data", "inner_product_param { num_output: 192 }")
    + _layer("score", "Reshape", "fc", "reshape_param { shape { dim: [0, 3, 8, 8] } }"),
    "two": _COLOURS + _conv("one", "data", 1) + _layer("edge", "Sigmoid", "one"),
    "larger": 'layer { name: "up" type: "Deconvolution" bottom: "data" top: "up" '
    "convolution_param { num_output: 3 kernel_size: 2 stride: 2 } }\n",
    "five axes": _COLOURS + _layer("out", "Reshape", "score", "reshape_param { shape { dim: [0, 1, 3, 8, 8] } }"),
    "pooled": _layer("pool", "Pooling", "data", "pooling_param { kernel_size: 7 }") + _conv("score", "pool", 3),
}
"""The layers after the input, by what the net is."""
NAMES = ("red", "green", "blue")


def text(kind: str, *, size: tuple[int, int] = (8, 8), channels: int = 3) -> str:
    """The definition of a net."""
    return INPUT.format(c=channels, h=size[0], w=size[1]) + "\n" + BODIES[kind]


def net_of(kind: str, *, size: tuple[int, int] = (8, 8), channels: int = 3, told: bool = True) -> CaffeNet:
    """A net that scores how red, green and blue each pixel is, from 0 to 1; with a Sigmoid 8 times that, less 4."""
    net = CaffeNet(parse_prototxt(text(kind, size=size, channels=channels))).eval()
    with torch.no_grad():
        for name, layer in net.named_children():
            weight = getattr(layer, "weight", None)
            if weight is None:
                continue
            weight.zero_()
            layer.bias.zero_()  # type: ignore[union-attr,operator]
            flat = weight.view(weight.shape[0], -1)
            if name == "fc" and weight.ndim == 2:
                pixels = weight.shape[1] // channels
                flat[:3].view(3, channels, pixels)[[0, 1, 2], [2, 1, 0]] = 1 / 255 / pixels
            elif name == "up":
                weight[[2, 1, 0], [0, 1, 2]] = 1 / 255
            else:
                cells = flat.shape[1] // weight.shape[1]
                for label in range(weight.shape[0]):
                    channel = (2 - label) % weight.shape[1]
                    weight[label, channel] = 1 / 255 / cells  # inputs are BGR
            if "Sigmoid" in BODIES[kind]:  # a half where the colour is half as bright
                weight *= 8
                layer.bias.fill_(-4)  # type: ignore[union-attr,operator]
    if told:
        kind_of_input = "bgr" if channels == 3 else "file"
        recipe = InputRecipe("data", "color", kind_of_input, (0.0,) * channels)  # type: ignore[arg-type]
        attach(net, Card(preprocessing=Preprocessing((recipe,))))
    return net


def files_of(kind: str, folder: Path, *, size: tuple[int, int] = (8, 8), channels: int = 3) -> tuple[str, ...]:
    """Arguments of `fcn-port predict`: the weights in a file, their net, and the means."""
    net = net_of(kind, size=size, channels=channels)
    weights, prototxt = folder / f"{kind}.caffemodel", folder / f"{kind}.prototxt"
    if net.state_dict():
        write_caffe(net.spec, net.state_dict(), weights, prototxt=prototxt)
    return str(weights), "--prototxt", str(prototxt), "--mean", ",".join(["0"] * channels)
