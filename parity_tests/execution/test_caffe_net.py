"""CaffeNet executes a net as Caffe does, and is a PyTorch module like any other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from converters import (
    CaffeNet,
    NetSpec,
    read_caffemodel,
    read_prototxt,
    to_state_dict,
)
from converters.layers import convolution, lrn, pooling, softmax
from converters.net import layer
from parity_tests.fill import INPUT_SCALE, input_blob
from parity_tests.goldens import compare, format_blobs, formats
from parity_tests.tolerances import tolerance

CLAIMS = {
    "layer-zoo-0": "caffenet-zoo",
    "layer-zoo-1": "caffenet-zoo",
    "v1-mini": "format-blobs",
    "v0-mini": "format-blobs",
    "fcn8s-mini": "format-blobs",
}
FLT_MAX = np.finfo(np.float32).max


def load(spec: NetSpec, weights: Path) -> CaffeNet:
    net = CaffeNet(spec)
    net.load_state_dict(to_state_dict(read_caffemodel(weights), spec=spec), strict=True)
    return net


def inputs_of(net: CaffeNet, name: str) -> dict[str, torch.Tensor]:
    """The inputs of a recording; the zoos' are drawn without scale."""
    scale = 1.0 if name.startswith("layer-zoo") else INPUT_SCALE
    return {blob: torch.from_numpy(input_blob(blob, shape, scale=scale)) for blob, shape in net.inputs.items()}


def worst_blob(net: CaffeNet, name: str) -> tuple[float, str]:
    """The largest difference of any blob from Caffe's, relative to the blob's largest magnitude; all must be there."""
    with torch.no_grad():
        found = net.blobs(**inputs_of(net, name))
    assert set(found) == set(format_blobs(name))
    worst = (0.0, "")
    for blob, golden in format_blobs(name).items():
        array = found[blob].numpy()
        empty = np.abs(golden) == FLT_MAX  # windows without a place; beside them every other value would be nothing
        assert array.shape == golden.shape, blob
        assert (array[empty] == golden[empty]).all(), blob
        worst = max(worst, (compare(np.where(empty, 0, array), np.where(empty, 0, golden)), blob))
    return worst


@pytest.mark.parametrize("name", CLAIMS)
def test_every_blob_is_caffes(name: str) -> None:
    """A net from its prototxt, weights from the caffemodel; in-place layers have overwritten their bottoms."""
    net = load(read_prototxt(formats(f"{name}.prototxt")), formats(f"{name}.caffemodel"))
    difference, blob = worst_blob(net, name)
    assert difference <= tolerance(CLAIMS[name]), blob


@pytest.mark.parametrize("name", ["fcn8s-mini", "layer-zoo-0", "layer-zoo-1"])
def test_the_caffemodel_alone_is_enough(name: str) -> None:
    """The net that Caffe wrote into the file has its Split layers in it; their copies are not blobs of ours."""
    model = read_caffemodel(formats(f"{name}.caffemodel"))
    assert model.spec is not None
    net = CaffeNet(model.spec)
    net.load_state_dict(to_state_dict(model))
    difference, blob = worst_blob(net, name)
    assert difference <= tolerance(CLAIMS[name]), blob


@pytest.mark.parametrize("name", ["fcn8s-mini", "layer-zoo-0"])
def test_hdf5_weights_give_the_same_bits(name: str) -> None:
    spec = read_prototxt(formats(f"{name}.prototxt"))
    states = [load(spec, formats(f"{name}{kind}")).state_dict() for kind in (".caffemodel", ".caffemodel.h5")]
    assert list(states[0]) == list(states[1])
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


# Wrong variants: each is a mistake that converters make, and each must show in a recording


class FloorPooling(pooling.Pooling):
    ceil = property(lambda self: False, lambda self, value: None)  # type: ignore[assignment]


class AverageWithoutPad(pooling.Pooling):
    def _average(self, x):
        return nn.functional.avg_pool2d(x, self.kernel, self.stride, self.pad, self.ceil, count_include_pad=False)


