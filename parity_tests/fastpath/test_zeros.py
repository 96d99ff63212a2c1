"""Products that leave out the zeros of what they read: the same sums, however many, and only where it pays."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from converters.execution import CaffeNet
from converters.formats import parse_prototxt
from fcn_port.fastpath.native import division, why_not
from fcn_port.fastpath.native.build import library
from fcn_port.fastpath.program import FastNet
from parity_tests.fastpath.random_nets import filled
from parity_tests.fastpath.test_any_net import in_double
from parity_tests.fastpath.test_kernels import BOTH, RELU, SUM, check, net_of

pytestmark = pytest.mark.skipif(why_not() is not None, reason="no C compiler")

LEAKY = f"""{SUM}
    layer {{ name: "r" type: "ReLU" bottom: "s" top: "s" relu_param {{ negative_slope: 0.1 }} }}"""
HOW = "1x1 product without zeros"


def image(channels: int, size: tuple[int, int], share: float, *, count: int = 2) -> torch.Tensor:
    """Images of which about such a share of numbers is not 0."""
    generator = torch.Generator().manual_seed(channels)
    x = torch.randn(count, channels, *size, generator=generator)
    return x * (torch.rand(x.shape, generator=generator) < share)


@pytest.mark.parametrize("share", [0.0, 0.03, 0.5, 1.0])
@pytest.mark.parametrize("behind", ["", RELU, BOTH, LEAKY], ids=["", "relu", "both", "leaky"])
@pytest.mark.parametrize(
    ("channels", "settings", "size"),
    [
        (64, "num_output: 128 kernel_size: 1", (8, 8)),
        (70, "num_output: 37 kernel_size: 1 bias_term: false", (13, 7)),
        (130, "num_output: 300 kernel_size: 1 stride: 2", (13, 7)),
        (3, "num_output: 5 kernel_size: 1", (1, 9)),
        (40, "num_output: 250 kernel_size: 1 group: 2 stride_h: 1 stride_w: 3", (19, 21)),
        (200, "num_output: 820 kernel_size: 1", (1, 1)),
    ],
)
def test_sums(channels: int, settings: str, size: tuple[int, int], behind: str, share: float) -> None:
    check(net_of(channels, settings, behind), image(channels, size, share), "sparse", HOW)


@pytest.mark.parametrize("pads", ["pad_b: 1", "pad_r: 2", "pad_b: 1 pad_r: 3 stride: 2"])
def test_padding_behind_the_blob_is_read_by_other_products(pads: str) -> None:
    """A window of one place may lie in it, and there is none before the blob that would tell."""
    net, x = net_of(64, f"num_output: 64 kernel_size: 1 {pads}", RELU), image(64, (6, 7), 0.5)
    check(net, x, "sparse", "1x1 product")


@pytest.mark.parametrize(("channels", "features", "size"), [(96, 600, (5, 9)), (64, 40, (31, 33)), (520, 64, (7, 7))])
def test_threads_have_the_same_bits(channels: int, features: int, size: tuple[int, int]) -> None:
    net = net_of(channels, f"num_output: {features} kernel_size: 1", RELU)
    x, before, found = image(channels, size, 0.5), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 5):
            torch.set_num_threads(threads)
            found.append(FastNet(net, prefer="sparse")(x))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(each, found[0]) for each in found)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (7, 9), (4, 6)])
def test_an_image_has_the_same_bits_among_others(size: tuple[int, int]) -> None:
    """Two rows are summed together, which are never those of two images."""
    net, x = net_of(70, "num_output: 150 kernel_size: 1", RELU), image(70, size, 0.5, count=3)
    together = FastNet(net, prefer="sparse")(x)
    assert torch.equal(together, torch.cat([FastNet(net, prefer="sparse")(each[None]) for each in x]))


@pytest.mark.parametrize("odd", [torch.inf, -torch.inf, torch.nan])
def test_zero_times_what_is_not_finite(odd: float) -> None:
    """What is no number in the plain net is none here, be it in the weights or in the image."""
    net, x = net_of(200, "num_output: 300 kernel_size: 1", ""), image(200, (4, 5), 0.5)
    state = net.state_dict()
    state["y.weight"][7, 11] = odd
    net.load_state_dict(state)
    check_what_is_finite(net, x)
    assert not net(x)[:, 7].isfinite().any() and net(x)[:, 8].isfinite().all()
    state["y.weight"][7, 11] = 1
    net.load_state_dict(state)
    x[0, 5, 2, 2] = odd
    check_what_is_finite(net, x)


def check_what_is_finite(net: CaffeNet, x: torch.Tensor) -> None:
    found, plain, exact = FastNet(net, prefer="sparse")(x), net(x), in_double(net, {"x": x})["y"]
    is_finite = plain.isfinite()
    assert torch.equal(found.isfinite(), is_finite)
    assert torch.allclose(found[is_finite].double(), exact[is_finite], rtol=0, atol=1e-5)


ANOTHER = """layer { name: "p" type: "Convolution" bottom: "x" top: "p" convolution_param {
    num_output: 256 kernel_size: 1 } }"""
SOURCES = {
    "a ReLU": ('layer { name: "r" type: "ReLU" bottom: "y" top: "r" }', True),
    "a ReLU6": ('layer { name: "r" type: "ReLU6" bottom: "y" top: "r" }', True),
    "a clipping from 0 on": (
        'layer { name: "r" type: "Clip" bottom: "y" top: "r" clip_param { min: 0 max: 6 } }',
        True,
    ),
    "a clipping": ('layer { name: "r" type: "Clip" bottom: "y" top: "r" clip_param { min: -1 max: 6 } }', False),
    "a slope": ('layer { name: "r" type: "ReLU" bottom: "y" top: "r" relu_param { negative_slope: 0.1 } }', False),
    "two ReLUs side by side": (
        """layer { name: "s" type: "ReLU" bottom: "y" top: "s" } layer { name: "t" type: "ReLU" bottom: "x" top: "t" }
        layer { name: "r" type: "Concat" bottom: "s" bottom: "t" top: "r" }""",
        True,
    ),
    "one beside another blob": (
        """layer { name: "s" type: "ReLU" bottom: "y" top: "s" }
        layer { name: "r" type: "Concat" bottom: "s" bottom: "x" top: "r" }""",
        False,
    ),
    "a sum": (
        """layer { name: "s" type: "Eltwise" bottom: "y" bottom: "x" top: "s" }
        layer { name: "r" type: "ReLU" bottom: "s" top: "r" }""",
        True,
    ),
    "a sum of products": (
        ANOTHER
        + """
        layer { name: "s" type: "Eltwise" bottom: "y" bottom: "p" top: "s" }
        layer { name: "r" type: "ReLU" bottom: "s" top: "r" }""",
        True,
    ),
    "the larger of products": (
        ANOTHER
        + """
        layer { name: "s" type: "Eltwise" bottom: "y" bottom: "p" top: "s" eltwise_param { operation: MAX } }
        layer { name: "r" type: "ReLU" bottom: "s" top: "r" }""",
        True,
    ),
    "a sum with what a ReLU made": (
        ANOTHER
        + """
        layer { name: "q" type: "ReLU" bottom: "p" top: "q" }
        layer { name: "s" type: "Eltwise" bottom: "y" bottom: "q" top: "s" }
        layer { name: "r" type: "ReLU" bottom: "s" top: "r" }""",
        True,
    ),
    "a sum of three": (
        ANOTHER
        + """
        layer { name: "s" type: "Eltwise" bottom: "y" bottom: "p" top: "s" }
        layer { name: "t" type: "Eltwise" bottom: "y" bottom: "s" top: "t" }
        layer { name: "r" type: "ReLU" bottom: "t" top: "r" }""",
        True,
    ),
    "the greatest of what a ReLU made": (
        """layer { name: "s" type: "ReLU" bottom: "y" top: "s" }
        layer { name: "r" type: "Pooling" bottom: "s" top: "r" pooling_param { kernel_size: 3 pad: 1 } }""",
        True,
    ),
    "an average": (
        """layer { name: "s" type: "ReLU" bottom: "y" top: "s" }
        layer { name: "r" type: "Pooling" bottom: "s" top: "r" pooling_param { pool: AVE kernel_size: 3 pad: 1 } }""",
        False,
    ),
}


POOLED = """layer { name: "m" type: "Pooling" bottom: "y" top: "m" pooling_param { pool: MAX kernel_size: 3 pad: 1 } }
    layer { name: "r" type: "ReLU" bottom: "m" top: "r" }"""

BEHIND_A_POOLING = """layer { name: "m" type: "Pooling" bottom: "y" top: "m" pooling_param { kernel_size: 3 pad: 1 } }
    layer { name: "p" type: "Convolution" bottom: "m" top: "p" convolution_param { num_output: 256 kernel_size: 1 } }
    layer { name: "r" type: "ReLU" bottom: "p" top: "r" }"""


def way_of_the_last(layers: str, features: int) -> str:
    """The line of `explain` for a product of so many outputs behind some layers."""
    net = filled(CaffeNet(parse_prototxt(f"""
        layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ dim: [1, 256, 14, 14] }} }} }}
        layer {{ name: "y" type: "Convolution" bottom: "x" top: "y" convolution_param {{
            num_output: 256 kernel_size: 3 pad: 1 }} }} {layers}
        layer {{ name: "z" type: "Convolution" bottom: "r" top: "z" convolution_param {{
            num_output: {features} kernel_size: 1 }} }}""")))  # fmt: skip
    (line,) = [line for line in FastNet(net).explain((14, 14)).splitlines() if line.split()[0].rstrip(":") == "z"]
    return line


@pytest.mark.parametrize("source", SOURCES)
def test_where_they_are(source: str) -> None:
    """By itself only behind what makes zeros."""
    layers, are_there = SOURCES[source]
    line = way_of_the_last(layers, 256)
    assert (HOW in line) == are_there, line


@pytest.mark.parametrize(
    ("layers", "pays"),
    [
        (SOURCES["a ReLU"][0], True),
        (SOURCES["a sum with what a ReLU made"][0], False),
        (POOLED, False),
        (BEHIND_A_POOLING, True),
    ],
    ids=["a ReLU", "a sum", "the greatest of nine", "a product behind these"],
)
def test_where_they_pay(layers: str, pays: bool) -> None:
    """Of 64 outputs half of the numbers must be 0, which behind a sum and a pooling they are not."""
    line = way_of_the_last(layers, 64)
    assert (HOW in line) == pays, line


@pytest.mark.skipif(why_not() is None and library().lanes() != 16, reason="other registers hold other groups")
@pytest.mark.parametrize(
    ("positions", "features", "threads", "blocks"),
    [
        (49, 160, 1, 1), (49, 160, 2, 1), (49, 160, 3, 3), (49, 160, 16, 8), (196, 96, 2, 2), (196, 96, 16, 16),
        (841, 512, 2, 2), (3136, 64, 1, 4), (3136, 64, 2, 8), (1, 64, 2, 1), (3, 64, 2, 2),
    ],
)  # fmt: skip
def test_blocks_of_rows(positions: int, features: int, threads: int, blocks: int) -> None:
    """As few as give threads equal shares where rows are few, since each reads a group's kernels again."""
    cut = division.divide_sparse(length=64, images=1, positions=positions, features=features, threads=threads)
    pairs = -(-positions // 2)
    assert cut.block == -(-pairs // blocks)


@pytest.mark.skipif(why_not() is None and library().lanes() == 16, reason="short registers alone have such blocks")
@pytest.mark.parametrize(("length", "pairs"), [(64, 421), (512, 64), (1024, 32), (2048, 24), (4096, 24)])
def test_rows_that_stay_in_a_processor_s_own_cache(length: int, pairs: int) -> None:
    """Blocks of no more pairs than that, where group after group reads them, and no fewer than 24."""
    cut = division.divide_sparse(length=length, images=1, positions=841, features=512, threads=1)
    assert pairs / 2 < cut.block <= pairs


@pytest.mark.parametrize(
    ("lanes", "features", "outputs"),
    [
        (16, 256, 128), (16, 96, 96), (16, 144, 80), (8, 64, 32), (8, 96, 48), (8, 128, 32), (8, 160, 40), (8, 256, 32),
        (8, 512, 48), (8, 1000, 48), (4, 96, 24),
    ],
)  # fmt: skip
def test_groups_of_outputs(lanes: int, features: int, outputs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as registers hold; with short ones fewer, where more would mean an eighth of sums that nobody wants."""
    monkeypatch.setattr(division, "library", lambda: SimpleNamespace(lanes=lambda: lanes))
    assert division.sparse_outputs(features) == outputs
