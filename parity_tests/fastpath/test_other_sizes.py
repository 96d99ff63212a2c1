"""Sizes that a net was not written for: what follows from the size beside the blobs' own, and what does not fit."""

from __future__ import annotations

import pytest
import torch

import fcn_port
from converters.errors import NetError
from fcn_port.fastpath.lossless import Lossless
from fcn_port.fastpath.program import FastNet
from parity_tests.fastpath.flows import net_of
from parity_tests.fastpath.test_any_net import error, named, run_blankly

PADDED = "convolution_param { num_output: 4 kernel_size: 3 pad: 60 }"


@pytest.mark.parametrize(
    "layer",
    [
        "PReLU p: f -> p | prelu_param { channel_shared: true }",
        "Power p: f -> p | power_param { scale: 0.5 shift: 1 }",
        "Scale p: f -> p | scale_param { num_axes: 0 bias_term: true }",
        "Normalize p: f -> p",
    ],
)
def test_channels_that_follow_from_the_size(layer: str) -> None:
    """Behind a Flatten a larger image has more of them: their factors were read behind the end of the first size's."""
    net = net_of("Flatten f: data -> f", layer)
    quick = FastNet(net)
    for size in ((8, 8), (3, 5), (41, 37)):
        x = torch.randn(1, 4, *size)
        exact = {name: value.double() for name, value in named(net, net(x)).items()}
        assert error(run_blankly(quick, {"data": x}), exact) <= 1e-6, size


@pytest.mark.parametrize(
    "layers",
    [
        ("Pooling p: data -> p | pooling_param { kernel_size: 8 }", "Scale s: p -> s | scale_param { axis: -1 }"),
        ("Pooling p: data -> p | pooling_param { kernel_size: 8 }", "Flatten f: p -> f", "Scale s: f -> s",
         "InnerProduct i: p -> i | inner_product_param { num_output: 3 }"),
        (f"Convolution c: data -> c | {PADDED}", "Convolution d: c -> d", "Scale s: d -> s | scale_param { axis: -1 }"),
    ],
    ids=["a single factor", "as many as places", "behind wide padding"],
)  # fmt: skip
def test_weights_that_do_not_fit_are_said_to(layers: tuple[str, ...]) -> None:
    """A single factor went for many, and PyTorch said that tensors do not match."""
    net = net_of(*layers)
    quick, x = fcn_port.fast(net), torch.randn(1, 4, 16, 19)
    assert isinstance(quick, Lossless if PADDED in layers[0] else FastNet)
    said = []
    for each in (net, quick):
        with pytest.raises(NetError, match="would need blobs") as found:
            each(x)
        said.append(str(found.value))
    assert said[0] == said[1]
    own = torch.randn(1, 4, 8, 8)
    assert torch.allclose(_first(net, own), _first(quick, own), atol=1e-5)


def _first(net: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    found = net(x)
    return found if isinstance(found, torch.Tensor) else next(iter(found.values()))


def test_channels_that_were_images_for_a_while() -> None:
    """Half of two images is one of them, and not half of each: they were computed one by one."""
    net = net_of(
        "Reshape r: data -> r | reshape_param { shape { dim: [-1, 1, 8, 8] } }",
        "Slice s: r -> a b | slice_param { axis: 0 }",
        "Eltwise e: a b -> e | eltwise_param { operation: MAX }",
        "Reshape q: e -> q | reshape_param { shape { dim: [-1, 2, 8, 8] } }",
    )
    quick = FastNet(net)
    for images in (1, 2, 3):
        x = torch.randn(images, 4, 8, 8)
        assert torch.equal(quick(x), net(x)), images
