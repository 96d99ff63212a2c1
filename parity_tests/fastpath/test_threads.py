"""One net, many threads: each call gives what it gives a lone caller, to the bit, and the net stays as it was."""

from __future__ import annotations

import copy
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fcn_port
from converters.execution.caffe_net import CaffeNet
from converters.export import checking as check
from fcn_port.fastpath import engines, lossless
from fcn_port.fastpath.known_engines import EXTRAS
from fcn_port.fastpath.lru_cache import LRUCache
from fcn_port.fastpath.program import FastNet
from fcn_port.fastpath.tf32 import tf32
from fcn_port.inspection import input_shapes
from fcn_port.nets import FCN, FCN8s, Widths
from fcn_port.nets.record import to_spec
from fcn_port.nets.upsampling import with_upsampling
from fcn_port.predict.tiles import tiling_of
from parity_tests.fastpath.random_nets import random_net
from parity_tests.narrow import NARROW, image, narrow

THREADS = 4
SIZES = [(9 + 3 * i, 11 + 5 * (i % 7)) for i in range(24)]
WIDE = Widths(4, 4, 64, 128, 16, 8, 8)
"""With layers that go by Winograd's filtering, in C and in PyTorch."""
SECONDS = 240


@pytest.fixture(autouse=True)
def _threads_take_turns_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def in_threads(work: Callable[[int], None], threads: int = THREADS) -> None:
    """Call `work(0)`, `work(1)` ... at once; raises what the first of them raised."""
    together = threading.Barrier(threads)
    raised: list[BaseException] = []

    def run(number: int) -> None:
        try:
            together.wait(SECONDS)
            work(number)
        except BaseException as error:
            raised.append(error)

    running = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(SECONDS)
        assert not thread.is_alive(), "hangs"
    if raised:
        raise raised[0]


def in_an_order_of_its_own(number: int) -> list[tuple[int, int]]:
    return random.Random(number).sample(SIZES, len(SIZES))


def pixels(size: tuple[int, int]) -> Tensor:
    return image(narrow(FCN8s), size)["data"]


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(found) == list(expected)
    for name, blob in expected.items():
        assert torch.equal(found[name], blob), name


def assert_untouched(net: nn.Module, state: dict[str, Tensor]) -> None:
    assert_equal(net.state_dict(), state)
    assert not any(module._forward_hooks for module in net.modules())


def a_net(widths: Widths = NARROW) -> FCN:
    torch.manual_seed(0)
    return FCN8s(3, widths=widths).eval().requires_grad_(False)


@pytest.mark.parametrize("name", ["native", "torch", "direct"])
def test_fast(name: str) -> None:
    """Each thread sees all sizes twice, in its own order, cold and warm, and looks into the net between."""
    net = a_net(NARROW if name == "direct" else WIDE)
    state = copy.deepcopy(net.state_dict())
    lone = engines.make(name, net)
    expected = {size: lone(pixels(size)) for size in SIZES}
    shapes = {size: fcn_port.trace(net, size) for size in SIZES}
    at = SIZES[5]
    blobs = fcn_port.blobs(net, pixels(at))
    shared = engines.make(name, net)

    def work(number: int) -> None:
        for i, size in enumerate(2 * in_an_order_of_its_own(number)):
            assert torch.equal(shared(pixels(size)), expected[size]), size
            if i % 4 == number:
                assert fcn_port.trace(net, size) == shapes[size]
            if i in (number, 30 + number):
                assert_equal(fcn_port.blobs(net, pixels(at)), blobs)

    in_threads(work)
    assert_untouched(net, state)
    for size in SIZES:
        assert torch.equal(shared(pixels(size)), expected[size]), size


@pytest.mark.parametrize("name", EXTRAS)
def test_engines_of_others(name: str) -> None:
    if not engines.installed(name):
        pytest.skip(f"{name} is not installed")
    shared = engines.make(name, narrow(FCN8s))
    expected = {size: shared(pixels(size)) for size in SIZES[::3]}
    shared = engines.make(name, narrow(FCN8s))

    def work(number: int) -> None:
        for size in in_an_order_of_its_own(number):
            if size in expected:
                assert torch.equal(shared(pixels(size)), expected[size]), size

    in_threads(work)


