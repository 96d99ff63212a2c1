"""Ways out of nets that are odd somewhere: tiny epsilons, inputs that are no images, names of Python's own."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest
import torch

from converters.caffe_net import CaffeNet
from converters.prototxt import parse_prototxt
from fcn_port.exporting import export_net
from parity_tests.tolerances import tolerance

IMAGE = 'input: "data" input_shape { dim: 1 dim: 3 dim: 40 dim: 44 }\n'


def caffe_net(text: str) -> CaffeNet:
    """The net of the text, its kernels drawn with a seed; all else is as before training."""
    net = CaffeNet(parse_prototxt(text))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, blob in net.named_parameters():
            if name.endswith("weight") and blob.ndim > 1:
                blob.copy_(torch.randn(blob.shape, generator=generator))
    return net


# Epsilons that keep a layer from dividing by zero

SSD_HEAD = """
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "norm" type: "Normalize" bottom: "conv" top: "norm"
        norm_param { across_spatial: false channel_shared: false } }
layer { name: "loc" type: "Convolution" bottom: "norm" top: "loc" convolution_param { num_output: 8 kernel_size: 3 } }
layer { name: "perm" type: "Permute" bottom: "loc" top: "perm"
        permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "flat" type: "Flatten" bottom: "perm" top: "mbox_loc" }
"""

TINY = {
    "mvn": 'layer { name: "n" type: "MVN" bottom: "data" top: "n" }',
    "log": 'layer { name: "n" type: "Log" bottom: "data" top: "n" log_param { shift: 1e-10 } }',
    "normalize": 'layer { name: "n" type: "Normalize" bottom: "data" top: "n" norm_param { across_spatial: false } }',
    "power": """layer { name: "p" type: "Power" bottom: "data" top: "p" power_param { power: 2 } }
        layer { name: "n" type: "Power" bottom: "p" top: "n" power_param { power: -0.5 shift: 1e-10 } }""",
    "ssd": SSD_HEAD,
}


@pytest.mark.parametrize("name", TINY)
def test_onnx_keeps_the_epsilon_of_a_layer(name: str, tmp_path: Path) -> None:
    net = caffe_net(IMAGE + TINY[name])
    assert export_net(net, to="onnx", out=tmp_path / "net.onnx").any_size
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    zeros = torch.zeros(1, 3, 37, 50)
    with torch.no_grad():
        expected = net(zeros)
    found = torch.from_numpy(session.run(None, {"data": zeros.numpy()})[0])
    assert expected.isfinite().all()
    torch.testing.assert_close(found, expected, rtol=tolerance("onnx"), atol=0)