class AlphaNotDivided(lrn.LRN):
    def forward(self, bottoms, blobs, *, training=False):
        right = lrn.LRN(self.local_size, self.alpha * self.local_size, self.beta, self.k, self.within_channel)
        return right.forward(bottoms, blobs)


class FlippedKernel(convolution.Deconvolution):
    def _convolve(self, x, weight, bias):
        return super()._convolve(x, weight.flip(2, 3), bias)


class TransposedKernel(convolution.Deconvolution):
    def _convolve(self, x, weight, bias):
        return super()._convolve(x, weight.transpose(2, 3), bias)


class FirstOfTies(softmax.ArgMax):
    def forward(self, bottoms, blobs, *, training=False):
        (x,) = bottoms
        values, places = x.flatten(1).topk(self.top_k, 1) if self.axis is None else x.topk(self.top_k, self.axis)
        found = torch.stack((places, values), 1) if self.out_max_val else places[:, None]
        if self.axis is None:
            return (found.reshape(*found.shape, *[1] * (x.ndim - 3)).to(x.dtype),)
        return ((values if self.out_max_val else places).to(x.dtype),)


WRONG = [
    ("Pooling", FloorPooling, "fcn8s-mini"),
    ("Pooling", FloorPooling, "layer-zoo-1"),
    ("Pooling", AverageWithoutPad, "layer-zoo-0"),
    ("LRN", AlphaNotDivided, "layer-zoo-0"),
    ("LRN", AlphaNotDivided, "v1-mini"),
    ("Deconvolution", FlippedKernel, "layer-zoo-0"),
    ("Deconvolution", TransposedKernel, "fcn8s-mini"),
    ("ArgMax", FirstOfTies, "layer-zoo-1"),
]


@pytest.mark.parametrize(("kind", "variant", "name"), WRONG, ids=lambda value: getattr(value, "__name__", value))
def test_a_wrong_layer_is_noticed(kind: str, variant: type, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(layer._types, kind, variant)
    try:
        net = load(read_prototxt(formats(f"{name}.prototxt")), formats(f"{name}.caffemodel"))
        difference, _ = worst_blob(net, name)
    except (AssertionError, ValueError):
        return  # other shapes
    assert difference > 10 * tolerance(CLAIMS[name])


# The zoos as modules


@pytest.mark.parametrize("name", ["layer-zoo-0", "layer-zoo-1"])
def test_every_layer_type_can_be_traced(name: str) -> None:
    """But for Filter, whose top's size depends on values."""
    model = read_caffemodel(formats(f"{name}.caffemodel"))
    spec = read_prototxt(formats(f"{name}.prototxt"))
    outputs = [blob for blob in spec.outputs if not blob.startswith("chosen_")]
    net = CaffeNet(spec, outputs=outputs)
    net.load_state_dict(to_state_dict(model, spec=net.spec))
    inputs = inputs_of(net, name)
    program = torch.export.export(net, (), inputs)
    with torch.no_grad():
        found, expected = program.module()(**inputs), net(**inputs)
    for blob in outputs:
        torch.testing.assert_close(found[blob], expected[blob], rtol=1e-5, atol=1e-6, equal_nan=True)


def test_nothing_is_left_uninitialised() -> None:
    """Zeros, but for what would block the net: variances, factors, scales and slopes."""
    spec = read_prototxt(formats("layer-zoo-1.prototxt"))
    state = CaffeNet(spec).state_dict()
    other = {"bn_rows": (0, 1, 1), "bn_batch": (0, 1, 1), "chain_bn": (0, 1, 1), "prelu_shared": (0.25,)}
    for key, value in state.items():
        layer, _, blob = key.rpartition(".")
        position = {"weight": 0, "bias": 1, "blob2": 2}[blob]
        scale = (1, 0) if spec.layer(layer).type == "Scale" and layer != "scale_by_sums" else ()
        expected = (other.get(layer, scale) + (0,) * 3)[position]
        assert (value == expected).all(), key
