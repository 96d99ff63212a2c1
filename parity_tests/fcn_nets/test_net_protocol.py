"""One type of net: whatever runs it, a net says the same of itself."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import fcn_port
from benchmarks.cuda_graphs import Replayed
from converters.errors import NetError
from converters.execution import CaffeNet
from converters.execution.caffe_net import GIVEN_LATER
from converters.formats import read_caffemodel
from fcn_port.cli import run
from fcn_port.fastpath.engines import make
from fcn_port.inspection import input_shapes
from fcn_port.loading import attach
from fcn_port.nets import FCN, FCN8s, FCN32s, Net, SiftFlowFCN8s, definition, with_upsampling
from fcn_port.nets.net import CaffeNetWithCard, Wrapper, as_net
from fcn_port.nets.record import NotCaffes
from fcn_port.nets.upsampling import ShiftAndStitch
from parity_tests.goldens import formats
from parity_tests.narrow import NARROW, image, narrow
from weights.card import Card
from weights.catalogue import release

CARD = Card.of(release("voc-fcn32s"))

WRAPPERS: dict[str, Callable[[FCN], nn.Module]] = {
    "fast": fcn_port.fast,
    "fast, little memory": lambda net: fcn_port.fast(net, low_memory=True, convolutions="direct"),
    "fast twice": lambda net: fcn_port.fast(fcn_port.fast(net)),
    "replayed": Replayed,
    "replayed fast": lambda net: Replayed(fcn_port.fast(net)),
    "onnxruntime": lambda net: make("onnxruntime", net),
    "learned": lambda net: with_upsampling(net, "learned"),
    "a copy": copy.deepcopy,
}
DENSE = ("shift-and-stitch", "dilation")
"""Wrappers that compute what no net of Caffe's does."""


def with_card(make_net: type[FCN] = FCN32s) -> FCN:
    net = narrow(make_net)
    net.card = CARD
    return net


@pytest.mark.parametrize("way", [*WRAPPERS, *DENSE])
@pytest.mark.parametrize("make_net", [FCN32s, SiftFlowFCN8s])
def test_a_wrapped_net_is_the_net_inside(way: str, make_net: type[FCN]) -> None:
    if way == "dilation" and make_net is SiftFlowFCN8s:
        pytest.skip("dilation takes nets that upsample once")
    net = with_card(make_net)
    wrapped = with_upsampling(net, way) if way in DENSE else WRAPPERS[way](net)
    assert isinstance(wrapped, Net)
    assert wrapped.inputs == net.inputs == {"data": (1, 3, 500, 500)}
    assert wrapped.outputs == net.outputs == (("score",) if make_net is FCN32s else ("score_sem", "score_geo"))
    assert wrapped.card == CARD
    assert (wrapped.release, wrapped.classes) == ("voc-fcn32s", CARD.classes)
    assert wrapped.preprocessing == CARD.preprocessing
    assert np.array_equal(wrapped.palette, net.palette) and wrapped.palette.shape == (256, 3)
    if way in DENSE:
        with pytest.raises(NotCaffes, match=way):
            definition(wrapped)
    else:
        assert definition(wrapped, name="x") == definition(net, name="x")
        assert definition(wrapped).inputs == wrapped.inputs and definition(wrapped).outputs == wrapped.outputs


