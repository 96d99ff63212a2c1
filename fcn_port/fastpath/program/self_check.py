"""A look at every native kernel where it was compiled, beside PyTorch; what differs is not used."""

from __future__ import annotations

from functools import cache

import torch

from converters.execution import CaffeNet
from converters.formats import parse_prototxt

from ..native import why_not
from .fast_net import FastNet

_NET = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: [1, 40, 11, 13] } } }
layer { name: "a" type: "Convolution" bottom: "x" top: "a" convolution_param {
    num_output: 33 kernel_size: 3 stride: 2 } }
layer { name: "b" type: "Convolution" bottom: "x" top: "b" convolution_param { num_output: 40 kernel_size: 1 } }
layer { name: "b2" type: "PReLU" bottom: "b" top: "b" }
layer { name: "c" type: "Convolution" bottom: "b" top: "c" convolution_param {
    num_output: 40 kernel_size: 3 pad: 1 group: 40 } }
layer { name: "c2" type: "Convolution" bottom: "c" top: "c2" convolution_param {
    num_output: 40 kernel_size: 3 pad: 1 stride: 2 group: 40 } }
layer { name: "y" type: "Input" top: "y" input_param { shape { dim: [1, 64, 9, 7] } } }
layer { name: "j" type: "Convolution" bottom: "y" top: "j" convolution_param { num_output: 72 kernel_size: 1 } }
layer { name: "j2" type: "ReLU" bottom: "j" top: "j" }
layer { name: "k" type: "Convolution" bottom: "y" top: "k" convolution_param { num_output: 33 kernel_size: 3 } }
layer { name: "l" type: "Softmax" bottom: "k" top: "l" }
layer { name: "d" type: "Eltwise" bottom: "b" bottom: "c" top: "d" }
layer { name: "d2" type: "ReLU" bottom: "d" top: "d" }
layer { name: "e" type: "Pooling" bottom: "d" top: "e" pooling_param { kernel_size: 3 stride: 2 } }
layer { name: "f" type: "Pooling" bottom: "d" top: "f" pooling_param { kernel_size: 3 stride: 2 pool: AVE } }
layer { name: "g" type: "Concat" bottom: "e" bottom: "f" top: "g" }
layer { name: "h" type: "LRN" bottom: "g" top: "h" lrn_param { local_size: 5 alpha: 0.1 } }
layer { name: "i" type: "InnerProduct" bottom: "h" top: "i" inner_product_param { num_output: 9 } }
"""


@cache
def why_not_any() -> str | None:
    """The reason why nets are not run by native code here; None where they are."""
    reason = why_not()
    if reason is not None:
        return reason
    net = CaffeNet(parse_prototxt(_NET)).requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for blob in net.state_dict().values():
        blob.copy_(torch.randn(blob.shape, generator=generator) / 10)
    x, y = torch.randn(2, 40, 11, 13, generator=generator), torch.randn(2, 64, 9, 7, generator=generator)
    expected = net(x, y)
    for prefer in ("product", "strassen_1", "strassen_2", "winograd_3_small"):
        found = FastNet(net, prefer=prefer)(x, y)
        assert isinstance(expected, dict) and isinstance(found, dict)
        for name, value in expected.items():
            if not float((found[name] - value).abs().max()) <= 1e-4 * float(value.abs().max()):
                return f"'{name}' of a net for trial, as compiled here, differs from PyTorch's"
    return None
