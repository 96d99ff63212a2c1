"""What a net says of inputs of another kind than it takes: which one, what it wants and found, and what makes it so."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

import fcn_port
from converters import CaffeNet, parse_prototxt
from converters.errors import NetError
from fcn_port.fastpath import engines
from fcn_port.nets.fcn import FCN
from fcn_port.nets.nyud import FCN32sColorDepth, FCN32sColorHHA
from parity_tests.narrow import narrow

TEXT = """input: "data" input_shape { dim: [1, 3, 40, 50] }
    layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
            convolution_param { num_output: 4 kernel_size: 3 } }
    layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }"""
X = torch.randn(1, 3, 40, 50, generator=torch.Generator().manual_seed(0))
FLOAT = r"expected float32 on cpu, as the net's weights are, found {} on cpu; x.to\(torch.float32\) makes it so"
SHAPE = r"expected \(n, 3, h, w\), found \({}\)"


def caffe_net() -> CaffeNet:
    return CaffeNet(parse_prototxt(TEXT))


def sample() -> torch.nn.Module:
    return fcn_port.load("sample")


NETS: dict[str, Callable[[], torch.nn.Module]] = {
    "CaffeNet": caffe_net,
    "FCN": sample,
    "fast CaffeNet": lambda: fcn_port.fast(caffe_net()),
    "fast FCN": lambda: fcn_port.fast(sample()),
    "fast FCN by PyTorch": lambda: fcn_port.fast(sample(), convolutions="torch"),
    "bf16 FCN": lambda: fcn_port.fast(sample(), precision="bf16"),
}
GIVEN: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "half": (Tensor.half, FLOAT.format("float16")),
    "double": (Tensor.double, FLOAT.format("float64")),
    "uint8": (Tensor.byte, FLOAT.format("uint8")),
    "bool": (Tensor.bool, FLOAT.format("bool")),
    "complex": (lambda x: x + 1j, FLOAT.format("complex64")),
    "array": (Tensor.numpy, r"expected a tensor, found ndarray; torch.as_tensor\(x\) makes one of an array"),
    "list": (Tensor.tolist, "expected a tensor, found list"),
    "path": (lambda x: "street.jpg", "expected a tensor, found str"),
    "five axes": (lambda x: x[None], SHAPE.format("1, 1, 3, 40, 50")),
    "no axis": (lambda x: x.sum(), SHAPE.format("")),
    "two channels": (lambda x: x[:, :2], SHAPE.format("1, 2, 40, 50")),
    "channels last": (lambda x: x.permute(0, 2, 3, 1), SHAPE.format("1, 40, 50, 3")),
    "no rows": (lambda x: x[:, :, :0], SHAPE.format("1, 3, 0, 50")),
    "sparse": (Tensor.to_sparse, r"expected a dense tensor, found a torch.sparse_coo one; x.to_dense\(\) makes one"),
    "quantized": (lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8), r"found a quantized one; x.dequantize"),
    "nested": (lambda x: torch.nested.nested_tensor([x[0]]), "expected a dense tensor, found a nested one"),
}


@pytest.mark.filterwarnings("ignore")  # PyTorch's own about nested and quantized tensors
@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize("name", NETS)
def test_an_input_of_another_kind(name: str, given: str) -> None:
    """It was "Input type (double) and bias type (float) should be the same", or a list of what `conv2d` takes."""
    make, said = GIVEN[given]
    with pytest.raises((NetError, TypeError), match=f"^input 'data': .*{said}"):
        _made(name)(make(X))


def test_no_images() -> None:
    """An FCN gives no labels of them; a CaffeNet blamed its file, and told of an option of the command line."""
    assert sample()(X[:0]).shape == (0, 7, 40, 50)
    with pytest.raises(
        RuntimeError, match=r"^input 'data': expected \(n, 3, h, w\), found \(0, 3, 40, 50\), which is e"
    ):
        caffe_net()(X[:0])


@pytest.mark.parametrize("name", [*NETS, "onnxruntime", "openvino"])
def test_other_inputs_than_the_nets(name: str) -> None:
    """Python spoke of `forward()`, or of arguments that a `conv2d` was without."""
    net = _made(name)
    for args, named, found in (((), {}, "none"), ((X, X), {}, "without a name, without a n"), ((), {"x": X}, "x$")):
        with pytest.raises(NetError, match=f"^expected the inputs data; found {found}"):
            net(*args, **named)


@pytest.mark.parametrize("given", ["array", "five axes", "no axis", "two channels", "channels last", "sparse"])
@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_engines(name: str, given: str) -> None:
    """They told it in their own words, or of attributes that an array has not."""
    make, said = GIVEN[given]
    with pytest.raises((NetError, TypeError), match=f"^input 'data': .*{said}"):
        _made(name)(make(X))


@pytest.mark.parametrize("net", [caffe_net, sample])
def test_weights_of_another_type(net: Callable[[], torch.nn.Module]) -> None:
    with pytest.raises(NetError, match=r"expected float16 on cpu, .*, found float32 on cpu; x.to\(torch.float16\)"):
        net().half()(X)


@pytest.mark.parametrize("net", [caffe_net, sample])
def test_blobs(net: Callable[[], Any]) -> None:
    with pytest.raises(NetError, match="^input 'data': " + FLOAT.format("float64")):
        fcn_port.blobs(net(), X.double())


OF_TWO = ("plain", "fast", "onnxruntime", "openvino")


@pytest.mark.parametrize("name", OF_TWO)
@pytest.mark.parametrize("kind", [FCN32sColorDepth, FCN32sColorHHA])
@pytest.mark.parametrize("shape", [(1, 140, 50), (2, 40, 50)], ids=["another size", "other images"])
def test_two_inputs_that_do_not_go_together(name: str, kind: type[FCN], shape: tuple[int, int, int]) -> None:
    """PyTorch spoke of tensor a and tensor b; an engine gave numbers where the net has none."""
    net, made = _two(kind, name)
    _, channels = net.channels.values()
    three, one = X.expand(3, -1, -1, -1), X[:1, :channels]
    made(X, one)  # of one size, which an engine checks but once
    other = torch.ones(shape[0], channels, *shape[1:])
    found = rf"\(3, 3, 40, 50\), '.*' \({shape[0]}, {channels}, {shape[1]}, {shape[2]}\)"
    with pytest.raises(
        NetError, match=f"^expected inputs of one size and as many images of each; found 'color' {found}"
    ):
        made(three, other)


@pytest.mark.parametrize("name", OF_TWO)
def test_two_inputs_that_go_together_though_they_differ(name: str) -> None:
    """Their scores are of one size, as they are of the net: an engine laid a larger one over the other's background."""
    net, made = _two(FCN32sColorHHA, name)
    larger = torch.randn(1, 3, 48, 50, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found, expected = made(X, larger), net(X, larger)
    assert torch.allclose(found, expected, atol=float(1e-5 * expected.abs().max()))


@pytest.mark.parametrize("name", NETS)
def test_weights_without_numbers(name: str) -> None:
    """PyTorch's convolutions give whatever lay in memory, for weights on its meta device."""
    net = NETS[name]().to("meta")
    with pytest.raises(NetError, match=r"weights are on the meta device, .*; load_state_dict\(state, assign=True\)"):
        net(X)
    with pytest.raises(NetError, match="weights are on the meta device"):
        fcn_port.blobs(net, X)
    assert net(X.to("meta")).is_meta


def test_what_pytorch_runs_is_nobodys_mistake() -> None:
    """A net without weights takes numbers of any type, and an FCN one image without an axis for several."""
    spec = parse_prototxt(TEXT[: TEXT.index("layer")] + 'layer { name: "r" type: "ReLU" bottom: "data" top: "r" }')
    for x in (X.double(), X.half(), X.byte()):
        assert torch.equal(CaffeNet(spec)(x), x.relu())
    assert torch.allclose(sample()(X[0]), sample()(X)[0], atol=1e-4)


def test_other_errors_stay_as_they_are() -> None:
    """Those of a hook over inputs that fit."""

    def hook(*_: object) -> None:
        raise RuntimeError("mine")

    for net in (caffe_net(), sample()):
        net.register_forward_hook(hook)
        with pytest.raises(RuntimeError, match=r"^mine$"):
            net(X)


@cache
def _two(kind: type[FCN], name: str) -> tuple[FCN, Any]:
    net = narrow(kind)
    if name in ("plain", "fast"):
        return net, net if name == "plain" else fcn_port.fast(net)
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"no {name}")
    return net, engines.make(name, net)


@cache
def _made(name: str) -> Any:
    if name in NETS:
        return NETS[name]()
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"no {name}")
    return engines.make(name, fcn_port.load("sample"))
