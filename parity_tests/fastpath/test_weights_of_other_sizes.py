"""Weights that were packed for one size or number of channels are not those of another one."""

from __future__ import annotations

import pytest
import torch

from converters import CaffeNet
from converters.formats import parse_prototxt
from fcn_port.fastpath.native import why_not
from fcn_port.fastpath.program import FastNet
from parity_tests.fastpath.random_nets import filled
from parity_tests.fastpath.test_any_net import error, in_double, named
from parity_tests.tolerances import tolerance

pytestmark = pytest.mark.skipif(why_not() is not None, reason="no C compiler")

TURNED = 'layer { name: "p" type: "Permute" bottom: "x" top: "p" permute_param { order: [0, 3, 1, 2] } }'
POOLED = 'layer { name: "q" type: "Pooling" bottom: "p" top: "q" pooling_param { kernel_size: 2 stride: 2 } }'
NETS = {
    "a product of as many numbers": """layer { name: "y" type: "InnerProduct" bottom: "x" top: "y"
        inner_product_param { num_output: 5 } }""",
    "one factor for all": f"""{TURNED} {POOLED} layer {{ name: "y" type: "Normalize" bottom: "q" top: "y"
        norm_param {{ across_spatial: false channel_shared: true }} }}""",
    "one slope for all": f"""{TURNED} {POOLED} layer {{ name: "y" type: "PReLU" bottom: "q" top: "y"
        prelu_param {{ channel_shared: true }} }}""",
    "one coefficient": f"""{TURNED} {POOLED} layer {{ name: "y" type: "Eltwise" bottom: "q" bottom: "q" top: "y"
        eltwise_param {{ coeff: [0.5, 0.25] }} }}""",
}


@pytest.mark.parametrize("name", NETS)
def test_one_net_at_sizes_in_turn(name: str) -> None:
    text = 'input: "x" input_shape { dim: [1, 2, 12, 8] } ' + NETS[name]
    net = filled(CaffeNet(parse_prototxt(text)))
    quick = FastNet(net)
    for size in ((12, 8), (8, 12), (2, 48), (1, 96), (12, 8)):
        x = torch.randn(1, 2, *size, generator=torch.Generator().manual_seed(size[0]))
        assert error(named(net, quick(x)), in_double(net, {"x": x})) <= tolerance("fast-net"), size
