"""Files of few bytes that would become many objects: refused by one count of what their records take."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from converters.errors import CaffeFormatError, LimitError
from converters.formats.caffemodel import parse_caffemodel
from converters.formats.fork_fields import NUMBER
from converters.formats.prototxt import parse_prototxt
from converters.formats.wire import write_tag
from converters.safety import limits
from converters.schema import message_type


def field(message: str, name: str, value: bytes) -> bytes:
    """A length-delimited field of one of Caffe's messages."""
    return write_tag(message_type(message).fields_by_name[name].number, len(value)) + value


def unknown(value: bytes, wire_type: int) -> bytes:
    """A field with number 15, which none of the messages here has."""
    return bytes([15 << 3 | wire_type]) + value


def net(body: bytes) -> bytes:
    return b"\x0a\x01n" + field("NetParameter", "layer", b"\x0a\x01a" + body)


def _v1(body: bytes) -> bytes:
    return b"\x0a\x01n" + field("NetParameter", "layers", body)


def param(name: str) -> Callable[[bytes], bytes]:
    return lambda inner: net(field("LayerParameter", name, inner))


GROUPS = 30
BOMBS: dict[str, tuple[bytes, Callable[[bytes], bytes]]] = {
    "empty messages": (b"\x0a\x00", param("input_param")),
    "empty strings": (field("NetStateRule", "stage", b""), param("include")),
    "packed varints": (b"\x01", lambda inner: param("input_param")(b"\x0a" + _sized(b"\x0a" + _sized(inner)))),
    "varints": (b"\x08\x01", lambda inner: param("input_param")(b"\x0a" + _sized(inner))),
    "packed varints of the layer": (b"\x01", lambda inner: net(field("LayerParameter", "propagate_down", inner))),
    "packed numbers of the net": (b"\x01", lambda inner: net(b"") + field("NetParameter", "input_dim", inner)),
    "packed floats": (bytes(4), lambda inner: param("eltwise_param")(field("EltwiseParameter", "coeff", inner))),
    "packed share modes": (b"\x01", lambda inner: _v1(field("V1LayerParameter", "blob_share_mode", inner))),
    "unknown varints": (unknown(b"\x01", 0), param("lrn_param")),
    "unknown bytes": (unknown(b"\x00", 2), param("lrn_param")),
    "unknown 32 bits": (unknown(bytes(4), 5), param("lrn_param")),
    "groups": (unknown(unknown(b"", 4), 3), param("lrn_param")),
    "groups in groups": (unknown(b"", 3) * GROUPS + unknown(b"", 4) * GROUPS, param("lrn_param")),
    "numbers that an enum lacks": (b"\x08\x63", param("pooling_param")),
    "strings for an enum": (b"\x0a\x00", param("pooling_param")),
    "numbers for messages": (b"\x38\x01", param("convolution_param")),
    "layers": (field("NetParameter", "layer", b""), lambda inner: net(b"") + inner),
    "layers of 2014": (field("NetParameter", "layers", b""), lambda inner: _v1(b"") + inner),
    "layers of 2013": (field("NetParameter", "layers", b"\x0a\x00"), lambda inner: _v1(b"\x0a\x00") + inner),
    "a fork's text": (b"a{}", lambda inner: net(write_tag(NUMBER, len(inner)) + inner)),
}
"""A piece, and what makes a net of many of them."""

TEXTS = {
    "blocks": ("layer { ", "a{}"),
    "fields": ("layer { ", "a:1 "),
    "numbers of a list": ("layer { a:[1", ",1"),
    "dims of a list": ("layer { input_param { shape { dim:[1", ",1"),
    "blocks of a list": ("layer { a:[{}", ",{}"),
    "strings of a list": ("layer { bottom:[''", ",''"),
    "one string of many": ("layer { a:''", "''"),
    "params": ("layer { ", "param{}"),
    "layers": ("layer{}", "layer{}"),
    "old layers": ("layers{}", "layers{}"),
}
"""How a text begins, and what follows without end."""


def _sized(value: bytes) -> bytes:
    return write_tag(1, len(value))[1:] + value


@pytest.mark.parametrize("kind", BOMBS)
def test_bytes_that_ask_for_too_much(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused before anything is made; what is far from the limit is read, and so is all with the limit raised."""
    piece, make = BOMBS[kind]
    monkeypatch.setattr(limits, "SPARE", 1 << 16)
    raw = make(piece * (20_000 // len(piece)))
    with pytest.raises(LimitError, match=r"the records of so many fields take .*and the limit is") as caught:
        parse_caffemodel(raw)
    assert "FCN_PORT_LIMITS=" in str(caught.value)
    parse_caffemodel(make(piece * 3))
    monkeypatch.setenv("FCN_PORT_LIMITS", "2000")
    parse_caffemodel(raw)


@pytest.mark.parametrize("kind", TEXTS)
def test_text_that_asks_for_too_much(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says where; a tenth of the text is read as far as it goes: to its missing brace."""
    begin, piece = TEXTS[kind]
    monkeypatch.setattr(limits, "SPARE", 1 << 16)
    text = begin + piece * (20_000 // len(piece))
    with pytest.raises(LimitError, match=r"line 1, column \d+: the records of so many fields take"):
        parse_prototxt(text)
    monkeypatch.setenv("FCN_PORT_LIMITS", "2000")
    try:
        parse_prototxt(text)
    except CaffeFormatError as error:
        assert "the end of the text" in str(error)


def test_fork_text_counts_for_the_whole_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many layers with a little of it each may not take what many files may."""
    monkeypatch.setattr(limits, "SPARE", 1 << 17)
    layer = write_tag(NUMBER, 120) + b"a{}" * 40
    parse_caffemodel(net(layer))
    with pytest.raises(LimitError, match="field 6710126"):
        parse_caffemodel(net(b"") + field("NetParameter", "layer", layer) * 20)


LIMITED = """
import resource, sys
from parity_tests.formats.test_record_budget import BOMBS, TEXTS
import converters
now = int(next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (now + {more}, now + {more}))
from converters.formats.caffemodel import parse_caffemodel
from converters.formats.prototxt import parse_prototxt
size = 8 << 20
for kind in ("empty messages", "packed varints", "unknown varints", "groups in groups", "layers"):
    piece, make = BOMBS[kind]
    try:
        parse_caffemodel(make(piece * (size // len(piece))))
    except converters.CaffeFormatError as error:
        assert "so many fields" in str(error) or "MiB of text" in str(error), error
    else:
        raise SystemExit(kind + " was read")
for kind in ("blocks", "dims of a list", "strings of a list"):
    begin, piece = TEXTS[kind]
    try:
        parse_prototxt(begin + piece * ((4 << 20) // len(piece)))
    except converters.CaffeFormatError as error:
        assert "so many fields" in str(error) or "MiB of text" in str(error), error
    else:
        raise SystemExit(kind + " was read")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS and /proc are Linux's")
def test_eight_mebibytes_of_bombs_cost_no_memory() -> None:
    """In one process that may take 200 MB more, 32 of which are the bytes and their copies; they took up to 1.7 GB."""
    command = [sys.executable, "-c", LIMITED.format(more=200 << 20)]
    subprocess.run(command, check=True, timeout=120)
