"""Every native way to compute a convolution gives the convolution, of any setting, and each image by itself."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
import torch

from converters import CaffeNet
from converters.formats import parse_prototxt
from fcn_port.fastpath import strassen
from fcn_port.fastpath.native import build, why_not
from fcn_port.fastpath.native.division import divide_winograd, groups_of, tiles_of, with_outputs
from fcn_port.fastpath.points import FORMS
from fcn_port.fastpath.program import FastNet, rounding
from fcn_port.fastpath.program.choice import KernelChoice
from fcn_port.fastpath.program.convolutions import _able, _cycles, _left_out
from fcn_port.fastpath.program.places import BlobPlace
from parity_tests.fastpath.random_nets import filled
from parity_tests.fastpath.test_any_net import error, in_double, named, run_blankly

pytestmark = pytest.mark.skipif(why_not() is not None, reason="no C compiler")

RELU = 'layer { name: "r" type: "ReLU" bottom: "y" top: "y" }'
SUM = """layer { name: "b" type: "Convolution" bottom: "x" top: "b" convolution_param { %s } }
layer { name: "s" type: "Eltwise" bottom: "b" bottom: "y" top: "s" }"""

BOTH = f"{SUM} {RELU.replace('y', 's')}"


def net_of(channels: int, settings: str, behind: str, *, side: int = 8) -> CaffeNet:
    shape = f"dim: [1, {channels}, {side}, {side}]"
    return filled(CaffeNet(parse_prototxt(f"""
        layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ {shape} }} }} }}
        layer {{ name: "y" type: "Convolution" bottom: "x" top: "y" convolution_param {{ {settings} }} }}
        {behind % settings if "%s" in behind else behind}""")))  # fmt: skip


def check(net: CaffeNet, x: torch.Tensor, prefer: str | None, how: str) -> None:
    quick = FastNet(net, prefer=prefer)
    said = quick.explain((x.shape[2], x.shape[3]))
    assert how in said, said
    exact = in_double(net, {"x": x})
    literal = error(named(net, net(x)), exact)
    assert error(run_blankly(quick, {"x": x}), exact) <= max(4 * literal, 2e-6), said
    both = named(net, quick(x))
    for number in range(len(x)):
        alone = named(net, quick(x[number : number + 1]))
        assert all(torch.equal(alone[name][0], value[number]) for name, value in both.items())


@pytest.mark.parametrize("prefer", ["product", "strassen_1", "strassen_2"])
@pytest.mark.parametrize("behind", ["", RELU, BOTH], ids=["", "relu", "both"])
@pytest.mark.parametrize(
    ("channels", "settings"),
    [
        (64, "num_output: 128 kernel_size: 1"),
        (128, "num_output: 37 kernel_size: 1 bias_term: false"),
        (64, "num_output: 160 kernel_size: 1 stride: 2 pad: 1"),
        (64, "num_output: 70 kernel_h: 3 kernel_w: 2 pad: 2 stride_h: 1 stride_w: 2 dilation: 2"),
        (128, "num_output: 64 kernel_size: 3 pad: 1 group: 2"),
    ],
)
def test_products(prefer: str, behind: str, channels: int, settings: str) -> None:
    """At sizes whose positions are and are not a multiple of the rows that go together."""
    how = {"product": "product", "strassen_1": "Strassen's algorithm", "strassen_2": "algorithm, twice"}[prefer]
    for h, w in ((8, 8), (13, 7)):
        x = torch.randn(2, channels, h, w, generator=torch.Generator().manual_seed(h))
        check(net_of(channels, settings, behind), x, prefer, how)


@pytest.mark.parametrize("behind", [RELU, SUM], ids=["relu", "sum"])
def test_small_tiles(behind: str) -> None:
    for h, w in ((8, 8), (3, 3), (7, 12)):
        x = torch.randn(2, 24, h, w, generator=torch.Generator().manual_seed(h))
        net = net_of(24, "num_output: 40 kernel_size: 3 pad: 1", behind)
        check(net, x, "winograd_3_small", "3x3 by Winograd's filtering, small tiles")


@pytest.mark.parametrize("behind", [RELU, SUM], ids=["relu", "sum"])
def test_kernels_in_pieces(behind: str) -> None:
    """Widths from 1 to 20, any padding; channels that are no multiple of a panel."""
    for w in range(1, 21):
        h, pad = (7 * w) % 20 + 1, 3 + w % 4
        x = torch.randn(2, 35, h, w, generator=torch.Generator().manual_seed(w))
        net = net_of(35, f"num_output: 37 kernel_size: 7 pad: {pad}", behind)
        check(net, x, "winograd_7_pieces", "7x7 by Winograd's filtering, in pieces")


ALONE = """
import torch
from parity_tests.fastpath.test_kernels import RELU, check, net_of
torch.set_num_threads(2)
x = torch.randn(2, 35, 4, 9, generator=torch.Generator().manual_seed(9))
check(net_of(35, "num_output: 37 kernel_size: 7 pad: 4", RELU), x, "winograd_7_pieces", "in pieces")
"""


SHORTER = "-mno-avx512f -mtune=znver3"
"""Flags of test_native.py, too, so that one of both tests finds what the other one compiled."""


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="flags of x86-64")
def test_an_image_alone_has_the_same_bits_however_the_compiler_is_tuned() -> None:
    """GCC rounds products by themselves in some loops for Zen 3 and not in others: those of one row and of several."""
    env = {**os.environ, "FCN_PORT_CFLAGS": SHORTER}
    subprocess.run([sys.executable, "-c", ALONE], check=True, env=env, cwd=Path(__file__).parents[2])


WINDOW = "convolution_param { kernel_h: %d kernel_w: %d %s }"


@pytest.mark.parametrize("size", [(4, 1), (1, 4), (4, 4), (7, 1)], ids=str)
@pytest.mark.parametrize("channels", [6, 256])
@pytest.mark.parametrize("kind", ["InnerProduct", "Convolution", "group: 2", "Slice"])
def test_windows_as_large_as_a_blob(kind: str, channels: int, size: tuple[int, int]) -> None:
    """Also where pixels do not lie side by side: blobs of 256 channels, and some channels of a larger blob."""
    layer = 'layer { name: "y" type: "%s" bottom: "%s" top: "y" %s }'
    behind = {
        "InnerProduct": layer % ("InnerProduct", "r", "inner_product_param { num_output: 8 }"),
        "Convolution": layer % ("Convolution", "r", WINDOW % (*size, "num_output: 8")),
        "group: 2": layer % ("Convolution", "r", WINDOW % (*size, "num_output: 8 group: 2")),
        "Slice": 'layer { name: "s" type: "Slice" bottom: "r" top: "a" top: "b" slice_param { slice_point: 2 } } '
        + layer % ("InnerProduct", "b", "inner_product_param { num_output: 8 }"),
    }[kind]
    net = filled(CaffeNet(parse_prototxt(f"""
        input: "x" input_shape {{ dim: [1, {channels}, {size[0]}, {size[1]}] }}
        layer {{ name: "r" type: "ReLU" bottom: "x" top: "r" }} {behind}""")))  # fmt: skip
    x = torch.randn(2, channels, *size, generator=torch.Generator().manual_seed(channels))
    check(net, x, None, "y: ")


ROWS = {
    "read": """layer { name: "c" type: "Crop" bottom: "r" bottom: "z" top: "c" crop_param { axis: 2 } }
        layer { name: "y" type: "Convolution" bottom: "c" top: "y"
                convolution_param { num_output: 40 kernel_size: 1 } }""",
    "written": """layer { name: "y" type: "Deconvolution" bottom: "r" top: "y"
        convolution_param { num_output: 5 kernel_size: 2 stride: 2 } }""",
    "some": """layer { name: "y" type: "Deconvolution" bottom: "r" top: "y"
        convolution_param { num_output: 5 kernel_size: 3 stride: 4 } }""",
}


@pytest.mark.parametrize("layers", ROWS.values(), ids=ROWS)
@pytest.mark.parametrize("height", [1, 2])
def test_single_rows_of_several_images(layers: str, height: int) -> None:
    """What is read or written of an image's only row does not go on where the next one's begins."""
    net = filled(CaffeNet(parse_prototxt(f"""
        input: "x" input_shape {{ dim: [1, 6, {height}, 9] }}
        input: "z" input_shape {{ dim: [1, 1, 1, 5] }}
        layer {{ name: "r" type: "ReLU" bottom: "x" top: "r" }}
        layer {{ name: "q" type: "ReLU" bottom: "z" top: "q" }} {layers}""")))  # fmt: skip
    inputs = {"x": torch.randn(3, 6, height, 9, generator=torch.Generator().manual_seed(1))}
    inputs["z"] = torch.zeros(3, 1, 1, 5)
    assert error(run_blankly(FastNet(net), inputs), in_double(net, inputs)) <= 2e-6


FILTERINGS = [
    ("winograd_3", 3),
    ("winograd_3_lean", 3),
    ("winograd_3_small", 3),
    ("winograd_5", 5),
    ("winograd_7_pieces", 7),
]


@pytest.mark.parametrize(("form", "side"), FILTERINGS)
@pytest.mark.parametrize(("down", "along"), [(2, 2), (3, 3), (1, 4)])
@pytest.mark.parametrize("behind", [RELU, SUM], ids=["relu", "sum"])
def test_dilated_windows(form: str, side: int, down: int, along: int, behind: str) -> None:
    """Outputs a dilation apart share tiles: any padding, unequal dilations, fewer outputs than that."""
    for h, w, pad in ((8, 8, down), (13, 17, 2 * along), (14, 15, down + 1), (along * (side - 1), 16, 1)):
        settings = f"num_output: 40 kernel_size: {side} pad: {pad} dilation: {down} dilation: {along}"
        x = torch.randn(2, 35, h, w, generator=torch.Generator().manual_seed(h))
        if min(h + 2 * pad - down * (side - 1), w + 2 * pad - along * (side - 1)) >= 1:
            check(net_of(35, settings, behind, side=16), x, form, f"{side}x{side} by Winograd's filtering")


@pytest.mark.parametrize("form", FORMS)
def test_as_many_tiles_as_cover_the_outputs(form: str) -> None:
    """Beside a count of those that some output lies in, and of the windows that the pieces of a kernel read."""
    tile, pieces = FORMS[form].tile, range(FORMS[form].pieces)
    for h, w, down, along in product((1, 5, 12, 13), (3, 8), (1, 2, 5, 40), (1, 4)):
        places = {(y % down, y // down // tile, x % along, x // along // tile) for y in range(h) for x in range(w)}
        windows = {(p, y + i, q, x + j) for p, y, q, x in places for i in pieces for j in pieces}
        assert with_outputs(form, 2, (h, w), (down, along)) == 2 * len(places)
        assert tiles_of(form, 2, (h, w), (down, along)) == 2 * len(windows)


def test_blocks_of_tiles_that_the_c_code_has_room_for() -> None:
    source = (Path(build.__file__).parent / "winograd_tiles.h").read_text()
    (most,) = map(int, re.findall(r"#define MOST_TILES (\d+)", source))
    found = [
        divide_winograd(form, channels=64, features=features, tiles=tiles, threads=threads)
        for form in FORMS for features in (64, 8192) for threads in (1, 2, 64) for tiles in range(1, 800, 3)
    ]  # fmt: skip
    assert 108 < max(each.group for each in found) <= max(each.block for each in found) <= most


def test_which_way_7x7_kernels_go() -> None:
    """In pieces, which round least, unless so many weights would be too large: as those of fc6."""
    shown = net_of(64, "num_output: 64 kernel_size: 7 pad: 3", "", side=20)
    assert "7x7 by Winograd's filtering, in pieces" in FastNet(shown).explain((20, 20))
    small, place = KernelChoice("product", (7, 7)), BlobPlace(0, 0, (1, 4096, 16, 16), (1, 1, 1, 1))
    assert _left_out(512, 512) == "winograd_7" and _left_out(512, 4096) == "winograd_7_pieces"
    cycles = {name: _cycles(name, small, 512, 4096, place) for name in _able(small, place, place, 512, own=512)}
    assert min(cycles.keys() - {_left_out(512, 4096)}, key=lambda name: cycles[name]) == "winograd_7"


def test_dilated_windows_that_read_the_weights_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """PSPNet's last stages: small tiles were quicker when each of 16 phases read all weights again."""
    monkeypatch.setattr(rounding, "SHORT", 0)
    net = net_of(512, "num_output: 512 kernel_size: 3 pad: 4 dilation: 4", "", side=30)
    assert "small tiles" not in FastNet(net).explain((30, 30))


