"""Convolution, Deconvolution and Im2col over no axis, one, or as many as Caffe has room for, with any axes before."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from converters import CaffeFormatError, CaffeNet, parse_prototxt
from converters.export import ExportError
from converters.layers.base import blob_name
from converters.layers.functions import convolve_along, deconvolve_along, im2col
from parity_tests.export.onnx_models import (
    blobs_in_onnxruntime,
    blobs_of,
    inputs_for,
    onnx_of,
    with_drawn_weights,
    worst_blob,
)
from parity_tests.export.test_export_python import made_from, outputs
from parity_tests.fill import rs, zoo_blob
from parity_tests.oracle.client import CaffeAborted, Oracle
from parity_tests.tolerances import tolerance

KINDS = ("Convolution", "Deconvolution", "Im2col")
CASES = {
    "none": ((2, 4), 1, "kernel_size: 1"),
    "none after many": ((2, 3, 5, 4), 3, "kernel_size: 2 stride: 3 pad: 1"),
    "one": ((2, 4, 7), 1, "kernel_size: 3 stride: 2 pad: 1"),
    "one after three": ((2, 3, 4, 7), 2, "kernel_size: 3 dilation: 2"),
    "two": ((2, 4, 5, 6), 1, "kernel_size: 3 kernel_size: 2 force_nd_im2col: true"),
    "two without a batch": ((4, 5, 6), 0, "kernel_h: 2 kernel_w: 3"),
    "two from behind": ((2, 3, 4, 5, 6), -3, "kernel_size: 3 pad: 1"),
    "three": ((2, 4, 4, 5, 6), 1, "kernel_size: 3 pad: 1 dilation: 2"),
    "three apart": ((1, 4, 4, 5, 6), 1, "kernel_size: [3, 2, 1] stride: [1, 2, 3]"),
    "four": ((1, 4, 3, 4, 3, 4), 1, "kernel_size: 2"),
    "four apart": (
        (1, 4, 3, 4, 3, 4),
        1,
        "kernel_size: [2, 1, 3, 2] pad: 1 stride: [1, 2, 1, 3] dilation: [1, 1, 2, 1]",
    ),
    "four after three": ((2, 1, 3, 4, 3, 2, 3, 2), 3, "kernel_size: 2 stride: 2 pad: 1"),
    "five": ((1, 4, 2, 3, 3, 2, 3), 1, "kernel_size: 2 pad: 1"),
}
REFUSED = {
    "two for one": ((2, 4, 6), "kernel_size: [2, 2]"),
    "two for three": ((2, 4, 4, 4, 4), "kernel_size: 2 stride: [1, 1]"),
    "h and w for three": ((2, 4, 4, 4, 4), "kernel_h: 2 kernel_w: 2"),
    "three for two": ((2, 4, 6, 6), "kernel_size: [2, 2, 2]"),
    "dilations for four": ((2, 4, 6, 6), "kernel_size: 2 dilation: [1, 1, 1, 1]"),
}


def net(kind: str, shape: tuple[int, ...], axis: int, settings: str, *, group: int = 1) -> str:
    """A net of the one layer."""
    outputs = "" if kind == "Im2col" else f"num_output: 6 group: {group}"
    dims = " ".join(f"dim: {size}" for size in shape)
    return f"""
layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ {dims} }} }} }}
layer {{ name: "it" type: "{kind}" bottom: "data" top: "it" convolution_param {{ {outputs} {settings} axis: {axis} }} }}
"""


def runs(kind: str, name: str) -> bool:
    """Im2col needs a spatial axis (im2col_layer.cpp:17)."""
    return not (kind == "Im2col" and name.startswith("none"))


@pytest.mark.oracle
@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CASES)
def test_tops_are_caffes(oracle: Oracle, name: str, kind: str, group: int) -> None:
    if not runs(kind, name) or (kind == "Im2col" and group > 1) or (group > 1 and name == "four after three"):
        pytest.skip("no such net")
    text = net(kind, *CASES[name], group=group)
    x = rs(f"axes/{name}").standard_normal(CASES[name][0]).astype(np.float32)
    caffes = oracle.forward(text, filling="zoo", inputs={"data": x}).blobs["it"]
    made = CaffeNet(parse_prototxt(text))
    blobs = made.state_dict()
    drawn = {
        f"it.{blob_name(i)}": torch.from_numpy(zoo_blob("it", kind, i, tuple(blobs[f"it.{blob_name(i)}"].shape)))
        for i in range(len(blobs))
    }
    made.load_state_dict(drawn)
    found = made(torch.from_numpy(x)).detach().numpy()
    assert found.shape == caffes.shape
    assert np.abs(found - caffes).max() <= tolerance("oracle-live") * np.abs(caffes).max()


@pytest.mark.oracle
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_caffe_refuses(oracle: Oracle, name: str, kind: str) -> None:
    shape, settings = REFUSED[name]
    with pytest.raises(CaffeAborted):
        oracle.forward(net(kind, shape, 1, settings))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", REFUSED)
def test_values_for_other_axes_are_refused(name: str, kind: str) -> None:
    shape, settings = REFUSED[name]
    with pytest.raises(CaffeFormatError, match="spatial"):
        CaffeNet(parse_prototxt(net(kind, shape, 1, settings)))


@pytest.mark.parametrize(("kind", "name"), [("Im2col", "none"), ("Im2col", "none after many")])
def test_columns_of_no_axis_are_refused(kind: str, name: str) -> None:
    with pytest.raises(CaffeFormatError, match="without an axis"):
        CaffeNet(parse_prototxt(net(kind, *CASES[name])))


def of_two(kind: str, second: tuple[int, ...]) -> str:
    """A net whose one layer has two bottoms, which share a weight of two spatial axes."""
    dims = " ".join(f"dim: {size}" for size in second)
    return f"""
layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: 1 dim: 4 dim: 9 dim: 11 }} }} }}
layer {{ name: "more" type: "Input" top: "more" input_param {{ shape {{ {dims} }} }} }}
layer {{ name: "it" type: "{kind}" bottom: "data" bottom: "more" top: "it" top: "of_more"
  convolution_param {{ num_output: 6 kernel_size: 3 pad: 1 }} }}
"""


@pytest.mark.parametrize("second", [(1, 4), (1, 4, 9), (1, 4, 3, 9, 11)])
@pytest.mark.parametrize("kind", ["Convolution", "Deconvolution"])
def test_bottoms_of_other_axes_are_refused(kind: str, second: tuple[int, ...]) -> None:
    with pytest.raises(CaffeFormatError, match=r"'it'.*channels or axes"):
        CaffeNet(parse_prototxt(of_two(kind, second)))
    assert CaffeNet(parse_prototxt(of_two(kind, (1, 4, 9, 11)))).outputs == ("it", "of_more")


@pytest.mark.oracle
@pytest.mark.parametrize("second", [(1, 4), (1, 4, 9), (1, 4, 3, 9, 11)])
@pytest.mark.parametrize("kind", ["Convolution", "Deconvolution"])
def test_caffe_refuses_them(oracle: Oracle, kind: str, second: tuple[int, ...]) -> None:
    with pytest.raises(CaffeAborted):
        oracle.forward(of_two(kind, second))


def draw(*shape: int) -> Tensor:
    return torch.from_numpy(rs(str(shape)).standard_normal(shape))


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize(("kernel", "stride", "pad", "dilation"), [(3, 1, 0, 1), (2, 2, 1, 1), (2, 3, 2, 2)])
def test_any_axes_are_as_torchs(axes: int, groups: int, kernel: int, stride: int, pad: int, dilation: int) -> None:
    """The general form beside torch's for one to three axes, and its gradients."""
    x = draw(2, 4, *(6, 7, 8)[:axes]).requires_grad_()
    window = ((stride,) * axes, (pad,) * axes, (dilation,) * axes)
    weight, bias = draw(6, 4 // groups, *(kernel,) * axes).requires_grad_(), draw(6)
    convolve = (F.conv1d, F.conv2d, F.conv3d)[axes - 1]
    assert_alike(
        convolve_along(x, weight, bias, *window, groups), convolve(x, weight, bias, *window, groups), x, weight
    )
    turned = draw(4, 6 // groups, *(kernel,) * axes).requires_grad_()
    deconvolve = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[axes - 1]
    expected = deconvolve(x, turned, bias, window[0], window[1], 0, groups, window[2])
    assert_alike(deconvolve_along(x, turned, bias, *window, groups), expected, x, turned)


def assert_alike(found: Tensor, expected: Tensor, *leaves: Tensor) -> None:
    torch.testing.assert_close(found, expected)
    slope = draw(*expected.shape)
    for one, other in zip(
        torch.autograd.grad(found, leaves, slope), torch.autograd.grad(expected, leaves, slope), strict=True
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("axes", [1, 3, 4])
def test_a_column_is_a_window(axes: int) -> None:
    """im2col_nd_core_cpu (util/im2col.cpp): the channel outside, then the places of the kernel, row by row."""
    settings = ((2, 3, 1, 2), (1, 2, 2, 1), (1, 0, 1, 2), (2, 1, 1, 2))
    kernel, stride, pad, dilation = (values[:axes] for values in settings)
    x = draw(2, 3, *(4, 3, 5, 4)[:axes]).numpy()
    found = im2col(torch.from_numpy(x), kernel, stride, pad, dilation).numpy()
    padded = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in pad)])
    assert found.shape[1] == 3 * prod(kernel)
    for place in np.ndindex(*found.shape[2:]):
        for channel in range(found.shape[1]):
            c, *inside = np.unravel_index(channel, (3, *kernel))
            at = tuple(p * s + i * d for p, s, i, d in zip(place, stride, inside, dilation, strict=True))
            np.testing.assert_array_equal(found[(slice(None), channel, *place)], padded[(slice(None), c, *at)])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CASES)
def test_exports_compute_the_same_or_are_refused(name: str, kind: str) -> None:
    if not runs(kind, name):
        pytest.skip("no such net")
    spec = parse_prototxt(net(kind, *CASES[name]))
    made = with_drawn_weights(spec)
    inputs = inputs_for(spec, {"data": CASES[name][0]})
    source = made_from(spec)
    source.load_state_dict(made.state_dict())
    found, expected = outputs(source, inputs), outputs(made, inputs)
    for one, other in zip(found.values(), expected.values(), strict=True):
        torch.testing.assert_close(one, other)
    if name.split()[0] in ("none", "four", "five"):
        with pytest.raises(ExportError, match="axes"):
            onnx_of(made)
        return
    n, *_ = shape = CASES[name][0]
    fixed = {"two without a batch": {"batch": n}, "one after three": {"size": shape[2:]}}.get(name, {})  # channels, too
    onnx = onnx_of(made, **fixed)
    assert worst_blob(blobs_in_onnxruntime(onnx, inputs), blobs_of(made, inputs))[0] <= tolerance("onnx")
