"""`fast` of images of few channels: work to which all numbers are alike goes row by row, not pixel by pixel."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from converters.layers.colinear import MaskWeight
from fcn_port.fastpath.flow import merge
from fcn_port.fastpath.native import why_not
from fcn_port.fastpath.program import FastNet
from fcn_port.fastpath.program.places import BlobPlace, as_rows
from parity_tests.fastpath.flows import flow_of, net_of, outline
from parity_tests.tolerances import tolerance

pytestmark = pytest.mark.skipif(why_not() is not None, reason="no C compiler")


def assert_close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance("fast-net") * float(expected.abs().max()))


def shapes_of_steps(net: FastNet, x: Tensor) -> dict[str, tuple[int, ...]]:
    """The shape of what each operation's last step writes."""
    net.state()
    planned = net.program({"data": tuple(x.shape)}).planned
    return {each.operation.name: each.tasks[-1].y.shape for each in planned if each.tasks}


@pytest.mark.parametrize("layer", ["Sigmoid", "TanH", "ELU", "Mish", "ReLU6"])
@pytest.mark.parametrize("channels", [1, 3, 5, 17])
def test_numbers_go_row_by_row(channels: int, layer: str) -> None:
    net = net_of(f"{layer} y: data -> y", shape=(1, channels, 5, 7))
    x = 3 * torch.randn(2, channels, 5, 7, generator=torch.Generator().manual_seed(channels))
    quick = FastNet(net)
    assert_close(quick(x), net(x))
    assert shapes_of_steps(quick, x) == {"y": (2, 7 * channels, 5, 1)}


@pytest.mark.parametrize("settings", ["", "operation: PROD", "operation: MAX", "coeff: [1, -0.5]"])
def test_two_blobs(settings: str) -> None:
    net = net_of(
        "AbsVal a: data -> a", f"Eltwise y: data a -> y | eltwise_param {{ {settings} }}", "TanH t: y -> y",
        shape=(1, 3, 4, 9),
    )  # fmt: skip
    x = torch.randn(1, 3, 4, 9, generator=torch.Generator().manual_seed(0))
    quick = FastNet(net)
    assert_close(quick(x), net(x))
    factor = "coeff" in settings  # which lies there for each channel
    assert shapes_of_steps(quick, x)["y"] == ((1, 3, 4, 9) if factor else (1, 27, 4, 1))


def test_a_part_of_a_concatenation_goes_pixel_by_pixel() -> None:
    """Between its pixels lie the other part's channels."""
    net = net_of("TanH a: data -> a", "AbsVal b: data -> b", "Concat y: a b -> y", shape=(1, 3, 4, 6))
    x = torch.randn(1, 3, 4, 6, generator=torch.Generator().manual_seed(1))
    quick = FastNet(net)
    assert_close(quick(x), net(x))
    assert shapes_of_steps(quick, x)["a"] == (1, 3, 4, 6)


def test_rows() -> None:
    dense, wide = BlobPlace(0, 8, (2, 3, 4, 5), (60, 1, 15, 3)), BlobPlace(1, 0, (2, 3, 4, 5), (99, 1, 24, 3))
    assert as_rows(dense, wide) == [
        BlobPlace(0, 8, (2, 15, 4, 1), (60, 1, 15, 15)), BlobPlace(1, 0, (2, 15, 4, 1), (99, 1, 24, 15)),
    ]  # fmt: skip
    assert as_rows(dense, BlobPlace(1, 0, (2, 3, 4, 5), (80, 1, 20, 4))) is None
    assert as_rows(dense, BlobPlace(1, 0, (2, 3, 4, 5), (3, 1, 0, 0))) is None  # one number for all pixels
    assert as_rows(dense, BlobPlace(1, 0, (2, 3, 4, 4), (48, 1, 12, 3))) is None


@pytest.mark.parametrize(("features", "layer", "found"), [
    (1, "TanH", ["c", "r"]), (3, "Sigmoid", ["c", "r"]), (3, "ReLU", ["c r"]), (4, "TanH", ["c r"]),
])  # fmt: skip
def test_what_takes_long_is_not_merged_into_few_channels(features: int, layer: str, found: list[str]) -> None:
    net = net_of(
        f"Convolution c: data -> c | convolution_param {{ num_output: {features} kernel_size: 1 }}",
        f"{layer} r: c -> c",
    )
    assert outline(merge(flow_of(net))) == found
    x = torch.randn(2, 4, 5, 7, generator=torch.Generator().manual_seed(features))
    assert_close(FastNet(net)(x), net(x))


def test_pytorch_sees_one_channel_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strides as of channels side by side had max_pool2d take twelve times as long."""
    seen: list[tuple[int, ...]] = []
    forward = MaskWeight.forward

    def watched(self: MaskWeight, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], **settings: bool) -> object:
        seen.extend(bottom.stride() for bottom in bottoms)
        return forward(self, bottoms, blobs, **settings)

    net = net_of("AbsVal a: data -> a", "MaskWeight y: a a -> y | mask_weight_param { need_mask: true }",
                 shape=(1, 1, 5, 7))  # fmt: skip
    x = torch.randn(1, 1, 5, 7, generator=torch.Generator().manual_seed(2))
    expected = net(x)
    monkeypatch.setattr(MaskWeight, "forward", watched)
    assert_close(FastNet(net)(x), expected)
    assert seen == [(35, 35, 7, 1)] * 2