@pytest.mark.parametrize("kernel", ["kernel_size: 3", "kernel_size: 5", "kernel_h: 3 kernel_w: 1"])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (3, 1), (1, 2)])
@pytest.mark.parametrize("behind", ["", BOTH], ids=["", "both"])
def test_depthwise(kernel: str, stride: int, dilation: int, behind: str) -> None:
    for channels, pad in ((16, 1), (20, 2)):
        settings = f"num_output: {channels} group: {channels} {kernel} pad: {pad} stride: {stride} dilation: {dilation}"
        net = net_of(channels, settings, behind)
        for h, w in ((7, 7), (9, 14)):
            x = torch.randn(2, channels, h, w, generator=torch.Generator().manual_seed(h))
            check(net, x, None, "depthwise")


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("behind", ["", RELU, BOTH], ids=["", "relu", "both"])
def test_depthwise_blobs_smaller_than_windows(stride: int, behind: str) -> None:
    """Windows that lie outside on one side, on both, or altogether."""
    for channels, pad in ((32, 0), (32, 1), (33, 2), (16, 4)):
        settings = f"num_output: {channels} group: {channels} kernel_size: 3 pad: {pad} stride: {stride}"
        net = net_of(channels, settings, behind)
        for h, w in ((1, 1), (2, 1), (1, 5), (6, 2), (3, 4)):
            if min(h, w) + 2 * pad >= 3:
                x = torch.randn(2, channels, h, w, generator=torch.Generator().manual_seed(h))
                check(net, x, None, "depthwise")


