"""`fast` of nets whose layers are called alike, which Caffe allows: nothing is told apart by a layer's name."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

import fcn_port
from converters import CaffeNet
from converters.formats import parse_prototxt
from converters.passes import prepare
from fcn_port.fastpath.kernels import Choice
from fcn_port.fastpath.lossless import Lossless
from fcn_port.fastpath.native import why_not
from fcn_port.fastpath.numpy_net import NumpyNet
from fcn_port.fastpath.program import FastNet
from parity_tests.fastpath.random_nets import filled
from parity_tests.fastpath.test_any_net import error, in_double, named
from parity_tests.tolerances import tolerance

pytestmark = pytest.mark.skipif(why_not() is not None, reason="no C compiler")

INPUT = 'input: "x" input_shape { dim: [1, 6, 5, 5] } '
NETS = {
    "constants": """layer { name: "p" type: "Power" bottom: "x" top: "a" power_param { scale: 2 shift: 1 } }
        layer { name: "q" type: "Softmax" bottom: "a" top: "b" }
        layer { name: "p" type: "Power" bottom: "b" top: "c" power_param { scale: 5 shift: -1 } }""",
    "none and constants": """layer { name: "p" type: "Slice" bottom: "x" top: "a" top: "b" }
        layer { name: "p" type: "Eltwise" bottom: "a" bottom: "b" top: "c" eltwise_param { coeff: 2 coeff: 3 } }
        layer { name: "p" type: "Power" bottom: "c" top: "d" power_param { scale: 5 shift: -1 } }""",
    "one weight, turned": """layer { name: "f" type: "Pooling" bottom: "x" top: "a" pooling_param {
            pool: AVE global_pooling: true } }
        layer { name: "p" type: "InnerProduct" bottom: "a" top: "b" inner_product_param { num_output: 6 } }
        layer { name: "p" type: "InnerProduct" bottom: "b" top: "c" inner_product_param {
            num_output: 6 transpose: true } }""",
}
PADDED = """input: "x" input_shape { dim: [1, 3, 40, 40] }
layer { name: "a" type: "Convolution" bottom: "x" top: "a" convolution_param {
    num_output: 16 kernel_size: 3 pad: 100 } }
layer { name: "a2" type: "ReLU" bottom: "a" top: "a" }
layer { name: "p" type: "Pooling" bottom: "a" top: "b" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "c" type: "Convolution" bottom: "b" top: "c" convolution_param { num_output: 16 kernel_size: 3 pad: 1 } }
layer { name: "c2" type: "ReLU" bottom: "c" top: "c" }
layer { name: "p" type: "Pooling" bottom: "c" top: "d" pooling_param { kernel_size: 3 stride: 2 } }
layer { name: "e" type: "Convolution" bottom: "d" top: "e" convolution_param { num_output: 8 kernel_size: 3 pad: 1 } }
layer { name: "u" type: "Deconvolution" bottom: "e" top: "f" convolution_param {
    num_output: 8 kernel_size: 8 stride: 4 } }
layer { name: "p" type: "Crop" bottom: "f" bottom: "x" top: "g" crop_param { axis: 2 offset: 101 } }
"""


def agrees(net: CaffeNet, found: Tensor, x: Tensor) -> bool:
    return error(named(net, found), in_double(net, {"x": x})) <= tolerance("fast-net")


@pytest.mark.parametrize("layers", NETS.values(), ids=NETS)
def test_constants_and_weights_are_each_layer_s_own(layers: str) -> None:
    net = filled(CaffeNet(parse_prototxt(INPUT + layers)))
    x = torch.randn(1, 6, 5, 5, generator=torch.Generator().manual_seed(1))
    assert agrees(net, FastNet(net)(x), x)


@pytest.mark.parametrize("convolutions", ["native", "torch", "direct"])
def test_poolings_of_a_net_whose_padding_is_skipped(convolutions: Choice) -> None:
    net = filled(CaffeNet(parse_prototxt(PADDED)))
    quick = fcn_port.fast(net, convolutions=convolutions)
    assert isinstance(quick, Lossless) or convolutions == "direct"
    for size in ((40, 40), (50, 41)):
        x = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1))
        assert agrees(net, quick(x), x)


def test_a_layer_that_needs_pytorch_is_told() -> None:
    text = """layer { name: "p" type: "Reduction" bottom: "x" top: "a" reduction_param { axis: 1 } }
        layer { name: "p" type: "TanH" bottom: "x" top: "b" }"""
    net = NumpyNet(prepare(parse_prototxt(INPUT + text)), {})
    assert (net.needs_torch() or "").startswith("p: ")
    assert np.isfinite(net(np.zeros((1, 6, 5, 5), np.float32))["b"]).all()


def test_a_layer_merged_into_another_of_its_name_is_told() -> None:
    text = """layer { name: "p" type: "Power" bottom: "x" top: "a" power_param { scale: 2 } }
        layer { name: "p" type: "ReLU" bottom: "a" top: "a" }"""
    said = FastNet(CaffeNet(parse_prototxt(INPUT + text))).explain((5, 5))
    assert said.splitlines()[1:] == ["  p with p: channel by channel"]
