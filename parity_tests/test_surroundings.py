"""Nets where PyTorch is set otherwise than at first: autocast, another type or device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fcn_port
from converters import CaffeNet, parse_prototxt
from converters.export import ExportError
from fcn_port.exporting import export_net, with_random_weights
from parity_tests.tolerances import tolerance
from parity_tests.verbs import SAMPLE

GOLDEN = Path(__file__).parent / "golden" / "layers"
DETECTOR = """
    name: "detector" input: "data" input_shape { dim: 1 dim: 3 dim: 40 dim: 40 }
    layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
            convolution_param { num_output: 8 kernel_size: 3 stride: 8 } }
    layer { name: "loc" type: "Convolution" bottom: "conv" top: "loc"
            convolution_param { num_output: 4 kernel_size: 1 } }
    layer { name: "conf" type: "Convolution" bottom: "conv" top: "conf"
            convolution_param { num_output: 3 kernel_size: 1 } }
    layer { name: "by_place" type: "Permute" bottom: "loc" top: "by_place"
            permute_param { order: 0 order: 2 order: 3 order: 1 } }
    layer { name: "offsets" type: "Flatten" bottom: "by_place" top: "offsets" }
    layer { name: "classes" type: "Permute" bottom: "conf" top: "classes"
            permute_param { order: 0 order: 2 order: 3 order: 1 } }
    layer { name: "prob" type: "Softmax" bottom: "classes" top: "prob" softmax_param { axis: 3 } }
    layer { name: "scores" type: "Flatten" bottom: "prob" top: "scores" }
    layer { name: "prior" type: "PriorBox" bottom: "conv" bottom: "data" top: "prior"
            prior_box_param { min_size: 10 variance: 0.1 } }
    layer { name: "found" type: "DetectionOutput" bottom: "offsets" bottom: "scores" bottom: "prior" top: "found"
            detection_output_param { num_classes: 3 keep_top_k: 9 confidence_threshold: 0.01
                                     nms_param { nms_threshold: 0.45 top_k: 50 } } }
"""


def net_of(text: str) -> nn.Module:
    return with_random_weights(CaffeNet(parse_prototxt(text)))


def values(found: Any) -> list[Tensor]:
    return list(found.values()) if isinstance(found, dict) else [found]


@pytest.mark.parametrize("settings", [{}, {"low_memory": True}, {"convolutions": "torch"}, {"convolutions": "direct"}])
def test_what_is_kept_of_a_pass_under_autocast(settings: dict[str, Any]) -> None:
    """The background of the padding was computed in bfloat16 then, and was so in every later pass."""
    net, x = fcn_port.load(SAMPLE), torch.randn(1, 3, 60, 70, generator=torch.Generator().manual_seed(0)) * 50
    fast = fcn_port.fast(net, **settings)
    with torch.autocast("cpu", torch.bfloat16):
        fast(x)
    with torch.no_grad():
        expected, found = net(x), fast(x)
    assert (found - expected).abs().max() <= tolerance("lossless") * expected.abs().max()


@pytest.mark.parametrize(
    "name", ["Convolution", "Deconvolution", "InnerProduct", "Masked", "Recurrent", "Volume", "Warping"]
)
def test_layers_by_pytorch_in_a_plan_under_autocast(name: str) -> None:
    """They gave bfloat16, which no array is of: a TypeError from within; the others have float32, and so have they."""
    net, generator = net_of((GOLDEN / f"{name}.prototxt").read_text()), torch.Generator().manual_seed(0)
    inputs = {each: torch.randn(shape, generator=generator) for each, shape in net.inputs.items()}
    fast = fcn_port.fast(net)
    with torch.no_grad():
        expected = values(fast(**inputs))
        with torch.autocast("cpu", torch.bfloat16):
            found = values(fast(**inputs))
    assert all(torch.equal(one, other) for one, other in zip(expected, found, strict=True))


@pytest.mark.parametrize("how", ["autocast", "bfloat16", "half"])
def test_objects_of_a_net_of_another_type(how: str) -> None:
    """Boxes of bfloat16 were a TypeError of NumPy's, which has no such numbers."""
    net, x = net_of(DETECTOR), torch.randn(1, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast"):
        expected = net.blobs(x)["conf"] if how == "autocast" else None
        if how != "autocast":
            net, x = getattr(net, how)(), getattr(x, how)()
        found = net(x)
    assert found.shape[-1] == 7 and found.shape[2] > 1
    assert expected is None or expected.dtype == torch.bfloat16


@pytest.mark.parametrize(
    "name", ["Cascade", "DetectionOutput", "ForksFixed", "Meanfield", "Nms", "Proposal", "Python", "Yolo"]
)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_layers_that_choose_take_every_type(name: str, dtype: torch.dtype) -> None:
    net, generator = net_of((GOLDEN / f"{name}.prototxt").read_text()).to(dtype), torch.Generator().manual_seed(0)
    with torch.no_grad():
        found = net(**{each: torch.randn(shape, generator=generator).to(dtype) for each, shape in net.inputs.items()})
    assert all(each.dtype == dtype for each in values(found))


@pytest.mark.parametrize("to", ["caffe", "python", "onnx", "torch-export", "safetensors", "hdf5"])
@pytest.mark.parametrize("how", ["double", "half", "bfloat16"])
def test_a_net_of_another_type_is_not_exported(to: str, how: str, tmp_path: Path) -> None:
    net = getattr(fcn_port.load(SAMPLE), how)()
    with pytest.raises(
        ExportError, match=r"the net is not in float32: conv1_1.weight is torch.*; call float\(\) first"
    ):
        export_net(net, to=to, out=tmp_path / "net")
    assert not list(tmp_path.iterdir())


def test_a_net_that_is_elsewhere_is_not_exported(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"the net is not on the CPU: conv1_1.weight is on meta; call cpu\(\) first"):
        export_net(fcn_port.load(SAMPLE).to("meta"), to="onnx", out=tmp_path / "net")


@pytest.mark.parametrize("settings", [{}, {"low_memory": True}, {"convolutions": "torch"}, {"convolutions": "direct"}])
def test_another_default_device(settings: dict[str, Any]) -> None:
    """What `fast` makes for itself was on the device that PyTorch has as its default, and not on the net's."""
    net, x = fcn_port.load(SAMPLE), torch.randn(1, 3, 60, 70, generator=torch.Generator().manual_seed(0)) * 50
    torch.set_default_device("meta")
    try:
        found = fcn_port.fast(net, **settings)(x)
    finally:
        torch.set_default_device(None)
    with torch.no_grad():
        expected = net(x)
    assert (found - expected).abs().max() <= tolerance("lossless") * expected.abs().max()
