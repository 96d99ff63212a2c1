"""Nets that ask for more memory than there is: one error that names the layer and the bytes, never torch's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from converters.errors import LimitError, NetError, NotEnoughMemoryError
from converters.execution.caffe_net import CaffeNet
from converters.formats.prototxt import parse_prototxt
from converters.safety import enough_memory, refused_memory
from parity_tests.limited import linux_only, run_limited

START = 'layer { name: "data" type: "Input" top: "x" input_param { shape { dim: [1, 3, 8, 8] } } }\n'


def then(kind: str, params: str, *, more: str = "") -> str:
    return f'{START}layer {{ name: "bomb" type: "{kind}" bottom: "x" {more} top: "y" {params} }}\n'


def doubled(times: int) -> str:
    """Each layer joins the blob with itself."""
    text = START
    for i in range(times):
        bottom = f"b{i - 1}" if i else "x"
        text += f'layer {{ name: "bomb{i}" type: "Concat" bottom: "{bottom}" bottom: "{bottom}" top: "b{i}" }}\n'
    return text


BOMBS = {
    "tiles": then("Tile", "tile_param { tiles: 100000000 }"),
    "pad": then("Convolution", "convolution_param { num_output: 1 kernel_size: 1 pad: 100000 }"),
    "pooling": then("Pooling", "pooling_param { pool: AVE kernel_size: 90001 stride: 1 pad: 90000 }"),
    "deconvolution": then("Deconvolution", "convolution_param { num_output: 3 kernel_size: 1 stride: 10000 }"),
    "upsample": then("Upsample", "upsample_param { scale: 10000 }"),
    "interp": then("Interp", "interp_param { height: 50000 width: 50000 }"),
    "columns": then("Im2col", "convolution_param { kernel_size: 3 pad: 50000 }"),
    "doubled": doubled(27),
    "bytes that cannot be counted": then("Interp", "interp_param { height: 2147483647 width: 1073741824 }"),
}
"""Each of some 300 bytes; the answer would take from 9 GB to 27 EB."""

WEIGHTS = {
    "InnerProduct": then("InnerProduct", "inner_product_param { num_output: 5000000 }"),
    "Embed": then("Embed", "embed_param { num_output: 1000 input_dim: 1000000 }"),
    "Convolution": then("Convolution", "convolution_param { num_output: 100000 kernel_size: 60 pad: 40 }"),
    "Parameter": 'layer { name: "bomb" type: "Parameter" top: "y" parameter_param { shape { dim: 1000000000 } } }',
}
"""From 3.8 to 4.3 GB each."""

IMPORTS = """
import torch, fcn_port
from converters import CaffeNet
from converters.errors import LimitError, NotEnoughMemoryError
from converters import parse_prototxt
from parity_tests.safety.test_not_enough_memory import BOMBS, WEIGHTS
torch.set_num_threads(1)
"""

RUN = """
for name, text in BOMBS.items():
    net, x = CaffeNet(parse_prototxt(text)), torch.zeros(1, 3, 8, 8)
    for call in (net, net.blobs, lambda x: fcn_port.blobs(net, x)):
        try:
            call(x)
        except NotEnoughMemoryError as error:
            assert str(error).startswith("layer 'bomb"), error
            assert "not enough memory: " in str(error) and "bytes" in str(error), error
        else:
            raise SystemExit(name + " ran")
for name, text in WEIGHTS.items():
    try:
        CaffeNet(parse_prototxt(text))
    except (NotEnoughMemoryError, LimitError) as error:
        assert "layer 'bomb'" in str(error) and "bytes" in str(error), error
    else:
        raise SystemExit(name + " was made")
print("done")
"""


@linux_only
def test_bombs_name_their_layer_and_what_they_asked_for() -> None:
    assert run_limited(RUN, imports=IMPORTS, more=2 << 30) == "done\n"


@linux_only
@pytest.mark.parametrize("verb", ["trace", "inspect"])
def test_verbs_that_compute_nothing_need_no_memory(verb: str, tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text(BOMBS["tiles"])
    arguments = [verb, str(tmp_path / "net.prototxt")]
    code = f"from fcn_port.cli.program import answer\nprint('status', answer({arguments!r}))"
    assert "status 0" in run_limited(code, imports="import torch, fcn_port.cli.program", more=1 << 30)


@linux_only
def test_the_program_says_it_in_a_line(tmp_path: Path) -> None:
    """Also where it is no CaffeNet that asks: whatever error says that there is no memory."""
    code = """
import click, contextlib, io, sys
def boom(*args, **kwargs):
    torch.zeros(1 << 40)
program.cli.main = boom
said = io.StringIO()
with contextlib.redirect_stderr(said):
    print("status", program.answer(["trace"]))
print(said.getvalue())
"""
    found = run_limited(code, imports="import torch\nfrom fcn_port.cli import program", more=1 << 30)
    assert found == "status 1\nfcn-port: not enough memory: 4398046511104 bytes asked for\n\n"


def test_weights_beyond_the_limit_are_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four gibibytes for a definition alone; on `meta` any number, for there they take nothing."""
    text = "".join(
        f'layer {{ name: "p{i}" type: "Parameter" top: "y{i}" parameter_param {{ shape {{ dim: 500000000 }} }} }}\n'
        for i in range(3)
    )
    with pytest.raises(LimitError, match=r"layer 'p2' .*: the weights of .* would take 6000000000 bytes"):
        CaffeNet(parse_prototxt(text))
    with torch.device("meta"):
        CaffeNet(parse_prototxt(text))
    monkeypatch.setattr("converters.net.shapes.MOST_WEIGHTS", 100)
    with pytest.raises(LimitError, match="FCN_PORT_LIMITS="):
        CaffeNet(parse_prototxt(WEIGHTS["Parameter"].replace("1000000000", "26")))
    CaffeNet(parse_prototxt(WEIGHTS["Parameter"].replace("1000000000", "25")))


@pytest.mark.parametrize("dims", [[1, 1 << 31], [1, 1, 1 << 31]])
def test_no_axis_is_longer_than_caffe_counts(dims: list[int]) -> None:
    text = f'layer {{ name: "data" type: "Input" top: "x" input_param {{ shape {{ dim: {dims} }} }} }}'
    with pytest.raises(NetError, match=r"Caffe counts to 2\^31 - 1 along an axis"):
        CaffeNet(parse_prototxt(text))


@pytest.mark.parametrize(
    ("ask", "asked"),
    [
        (lambda: torch.zeros(1 << 60), "4611686018427387904 bytes"),
        (lambda: np.empty(1 << 59), r"4.00 EiB"),
        (lambda: torch.zeros(1 << 62), "more bytes than can be counted"),
        (lambda: bytearray(1 << 62), "more than there is"),
    ],
)
def test_how_each_library_says_it(ask: Callable[[], object], asked: str) -> None:
    problem = f"^here: not enough memory: {asked} asked for"
    with pytest.raises(NotEnoughMemoryError, match=problem), enough_memory("here"):
        ask()


def test_other_errors_stay_what_they_are() -> None:
    assert refused_memory(ValueError("out of memory")) is None
    with pytest.raises(RuntimeError, match="size of tensor") as caught, enough_memory("here"):
        torch.zeros(2) + torch.zeros(3)
    assert not isinstance(caught.value, NotEnoughMemoryError)
