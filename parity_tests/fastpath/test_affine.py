"""merge_affine: factors and constants for each channel become weights."""

from __future__ import annotations

import pytest
import torch

from fcn_port.fastpath.flow.affine import affine_of, merge_affine
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
        "Power p: a -> a | power_param { power: 2 }",
        "Power p: a -> a | power_param { scale: 1e38 }",
    ],
)
def test_what_is_not_the_same_for_a_channel_stays(layer: str) -> None:
    flow = merge_affine(flow_of(net_of("Convolution a: data -> a", layer)))
    assert len(flow.operations) == 2 and not any(operation.affine for operation in flow.operations)


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