def test_a_hand_written_net_that_is_looked_into_while_it_runs() -> None:
    net = a_net()
    state = copy.deepcopy(net.state_dict())
    scores = {size: net(pixels(size)) for size in SIZES}
    blobs = {size: fcn_port.blobs(net, pixels(size)) for size in SIZES[:6]}
    shapes = {size: fcn_port.trace(net, size) for size in SIZES}
    spec, tiling = to_spec(net, input_shapes(net, (64, 64)), name="net"), tiling_of(net)

    def work(number: int) -> None:
        for i, size in enumerate(in_an_order_of_its_own(number)):
            assert torch.equal(net(pixels(size)), scores[size]), size
            assert fcn_port.trace(net, size) == shapes[size]
            if size in blobs:
                assert_equal(fcn_port.blobs(net, pixels(size)), blobs[size])
            if i % 6 == number:
                assert to_spec(net, input_shapes(net, (64, 64)), name="net") == spec
                assert fcn_port.fast(net).plan(size) == fcn_port.fast(net).plan(size)
            if i == 12 + number:
                assert tiling_of(net) == tiling

    in_threads(work)
    assert_untouched(net, state)


def test_caffe_net() -> None:
    hand_written = a_net()
    net = CaffeNet(to_spec(hand_written, input_shapes(hand_written, (64, 64)), name="net")).requires_grad_(False)
    net.load_state_dict(hand_written.state_dict())
    lone = copy.deepcopy(net)
    scores = {size: lone(pixels(size)) for size in SIZES}
    shapes = {size: fcn_port.trace(lone, size) for size in SIZES}
    blobs = {size: fcn_port.blobs(lone, pixels(size)) for size in SIZES[:6]}

    def work(number: int) -> None:
        for size in in_an_order_of_its_own(number):
            assert torch.equal(net(pixels(size)), scores[size]), size
            assert fcn_port.trace(net, size) == shapes[size]
            if size in blobs:
                assert_equal(fcn_port.blobs(net, pixels(size)), blobs[size])

    in_threads(work)
    assert_untouched(net, lone.state_dict())


def test_fast_of_a_caffe_net() -> None:
    """Each thread has an arena of its own; sizes are planned by whoever brings them first, and weights packed once."""
    net = random_net(11)
    lone = fcn_port.fast(net)
    inputs = {size: pixels_of(net, size) for size in SIZES}
    expected = {size: lone(**inputs[size]) for size in SIZES}
    shared = fcn_port.fast(copy.deepcopy(net))
    assert isinstance(shared, FastNet)

    def work(number: int) -> None:
        for size in 2 * in_an_order_of_its_own(number):
            found = shared(**inputs[size])
            assert all(torch.equal(found[name], blob) for name, blob in expected[size].items()), size

    in_threads(work)
    assert len(shared.state().runner.arenas._idle) <= THREADS