@pytest.mark.parametrize("channels", [1, 2, 5, 15, 16, 17, 21, 32, 100, 1000])
def test_softmax(channels: int) -> None:
    text = f"""layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ dim: [1, {channels}, 2, 3] }} }} }}
        layer {{ name: "y" type: "Softmax" bottom: "x" top: "y" }}"""
    net = CaffeNet(parse_prototxt(text))
    x = 40 * torch.randn(2, channels, 2, 3, generator=torch.Generator().manual_seed(channels))
    check(net, x, None, "y: softmax")
    for odd in (float("nan"), float("inf"), -float("inf"), 1e30, -1e30):
        x[0, -1, 1, 1] = odd
        assert torch.allclose(FastNet(net)(x), net(x), atol=1e-6, equal_nan=True), odd


@pytest.mark.parametrize("scale", [1e-4, 1.0, 50.0])
@pytest.mark.parametrize("layer", ["ELU", "Sigmoid", "TanH", "ReLU6", "Clip", "PReLU", "ReLU"], ids=str.lower)
def test_activations(layer: str, scale: float) -> None:
    """By themselves: to the last digits where all numbers are small, and what is no number stays."""
    params = "clip_param { min: -0.5 max: 2 }" if layer == "Clip" else ""
    text = f"""layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ dim: [1, 20, 4, 5] }} }} }}
        layer {{ name: "y" type: "{layer}" bottom: "x" top: "y" {params} }}"""
    net = filled(CaffeNet(parse_prototxt(text)))
    x = scale * torch.randn(2, 20, 4, 5, generator=torch.Generator().manual_seed(1))
    check(net, x, None, "y: channel by channel")
    quick = FastNet(net)
    exact = in_double(net, {"x": x})["y"]
    assert float(((quick(x) - exact).abs() / exact.abs().clamp(min=1e-30)).max()) <= 1e-6
    for odd in (float("nan"), float("inf"), -float("inf"), 1e30, -1e30):
        x[1, 3, 1, 1] = odd
        assert torch.allclose(quick(x), net(x), rtol=1e-5, equal_nan=True), odd


