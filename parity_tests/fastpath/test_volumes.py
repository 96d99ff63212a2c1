"""`fast` of layers over depth, height and width: sums over the planes of a window."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from converters import CaffeNet
from converters.formats import parse_prototxt
from fcn_port.fastpath.native import why_not
from fcn_port.fastpath.program import FastNet, self_check
from fcn_port.fastpath.program.by_pytorch import in_order
from parity_tests.fastpath.random_nets import filled
from parity_tests.tolerances import tolerance

pytestmark = pytest.mark.skipif(why_not() is not None, reason="no C compiler")

NET = """
input: "data" input_shape {{ dim: [1, {channels}, {depth}, 12, 14] }}
layer {{ name: "it" bottom: "data" top: "it" {layer} }}
{behind}
"""
CONVOLVED = 'type: "NdConvolution" convolution_param {{ num_output: 20 {} }}'
LAYERS = {
    "3x3x3": "kernel_shape { dim: [3, 3, 3] } pad_shape { dim: [1, 1, 1] } stride_shape { dim: [1, 1, 1] }",
    "3x3x3, no pad": "kernel_shape { dim: [3, 3, 3] } pad_shape { dim: [0, 0, 0] } stride_shape { dim: [1, 1, 1] }",
    "strides": "kernel_shape { dim: [3, 5, 5] } pad_shape { dim: [1, 2, 2] } stride_shape { dim: [2, 1, 2] }",
    "one plane": "kernel_shape { dim: [1, 3, 3] } pad_shape { dim: [0, 1, 1] } stride_shape { dim: [1, 1, 1] }",
    "depth alone": "kernel_shape { dim: [3, 1, 1] } pad_shape { dim: [1, 0, 0] } stride_shape { dim: [1, 1, 1] }",
    "five planes": "kernel_shape { dim: [5, 3, 3] } pad_shape { dim: [2, 1, 1] } stride_shape { dim: [1, 1, 1] }",
    "groups": "group: 2 kernel_shape { dim: [3, 3, 3] } pad_shape { dim: [1, 1, 1] } stride_shape { dim: [1, 1, 1] }",
}
BEHIND = {
    "nothing": "",
    "a PReLU": 'layer { name: "relu" type: "PReLU" bottom: "it" top: "it" }',
    "a norm and a sum": """
        layer { name: "norm" type: "BatchNorm" bottom: "it" top: "it" }
        layer { name: "other" type: "ReLU" bottom: "data" top: "other" }
        layer { name: "sum" type: "Eltwise" bottom: "it" bottom: "other" top: "sum" }
        layer { name: "relu" type: "ReLU" bottom: "sum" top: "sum" }""",
}


def check(text: str, x: torch.Tensor, *, slow: tuple[str, ...] = ()) -> None:
    """By each way to compute convolutions and one or two threads: about as far from double precision as the net."""
    net = filled(CaffeNet(parse_prototxt(text))).eval()
    plain, exact = net(x), filled(CaffeNet(parse_prototxt(text))).double().eval()(x.double())
    rounding = 2 * float((plain - exact).abs().max()) + tolerance("fast-net") * float(exact.abs().max())
    before = torch.get_num_threads()
    try:
        for threads, prefer in [(2, None), *((1, prefer) for prefer in self_check.TRIED)]:
            torch.set_num_threads(threads)
            plan = FastNet(net, prefer=prefer).program({"data": tuple(x.shape)})
            assert tuple(each.operation.name for each in plan.planned if each.is_slow) == slow
            (found,) = plan({"data": x.numpy()}, np.full(plan.floats, np.nan, np.float32)).values()
            assert found.shape == tuple(exact.shape)
            assert float((torch.from_numpy(found) - exact).abs().max()) <= rounding
    finally:
        torch.set_num_threads(before)


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("behind", BEHIND)
@pytest.mark.parametrize(("images", "depth"), [(1, 6), (2, 3)])
@pytest.mark.parametrize("kind", LAYERS)
def test_convolutions(kind: str, images: int, depth: int, behind: str) -> None:
    if "sum" in behind and kind in ("3x3x3, no pad", "strides"):
        pytest.skip("a sum of blobs of other sizes")
    layer = CONVOLVED.format(LAYERS[kind])
    check(NET.format(channels=20, depth=depth, layer=layer, behind=BEHIND[behind]), drawn(images, 20, depth, 12, 14))


DECONVOLVED = {
    "doubled": "kernel_size: [4, 4, 4] pad: [1, 1, 1] stride: [2, 2, 2]",
    "planes doubled": "kernel_size: [2, 3, 3] pad: [0, 1, 1] stride: [2, 1, 1]",
    "images enlarged": "kernel_size: [1, 4, 6] pad: [0, 1, 2] stride: [1, 2, 3]",
    "3x3x3": "kernel_size: [3, 3, 3] pad: [1, 1, 1] stride: [1, 1, 1]",
    "tripled, in groups": """group: 2 kernel_size: [5, 5, 5] pad: [1, 1, 1]
        stride: [3, 3, 3]""",
    "a kernel for each channel": """group: 20 bias_term: false kernel_size: [4, 4, 4]
        pad: [1, 1, 1] stride: [2, 2, 2]""",
}


@pytest.mark.parametrize("behind", ["nothing", "a PReLU"])
@pytest.mark.parametrize(("images", "depth"), [(1, 4), (2, 3)])
@pytest.mark.parametrize("kind", DECONVOLVED)
def test_deconvolutions(kind: str, images: int, depth: int, behind: str) -> None:
    layer = CONVOLVED.format(DECONVOLVED[kind]).replace("NdConvolution", "Deconvolution")
    check(NET.format(channels=20, depth=depth, layer=layer, behind=BEHIND[behind]), drawn(images, 20, depth, 12, 14))


def test_planes_that_no_window_reaches_are_pytorch_s() -> None:
    """A stride wider than the kernel leaves planes of the bias alone."""
    text = "kernel_size: [2, 3, 3] pad: [0, 1, 1] stride: [3, 1, 1]"
    layer = CONVOLVED.format(text).replace("NdConvolution", "Deconvolution")
    check(NET.format(channels=20, depth=3, layer=layer, behind=""), drawn(1, 20, 3, 12, 14), slow=("it",))


def test_a_window_deeper_than_the_volume_is_pytorch_s() -> None:
    layer = CONVOLVED.format(LAYERS["five planes"].replace("2, 1, 1", "4, 1, 1"))
    check(NET.format(channels=20, depth=2, layer=layer, behind=""), drawn(1, 20, 2, 12, 14), slow=("it",))


POOLED = {
    "2x2x2": "pool: MAX kernel_size: 2 kernel_depth: 2 stride: 2 temporal_stride: 2",
    "1x2x2": "pool: MAX kernel_size: 2 kernel_depth: 1 stride: 2 temporal_stride: 1",
    "3x3x3": "pool: MAX kernel_size: 3 kernel_depth: 3 stride: 1 temporal_stride: 1",
    "all": "pool: MAX global_pooling: true",
    "the average of all": "pool: AVE global_pooling: true",
}


@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize("kind", POOLED)
def test_maxima(kind: str, images: int) -> None:
    """With a product over the whole volume behind it."""
    behind = 'layer { name: "ip" type: "InnerProduct" bottom: "it" top: "ip" inner_product_param { num_output: 9 } }'
    layer = f'type: "{"NdPooling" if "all" in kind else "Pooling3D"}" pooling_param {{ {POOLED[kind]} }}'
    check(NET.format(channels=20, depth=5, layer=layer, behind=behind), drawn(images, 20, 5, 12, 14))


@pytest.mark.parametrize("method", ["MAX", "AVE"])
@pytest.mark.parametrize("axis", [2, 3, 4])
def test_all_of_a_part_of_a_volume(axis: int, method: str) -> None:
    """Whose planes may lie apart, so that they are no image of so many more rows."""
    layer = f'type: "Slice" top: "rest" slice_param {{ axis: {axis} slice_point: 2 }}'
    pooling = f"pooling_param {{ pool: {method} global_pooling: true }}"
    behind = f"""layer {{ name: "p" type: "NdPooling" bottom: "it" top: "p" {pooling} }}
        layer {{ name: "q" type: "NdPooling" bottom: "rest" top: "q" {pooling} }}
        layer {{ name: "both" type: "Concat" bottom: "p" bottom: "q" top: "both" }}"""
    slow = ("p", "q") if axis == 3 else ()
    check(NET.format(channels=20, depth=5, layer=layer, behind=behind), drawn(2, 20, 5, 12, 14), slow=slow)


@pytest.mark.parametrize("axis", [1, -4, -3, 2])
@pytest.mark.parametrize("kind", ["Softmax", "InnerProduct"])
def test_axes_are_those_of_the_volume(kind: str, axis: int) -> None:
    """Seen as images with d * h rows, a volume's axes would be others, counted from the end."""
    settings = f"softmax_param {{ axis: {axis} }}"
    if kind == "InnerProduct":
        settings = f"inner_product_param {{ axis: {axis} num_output: 5 }}"
    slow = () if axis in (1, -4) else ("it",)
    text = NET.format(channels=20, depth=3, layer=f'type: "{kind}" {settings}', behind="")
    check(text, drawn(1, 20, 3, 12, 14), slow=slow)


