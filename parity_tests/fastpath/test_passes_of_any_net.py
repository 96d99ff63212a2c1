"""CaffeNets whose first padding is skipped: settings that no released net has, by every way to compute convolutions."""

from __future__ import annotations

import pytest
import torch

import fcn_port
from converters import CaffeNet
from converters.errors import NetError
from converters.formats import parse_prototxt
from converters.passes import prepare
from fcn_port.fastpath import lossless
from fcn_port.fastpath.kernels import Choice
from fcn_port.fastpath.lossless import Lossless
from fcn_port.fastpath.passes import passes
from parity_tests.export.onnx_models import with_drawn_weights
from parity_tests.fastpath.random_nets import filled
from parity_tests.fastpath.test_any_net import error, in_double
from parity_tests.goldens import compare
from parity_tests.tolerances import tolerance

PASSED_OVER = """
layer { name: "a" type: "Convolution" bottom: "x" top: "a" convolution_param {
    num_output: 5 kernel_size: 1 stride: 3 pad: 50 } }
layer { name: "r" type: "ReLU" bottom: "a" top: "r" relu_param { negative_slope: 0.1 } }
layer { name: "b" type: "Convolution" bottom: "r" top: "b" convolution_param {
    num_output: 2 kernel_size: 7 stride: 2 pad: 3 } }
layer { name: "y" type: "LRN" bottom: "b" top: "y" lrn_param { local_size: 3 alpha: 0.5 } }
"""
GAPS = """
layer { name: "a" type: "Convolution" bottom: "x" top: "a" convolution_param { num_output: 5 kernel_size: 3 pad: 20 } }
layer { name: "p" type: "Pooling" bottom: "a" top: "p" pooling_param { kernel_size: 4 stride: 4 } }
layer { name: "d" type: "Deconvolution" bottom: "p" top: "d" convolution_param {
    num_output: 3 kernel_size: 4 stride: 8 } }
layer { name: "y" type: "Crop" bottom: "d" bottom: "x" top: "y" crop_param { axis: 2 offset: 7 offset: 12 } }
"""
ONLY_CONSTANTS = """
layer { name: "a" type: "Convolution" bottom: "x" top: "a" convolution_param {
    num_output: 48 kernel_h: 4 kernel_w: 2 pad_h: 37 pad_w: 50 } }
layer { name: "b" type: "ReLU" bottom: "a" top: "a" }
layer { name: "c" type: "Convolution" bottom: "a" top: "c" convolution_param {
    num_output: 5 kernel_size: 2 pad_h: 0 pad_w: 1 } }
layer { name: "d" type: "Convolution" bottom: "c" top: "d" convolution_param { num_output: 3 kernel_size: 7 pad: 3 } }
layer { name: "e" type: "Convolution" bottom: "d" top: "e" convolution_param { num_output: 8 kernel_size: 3 pad: 1 } }
layer { name: "y" type: "Concat" bottom: "d" bottom: "e" top: "y" }
"""
ONE_ROW = """
layer { name: "a" type: "Convolution" bottom: "x" top: "a" convolution_param {
    num_output: 8 kernel_h: 7 kernel_w: 2 stride: 3 pad_h: 10 pad_w: 37 } }
layer { name: "p" type: "Pooling" bottom: "a" top: "p" pooling_param { kernel_size: 4 stride: 2 } }
layer { name: "c" type: "Convolution" bottom: "p" top: "c" convolution_param {
    num_output: 5 kernel_size: 3 stride_h: 2 stride_w: 1 pad_h: 0 pad_w: 1 } }
layer { name: "d" type: "Convolution" bottom: "c" top: "y" convolution_param { num_output: 5 kernel_size: 3 pad: 1 } }
"""
HOLES = """
layer { name: "a" type: "Convolution" bottom: "x" top: "a" convolution_param { num_output: 6 kernel_size: 3 pad: 30 } }
layer { name: "p" type: "Pooling" bottom: "a" top: "p" pooling_param { kernel_size: 3 stride: 2 hole: 2 } }
layer { name: "d" type: "Deconvolution" bottom: "p" top: "d" convolution_param {
    num_output: 4 kernel_size: 4 stride: 2 group: 2 } }
layer { name: "y" type: "Crop" bottom: "d" bottom: "x" top: "y" crop_param { axis: 2 offset: 20 } }
"""
OUTSIDE = """
layer { name: "a" type: "Convolution" bottom: "x" top: "a" convolution_param { num_output: 6 kernel_size: 3 pad: 20 } }
layer { name: "p" type: "Pooling" bottom: "a" top: "p" pooling_param { kernel_size: 1 stride: 2 } }
layer { name: "r" type: "ReLU" bottom: "p" top: "p" }
layer { name: "y" type: "Convolution" bottom: "p" top: "y" convolution_param { num_output: 3 kernel_size: 3 } }
"""
PADDED = """
layer { name: "a" type: "Convolution" bottom: "x" top: "a" convolution_param { num_output: 6 kernel_size: 3 pad: 20 } }
layer { name: "p" type: "Pooling" bottom: "a" top: "p" pooling_param { kernel_size: 2 stride: 2 pad: 1 } }
layer { name: "c" type: "Convolution" bottom: "p" top: "c" convolution_param { num_output: 5 kernel_size: 3 pad: 1 } }
layer { name: "q" type: "Pooling" bottom: "c" top: "q" pooling_param {
    kernel_h: 1 kernel_w: 3 stride_h: 3 stride_w: 2 pad_h: 0 pad_w: 1 } }
layer { name: "y" type: "Convolution" bottom: "q" top: "y" convolution_param { num_output: 3 kernel_size: 3 } }
"""
ENLARGED = """
layer { name: "a" type: "Convolution" bottom: "x" top: "a" convolution_param { num_output: 6 kernel_size: 3 pad: 20 } }
layer { name: "p" type: "Pooling" bottom: "a" top: "p" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "d" type: "Deconvolution" bottom: "p" top: "d" convolution_param {
    num_output: 3 kernel_size: 4 stride: 2 } }
layer { name: "y" type: "Crop" bottom: "d" bottom: "x" top: "y" crop_param { axis: 2 offset: 19 offset: 23 } }
"""
BEHIND = """
layer { name: "a" type: "Convolution" bottom: "x" top: "a" convolution_param { num_output: 6 kernel_size: 3 pad: 20 } }
layer { name: "b" type: "Convolution" bottom: "a" top: "b" convolution_param {
    num_output: 5 kernel_size: 1 pad_b: 2 pad_r: 1 } }
layer { name: "y" type: "Convolution" bottom: "b" top: "y" convolution_param { num_output: 3 kernel_size: 3 } }
"""
LONGER = """
layer { name: "a" type: "Convolution" bottom: "x" top: "a" convolution_param { num_output: 6 kernel_size: 3 pad: 30 } }
layer { name: "c" type: "Convolution" bottom: "a" top: "c" convolution_param { num_output: 6 kernel_size: 3 } }
layer { name: "b" type: "Convolution" bottom: "c" top: "b" convolution_param {
    num_output: 5 kernel_size: 1 stride: 40 } }
layer { name: "y" type: "Convolution" bottom: "b" top: "y" convolution_param {
    num_output: 3 kernel_size: 3 stride: 2 } }
"""
STRIDES = """
layer { name: "a" type: "Convolution" bottom: "x" top: "a" convolution_param {
    num_output: 6 kernel_size: 1 stride: 2 pad: 33 } }
layer { name: "b" type: "Convolution" bottom: "a" top: "b" convolution_param {
    num_output: 4 kernel_size: 1 stride: 2 } }
layer { name: "y" type: "Convolution" bottom: "b" top: "y" convolution_param { num_output: 3 kernel_size: 1 } }
"""


