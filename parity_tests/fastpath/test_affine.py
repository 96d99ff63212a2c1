"""merge_affine: factors and constants for each channel become weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fcn_port.fastpath.flow.affine import affine_of, in_single, merge_affine
from fcn_port.fastpath.program import FastNet
from parity_tests.fastpath.flows import assert_same, flow_of, net_of, outline

NORM = ("BatchNorm n: a -> a", "Scale s: a -> a | scale_param { bias_term: true }")


def test_a_row_of_them_joins_the_convolution() -> None:
    net = net_of(
        "Convolution a: data -> a", *NORM, "Bias b: a -> b", "Power p: b -> p | power_param { scale: 3 shift: 1 }"
    )
    flow = merge_affine(flow_of(net))
    assert outline(flow) == ["a n s b p"] and len(flow.operations[0].affine) == 4
    assert_same(flow, net)


def test_a_row_without_weights_before_it_is_one_operation() -> None:
    net = net_of("Pooling a: data -> a | pooling_param { kernel_size: 2 }", *NORM, "ReLU r: a -> a")
    assert outline(merge_affine(flow_of(net))) == ["a", "n s", "r"]


@pytest.mark.parametrize(
    "before", ["InnerProduct a: data -> a | inner_product_param { num_output: 9 }", "ReLU a: data -> a"]
)
def test_dropout_that_multiplies_at_test(before: str) -> None:
    """py-faster-rcnn's `scale_train: false`; behind a ReLU it is an operation of its own."""
    net = net_of(before, "Dropout d: a -> d | dropout_param { dropout_ratio: 0.3 scale_train: false }")
    flow = merge_affine(flow_of(net))
    assert flow.operations[-1].affine and len(flow.operations) == 1 + before.startswith("ReLU")
    assert_same(flow, net)
    assert "none of them by PyTorch" in FastNet(net).explain((8, 8))


@pytest.mark.parametrize(
    "after",
    [
        ("Eltwise e: a b -> e",),  # somebody else reads the convolution's result
        ("Power q: b -> b | power_param { power: 2 }", "Eltwise e: a b -> e"),
    ],
)
def test_what_others_read_stays(after: tuple[str, ...]) -> None:
    net = net_of("Convolution a: data -> a", "Bias b: a -> b", *after)
    assert outline(merge_affine(flow_of(net)))[:2] == ["a", "b"]


@pytest.mark.parametrize(
    "layer",
    [
        "BatchNorm n: a -> a | batch_norm_param { use_global_stats: false }",
        "Scale s: a -> a | scale_param { axis: 0 num_axes: 2 }",
        "Scale s: a data -> s | scale_param { axis: 0 }",
        "Scale s: a -> a | scale_param { axis: 2 }",
        "Scale s: a -> a | scale_param { num_axes: 2 }",
        "Scale s: a -> a | scale_param { num_axes: -1 }",
        "Power p: a -> a | power_param { power: 2 }",
        "Power p: a -> a | power_param { scale: 0 shift: 1 }",
        "Power p: a -> a | power_param { scale: 1e38 }",
        "Dropout d: a -> a | dropout_param { sample_weights_test: true }",
    ],
)
def test_what_is_not_the_same_for_a_channel_stays(layer: str) -> None:
    flow = merge_affine(flow_of(net_of("Convolution a: data -> a", layer)))
    assert len(flow.operations) == 2 and not any(operation.affine for operation in flow.operations)


@pytest.mark.parametrize(
    "layer",
    [
        "BatchNorm n: a -> a | batch_norm_param { add_eps_before_sqrt: false eps: 0.5 }",
        "BatchNorm n: a -> a | batch_norm_param { scale_bias: true eps: 0.5 }",
        "BN n: a -> a | bn_param { bn_mode: INFERENCE }",
        "Scale s: a -> a | scale_param { min_value: 0.3 max_value: 0.7 }",
        "Bias b: a -> a",
        "Power p: a -> a | power_param { scale: 3 shift: 1 }",
    ],
)
def test_each_kind_is_the_same_in_the_convolution(layer: str) -> None:
    net = net_of("Convolution a: data -> a", layer)
    flow = merge_affine(flow_of(net))
    assert len(flow.operations) == 1
    assert_same(flow, net)
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(FastNet(net)(x), net(x), rtol=1e-5, atol=1e-5)  # by factors and constants


def test_factor_and_constant() -> None:
    net = net_of(
        "BatchNorm n: data -> a",
        "Scale s: a -> a | scale_param { bias_term: true }",
        "Scale t: a -> a | scale_param { num_axes: 0 }",
    )
    (operation,) = merge_affine(flow_of(net)).operations
    state = net.state_dict()
    blobs = [
        [state[f"{layer}.{name}"].numpy() for name in names]
        for layer, names in (("n", ("weight", "bias", "blob2")), ("s", ("weight", "bias")), ("t", ("weight",)))
    ]
    factor, constant = map(torch.from_numpy, affine_of(operation.affine, blobs, 4))
    x = torch.randn(1, 4, 8, 8)
    found = x.double() * factor[:, None, None] + constant[:, None, None]
    torch.testing.assert_close(found.float(), net(x))


def test_numbers_around_a_mean_that_is_far_from_0() -> None:
    """By root mean square 1.4 times the plain net's error; 1.8 times where the factor alone is rounded."""
    net, generator = net_of("BatchNorm n: data -> a", shape=(1, 64, 8, 8)), torch.Generator().manual_seed(0)
    state, errors = {name.rpartition(".")[2]: value for name, value in net.state_dict().items()}, []
    state["blob2"].fill_(1)
    for _ in range(40):
        deviation = 0.5 + torch.rand(64, generator=generator)
        mean = 1000 * deviation * (1 + torch.rand(64, generator=generator))
        state["weight"].copy_(mean)
        state["bias"].copy_(deviation**2)
        x = torch.addcmul(mean[:, None, None], deviation[:, None, None], torch.randn(1, 64, 8, 8, generator=generator))
        exact = (x.double() - mean[:, None, None]) / (state["bias"].double() + 1e-5).sqrt()[:, None, None]
        errors.append([(value - exact).square().mean() for value in (FastNet(net)(x), net(x))])
    mine, its = torch.tensor(errors).mean(0).sqrt()
    assert mine <= 1.6 * its, mine / its


@pytest.mark.parametrize("factor", [0.0, 1e-45, 1e-50, -1e-39, 1e39, float("inf"), float("nan")])
def test_constants_beside_factors_that_single_precision_does_not_hold(factor: float) -> None:
    _, (constant,) = in_single(np.array([factor]), np.array([5.0]))
    assert constant == 5
