"""Layers that move numbers: by tables of distances, to the very numbers that the layers themselves give."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest
import torch

from converters import CaffeNet
from converters.formats import parse_prototxt
from fcn_port.fastpath.native import why_not
from fcn_port.fastpath.program import FastNet, moving
from parity_tests.fastpath.random_nets import filled
from parity_tests.tolerances import tolerance

pytestmark = pytest.mark.skipif(why_not() is not None, reason="no C compiler")

NET = """
input: "data" input_shape {{ dim: [2, 3, 8, 12] }}
layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv"
    convolution_param {{ num_output: 24 kernel_size: 3 pad: 1 }} }}
layer {{ name: "it" {layer} bottom: "conv" top: "it" }}
"""
MOVED = {
    "shuffled channels": 'type: "ShuffleChannel" shuffle_channel_param { group: 4 }',
    "Tile of channels": 'type: "Tile" tile_param { axis: 1 tiles: 3 }',
    "Tile of rows": 'type: "Tile" tile_param { axis: 2 tiles: 2 }',
    "Reorg": 'type: "Reorg" reorg_param { stride: 2 }',
    "another shape": 'type: "Reshape" reshape_param { shape { dim: 0 dim: 6 dim: 4 dim: -1 } }',
    "rows of one number each": 'type: "Reshape" reshape_param { shape { dim: [-1, 1] } }',
    "rows across channels": 'type: "Reshape" reshape_param { shape { dim: 0 dim: 9 dim: -1 } }',
    "pixels repeated": 'type: "Upsample" upsample_param { scale_h: 2 scale_w: 3 pad_out_w: true }',
    "turned": 'type: "Permute" permute_param { order: [0, 3, 1, 2] }',
}
BEHIND = """
layer { name: "next" type: "Convolution" bottom: "it" top: "next"
    convolution_param { num_output: 20 kernel_size: 1 } }
"""


def net_of(kind: str, behind: str = "") -> CaffeNet:
    return filled(CaffeNet(parse_prototxt(NET.format(layer=MOVED[kind]) + behind))).eval()


@pytest.mark.parametrize("kind", MOVED)
@pytest.mark.parametrize("size", [(1, 8, 12), (3, 4, 6)])
def test_the_very_numbers(kind: str, size: tuple[int, int, int]) -> None:
    """Over memory that held NaN before, twice; nothing is PyTorch's but a shape in which distances do not add up."""
    net = net_of(kind)
    images, height, width = size
    x = torch.randn(images, 3, height, width, generator=torch.Generator().manual_seed(1))
    plan = FastNet(net).program({"data": tuple(x.shape)})
    (first, second) = (plan({"data": x.numpy()}, np.full(plan.floats, np.nan, np.float32)) for _ in range(2))
    expected = net(x)
    assert first["it"].shape == tuple(expected.shape)
    np.testing.assert_allclose(first["it"], expected, rtol=0, atol=tolerance("fast-net") * float(expected.abs().max()))
    assert np.array_equal(first["it"], second["it"])
    slow = [each.operation.name for each in plan.planned if each.is_slow]
    assert slow == (["it"] if kind == "rows across channels" else [])


def test_what_reads_images_reads_what_was_turned() -> None:
    """A Permute is no view where channels lie apart behind it, as a convolution wants them side by side."""
    net = net_of("turned", BEHIND)
    plan = FastNet(net).program({"data": (1, 3, 8, 12)})
    how = {each.operation.name: each.how for each in plan.planned}
    assert how["it"] == "numbers moved"


@pytest.mark.parametrize("kind", ["shuffled channels", "Reorg", "pixels repeated", "turned"])
def test_what_is_kept_of_a_size_is_no_blob(kind: str) -> None:
    """Tables of 64 sizes are kept: each kept all distances of its top alive, a gigabyte for 64 blobs of 12 MB."""
    plan = FastNet(net_of(kind, BEHIND)).program({"data": (1, 3, 8, 12)})
    (operation,) = [each.operation for each in plan.planned if each.operation.name == "it"]
    (bottom, top) = (plan.places.values[name] for name in (*operation.bottoms, *operation.tops))
    found = moving.sources_of(operation, [bottom], [top])
    assert found is not None and all(each.base is None for each in found.along)


def test_many_numbers_are_not_looked_at() -> None:
    """Finding the tables takes memory: beyond a limit PyTorch moves them, to the same numbers."""
    net = net_of("shuffled channels")
    x = torch.randn(1, 3, 8, 12, generator=torch.Generator().manual_seed(2))
    with patch.object(moving, "MOST_NUMBERS", 24 * 8 * 12 - 1):
        plan = FastNet(net).program({"data": (1, 3, 8, 12)})
    assert [each.operation.name for each in plan.planned if each.is_slow] == ["it"]
    found = plan({"data": x.numpy()}, np.empty(plan.floats, np.float32))["it"]
    quick = FastNet(net).program({"data": (1, 3, 8, 12)})
    assert np.array_equal(found, quick({"data": x.numpy()}, np.empty(quick.floats, np.float32))["it"])


def test_more_axes_than_the_c_code_has() -> None:
    """A layer over five axes is PyTorch's, and the rest of the net keeps its plan."""
    layer = 'type: "Reshape" reshape_param { shape { dim: [0, 4, 6, 8, -1] } }'
    behind = 'layer { name: "tile" type: "Tile" bottom: "it" top: "tile" tile_param { axis: 2 tiles: 2 } }'
    net = filled(CaffeNet(parse_prototxt(NET.format(layer=layer) + behind))).eval()
    x = torch.randn(1, 3, 8, 12, generator=torch.Generator().manual_seed(3))
    plan = FastNet(net).program({"data": tuple(x.shape)})
    assert "tile" in [each.operation.name for each in plan.planned if each.is_slow]
    expected = net(x)
    found = plan({"data": x.numpy()}, np.full(plan.floats, np.nan, np.float32))["tile"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance("fast-net") * float(expected.abs().max()))