@pytest.mark.parametrize(
    ("layers", "size"),
    [(PASSED_OVER, (18, 1)), (PASSED_OVER, (20, 30)), (GAPS, (33, 40)), (ONLY_CONSTANTS, (52, 59)), (ONE_ROW, (8, 52)),
     (HOLES, (17, 19)), (OUTSIDE, (18, 20)), (PADDED, (18, 21)), (LONGER, (18, 20)),
     (ENLARGED, (18, 21)), (BEHIND, (18, 21))],
    ids=["passed over", "seen", "gaps", "only constants", "one row", "holes and groups", "windows outside", "pools",
         "longer kernels", "enlarged and cut", "pads behind"],
)  # fmt: skip
@pytest.mark.parametrize("convolutions", ["native", "torch", "direct"])
@pytest.mark.parametrize("band_bytes", [1, passes.BAND_BYTES])
def test_odd_settings(
    layers: str, size: tuple[int, int], convolutions: Choice, band_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Strides that pass over a small image, windows smaller than their stride, bands that see no image, single rows;
    dilated maxima, a deconvolution of groups, windows in which nothing lies; maxima that pad, of which Caffe leaves out
    the last window where it begins outside, also along an axis without padding where the other one has some; a kernel
    longer than the blob, which Caffe continues with zeros; what is cut out of a larger blob; a 1x1 window, which seems
    to go pixel by pixel, with padding behind the blob alone."""
    monkeypatch.setattr(passes, "BAND_BYTES", band_bytes)
    monkeypatch.setattr(lossless, "BAND_BYTES", band_bytes)
    net = filled(CaffeNet(parse_prototxt('input: "x" input_shape { dim: [1, 3, 24, 24] }' + layers)))
    quick = fcn_port.fast(net, convolutions=convolutions)
    assert isinstance(quick, Lossless)
    x = torch.randn(3, 3, *size, generator=torch.Generator().manual_seed(size[0]))
    assert error({"y": quick(x)}, in_double(net, {"x": x})) <= 5e-6


@pytest.mark.parametrize("convolutions", ["native", "torch"])
def test_sizes_that_leave_the_same_of_their_middle(convolutions: Choice) -> None:
    """Strides pass over the smaller image, so that fewer layers skip its padding."""
    net = filled(CaffeNet(parse_prototxt(f"""input: "x" input_shape {{ dim: [1, 3, 24, 24] }} {STRIDES}""")))
    quick = fcn_port.fast(net, convolutions=convolutions)
    for size in ((2, 2), (4, 8), (2, 2)):
        x = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(size[0]))
        assert error({"y": quick(x)}, in_double(net, {"x": x})) <= 5e-6


@pytest.mark.parametrize("counts", [(1, 2), (2, 1)])
def test_inputs_of_other_numbers_of_images(counts: tuple[int, int]) -> None:
    """Refused as the net itself refuses them."""
    text = f"""input: "x" input_shape {{ dim: [2, 3, 20, 20] }} input: "z" input_shape {{ dim: [2, 3, 20, 20] }}
        layer {{ name: "xz" type: "Concat" bottom: "x" bottom: "z" top: "xz" }}
        {GAPS.replace('bottom: "x" top: "a"', 'bottom: "xz" top: "a"')}"""
    net = filled(CaffeNet(parse_prototxt(text)))
    quick = fcn_port.fast(net)
    assert isinstance(quick, Lossless)
    images = {name: torch.randn(count, 3, 20, 20) for name, count in zip("xz", counts, strict=True)}
    with pytest.raises(NetError) as wanted:
        net(**images)
    with pytest.raises(NetError) as found:
        quick(**images)
    assert str(found.value) == str(wanted.value)


NO_IMAGES = {
    "a flat blob": 'type: "Flatten"',
    "features": 'type: "InnerProduct" inner_product_param { num_output: 3 }',
    "a number an image": 'type: "Reduction" reduction_param { axis: 1 }',
    "channels for images": 'type: "Permute" permute_param { order: 1 order: 0 }',
    "images twice": 'type: "Tile" tile_param { axis: 0 tiles: 2 }',
    "a softmax over images": 'type: "Softmax" softmax_param { axis: 0 }',
}


@pytest.mark.parametrize("behind", ["c", "data"])
@pytest.mark.parametrize("kind", NO_IMAGES)
def test_what_is_not_an_image_for_each_input(kind: str, behind: str) -> None:
    """A wide padding in front of what has other axes, another number of images, or computes with several of them."""
    text = f"""input: "data" input_shape {{ dim: 2 dim: 3 dim: 16 dim: 17 }}
        layer {{ name: "c" type: "Convolution" bottom: "data" top: "c"
            convolution_param {{ num_output: 4 kernel_size: 9 pad: 20 }} }}
        layer {{ name: "y" bottom: "{behind}" top: "y" {NO_IMAGES[kind]} }}"""
    net = with_drawn_weights(prepare(parse_prototxt(text)))
    x = torch.randn(2, 3, 16, 17, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found, wanted = fcn_port.fast(net)(x), net(x)
    pairs = [(found[name], wanted[name]) for name in wanted] if isinstance(wanted, dict) else [(found, wanted)]
    assert all(compare(ours.numpy(), theirs.numpy()) <= tolerance("fast-net") for ours, theirs in pairs)


BETWEEN = """
layer { name: "a" type: "Convolution" bottom: "x" top: "a" convolution_param { num_output: 4 kernel_size: 3 pad: 30 } }
"""
IN_PLACE = (
    BETWEEN
    + """
layer { name: "e" type: "Softmax" bottom: "a" top: "a" softmax_param { axis: 2 } }
layer { name: "y" type: "BNLL" bottom: "a" top: "y" }
"""
)
TWO_NAMES = (
    BETWEEN
    + """
layer { name: "b" type: "Convolution" bottom: "a" top: "b" convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "y" type: "Dropout" bottom: "b" top: "y" }
"""
)
CALLED = (
    BETWEEN
    + """
layer { name: "e" type: "TanH" bottom: "a" top: "a" }
layer { name: "b" type: "Convolution" bottom: "a" top: "a (2)" convolution_param {
    num_output: 4 kernel_size: 3 pad: 1 } }
layer { name: "y" type: "Eltwise" bottom: "a" bottom: "a (2)" top: "y" }
"""
)
INPUT = (
    """
layer { name: "e" type: "ELU" bottom: "x" top: "x" }
"""
    + BETWEEN
)


@pytest.mark.parametrize(
    ("layers", "outputs"),
    [(IN_PLACE, ("a", "y")), (TWO_NAMES, ("b", "y")), (INPUT, ("x", "a")), (CALLED, ("a (2)", "y"))],
    ids=["changed in place", "one value", "an input", "called as a second value"],
)  # fmt: skip
def test_outputs_whose_names_are_not_those_of_values(layers: str, outputs: tuple[str, ...]) -> None:
    """What was before the change in place went for what is behind it; a second name ended in a KeyError."""
    data = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: [1, 3, 20, 20] } } }'
    net = filled(CaffeNet(parse_prototxt(data + layers), outputs=outputs))
    for images in (1, 2):
        x = torch.randn(images, 3, 20, 20)
        found, expected = fcn_port.fast(net)(x), net(x)
        assert list(found) == list(expected)
        for name, value in expected.items():
            assert torch.allclose(found[name], value, atol=1e-5), name
