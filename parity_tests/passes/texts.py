"""Nets for tests of passes, as text: a layer is a name, a type, bottoms and tops."""

from __future__ import annotations

from converters import NetSpec, parse_prototxt

NETS = ("fcn8s-mini", "layer-zoo-0", "layer-zoo-1", "v1-mini", "v0-mini")
CONV = "convolution_param { num_output: 2 kernel_size: 1 }"


def layer(name: str, kind: str, bottoms: str = "", tops: str = "", more: str = "") -> str:
    """One layer's text; bottoms and tops with spaces between."""
    wires = [f'bottom: "{blob}"' for blob in bottoms.split()] + [f'top: "{blob}"' for blob in tops.split()]
    return f'layer {{ name: "{name}" type: "{kind}" {" ".join(wires)} {more} }}\n'


INPUT = layer("data", "Input", "", "data", "input_param { shape { dim: 1 dim: 3 dim: 4 dim: 5 } }")
TRAIN = (
    layer("data", "Python", "", "data label", "python_param { module: 'voc_layers' layer: 'SBDDSegDataLayer' }"),
    layer("conv", "Convolution", "data", "conv", CONV),
    layer("relu", "ReLU", "conv", "conv"),
    layer("up", "Deconvolution", "conv", "up", CONV),
    layer("score", "Crop", "up data", "score"),
    layer("loss", "SoftmaxWithLoss", "score label", "loss", "loss_param { ignore_label: 255 }"),
)


def net(*texts: str) -> NetSpec:
    return parse_prototxt("".join(texts))


def layers(spec: NetSpec) -> list[str]:
    return [layer.name for layer in spec.layers]