@pytest.mark.parametrize("operation", ["SUM", "PROD", "MAX"])
def test_blobs_together(operation: str) -> None:
    settings = f"eltwise_param {{ operation: {operation} {'coeff: [1, -2, 0.5]' if operation == 'SUM' else ''} }}"
    text = f"""layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ dim: [1, 21, 4, 5] }} }} }}
        layer {{ name: "a" type: "Sigmoid" bottom: "x" top: "a" }}
        layer {{ name: "b" type: "ELU" bottom: "x" top: "b" }}
        layer {{ name: "y" type: "Eltwise" bottom: "x" bottom: "a" bottom: "b" top: "y" {settings} }}
        layer {{ name: "z" type: "ELU" bottom: "y" top: "y" }}"""
    net = CaffeNet(parse_prototxt(text))
    x = torch.randn(2, 21, 4, 5, generator=torch.Generator().manual_seed(1))
    check(net, x, None, "y with z: channel by channel")
    x[0, 0, 0, 0] = float("nan")
    assert torch.equal(FastNet(net)(x).isnan(), net(x).isnan())


def test_strassens_tables_multiply() -> None:
    """Any two matrices of 2 x 2 parts: the sum of what the tables say is their product, in exact numbers."""
    for i, j, left, right in product(range(2), range(2), range(4), range(4)):
        tables = zip(strassen.RESULTS[2 * i + j], strassen.ROWS_OF, strassen.PANELS_OF, strict=True)
        found = sum(result * rows[left] * panels[right] for result, rows, panels in tables)
        assert found == (left // 2 == i and right % 2 == j and left % 2 == right // 2)


@pytest.mark.parametrize("outputs", [8, 64])
def test_groups_that_are_one_for_infinity_are_told(outputs: int) -> None:
    """As many as fill a vector: what is no number in one of them is none in the others, and nowhere else."""
    together = 4 // groups_of(4, outputs)
    settings = f"num_output: {outputs} kernel_size: 1 group: 4"
    text = f"""layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ dim: [1, 8, 5, 4] }} }} }}
        layer {{ name: "y" type: "Convolution" bottom: "x" top: "y" convolution_param {{ {settings} }} }}"""
    quick, x = FastNet(filled(CaffeNet(parse_prototxt(text)))), torch.zeros(1, 8, 5, 4)
    said, end = quick.explain((5, 4)), f" in 4 groups, {together} at a time" if together > 1 else " in 4 groups"
    assert said.endswith(end), said
    x[0, 0] = float("nan")
    assert int(quick(x).isnan()[0, :, 0, 0].sum()) == outputs // 4 * together


BENT = {
    "ReLU": "",
    "ReLU6": "",
    "Clip": "clip_param { min: -2.5 max: 4 }",
    "Leaky": "relu_param { negative_slope: 0.3 }",
    "Steep": "relu_param { negative_slope: -2 }",
    "PReLU": "",
}


@pytest.mark.parametrize("activation", BENT)
@pytest.mark.parametrize(
    ("channels", "settings", "prefer"),
    [
        (64, "num_output: 70 kernel_size: 1", "product"),
        (64, "num_output: 48 kernel_size: 3 pad: 1 stride: 2", "product"),
        (64, "num_output: 64 kernel_size: 1", "strassen_1"),
        (32, "num_output: 32 group: 32 kernel_size: 3 pad: 1", None),
        (20, "num_output: 20 group: 20 kernel_size: 3 pad: 1 stride: 2", None),
        (35, "num_output: 40 kernel_size: 3 pad: 1", "winograd_3"),
    ],
)
def test_activations_of_straight_lines(activation: str, channels: int, settings: str, prefer: str | None) -> None:
    """Limits and slopes as the layer has them; what is no number stays so."""
    kind = activation if activation in ("PReLU", "ReLU6", "Clip") else "ReLU"
    net = net_of(channels, settings, f'layer {{ name: "r" type: "{kind}" bottom: "y" top: "r" {BENT[activation]} }}')
    x = torch.randn(1, channels, 9, 9, generator=torch.Generator().manual_seed(3))
    quick = FastNet(net, prefer=prefer)
    assert error(run_blankly(quick, {"x": x}), in_double(net, {"x": x})) <= 2e-6
    x[0, :, 4, 4] = torch.nan
    found, own = run_blankly(quick, {"x": x})["r"], named(net, net(x))["r"]
    assert found[own.isnan()].isnan().all() and own.isnan().any()


@pytest.mark.parametrize(
    "window",
    [
        "kernel_size: 3", "kernel_size: 3 pad: 1", "kernel_size: 3 pad: 2", "kernel_size: 3 stride: 2",
        "kernel_size: 3 stride: 2 pad: 1", "kernel_size: 2 stride: 2", "kernel_size: 2 stride: 2 pad: 1",
        "kernel_size: 2", "kernel_h: 1 kernel_w: 3 pad_w: 1", "kernel_h: 3 kernel_w: 2 stride: 2",
        "kernel_h: 2 kernel_w: 3 stride_h: 1 stride_w: 2",
    ],
)  # fmt: skip
def test_maxima(window: str) -> None:
    """The layer's, with windows that reach over edges, equal numbers, infinity and what is no number."""
    net = CaffeNet(parse_prototxt(f"""
        layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ dim: [1, 20, 8, 8] }} }} }}
        layer {{ name: "y" type: "Pooling" bottom: "x" top: "y" pooling_param {{ {window} }} }}"""))  # fmt: skip
    for number, (h, w) in enumerate([(3, 3), (4, 5), (8, 8), (9, 7), (3, 16)]):
        generator = torch.Generator().manual_seed(number)
        x = torch.randint(-9, 9, (2, 20, h, w), generator=generator).float()
        chance = torch.rand(x.shape, generator=generator)
        x[chance < 0.05], x[chance > 0.97], x[:, 3] = torch.nan, -torch.inf, -torch.inf
        found, own = run_blankly(FastNet(net), {"x": x})["y"], net(x)
        assert torch.equal(found.isnan(), own.isnan()) and torch.equal(found.nan_to_num(), own.nan_to_num())
