"""Memory that is given back, pages of a file that others can read again and no others; and what packed weights take."""

from __future__ import annotations

import mmap
import re
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from fcn_port.fastpath.native.memory import SLAB, Slabs, address, empty, let_go
from fcn_port.fastpath.numpy_net import numpy_net
from fcn_port.fastpath.program import why_not_any
from parity_tests.limited import run_limited

pytestmark = pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="no Linux")
COUNT = 1 << 18
INNER = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [1, 64, 4, 4] } } }
layer { name: "a" type: "InnerProduct" bottom: "data" top: "a" inner_product_param {
    num_output: 256 bias_term: false } }
"""


def resident_kb(array: np.ndarray) -> int:
    """The kilobytes of the mapping an array lies in that are in this process's memory."""
    at = array.__array_interface__["data"][0]
    for part in re.split(r"\n(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text(errors="replace")):
        low, high = (int(each, 16) for each in part.split(None, 1)[0].split("-"))
        if low <= at < high:
            return int(re.search(r"^Rss:\s+(\d+)", part, re.MULTILINE)[1])  # type: ignore[index]
    raise AssertionError("no mapping")


@pytest.mark.parametrize("floats", [1, 100, 5000, 300_000, (2 << 20) // 4])
def test_blobs_begin_with_a_line_of_the_cache(floats: int) -> None:
    """Vectors in two lines each took depthwise convolutions 1.7 times as long, in three processes of four."""
    held = [empty(floats) for _ in range(9)]
    assert all(address(each) % 64 == 0 and each.shape == (floats,) for each in held)


@pytest.mark.parametrize("offset", [0, 1, 4096])
def test_pages_of_a_file_are_left_to_it_and_read_again(offset: int, tmp_path: Path) -> None:
    values = np.arange(COUNT, dtype=np.float32)
    (tmp_path / "file").write_bytes(b"x" * offset + values.tobytes())
    with (tmp_path / "file").open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    array = np.frombuffer(memoryview(mapped)[offset:], np.float32, COUNT).reshape(-1, 64)
    assert array.sum() > 0 and resident_kb(array) >= 1000
    let_go(array)
    assert resident_kb(array) <= 100
    assert np.array_equal(array.ravel(), values)


def test_values_that_nobody_could_read_again_stay(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(4 * COUNT))
    with (tmp_path / "file").open("rb") as file:
        own = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        part = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    for array in (np.ones(COUNT, np.float32), np.frombuffer(mmap.mmap(-1, 4 * COUNT), np.float32),
                  np.frombuffer(own, np.float32)):  # fmt: skip
        array[:] = 3
        let_go(array)
        assert (array == 3).all()
    every_other = np.frombuffer(part, np.float32).reshape(-1, 1024)[:, ::2]
    assert every_other.sum() == 0
    let_go(every_other)  # whose place is not its size
    assert every_other.sum() == 0


@pytest.mark.skipif(why_not_any() is not None, reason="no C compiler")
def test_weights_that_are_packed_are_left_to_their_file(tmp_path: Path) -> None:
    data = np.ones((1, 64, 4, 4), np.float32)
    blobs = np.random.default_rng(0).standard_normal((256, 64 * 16)).astype(np.float32)
    save_file({"a.weight": blobs}, tmp_path / "a.safetensors", metadata={"prototxt": INNER})
    net = numpy_net(tmp_path / "a.safetensors", keep=False)
    (weight,) = net._runner.weights._state.values()
    weight.sum()
    assert resident_kb(weight) >= 1000
    found = net(data)
    assert resident_kb(weight) <= 100
    assert np.allclose(found, blobs.sum(1), rtol=1e-3, atol=1e-3)


PIECES = """
import numpy as np
slabs, before = Slabs(), resident()
pieces = [slabs.take(590_000) for _ in range(60)]
for piece in pieces:
    piece[:] = 1
print((resident() - before) / sum(piece.nbytes for piece in pieces))
"""
RESIDENT = """
from fcn_port.fastpath.native.memory import Slabs
def resident():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1]) * 1024
"""


def test_pieces_of_packed_weights_take_little_more_than_they_are() -> None:
    """Of 2.4 MB each, one of which fills more than half of two large pages: a third of these would be lost."""
    assert float(run_limited(PIECES, imports=RESIDENT, more=1 << 30)) <= 1.1


@pytest.mark.parametrize("floats", [1, 17, SLAB // 4, SLAB // 4 + 1])
def test_a_piece_is_as_large_as_was_asked_for(floats: int) -> None:
    """Also where it is larger than a slab; the C code writes all of it."""
    slabs = Slabs()
    assert [slabs.take(floats).size for _ in range(3)] == [floats] * 3


def test_a_piece_fits_where_a_slab_does_not() -> None:
    taken = run_limited("print(Slabs().take(1_000_000).size)", imports=RESIDENT, more=40 << 20)
    assert int(taken) == 1_000_000