@pytest.mark.parametrize("way", [*WRAPPERS, *DENSE])
def test_blobs_and_shapes_of_wrapped_nets(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net = with_card()
    wrapped = with_upsampling(net, way) if way in DENSE else WRAPPERS[way](net)
    x = image(net, (40, 33))["data"]
    if isinstance(wrapped, ShiftAndStitch):  # 4 passes in place of 1024: what they should give has its own test
        passes = cache(partial(wrapped.shifted, {"data": x}))
        monkeypatch.setattr(wrapped, "shifted", lambda _, down, right: passes(down // 16, right // 16))
    found = fcn_port.blobs(wrapped, x)
    assert fcn_port.trace(wrapped, (40, 33)) == {name: tuple(blob.shape) for name, blob in found.items()}
    assert found["data"] is x
    with torch.no_grad():
        scores = wrapped(x)
    torch.testing.assert_close(found["score"], scores, rtol=1e-4, atol=1e-4 * float(scores.abs().max()))
    assert set(found) >= ({"data", "score"} if way == "shift-and-stitch" else {"conv1_1", "pool5", "score_fr"})


@pytest.mark.parametrize("way", DENSE)
def test_dense_nets_are_not_cut_into_tiles(way: str) -> None:
    """Their scores see other pixels than the definition of the net behind them says."""
    pixels = np.zeros((40, 40, 3), np.uint8)
    with pytest.raises(ValueError, match=way):
        fcn_port.segment(with_upsampling(with_card(), way), pixels, tile=600)


def test_a_card_given_to_a_wrapper_is_the_nets() -> None:
    net = narrow(FCN8s)
    fast = fcn_port.fast(copy.deepcopy(net))
    assert isinstance(fast, Wrapper) and fast.card == Card() and fast.preprocessing is None and fast.classes == {}
    attach(fast, CARD)
    assert fast.net.card is fast.card is CARD and net.card == Card()


def test_a_plain_caffe_net_is_a_net_with_an_empty_card() -> None:
    plain = CaffeNet(definition(narrow(FCN8s), name="mine"))
    view = as_net(plain)
    assert (view.spec, view.inputs, view.outputs) == (plain.spec, plain.inputs, plain.outputs)
    assert view.card == Card() and definition(plain, name="other") is plain.spec
    assert all(a is b for a, b in zip(view.parameters(), plain.parameters(), strict=True))
    assert input_shapes(plain, (40, 50)) == {"data": (1, 3, 40, 50)}
    replayed = Replayed(plain)
    assert (replayed.spec, replayed.card) == (plain.spec, Card())
    attach(plain, CARD)
    assert isinstance(plain, CaffeNetWithCard) and plain.preprocessing == CARD.preprocessing
    assert repr(plain).startswith("CaffeNet(") and replayed.card is CARD


def test_no_layer_takes_the_name_of_what_a_net_says() -> None:
    """A plain CaffeNet gets these when it becomes one with a card, and its layers must still be found."""
    assert set(dir(Net)) - set(dir(CaffeNet)) <= {*GIVEN_LATER, "__jit_unused_properties__"}


def test_other_modules_are_refused() -> None:
    for call in (definition, fcn_port.blobs, lambda net: fcn_port.trace(net, (8, 8))):
        with pytest.raises(ValueError, match="Conv2d is no net whose layers are known"):
            call(nn.Conv2d(1, 1, 1))


@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")
def test_a_net_can_be_scripted() -> None:
    net = FCN32s(3, widths=NARROW).eval()
    x = image(net, (40, 40))["data"]
    scripted: Callable[[Tensor], Tensor] = torch.jit.script(net)
    torch.testing.assert_close(scripted(x), net(x))


def test_a_file_of_weights_alone_is_no_net() -> None:
    with pytest.raises(NetError, match="the file holds weights and no net"):
        CaffeNet(read_caffemodel(formats("fcn8s-mini.caffemodel.h5")).spec)


def test_inspect_and_predict_say_what_fast_saves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", "voc-fcn8s", "--size", "500"]) == 0
    assert re.fullmatch(r"fast: .* G multiply-adds \(70%\) at 500x500", capsys.readouterr().out.splitlines()[-1])
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(tmp_path / "x.png")
    line = ["predict", str(formats("fcn8s-mini.caffemodel")), str(tmp_path / "x.png"), "-o", str(tmp_path), "-v",
            "--like", "voc-fcn8s"]  # fmt: skip
    for engine, found in (("native", "multiply-adds"), ("auto", "operations, none of them by PyTorch")):
        assert run([*line, "--engine", engine]) == 0
        said = capsys.readouterr()
        assert "40x50: " in said.err and found in said.err and found not in said.out
