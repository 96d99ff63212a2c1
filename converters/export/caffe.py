"""Back to Caffe: a net and its state dict as a prototxt and a .caffemodel or .caffemodel.h5."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

from ..execution.state_dict import from_state_dict, to_state_dict
from ..formats.caffemodel import read_caffemodel, write_caffemodel
from ..formats.hdf5 import write_hdf5
from ..formats.prototxt import read_prototxt, write_prototxt
from ..layers.windows import HOLES, Windows
from ..net.layer import LayerSpec
from ..net.spec import NetSpec
from .checking import ExportError, Run, run_module

if TYPE_CHECKING:
    from torch import Tensor


def write_caffe(
    spec: NetSpec,
    state: Mapping[str, Tensor],
    weights: str | os.PathLike[str] | BinaryIO,
    *,
    prototxt: str | os.PathLike[str] | BinaryIO | None = None,
    hdf5: bool = False,
) -> None:
    """Write the weights as Caffe 1.0 does, and the net's definition too where `prototxt` names a file.

    Either may be a file that is open for reading and writing.
    The definition is `to_caffe(spec)`. Raises MismatchError where the state dict is not one of this net, and
    ExportError where Caffe could not read it.
    """
    slashes = [layer.name for layer in spec.layers if "/" in layer.name and f"{layer.name}.weight" in state]
    if hdf5 and slashes:
        raise ExportError(
            f"Caffe finds no layer in an .h5 whose name has a slash, such as {slashes[0]}, and leaves it without "
            "weights\n  write a .caffemodel instead"
        )
    spec = to_caffe(spec)
    model = from_state_dict(state, spec)
    (write_hdf5 if hdf5 else write_caffemodel)(model, weights)
    if prototxt is not None:
        write_prototxt(spec, prototxt)


def to_caffe(spec: NetSpec) -> NetSpec:
    """The same net, written so that every reader of Caffe's files takes it for the same.

    DeepLab's `hole` is `dilation`, Caffe's own name for it; an Input layer of several tops has a shape for each, for
    OpenCV refuses one; an LRN says its alpha, for OpenCV takes 0.0001 where Caffe takes 1.
    """
    return spec.replace_layers(tuple(_with_dilation(_with_every_shape(_with_alpha(layer))) for layer in spec.layers))


def _with_alpha(layer: LayerSpec) -> LayerSpec:
    if layer.type != "LRN" or layer.message.lrn_param.HasField("alpha"):
        return layer
    message = layer.to_message()
    message.lrn_param.alpha = layer.message.lrn_param.alpha
    return LayerSpec.from_message(message, extra=layer.extra, line=layer.line)


def _with_every_shape(layer: LayerSpec) -> LayerSpec:
    shapes = layer.message.input_param.shape
    if layer.type != "Input" or len(shapes) != 1 or len(layer.tops) < 2:
        return layer
    message = layer.to_message()
    for _ in layer.tops[1:]:
        message.input_param.shape.add(dim=shapes[0].dim)
    return LayerSpec.from_message(message, extra=layer.extra, line=layer.line)


def _with_dilation(layer: LayerSpec) -> LayerSpec:
    rest = tuple(field for field in layer.extra if field.name not in HOLES)
    if len(rest) == len(layer.extra) or not isinstance(layer.params, Windows):
        return layer
    given = layer.params.dilation
    message = layer.to_message()
    message.convolution_param.dilation.extend(given[:1] if len(set(given)) == 1 else given)
    return LayerSpec.from_message(message, extra=rest, line=layer.line)


def run_caffe(weights: str | os.PathLike[str], prototxt: str | os.PathLike[str] | NetSpec) -> Run:
    """A function that runs the net of a prototxt with the weights in a file, read anew."""
    from ..execution.caffe_net import CaffeNet

    spec = prototxt if isinstance(prototxt, NetSpec) else read_prototxt(prototxt)
    net = CaffeNet(spec)
    net.load_state_dict(to_state_dict(read_caffemodel(weights), spec=spec))

    def run(inputs: Mapping[str, Any]) -> dict[str, Any]:
        return run_module(net, inputs, net.outputs)

    return run
