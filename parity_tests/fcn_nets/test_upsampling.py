"""The other ways to upsample: each against its definition, and shift-and-stitch against filter rarefaction."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d, max_unpool2d

import fcn_port
from fcn_port.nets import FCN
from fcn_port.nets.parts import BilinearUpsample
from fcn_port.nets.upsampling import METHODS, FixedKernel, MaxUnpool, PoolWithPlaces, ShiftAndStitch, with_upsampling
from parity_tests.nets import narrow_net, random_inputs, with_random_weights
from parity_tests.test_architecture import ROOT


def with_random_features(name: str, *, biases: bool = True) -> FCN:
    """A narrow net with random weights whose upsampling still interpolates."""
    net = narrow_net(name)
    kept = {key: value.clone() for key, value in net.state_dict().items() if key.startswith("upscore")}
    net = with_random_weights(net)
    net.load_state_dict(kept, strict=False)
    if not biases:
        with torch.no_grad():
            for key, value in net.named_parameters():
                if key.endswith(".bias"):
                    value.zero_()
    return net


def scores(net: nn.Module, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    with torch.no_grad():
        found = net(**inputs)
    return found if isinstance(found, dict) else {"score": found}


FAST = [method for method in METHODS if method not in ("shift-and-stitch", "dilation")]


@pytest.mark.parametrize("method", FAST)
@pytest.mark.parametrize("name", ["voc-fcn32s", "voc-fcn16s", "siftflow-fcn8s", "nyud-fcn32s-color-d"])
def test_each_runs_on_an_fcn_by_one_argument(name: str, method: str) -> None:
    net = with_random_features(name)
    inputs = random_inputs(net, (43, 70), batch=2)
    own, other = scores(net, inputs), scores(with_upsampling(net, method), inputs)
    assert {head: found.shape for head, found in other.items()} == {head: found.shape for head, found in own.items()}
    for head, found in other.items():
        assert found.isfinite().all() and found.any()
        if method in ("learned", "bilinear"):
            torch.testing.assert_close(found, own[head], rtol=1e-4, atol=1e-5 * float(own[head].abs().max()))
        else:
            assert not torch.allclose(found, own[head])


def test_shift_and_stitch_runs_on_nets_with_skips() -> None:
    net = with_random_features("siftflow-fcn8s")
    inputs = random_inputs(net, (20, 33))
    found = scores(with_upsampling(net, "shift-and-stitch"), inputs)
    assert {head: tuple(x.shape) for head, x in found.items()} == {
        "score_sem": (1, 33, 20, 33),
        "score_geo": (1, 3, 20, 33),
    }


@pytest.mark.parametrize("name", ["voc-fcn-alexnet", "voc-fcn-googlenet", "nyud-fcn32s-color-hha"])
@pytest.mark.parametrize("method", ["bilinear", "nearest", "bed-of-nails", "dilation"])
def test_nets_of_other_shapes(name: str, method: str) -> None:
    net = with_random_features(name)
    inputs = random_inputs(net, (43, 70))
    assert scores(with_upsampling(net, method), inputs)["score"].shape[2:] == (43, 70)


def test_the_net_itself_stays_and_shares_its_weights() -> None:
    net = narrow_net("voc-fcn32s")
    before = dict(net.named_modules())
    for method in METHODS:
        other = with_upsampling(net, method)
        own = {value.data_ptr() for value in net.parameters()}
        assert {value.data_ptr() for value in other.parameters()} <= own
        assert not other.training
    assert dict(net.named_modules()) == before and net.conv1_1.stride == (1, 1) and net.pool1.stride == 2


def test_what_cannot_be_done_is_told() -> None:
    for name, method, reason in (
        ("voc-fcn-alexnet", "max-unpooling", "VGG-16's poolings"),
        ("nyud-fcn32s-color-hha", "max-unpooling", "VGG-16's poolings"),
        ("voc-fcn16s", "dilation", "upsamples once; FCN16s does more often"),
        ("voc-fcn16s", "cubic", "there are learned, bilinear"),
    ):
        with pytest.raises(ValueError, match=reason):
            with_upsampling(narrow_net(name), method)


# Each against its definition


@pytest.mark.parametrize("factor", [2, 8, 32])
def test_nearest_is_nearest(factor: int) -> None:
    x = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    found = FixedKernel("nearest", BilinearUpsample(3, factor=factor))(x)
    margin = factor // 2
    assert torch.equal(found[:, :, margin:-margin, margin:-margin], interpolate(x, scale_factor=factor, mode="nearest"))
    assert found.shape == BilinearUpsample(3, factor=factor)(x).shape
    assert not found[:, :, :margin].any() and not found[..., -margin:].any()


@pytest.mark.parametrize(("factor", "size"), [(2, 4), (32, 64), (32, 63)])
def test_a_bed_of_nails_has_a_nail_for_each_score(factor: int, size: int) -> None:
    x = torch.rand(1, 2, 3, 4, generator=torch.Generator().manual_seed(0)) + 1
    found = FixedKernel("bed-of-nails", BilinearUpsample(2, factor=factor, kernel_size=size))(x)
    first = (size - 1) // 2
    assert torch.equal(found[:, :, first::factor, first::factor][:, :, :3, :4], x)
    assert found.count_nonzero() == x.numel()


def test_fixed_bilinear_is_what_the_deconvolution_begins_with() -> None:
    for layer in (BilinearUpsample(3, factor=8), BilinearUpsample(3, factor=32, kernel_size=63)):
        x = torch.randn(1, 3, 4, 5, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(FixedKernel("bilinear", layer)(x), layer(x).detach())


def test_max_unpooling_is_torchs_where_classes_are_features() -> None:
    x = torch.randn(2, 1, 7, 10, generator=torch.Generator().manual_seed(0))
    pool = PoolWithPlaces(2, stride=2, ceil_mode=True)
    pooled, index = max_pool2d(x, 2, stride=2, ceil_mode=True, return_indices=True)
    assert torch.equal(pool(x), pooled)
    found = MaxUnpool(pool, offset=0)(pooled)[:, :, 1:-1, 1:-1]
    assert torch.equal(found[:, :, :7, :10], max_unpool2d(pooled, index, 2, stride=2, output_size=x.shape))


def test_max_unpooling_puts_scores_on_the_strongest_pixels() -> None:
    """One bright pixel in each 32 x 32 block of the padded image: that is where the score of its block goes."""
    net = narrow_net("voc-fcn32s")
    with torch.no_grad():
        for name, module in net.named_children():
            if isinstance(module, nn.Conv2d) and name.startswith("conv"):
                nn.init.dirac_(module.weight)  # features are the image
                module.bias.zero_()
        net.score_fr.bias.fill_(1)
    image = torch.zeros(1, 3, 96, 96)
    bright = [(7, 9), (40, 30), (70, 85)]
    for y, x in bright:
        image[0, :, y, x] = 100
    found = scores(with_upsampling(net, "max-unpooling"), {"data": image})["score"]
    for y, x in bright:
        assert found[0, :, y, x].all()


# Shift-and-stitch is filter rarefaction


def test_shift_and_stitch_equals_dilation(monkeypatch: pytest.MonkeyPatch) -> None:
    """FCN-32s without biases, whose zero padding is then the same thing as a border further away.

    Of the 1024 passes those at the corners and a hundred more are made; the pixels of the others stay empty.
    """
    net = with_random_features("voc-fcn32s", biases=False)
    inputs = random_inputs(net, (21, 34))
    stitching, made = with_upsampling(net, "shift-and-stitch"), ShiftAndStitch(net)
    offsets = {(0, 0), (0, 31), (31, 0), (31, 31)}
    offsets |= {(int(down), int(right)) for down, right in np.random.default_rng(8).integers(0, 32, (100, 2))}
    empty = torch.full_like(made.shifted(inputs, 0, 0), torch.nan)

    def some(images: dict[str, Tensor], down: int, right: int) -> Tensor:
        return made.shifted(images, down, right) if (down, right) in offsets else empty

    monkeypatch.setattr(stitching, "shifted", some)
    expected = scores(stitching, inputs)["score"]
    there = ~expected.isnan()
    assert there.float().mean() > 0.05 and expected[there].std() > 0.01
    found = scores(with_upsampling(net, "dilation"), inputs)["score"]
    scale = float(expected[there].abs().max())
    torch.testing.assert_close(found[there], expected[there], rtol=1e-4, atol=1e-5 * scale)
    for wrong in (expected.roll(1, dims=2), expected.roll(-1, dims=3), expected.flip(2)):
        assert float((found - wrong).nan_to_num().abs().max()) > 0.01 * scale


@pytest.mark.parametrize("name", ["voc-fcn-alexnet", "nyud-fcn32s-color-d", "nyud-fcn32s-color-hha"])
def test_every_32nd_dense_score_is_a_coarse_one_of_a_shifted_image(name: str) -> None:
    net = with_random_features(name, biases=False)
    inputs = random_inputs(net, (43, 38))
    shifted, dilated = ShiftAndStitch(net), with_upsampling(net, "dilation")
    with torch.no_grad():
        dense = dilated.dense(inputs)["score"]
        for down, right in ((0, 0), (5, 30)):
            coarse = shifted.shifted(inputs, down, right)
            found = dense[:, :, 31 - down :: 32, 31 - right :: 32]
            h, w = (min(a, b) for a, b in zip(found.shape[2:], coarse.shape[2:], strict=True))
            assert h and w
            expected = coarse[:, :, :h, :w]
            atol = 1e-5 * float(expected.abs().max())
            torch.testing.assert_close(found[:, :, :h, :w], expected, rtol=1e-4, atol=atol)


def multiply_accumulates(net: nn.Module, side: int) -> int:
    """Of the convolutions and deconvolutions of one pass on an image of `side` x `side`; nothing is computed."""
    total = 0

    def count(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            total += module.weight.numel() * output.shape[2] * output.shape[3]
        elif isinstance(module, nn.ConvTranspose2d):
            total += module.weight.numel() * args[0].shape[2] * args[0].shape[3]
        elif isinstance(module, FixedKernel):
            total += module.kernel.numel() * args[0].numel()

    for module in net.modules():
        module.register_forward_hook(count)
    with torch.no_grad(), torch.device("meta"):
        net(torch.empty(1, 3, side, side))
    return total


@pytest.mark.parametrize(
    ("method", "side", "passes", "work"),
    [("learned", 500, 1, 181), ("nearest", 500, 1, 181), ("learned", 531, 1024, 204_135), ("dilation", 500, 1, 42_763)],
)
def test_the_work_that_the_docs_name(method: str, side: int, passes: int, work: int) -> None:
    with torch.device("meta"):
        net = with_upsampling(fcn_port.build("voc-fcn32s"), method)
    assert round(passes * multiply_accumulates(net, side) / 1e9) == work
    assert f"{work:,} G" in (ROOT / "docs" / "upsampling.md").read_text()


def test_a_changed_net_still_segments() -> None:
    from fcn_port.loading import attach
    from weights.card import Card
    from weights.catalogue import release

    net = with_random_features("voc-fcn32s")
    attach(net, Card.of(release("voc-fcn32s")))
    pixels = np.random.default_rng(5).integers(0, 256, (24, 31, 3), np.uint8)
    for method in ("nearest", "dilation"):
        assert fcn_port.segment(with_upsampling(net, method), pixels).labels.shape == (24, 31)
