"""A hand-written net that somebody changed: its shapes, its definition and `fast` are those of what it is now."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization
from torch.nn.utils.prune import l1_unstructured

import fcn_port
from converters.errors import NetError
from converters.execution.caffe_net import CaffeNet
from fcn_port.inspection import input_shapes
from fcn_port.nets import FCN, FCN8sAtOnce, FCNAlexNet, definition
from fcn_port.nets.record import NotCaffes, to_spec
from parity_tests.narrow import NARROW, image, same
from parity_tests.nets import CentredCrop

Change = Callable[[FCN], object]


def setting(layer: str, **values: object) -> Change:
    def change(net: FCN) -> None:
        for name, value in values.items():
            assert getattr(net.get_submodule(layer), name) != value
            setattr(net.get_submodule(layer), name, value)

    return change


def layer(name: str, make: Callable[[], nn.Module]) -> Change:
    return lambda net: setattr(net, name, make())


def parameter(name: str, shape: tuple[int, ...]) -> Change:
    """Another parameter in a layer, whose settings (`kernel_size`, `out_channels`) stay as they were."""
    at, _, own = name.rpartition(".")
    return lambda net: setattr(net.get_submodule(at), own, nn.Parameter(0.1 * torch.randn(shape)))


def together(*changes: Change) -> Change:
    return lambda net: [change(net) for change in changes]


DESCRIBED: dict[str, tuple[type[FCN], Change]] = {
    "padding": (FCN8sAtOnce, setting("conv3_1", padding=(2, 1))),
    "stride": (FCN8sAtOnce, together(setting("pool2", stride=(2, 1)), setting("conv3_1", stride=(1, 2)))),
    "dilation": (FCN8sAtOnce, setting("conv4_2", dilation=(2, 2), padding=(2, 2))),
    "dilation of rows": (FCN8sAtOnce, setting("conv4_2", dilation=(2, 1), padding=(2, 1))),
    "groups": (FCN8sAtOnce, layer("conv2_1", lambda: nn.Conv2d(4, 4, 3, padding=1, groups=2))),
    "no bias": (FCN8sAtOnce, layer("conv2_1", lambda: nn.Conv2d(4, 4, 3, padding=1, bias=False))),
    "a wide kernel": (FCN8sAtOnce, layer("conv2_2", lambda: nn.Conv2d(4, 4, (5, 3), padding=(2, 1)))),
    "a weight of another shape": (
        FCN8sAtOnce,
        together(
            parameter("conv2_2.weight", (5, 4, 3, 5)),
            parameter("conv2_2.bias", (5,)),
            setting("conv2_2", padding=(1, 2)),
            parameter("conv3_1.weight", (6, 5, 3, 3)),
        ),
    ),
    "a deconvolution's weight of another shape": (FCN8sAtOnce, parameter("upscore8.weight", (3, 3, 15, 17))),
    "deconvolution with groups": (
        FCN8sAtOnce,
        layer("upscore8", lambda: nn.ConvTranspose2d(3, 3, 16, stride=8, groups=3, bias=False)),
    ),
    "deconvolution with bias": (FCN8sAtOnce, layer("upscore8", lambda: nn.ConvTranspose2d(3, 3, 16, stride=8))),
    "deconvolution with dilation": (
        FCN8sAtOnce,
        layer("upscore8", lambda: nn.ConvTranspose2d(3, 3, 8, stride=8, dilation=2, bias=False)),
    ),
    "deconvolution with padding": (FCN8sAtOnce, setting("upscore8", padding=(2, 2))),
    "pooling's kernel": (FCN8sAtOnce, setting("pool2", kernel_size=3)),
    "pooling's kernel of rows": (FCN8sAtOnce, setting("pool2", kernel_size=(3, 2))),
    "pooling's padding": (FCN8sAtOnce, setting("pool2", kernel_size=3, padding=1)),
    "pooling rounds down": (FCN8sAtOnce, setting("pool1", ceil_mode=False)),
    "crop": (FCN8sAtOnce, setting("score", offset=29)),
    "sum": (FCN8sAtOnce, setting("fuse_pool4", coefficients=(0.5, 2.0))),
    "scale": (FCN8sAtOnce, setting("scale_pool4", value=0.25)),
    "LRN's size": (FCNAlexNet, setting("norm1", size=3)),
    "LRN's numbers": (FCNAlexNet, setting("norm2", alpha=1e-2, beta=0.5, k=2.0)),
}


class HalvedConvolution(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) / 2


class ShiftedReLU(nn.ReLU):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input - 0.1)


class DoubledDropout(nn.Dropout):
    def forward(self, input: Tensor) -> Tensor:
        return input * 2


def with_own_forward(net: FCN) -> None:
    module = net.get_submodule("conv2_1")
    plain = module.forward
    module.forward = lambda x: plain(x) * 3


class ShiftedConvolution(nn.Conv2d):
    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return super()._conv_forward(input, weight, bias) + 1


class Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


def halve(module: nn.Module, args: object, output: Tensor) -> Tensor:
    return output / 2


def shift(module: nn.Module, args: tuple[Tensor]) -> None:
    args[0].add_(1)


REFUSED: dict[str, tuple[str, Change]] = {
    "padding_mode": ("conv2_1", layer("conv2_1", lambda: nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"))),
    "padding": ("conv2_1", layer("conv2_1", lambda: nn.Conv2d(4, 4, 3, padding="same"))),
    "output_padding": (
        "upscore8",
        layer("upscore8", lambda: nn.ConvTranspose2d(3, 3, 16, stride=8, output_padding=1, bias=False)),
    ),
    "dilation": ("pool2", setting("pool2", dilation=2)),
    "AvgPool2d": ("pool2", layer("pool2", lambda: nn.AvgPool2d(2, stride=2, ceil_mode=True))),
    "CentredCrop": ("score", layer("score", lambda: CentredCrop(31))),
    "HalvedConvolution": ("conv2_1", layer("conv2_1", lambda: HalvedConvolution(4, 4, 3, padding=1))),
    "ShiftedReLU": ("relu2_1", layer("relu2_1", ShiftedReLU)),
    "DoubledDropout": ("drop6", layer("drop6", DoubledDropout)),
    "ShiftedConvolution": ("conv2_1", layer("conv2_1", lambda: ShiftedConvolution(4, 4, 3, padding=1))),
    "Conv": ("conv2_1", with_own_forward),
    "hook, halve": ("pool2", lambda net: net.get_submodule("pool2").register_forward_hook(halve)),
    "hook, shift": ("conv2_1", lambda net: net.get_submodule("conv2_1").register_forward_pre_hook(shift)),
    "hook, L1Unstructured": ("fc6", lambda net: l1_unstructured(net.get_submodule("fc6"), "weight", 0.5)),
    "weight is parametrized": (
        "conv2_1",
        lambda net: register_parametrization(net.get_submodule("conv2_1"), "weight", Doubled()),
    ),
    "LeakyReLU": ("relu2_1", layer("relu2_1", lambda: nn.LeakyReLU(inplace=True))),
}


def changed(make: type[FCN], change: Change) -> FCN:
    torch.manual_seed(1)
    net = make(3, widths=NARROW)
    change(net)
    return net.eval().requires_grad_(False)


@pytest.mark.parametrize("name", DESCRIBED)
def test_the_definition_is_what_the_net_computes(name: str) -> None:
    net = changed(*DESCRIBED[name])
    x = image(net, (66, 81))
    blobs = fcn_port.blobs(net, **x)
    spec = to_spec(net, input_shapes(net, (64, 64)), name="net")
    executed = CaffeNet(spec)
    executed.load_state_dict(net.state_dict())
    found = fcn_port.blobs(executed, **x)
    assert list(found) == list(blobs)
    for blob, value in blobs.items():
        torch.testing.assert_close(found[blob], value, rtol=1e-5, atol=1e-5 * float(value.abs().max()))
    if name == "scale":
        assert spec.layer("scale_pool4").to_message().scale_param.filler.value == 0.25


@pytest.mark.parametrize("name", REFUSED)
def test_what_caffe_does_not_have_is_named(name: str) -> None:
    at, change = REFUSED[name]
    with pytest.raises(NotCaffes, match=f"layer '{at}': .*{name}"):
        to_spec(changed(FCN8sAtOnce, change), {"data": (1, 3, 64, 64)}, name="net")


@pytest.mark.parametrize("name", [*DESCRIBED, *REFUSED])
def test_shapes_and_fast_are_the_nets(name: str) -> None:
    make, change = DESCRIBED[name] if name in DESCRIBED else (FCN8sAtOnce, REFUSED[name][1])
    net = changed(make, change)
    fast = fcn_port.fast(net)
    assert (fast is net) is (name not in DESCRIBED)  # it is planned by its definition
    for size in ((66, 81), (40, 40)):
        x = image(net, size)
        shapes = {blob: tuple(value.shape) for blob, value in fcn_port.blobs(net, **x).items()}
        assert fcn_port.trace(net, size) == shapes
        assert name not in DESCRIBED or dict(fast.graph.shapes_at(size)) == shapes
        assert same(fast(**x), net(**x))


@pytest.mark.parametrize("name", [*DESCRIBED, *REFUSED])
def test_a_fast_net_that_was_made_before(name: str) -> None:
    """It went on with the layers that it had read, and took the weights of others for theirs."""
    make, change = DESCRIBED[name] if name in DESCRIBED else (FCN8sAtOnce, REFUSED[name][1])
    net = changed(make, lambda _: None)
    fast, x = fcn_port.fast(net), image(net, (66, 81))
    assert same(fast(**x), net(**x))
    modules = list(net.modules())
    change(net)
    net.eval().requires_grad_(False)
    if list(net.modules()) == modules:  # settings are read when weights are packed
        net.load_state_dict(net.state_dict())
    for size in ((66, 81), (40, 40)):
        x = image(net, size)
        assert same(fast(**x), net(**x))
    assert name not in DESCRIBED or dict(fast.graph.shapes_at(size)) == fcn_port.trace(net, size)


def test_dropout_alone_in_training_mode() -> None:
    """As for an estimate of how sure a net is: `fast` left it out."""
    net = changed(FCN8sAtOnce, lambda _: None)
    fast, x = fcn_port.fast(net), image(net, (66, 81))
    before = fast(**x)
    net.drop6.train()
    torch.manual_seed(0)
    found = fast(**x)
    torch.manual_seed(0)
    assert torch.equal(found, net(**x)) and not same(found, before)
    net.drop6.eval()
    assert torch.equal(fast(**x), before)


def test_a_net_whose_calls_are_compiled() -> None:
    """`Module.compile`: a replica would have called the net itself, of which it sees nothing."""
    net, x = changed(FCN8sAtOnce, lambda _: None), image(changed(FCN8sAtOnce, lambda _: None), (66, 81))
    before = definition(net)
    net.compile(backend="eager")
    net.conv1_1.compile(backend="eager")
    assert definition(net) == before
    assert fcn_port.fast(net) is not net and same(fcn_port.fast(net)(**x), net(**x))


def test_what_a_forward_adds_behind_the_layers_is_not_left_out() -> None:
    class Probabilities(FCN8sAtOnce):
        def forward(self, data: Tensor) -> Tensor:
            return super().forward(data).softmax(1)

    net = Probabilities(3, widths=NARROW).eval()
    with pytest.raises(NotCaffes, match="Probabilities returns a tensor that no layer of the net made"):
        definition(net)
    assert fcn_port.fast(net) is net


@pytest.mark.parametrize(
    ("at", "shape"), [("conv1_1", (4, 4, 3, 3)), ("conv1_1", (4, 1, 3, 3)), ("conv2_1", (4, 3, 3, 3))]
)
def test_a_layer_that_does_not_take_what_it_reads_is_named(at: str, shape: tuple[int, ...]) -> None:
    """PyTorch's own message, of tensors without values, was "Invalid channel dimensions"."""
    net = changed(FCN8sAtOnce, parameter(f"{at}.weight", shape))
    for ask in (definition, lambda net: fcn_port.trace(net, (40, 40))):
        with pytest.raises(NetError, match=rf"layer '{at}' \(Convolution\): does not take what it reads"):
            ask(net)


def test_a_net_of_four_channels_is_whole_once_it_says_so() -> None:
    net = changed(FCN8sAtOnce, layer("conv1_1", lambda: nn.Conv2d(4, 4, 3, padding=100)))
    x = torch.randn(1, 4, 66, 81, generator=torch.Generator().manual_seed(4))
    assert torch.equal(fcn_port.fast(net)(x), net(x))  # as it is
    net.channels = {"data": 4}  # type: ignore[misc]
    fast = fcn_port.fast(net)
    assert definition(net).inputs == {"data": (1, 4, 500, 500)} and fast is not net
    assert same(fast(x), net(x)) and fcn_port.trace(net, (66, 81))["score"] == (1, 3, 66, 81)
