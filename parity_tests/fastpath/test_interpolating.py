"""`fast` of layers whose pixels lie between four of the bottom: Interp, BilinearInterpolation and ResizeBilinear."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from converters import CaffeNet
from converters.formats import parse_prototxt
from converters.layers.between import Between
from fcn_port.fastpath.native import why_not
from fcn_port.fastpath.program import FastNet
from parity_tests.fastpath.random_nets import filled
from parity_tests.tolerances import tolerance

pytestmark = pytest.mark.skipif(why_not() is not None, reason="no C compiler")

NET = """
input: "data" input_shape {{ dim: [1, 3, 9, 7] }}
layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv"
    convolution_param {{ num_output: {channels} kernel_size: 3 pad: 1 }} }}
layer {{ name: "size" type: "Convolution" bottom: "data" top: "size"
    convolution_param {{ num_output: 2 kernel_size: 3 pad: 6 stride: 2 }} }}
{before}
layer {{ name: "it" top: "it" bottom: "{bottom}" {layer} }}
{behind}
"""
KINDS = {
    "Interp, zoom": 'type: "Interp" interp_param { zoom_factor: 3 }',
    "Interp, shrink": 'type: "Interp" interp_param { shrink_factor: 2 }',
    "Interp, cropped": 'type: "Interp" interp_param { height: 17 width: 8 pad_beg: -1 pad_end: -2 }',
    "Interp to one pixel": 'type: "Interp" interp_param { height: 1 width: 1 }',
    "Interp like another": 'type: "Interp" bottom: "size" interp_param { }',
    "BilinearInterpolation": 'type: "BilinearInterpolation" bottom: "size"',
    **{
        f"ResizeBilinear {how}": f"""type: "ResizeBilinear" resize_bilinear_param {{
            output_height: 14 output_width: 5 data_format: "NCHW" {how} }}"""
        for how in ("", "align_corners: true", "half_pixel_centers: true", "pytorch_half_pixel: true")
    },
}
TURN = 'layer {{ name: "{0}" type: "Permute" bottom: "{1}" top: "{0}" permute_param {{ order: {2} }} }}'
BEHIND = {
    "nothing": "",
    "PReLU": 'layer { name: "prelu" type: "PReLU" bottom: "it" top: "it" }',
    "sigmoid": 'layer { name: "sigmoid" type: "Sigmoid" bottom: "it" top: "it" }',
}


def check(text: str, images: int, slow: tuple[str, ...] = ()) -> None:
    """At most twice as far from double precision as the net itself and a little more; the layers are native."""
    net, exact = (filled(CaffeNet(parse_prototxt(text))).eval() for _ in range(2))
    quick, exact = FastNet(net), exact.double()
    for size in ((9, 7), (4, 13)):
        x = torch.randn(images, 3, *size, generator=torch.Generator().manual_seed(3))
        plain, expected = (_values(each(value)) for each, value in ((net, x), (exact, x.double())))
        plan = quick.program({"data": tuple(x.shape)})
        assert tuple(each.operation.name for each in plan.planned if each.is_slow) == slow
        found = plan({"data": x.numpy()}, np.full(plan.floats, np.nan, np.float32))
        for name, value in expected.items():
            error = float((torch.from_numpy(found[name]) - value).abs().max())
            literal = float((plain[name] - value).abs().max())
            assert error <= 2 * literal + tolerance("fast-net") * float(value.abs().max()), name


def _values(found: torch.Tensor | dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {"it": found} if isinstance(found, torch.Tensor) else found


@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize("channels", [3, 40])
@pytest.mark.parametrize("kind", KINDS)
def test_images(kind: str, channels: int, images: int) -> None:
    check(NET.format(channels=channels, before="", bottom="conv", layer=KINDS[kind], behind=""), images)


@pytest.mark.parametrize("behind", BEHIND)
@pytest.mark.parametrize("turned", [False, True])
def test_what_follows_is_merged(behind: str, turned: bool) -> None:
    """Also where the last axis has the channels; slopes of PReLU are another axis's then, and stay apart."""
    layer, before, bottom = KINDS["ResizeBilinear half_pixel_centers: true"], "", "conv"
    if turned:
        layer, before = layer.replace("NCHW", "NHWC"), TURN.format("turned", "conv", "[0, 2, 3, 1]")
        bottom = "turned"
    text = NET.format(channels=20, before=before, bottom=bottom, layer=layer, behind=BEHIND[behind])
    if turned and behind == "PReLU":  # of as many slopes as rows, so of one size
        net = filled(CaffeNet(parse_prototxt(text))).eval()
        plan = FastNet(net).program({"data": (1, 3, 9, 7)})
        assert "prelu" in [each.operation.name for each in plan.planned]
        return
    check(text, 1)
    plan = FastNet(filled(CaffeNet(parse_prototxt(text))).eval()).program({"data": (1, 3, 9, 7)})
    assert [each.operation.name for each in plan.planned][-1] == "it"


@pytest.mark.parametrize(("size", "top"), [(1, 5), (5, 1), (7, 7), (9, 33), (33, 9), (60, 473)])
def test_places_between_corners(size: int, top: int) -> None:
    """Those of PyTorch's own interpolation, found by what it makes of a slope and of single pixels."""
    between = Between.of_corners(size, top)
    rows = torch.eye(size)[None, None]
    expected = torch.nn.functional.interpolate(rows, [top, size], mode="bilinear", align_corners=True)[0, 0]
    found = np.zeros((top, size), np.float32)
    np.add.at(found, (np.arange(top), between.first), 1 - between.share)
    np.add.at(found, (np.arange(top), between.second), between.share)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance("fast-net"))


@pytest.mark.parametrize("size", ["zoom_factor: 3", "height: 9 width: 7", "height: 9 width: 13", "height: 5 width: 7"])
def test_infinities_spread_as_in_the_layer(size: str) -> None:
    """A pixel between an infinite one and another is infinite, and NaN where its share is none; not along an axis
    that keeps its size."""
    layer = f'type: "Interp" interp_param {{ {size} }}'
    text = NET.format(channels=3, before="", bottom="data", layer=layer, behind="")
    net = filled(CaffeNet(parse_prototxt(text))).eval()
    x = torch.zeros(1, 3, 9, 7)
    x[0, 1, 4, 3] = float("inf")
    plan = FastNet(net).program({"data": (1, 3, 9, 7)})
    found = plan({"data": x.numpy()}, np.empty(plan.floats, np.float32))["it"]
    np.testing.assert_array_equal(found, net(x)["it"])
