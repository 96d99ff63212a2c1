"""Kernels that are longer than the padded blob by less than a stride: Caffe lets them land once, and reads zeros."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import pad

from converters import CaffeNet, NetError, parse_prototxt
from converters.export import least_side
from fcn_port.fastpath.native import why_not
from fcn_port.fastpath.program import FastNet
from parity_tests.export.onnx_models import blobs_in_onnxruntime, onnx_of
from parity_tests.fill import rs, zoo_blob
from parity_tests.layers.test_any_axes import net
from parity_tests.oracle.client import CaffeAborted, Oracle
from parity_tests.tolerances import tolerance

CASES = {
    "high": ((2, 4, 3, 11), 1, "kernel_size: 5 stride: 3", (2, 0)),
    "wide": ((2, 4, 9, 2), 1, "kernel_h: 2 kernel_w: 4 stride_h: 1 stride_w: 3", (0, 2)),
    "padded": ((1, 4, 2, 3), 1, "kernel_size: 9 pad: 2 stride: 4", (3, 2)),
    "as long as the blob": ((2, 4, 2, 2), 1, "kernel_size: 2 dilation: 2 stride: 2", (1, 1)),
    "dilated": ((1, 4, 5, 8), 1, "kernel_size: 3 dilation: 3 stride: 3", (2, 0)),
    "one axis": ((2, 4, 3), 1, "kernel_size: 4 stride: 2", (1,)),
    "three axes": ((1, 4, 2, 7, 6), 1, "kernel_size: 3 stride: 2", (1, 0, 0)),
    "later axes": ((2, 3, 4, 2, 6), 2, "kernel_size: 3 stride: 2", (1, 0)),
    "four axes": ((1, 4, 2, 3, 4, 2), 1, "kernel_size: 3 stride: 2", (1, 0, 0, 1)),
}
"""The bottom's shape, the channels' axis, the settings, and the zeros that are read behind each axis."""
KINDS = ("Convolution", "Im2col")
by_case = pytest.mark.parametrize(("name", "kind"), [(name, kind) for name in CASES for kind in KINDS])


def text_of(name: str, kind: str) -> str:
    return net(kind, *CASES[name][:3])


def made(name: str, kind: str) -> tuple[CaffeNet, torch.Tensor]:
    """The net with the rule's weights, and its input."""
    found = CaffeNet(parse_prototxt(text_of(name, kind)))
    for position, blob in enumerate(found.parameters()):
        blob.data = torch.from_numpy(zoo_blob("it", kind, position, tuple(blob.shape)))
    return found, torch.from_numpy(rs(f"longer/{name}").standard_normal(CASES[name][0]).astype(np.float32))


def assert_close(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= tolerance("oracle-live") * expected.abs().max()


@by_case
def test_zeros_are_read_behind_the_blob(name: str, kind: str) -> None:
    """As of a blob that has these zeros; in CaffeNet, by `fast` and in onnxruntime."""
    plain, x = made(name, kind)
    longer = pad(x, [each for n in reversed(CASES[name][3]) for each in (0, n)])
    with torch.no_grad():
        expected = plain(longer)
        assert_close(plain(x), expected)
        if why_not() is None:
            assert_close(FastNet(plain)(x), expected)
    if name != "four axes":  # which ONNX's runtimes have no convolution over
        size = (x.shape[2], x.shape[3]) if x.ndim == 4 else None
        found = blobs_in_onnxruntime(onnx_of(plain, size=size), {"data": x})["it"]
        assert_close(torch.from_numpy(found), expected)


@pytest.mark.oracle
@by_case
def test_caffe_reads_them(oracle: Oracle, name: str, kind: str) -> None:
    plain, x = made(name, kind)
    caffes = oracle.forward(text_of(name, kind), filling="zoo", inputs={"data": x.numpy()}).blobs["it"]
    assert_close(plain(x).detach(), torch.from_numpy(caffes))


NOTHING_LEFT = net("Convolution", (2, 4, 3, 11), 1, "kernel_size: 6 stride: 3")
"""A kernel that is longer by a whole stride."""


def test_a_kernel_that_never_lands_is_refused() -> None:
    with pytest.raises(NetError, match="nothing is left of it"):
        CaffeNet(parse_prototxt(NOTHING_LEFT))


@pytest.mark.oracle
def test_caffe_refuses_it(oracle: Oracle) -> None:
    with pytest.raises(CaffeAborted):
        oracle.forward(NOTHING_LEFT)


def test_exports_are_for_sizes_that_other_programs_take() -> None:
    """Which refuse such kernels: of six halvings 95 is the least that Caffe takes, and 127 that all take."""
    ends = [("data", "c0"), *((f"c{i}", f"c{i + 1}") for i in range(5))]
    layers = "\n".join(
        f'layer {{ name: "{top}" type: "Convolution" bottom: "{bottom}" top: "{top}" '
        "convolution_param { num_output: 2 kernel_size: 3 stride: 2 } }"
        for bottom, top in ends
    )
    shape = "shape { dim: [1, 3, 160, 160] }"
    text = f'layer {{ name: "data" type: "Input" top: "data" input_param {{ {shape} }} }}\n{layers}'
    found = CaffeNet(parse_prototxt(text))
    assert least_side(found.spec) == 127
    assert found(torch.zeros(1, 3, 95, 95)).shape == (1, 2, 1, 1)
