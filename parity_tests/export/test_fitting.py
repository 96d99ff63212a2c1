"""The sizes that a net takes: an unpooling that says its own is for one of them, and no export is tried at others."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from converters import CaffeNet
from converters.export import least_side, takes
from converters.formats import parse_prototxt
from fcn_port.exporting import export_net

NET = """
input: "data" input_shape {{ dim: [1, 3, 8, 12] }}
layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv"
    convolution_param {{ num_output: 4 kernel_size: 3 pad: 1 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "pool" type: "Pooling" bottom: "conv" top: "pool" top: "mask"
    pooling_param {{ pool: MAX kernel_size: 2 stride: 2 {pool} }} }}
layer {{ name: "up" type: "Upsample" bottom: "pool" bottom: "mask" top: "up" upsample_param {{ {up} }} }}
"""
FIXED, DOUBLED, FLOORED = "upsample_h: 8 upsample_w: 12", "scale: 2", "round_mode: FLOOR"


@pytest.mark.parametrize(
    ("pool", "up", "size", "fits"),
    [
        ("", FIXED, (8, 12), True),
        ("", FIXED, (16, 24), False),  # places outside of the blob
        ("", FIXED, (4, 6), False),  # inside, on other rows
        ("", DOUBLED, (16, 24), True),
        ("", DOUBLED, (9, 13), True),  # windows of one row more
        (FLOORED, DOUBLED, (9, 13), False),  # places in a row that is not there any more
        (FLOORED, DOUBLED, (10, 14), True),
    ],
)
def test_places_have_a_size(pool: str, up: str, size: tuple[int, int], fits: bool) -> None:
    spec = parse_prototxt(NET.format(pool=pool, up=up))
    assert takes(spec, {"data": (1, 3, *size)}) is fits
    if fits:
        CaffeNet(spec)(torch.randn(1, 3, *size))


def test_a_fixed_unpooling_makes_a_net_of_one_size() -> None:
    assert least_side(parse_prototxt(NET.format(pool="", up=FIXED))) is None
    assert least_side(parse_prototxt(NET.format(pool="", up=DOUBLED))) == 32


@pytest.mark.parametrize("to", ["safetensors", "caffe", "python", "onnx", "hdf5"])
def test_it_is_exported_at_its_own_size(to: str, tmp_path: Path) -> None:
    """Each was tried at other sizes, where places lie outside, and refused."""
    net = CaffeNet(parse_prototxt(NET.format(pool="", up=FIXED))).eval()
    out = tmp_path / f"net.{'caffemodel' if to == 'caffe' else to}"
    export_net(net, to=to, out=out)
    assert out.exists()
