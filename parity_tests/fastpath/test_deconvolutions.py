"""`fast` of deconvolutions: a convolution for each phase of outputs, whose pads may be below 0."""

from __future__ import annotations

import pytest
import torch

from converters import CaffeNet
from converters.formats import parse_prototxt
from fcn_port.fastpath.native import why_not
from fcn_port.fastpath.program import FastNet
from parity_tests.fastpath.random_nets import filled
from parity_tests.fastpath.test_kernels import RELU, check

pytestmark = pytest.mark.skipif(why_not() is not None, reason="no C compiler")


@pytest.mark.parametrize("behind", ["", RELU], ids=["", "relu"])
@pytest.mark.parametrize(
    "settings",
    [
        "kernel_size: 4 stride: 2 num_output: 5",
        "kernel_size: 16 stride: 8 num_output: 3 bias_term: false",
        "kernel_size: 3 stride: 2 pad: 1 num_output: 33",
        "kernel_size: 3 pad: 1 num_output: 4",
        "kernel_size: 1 stride: 3 num_output: 4",  # outputs between those that read an input hold the bias
        "kernel_h: 2 kernel_w: 5 stride_h: 3 stride_w: 2 pad_h: 0 pad_w: 3 num_output: 6",
        "kernel_size: 4 stride: 2 pad: 1 num_output: 6 group: 3",
        "kernel_size: 4 stride: 2 pad: 1 num_output: 6 group: 6",
        "kernel_size: 1 stride: 2 num_output: 6 group: 6",
        "kernel_size: 8 stride: 4 num_output: 6 group: 6",
        "kernel_h: 6 kernel_w: 6 stride_h: 3 stride_w: 4 num_output: 6 group: 6",
    ],
)
def test_deconvolutions(settings: str, behind: str) -> None:
    text = f"""layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ dim: [1, 6, 5, 4] }} }} }}
        layer {{ name: "y" type: "Deconvolution" bottom: "x" top: "y" convolution_param {{ {settings} }} }} {behind}"""
    net = filled(CaffeNet(parse_prototxt(text)))
    for h, w in ((5, 4), (1, 3), (7, 2)):
        x = torch.randn(2, 6, h, w, generator=torch.Generator().manual_seed(h))
        if (h - 1) * 3 > 6:
            check(net, x, None, "deconvolution")
        x[0, 0, 0, 0] = float("nan")
        try:
            expected = net(x)
        except Exception:  # nothing is left of it
            continue
        is_nan, found = expected.isnan(), FastNet(net)(x).isnan()
        if "group: 3" in settings:  # several groups are one product, of zeros too
            is_nan = is_nan.any(1, keepdim=True).expand_as(found)
        assert torch.equal(found, is_nan)


@pytest.mark.parametrize("width", [24, 27])
@pytest.mark.parametrize(
    "settings", ["num_output: 5 kernel_size: 2 stride: 2 pad_w: 4", "num_output: 4 kernel_w: 1 kernel_h: 3 pad_w: 5"]
)
def test_pads_that_leave_whole_windows_out(settings: str, width: int) -> None:
    """A tile of outputs ends with its row, though there are more windows: what it wrote behind were the next row's."""
    text = f"""input: "x" input_shape {{ dim: [1, 6, 5, {width}] }}
        layer {{ name: "y" type: "Deconvolution" bottom: "x" top: "y" convolution_param {{ {settings} }} }}
        {RELU}"""
    x = torch.randn(2, 6, 5, width, generator=torch.Generator().manual_seed(width))
    check(filled(CaffeNet(parse_prototxt(text))), x, None, "deconvolution")


def test_a_stride_of_many_phases_in_many_groups() -> None:
    """Two pixels of 32 channels, and 32,768 steps: their plan took a hundred times what the net itself does."""
    text = """input: "x" input_shape { dim: [1, 32, 1, 2] }
        layer { name: "y" type: "Deconvolution" bottom: "x" top: "y" convolution_param {
            num_output: 512 group: 32 kernel_size: 32 stride: 32 } }"""
    net = filled(CaffeNet(parse_prototxt(text)))
    x = torch.randn(1, 32, 1, 2, generator=torch.Generator().manual_seed(0))
    quick = FastNet(net)
    assert torch.equal(quick(x), net(x))
    assert "by PyTorch: a stride of 32x32 in 32 groups" in quick.explain((1, 2))