def pixels_of(net: CaffeNet, size: tuple[int, int]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(size[0])
    return {name: torch.randn(1, shape[1], *size, generator=generator) for name, shape in net.inputs.items()}


def test_segment_by_tiles() -> None:
    net = fcn_port.load("weights/sample/shapes-fcn8s.caffemodel")
    shared = fcn_port.fast(net)
    pictures = np.random.default_rng(0).integers(0, 256, (THREADS, 20, 510, 3), dtype=np.uint8)
    expected = [fcn_port.segment(fcn_port.fast(net), picture, tile=500).scores for picture in pictures]

    def work(number: int) -> None:
        found = fcn_port.segment(shared, pictures[number], tile=500).scores
        assert np.array_equal(found, expected[number])
        assert np.array_equal(fcn_port.segment(net, pictures[0], tile=500).labels, expected[0].argmax(0))

    in_threads(work)


def test_max_unpooling_has_the_places_of_its_own_image() -> None:
    net = with_upsampling(narrow(FCN8s), "max-unpooling")
    expected = {size: net(pixels(size)) for size in SIZES}

    def work(number: int) -> None:
        for size in in_an_order_of_its_own(number):
            assert torch.equal(net(pixels(size)), expected[size]), size

    in_threads(work)
    fast = fcn_port.fast(net)
    assert torch.allclose(fast(pixels(SIZES[3])), expected[SIZES[3]], atol=1e-4 * float(expected[SIZES[3]].abs().max()))


def test_changed_weights_are_packed_again_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []

    class Counted(lossless.WeightsState):
        def __init__(self, *args: Any, **settings: Any) -> None:
            made.append(self)
            super().__init__(*args, **settings)

    monkeypatch.setattr(lossless, "WeightsState", Counted)
    net = a_net()
    shared = fcn_port.fast(net)
    other = {key: value.flip(0) for key, value in net.state_dict().items()}
    changes = [lambda: None, lambda: net.load_state_dict(other), lambda: net.double(), lambda: net.float()]
    for i, change in enumerate(changes):
        change()
        x = pixels(SIZES[7]).to(net.fc6.weight.dtype)
        expected = fcn_port.fast(copy.deepcopy(net))(x)
        made.clear()
        in_threads(lambda number: _assert_same_scores(shared(x), expected))  # noqa: B023
        assert len(made) == 1, i


def _assert_same_scores(found: Tensor, expected: Tensor) -> None:
    assert torch.equal(found, expected)


def test_a_value_is_made_once_and_nobody_else_waits() -> None:
    kept: LRUCache[int] = LRUCache(3)
    is_slow, may_go = threading.Event(), threading.Event()
    made: list[int] = []

    def slow() -> int:
        made.append(0)
        is_slow.set()
        assert may_go.wait(SECONDS)
        return 7

    def work(number: int) -> None:
        if number < 3:
            assert kept.get("slow", slow) == 7
        else:
            assert is_slow.wait(SECONDS)
            assert kept.get("quick", lambda: 1) == 1
            may_go.set()

    in_threads(work)
    assert made == [0]
    with pytest.raises(ZeroDivisionError):
        kept.get("wrong", lambda: 1 // 0)
    assert len(kept) == 2 and kept.get("wrong", lambda: 3) == 3
    assert kept.get("quick", lambda: 2) == 1  # now "slow" is the one that was used longest ago
    assert (kept.add("new"), kept.add("new"), kept.get("slow", lambda: 8), len(kept)) == (True, False, 8, 3)


class Slow(int):
    """A key at which other threads have their turn whenever it is looked up."""

    def __hash__(self) -> int:
        time.sleep(0)
        return int(self)

    def __eq__(self, other: object) -> bool:
        time.sleep(0)
        return int(self) == other


def test_many_threads_and_few_places() -> None:
    kept: LRUCache[int] = LRUCache(4)

    def work(number: int) -> None:
        draw = random.Random(number)
        for _ in range(1000):
            key = draw.randrange(9)
            assert kept.get(Slow(key), lambda: key) == key  # noqa: B023
            assert len(kept) <= 4

    in_threads(work)


def test_a_fast_net_can_be_copied_at_any_time() -> None:
    net = fcn_port.fast(a_net())
    cold = copy.deepcopy(net)
    scores = net(pixels(SIZES[0]))
    assert torch.equal(cold(pixels(SIZES[0])), scores)
    assert torch.equal(copy.deepcopy(net)(pixels(SIZES[0])), scores)


def test_passes_that_disagree_on_tf32_wait_for_each_other() -> None:
    """The setting is one for the process; it is there on a processor too."""
    before = torch.backends.cudnn.allow_tf32
    fcn_port.fast(a_net())(pixels(SIZES[0]))

    def work(number: int) -> None:
        for _ in range(200):
            with tf32(number % 2 == 0):
                assert torch.backends.cudnn.allow_tf32 == (number % 2 == 0)

    in_threads(work)
    assert torch.backends.cudnn.allow_tf32 == before


def test_an_export_is_checked_in_float64_beside_the_net_not_in_it() -> None:
    class Peek(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append((x.dtype, convolution.weight.dtype))
            return x

    seen: list[tuple[torch.dtype, torch.dtype]] = []
    convolution = nn.Conv2d(1, 1, 1)
    check.run_exactly(nn.Sequential(convolution, Peek()), {"data": torch.zeros(1, 1, 2, 2)}, ["score"])
    assert seen == [(torch.float64, torch.float32)]


def test_names_are_imported_by_whoever_asks_first() -> None:
    code = (
        "import threading, sys, fcn_port, converters, fcn_port.data, fcn_port.training, fcn_port.evaluation\n"
        "sys.setswitchinterval(1e-5)\n"
        "names = [(m, n) for m in (fcn_port, converters, fcn_port.data, fcn_port.training, fcn_port.evaluation)\n"
        "         for n in m.__all__]\n"
        "got = []\n"
        "def work(k):\n"
        "    turned = names[k:] + names[:k]\n"
        "    got.append({n: id(getattr(m, n)) for m, n in turned})\n"
        "threads = [threading.Thread(target=work, args=(5 * k,)) for k in range(6)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]\n"
        "assert len(got) == 6 and all(each == got[0] for each in got), got\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
