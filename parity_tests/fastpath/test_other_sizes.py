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


TURNED = (
    "Permute p: data -> p | permute_param { order: [0, 2, 3, 1] }",
    "Pooling l: p -> l | pooling_param { kernel_size: 3 stride: 1 pad: 1 }",
    "Permute q: l -> q | permute_param { order: [0, 2, 1, 3] }",
    "Permute s: q -> s | permute_param { order: [0, 3, 2, 1] }",
    "Convolution c: data -> c | convolution_param { num_output: 4 kernel_size: 1 }",
    "Eltwise e: c s -> e",
)


def test_an_addend_that_is_an_image_at_the_own_size_alone() -> None:
    """With one row its channels lie side by side; with more they do not, and the usual kernel read others' numbers."""
    net = net_of(*TURNED, shape=(1, 4, 1, 64))
    quick = FastNet(net)
    for size in ((1, 64), (2, 20), (4, 10), (1, 50), (5, 5)):
        x = torch.randn(1, 4, *size)
        exact = {name: value.double() for name, value in named(net, net(x)).items()}
        assert error(run_blankly(quick, {"data": x}), exact) <= 1e-6, size


@pytest.mark.parametrize(
    "layers",
    [
        ("Flatten f: data -> f", "Power p: f -> p | power_param { scale: 0.5 shift: 1 }"),
        ("Flatten f: data -> f", "Normalize p: f -> p"),
        ("Flatten f: data -> f", "Eltwise e: f f -> e | eltwise_param { coeff: 2 coeff: 3 }"),
    ],
)
def test_what_follows_from_the_size_is_not_kept_for_each(layers: tuple[str, ...]) -> None:
    """But by the plans, of which there are 64: 600 sizes of a net without weights had taken 1.5 GB."""
    quick = FastNet(net_of(*layers))
    held = []
    for side in (8, 20, 30, 40):
        quick(torch.randn(1, 4, side, side))
        weights = quick.state().runner.weights
        held.append(len(weights._packed) + len(weights._sized))
    assert held[0] == held[-1] <= 3


def test_what_lies_behind_regions_shares_its_memory() -> None:
    """Each size had an arena for it: 24 MB for each of 64 sizes, of 200 regions."""
    runner = FastNet(net_of("Convolution c: data -> c")).state().runner
    plans = [runner.program({"data": (1, 4, side, side)}, 1) for side in (8, 9, 10)]
    assert all(plan._memory is runner.memory for plan in plans)