TURNED = (
    'layer { name: "turned" type: "Permute" bottom: "data" top: "turned" permute_param { order: [0, 2, 3, 4, 1] } }'
)
BY_ITSELF = {
    "ReLU": 'type: "ReLU"',
    "Eltwise": 'type: "Eltwise" bottom: "{0}"',
    "Mul": 'type: "Mul" bottom: "{0}"',
    **{f"Softmax {axis}": f'type: "Softmax" softmax_param {{{{ axis: {axis} }}}}' for axis in (2, 3, 4)},
    **{f"Scale {axis}": f'type: "Scale" scale_param {{{{ axis: {axis} bias_term: true }}}}' for axis in (2, 3, -1)},
}


@pytest.mark.parametrize("shape", [(1, 1, 2, 3, 4), (2, 1, 2, 4, 4), (1, 4, 1, 3, 2), (2, 3, 4, 2, 1), (1, 5, 2, 3, 1)])
@pytest.mark.parametrize("before", ["data", "turned"])
@pytest.mark.parametrize("kind", BY_ITSELF)
def test_volumes_of_one_channel_or_one_column_are_no_images_by_their_last_axis(
    kind: str, before: str, shape: tuple[int, ...]
) -> None:
    """Seen as images with d * h rows they were, and the steps did not see them so: axes were others."""
    layer = f'layer {{ name: "it" bottom: "{before}" top: "it" {BY_ITSELF[kind].format(before)} }}'
    dims = ", ".join(map(str, shape))
    text = f'input: "data" input_shape {{ dim: [{dims}] }}\n{TURNED if before == "turned" else ""}\n{layer}'
    net, x = filled(CaffeNet(parse_prototxt(text))).eval(), drawn(*shape)
    plan = FastNet(net).program({"data": shape})
    (found,) = plan({"data": x.numpy()}, np.full(plan.floats, np.nan, np.float32)).values()
    torch.testing.assert_close(torch.from_numpy(found.copy()), net(x), rtol=0, atol=tolerance("fast-net"))


def test_pytorch_is_given_volumes_in_order() -> None:
    """With channels side by side its convolution over a blob of one row and one column, padded and dilated, crashed."""
    channels_last = np.ones((9, 5, 1, 1, 48), np.float32).transpose(0, 4, 1, 2, 3)
    assert not channels_last.flags.c_contiguous
    assert in_order(channels_last).flags.c_contiguous
