"""Nets that are wrong in the ways in which ports of FCN have been wrong: the suite must see each of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fcn_port
from fcn_port.nets import FCN32sColorHHA
from fcn_port.nets.parts import ConcatChannels, CropLike, Sum
from parity_tests.goldens import compare, format_blobs, formats, golden, parse_id
from parity_tests.nets import CentredCrop, filled_inputs, filled_net
from parity_tests.tolerances import tolerance


class CropAllAxes(CropLike):
    """Crops the channels too, to as many as the reference has."""

    def forward(self, x: Tensor, reference: Tensor) -> Tensor:
        return super().forward(x, reference)[:, : reference.shape[1]]


def _offset(layer: str, offset: int) -> Callable[[nn.Module], None]:
    return lambda net: setattr(net, layer, CropLike(offset))


def _replace_crops(crop: type[CropLike]) -> Callable[[nn.Module], None]:
    def change(net: nn.Module) -> None:
        for name, module in net.named_children():
            if isinstance(module, CropLike):
                setattr(net, name, crop(module.offset))

    return change


def _floor_pooling(net: nn.Module) -> None:
    for module in net.modules():
        if isinstance(module, nn.MaxPool2d):
            module.ceil_mode = False


def _change_kernels(change: Callable[[Tensor], Tensor]) -> Callable[[nn.Module], None]:
    def apply(net: nn.Module) -> None:
        for module in net.modules():
            if isinstance(module, nn.ConvTranspose2d):
                module.weight = nn.Parameter(change(module.weight.detach()).contiguous())

    return apply


def _rgb_for_bgr(net: nn.Module) -> None:
    net.conv1_1.weight = nn.Parameter(net.conv1_1.weight.detach().flip(1))


WRONG = {
    "crops in the middle": _replace_crops(CentredCrop),
    "channels cropped to the reference's": _replace_crops(CropAllAxes),
    **{f"pool4 cropped at {offset}": _offset("score_pool4c", offset) for offset in (4, 6)},
    **{f"pool3 cropped at {offset}": _offset("score_pool3c", offset) for offset in (8, 10)},
    **{f"score cropped at {offset}": _offset("score", offset) for offset in (30, 32, 34, 42)},
    "floor pooling": _floor_pooling,
    "RGB for BGR": _rgb_for_bgr,
    "deconvolution kernels flipped": _change_kernels(lambda weight: weight.flip(2, 3)),
    "deconvolution kernels transposed in space": _change_kernels(lambda weight: weight.transpose(2, 3)),
    "deconvolution channels transposed": _change_kernels(lambda weight: weight.transpose(0, 1)),
}


def agrees_with_caffe(net: nn.Module) -> bool:
    """Whether the output equals the golden, by the same comparison that the parity tests make."""
    expected = format_blobs("fcn8s-mini")
    try:
        output = fcn_port.blobs(net, torch.from_numpy(np.array(expected["data"])))["score"]
        return compare(output.numpy(), expected["score"]) <= tolerance("format-blobs")
    except (RuntimeError, AssertionError):  # the crop reaches past the end, or another shape comes out
        return False


def test_the_right_net_agrees() -> None:
    assert agrees_with_caffe(fcn_port.load(formats("fcn8s-mini.caffemodel")))


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_net_is_seen(name: str) -> None:
    net = fcn_port.load(formats("fcn8s-mini.caffemodel"))
    WRONG[name](net)
    assert not agrees_with_caffe(net)


class Swapped(ConcatChannels):
    """Depth before colour."""

    def forward(self, *inputs: Tensor) -> Tensor:
        return super().forward(*reversed(inputs))


def _lrn_alpha(layer: str, factor: float) -> Callable[[nn.Module], None]:
    return lambda net: setattr(getattr(net, layer), "alpha", 1e-4 * factor)


def _put(layer: str, module: nn.Module) -> Callable[[nn.Module], None]:
    return lambda net: setattr(net, layer, module)


def _streams_swapped(net: nn.Module) -> None:
    class StreamsSwapped(FCN32sColorHHA):
        def stream(self, x: Tensor, suffix: str) -> Tensor:
            return super().stream(x, {"color": "hha", "hha": "color"}[suffix])

    net.__class__ = StreamsSwapped


WRONG_MEMBERS = {
    "skip of pool4 not scaled": ("voc-fcn8s-atonce-100x100-bilinear", _put("scale_pool4", nn.Identity())),
    "skip of pool3 not scaled": ("voc-fcn8s-atonce-100x100-bilinear", _put("scale_pool3", nn.Identity())),
    "LRN's alpha divided twice": ("voc-fcn-alexnet-100x100-bilinear", _lrn_alpha("norm1", 1 / 5)),
    "LRN's alpha not divided": ("voc-fcn-alexnet-100x100-bilinear", _lrn_alpha("norm2", 5)),
    "LRN's alpha divided twice in GoogLeNet": ("voc-fcn-googlenet-75x122-random", _lrn_alpha("conv2/norm2", 1 / 5)),
    "GoogLeNet cropped at 1": ("voc-fcn-googlenet-75x122-random", _offset("score", 1)),
    "depth before colour": ("nyud-fcn32s-color-d-100x100-bilinear", _put("data", Swapped())),
    "streams swapped": ("nyud-fcn32s-color-hha-100x100-bilinear", _streams_swapped),
    "scores summed, not averaged": ("nyud-fcn32s-color-hha-100x100-bilinear", _put("score_fused", Sum())),
}
"""Wrong in what only some nets of the family have; against the sampled values that the parity tests use."""


@pytest.mark.parametrize("wrong", WRONG_MEMBERS)
def test_a_wrong_member_of_the_family_is_seen(wrong: str) -> None:
    name, change = WRONG_MEMBERS[wrong]
    id_ = parse_id(name)
    net = filled_net(id_)
    change(net)
    expected = golden(id_.net, id_.size, id_.fill).blobs
    found = fcn_port.blobs(net, **filled_inputs(id_))
    errors = [compare(blob.numpy(), expected[name]) for name, blob in found.items()]
    assert max(errors) > 100 * tolerance("fcn-blobs")


@pytest.mark.parametrize(("side", "off"), [(500, 3), (256, 13)])
def test_how_far_a_centred_crop_is_off(side: int, off: int) -> None:
    net = fcn_port.load(formats("fcn8s-mini.caffemodel"))
    upscored = fcn_port.trace(net, (side, side))["upscore8"][-1]
    assert abs((upscored - side) // 2 - net.score.offset) == off
