"""Products of rows so long that a cache holds few of them: some numbers of many rows at a time, with the same bits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from converters import CaffeNet
from fcn_port.fastpath.native import division, why_not
from fcn_port.fastpath.program import FastNet, over_time
from fcn_port.fastpath.program.places import BlobPlace
from fcn_port.fastpath.program.weights import Packed
from parity_tests.fastpath.flows import net_of
from parity_tests.tolerances import tolerance

pytestmark = pytest.mark.skipif(why_not() is not None, reason="no C compiler")

WHOLE = "InnerProduct y: a -> y | inner_product_param { num_output: 70 }"
NETS = {
    "whole blobs": ((16, 20, 3, 5), (WHOLE, "PReLU r: y -> y")),
    "crowded blobs": ((15, 32, 4, 4), (WHOLE, "TanH r: y -> y")),
    "columns": ((33, 300), (WHOLE, "ReLU r: y -> y")),
    "images": ((2, 260, 5, 4), ("Convolution y: a -> y | convolution_param { num_output: 37 kernel_size: 1 }",)),
    "windows": (
        (1, 64, 9, 7),
        (
            "Convolution y: a -> y | convolution_param { num_output: 132 kernel_size: 3 pad: 1 stride: 2 }",
            "Convolution z: a -> z | convolution_param { num_output: 132 kernel_size: 3 pad: 1 stride: 2 }",
            "Eltwise s: y z -> s", "ReLU r: s -> s",
        ),
    ),
}  # fmt: skip


def steps_of(net: FastNet, x: Tensor) -> list[int]:
    """The stretch of each product."""
    net.state()
    tasks = [task for each in net.program({"data": tuple(x.shape)}).planned for task in each.tasks or ()]
    return [task.settings.stretch for task in tasks if task.kind == "product"]


def example(name: str) -> tuple[CaffeNet, Tensor]:
    shape, layers = NETS[name]
    generator = torch.Generator().manual_seed(len(name))
    return net_of("AbsVal a: data -> a", *layers, shape=shape), torch.randn(shape, generator=generator)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", list(NETS))
def test_the_same_bits(name: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = example(name)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        whole = FastNet(net, prefer="product")
        expected, read_whole = whole(x), steps_of(whole, x)
        for constant, value in (("LONG", 200), ("LEAST_STRETCHED", 0), ("STRETCH", 128), ("MOST_ROWS", 14)):
            monkeypatch.setattr(division, constant, value)
        quick = FastNet(net, prefer="product")
        found, read_long = quick(x), steps_of(quick, x)
    finally:
        torch.set_num_threads(before)
    assert set(read_whole) == {0} and set(read_long) == {128}
    assert torch.equal(found, expected)
    torch.testing.assert_close(found, net(x), rtol=0, atol=tolerance("fast-net") * float(expected.abs().max()))


def test_rows_over_time_likewise() -> None:
    """A recurrent layer's products, whose steps are made elsewhere."""
    x, y = BlobPlace(0, 0, (24, 4096, 1, 1), (4096, 1, 1, 1)), BlobPlace(1, 0, (24, 1024, 1, 1), (1024, 1, 1, 1))
    task = over_time._product(x, y, None, Packed(), 1)
    assert task.settings.stretch == division.STRETCH


@pytest.mark.parametrize(
    ("rows", "length", "stretch"), [(24, 4096, 640), (12, 4096, 0), (16, 2048, 0), (140, 3072, 640)]
)
def test_where_kernels_would_be_read_too_often(rows: int, length: int, stretch: int) -> None:
    found = division.divide_product(
        length=length, positions=rows, features=1024, rows_are=division.GATHERED, threads=1, is_flat=True
    )
    assert found.stretch == stretch
    if stretch:
        assert found.shared == division.FLAT and found.block * -(-rows // division.MOST_ROWS) >= rows


@pytest.mark.parametrize("threads", [2, 4])
def test_threads_divide_kernels_that_are_more_than_rows(threads: int) -> None:
    """49 positions and 960 outputs: threads that divided the rows would each read all kernels, from a shared cache."""
    found = division.divide_product(length=160, positions=49, features=960, rows_are=division.FLAT, threads=threads)
    panels = -(-960 // division.library().panel())
    assert found.block >= 49 and -(-panels // found.group) >= 4 * threads
