"""Outputs of a pass: what a plan has with channels side by side, as arrays of their own in Caffe's order."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from converters.execution import CaffeNet
from converters.formats import parse_prototxt
from fcn_port.fastpath.native import why_not
from fcn_port.fastpath.native.kept import KeptMemory
from fcn_port.fastpath.native.memory import Floats, address
from fcn_port.fastpath.program import FastNet
from fcn_port.fastpath.program.outputs import LEAST, LEAST_KEPT, own_arrays, write
from parity_tests.fastpath.random_nets import filled

pytestmark = pytest.mark.skipif(why_not() is not None, reason="no C compiler")


def blob(shape: tuple[int, int, int, int], *, beyond: int = 0, turned: bool = False) -> Floats:
    """A view (n, c, h, w) of numbers side by side by channels, with others behind each pixel and each row."""
    n, c, h, w = shape
    numbers = np.random.default_rng(c).standard_normal((n, h, w + beyond, c + beyond), np.float32)
    view = numbers[:, :, :w, :c].transpose(0, 3, 1, 2)
    return view[:, :, ::-1] if turned else view


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
@pytest.mark.parametrize(
    ("shape", "beyond", "turned"),
    [
        ((1, 21, 50, 70), 0, False),
        ((3, 70, 13, 17), 0, False),
        ((2, 33, 19, 16), 5, False),
        ((1, 2, 128, 129), 1, False),
        ((1, 1, 200, 200), 3, False),
        ((1, LEAST, 1, 1), 0, False),
        ((2, 40, 30, 31), 2, True),
        ((1, 5, 4, 3), 1, False),
    ],
)
def test_numbers(shape: tuple[int, int, int, int], beyond: int, turned: bool, threads: int) -> None:
    view = blob(shape, beyond=beyond, turned=turned)
    (found,) = own_arrays({"y": view}, KeptMemory(), threads).values()
    assert found.flags.c_contiguous and np.array_equal(found, view)
    among = np.full((shape[0] + 2, *shape[1:]), np.nan, np.float32)
    write(view, among[1:-1], threads)
    assert np.array_equal(among[1:-1], view) and np.isnan(among[[0, -1]]).all()


def test_of_other_axes() -> None:
    numbers = np.arange(6 * LEAST, dtype=np.float32).reshape(2, 3, LEAST)
    views = {"volume": numbers.reshape(2, 3, 4, 8, -1).transpose(0, 4, 1, 2, 3), "rows": numbers.swapaxes(1, 2)}
    found = own_arrays(views, KeptMemory(), 2)
    assert all(np.array_equal(found[name], view) for name, view in views.items())


def test_a_copy_takes_no_memory_along() -> None:
    """Nor another process, to which a fast net is sent."""
    memory = KeptMemory()
    memory.give_back(np.zeros(LEAST_KEPT, np.float32))
    copied = pickle.loads(pickle.dumps(memory))
    assert len(pickle.dumps(memory)) < 1000
    array = memory.take(LEAST_KEPT)
    assert copied.take(LEAST_KEPT) is not array and memory.take(LEAST_KEPT) is not array


@pytest.mark.parametrize("images", [1, 3])
def test_memory_comes_back_when_nobody_has_it(images: int) -> None:
    """A result stays as it is for who holds it, or any view of it; else the next pass has its memory."""
    net = filled(CaffeNet(parse_prototxt("""
        layer { name: "x" type: "Input" top: "x" input_param { shape { dim: [1, 3, 64, 64] } } }
        layer { name: "y" type: "Convolution" bottom: "x" top: "y" convolution_param { num_output: 40 kernel_size: 1 } }
        """)))  # fmt: skip
    fast = FastNet(net)
    x = torch.randn(images, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    expected = [net(each) for each in (x, -x, 2 * x)]
    assert expected[0].numpy().nbytes >= LEAST_KEPT
    held = fast(x)[0, 3:5]
    second = fast(-x)
    assert torch.allclose(held, expected[0][0, 3:5], atol=1e-5) and torch.allclose(second, expected[1], atol=1e-5)
    where = address(second.numpy())
    del second
    third = fast(2 * x)
    assert address(third.numpy()) == where
    assert torch.allclose(held, expected[0][0, 3:5], atol=1e-5) and torch.allclose(third, expected[2], atol=1e-5)
