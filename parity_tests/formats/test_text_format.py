"""Protobuf's text format: what Caffe's reader takes, refuses and means, and what we keep that it would refuse.

Two oracles: cases recorded from the C++ reader in Caffe (text_cases.py), and protobuf's own Python reader and writer
for made-up messages and texts.
"""

from __future__ import annotations

import re
import time
from contextlib import suppress
from typing import Any

import pytest
from google.protobuf import text_format
from hypothesis import example, given, settings
from hypothesis import strategies as st

from converters.errors import PrototxtError
from converters.formats.text_format import format_text, parse_text
from converters.net.layer import Identifier, UnknownField
from converters.schema import BlobProto, LayerParameter, NetParameter, SolverParameter, V1LayerParameter
from parity_tests.goldens import formats
from parity_tests.text_cases import CASES
from parity_tests.text_strategies import messages, mutations

GOLDEN_TEXTS = tuple(
    formats(f"{net}.prototxt").read_text() for net in ("v0-mini", "v1-mini", "v1-mini.upgraded", "layer-zoo-0")
)
ANY_MESSAGE = st.one_of(messages(NetParameter), messages(SolverParameter), messages(BlobProto))
STYLES = st.fixed_dictionaries(
    {name: st.booleans() for name in ("as_one_line", "pointy_brackets", "use_short_repeated_primitives", "as_utf8")}
)


def same(first: Any, second: Any) -> bool:
    """Equal to the bit, NaN included."""
    return first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)


# Protobuf's own Python reader and writer


@given(message=ANY_MESSAGE, style=STYLES)
def test_what_protobuf_writes_is_read_as_it_was(message: Any, style: dict[str, bool]) -> None:
    text = text_format.MessageToString(message, **style)
    parsed = parse_text(text, type(message))
    assert same(parsed.message, text_format.Parse(text, type(message)()))
    assert parsed.unknown == ()


ENDS = [float(end) for end in ("inf", "-inf", "nan", "-0.0", "3.4028235e38", "-1e-45")]


@example(message=NetParameter(layer=[LayerParameter(loss_weight=ENDS)]))
@example(message=BlobProto(double_data=[*ENDS, 5e-324, -1.7976931348623157e308]))
@given(message=ANY_MESSAGE)
def test_what_we_write_protobuf_reads_as_it_was(message: Any) -> None:
    text = format_text(message)
    assert same(parse_text(text, type(message)).message, message)
    if "-nan" not in text:  # which the C++ reader takes and the Python one does not
        assert same(text_format.Parse(text, type(message)()), message)


PYTHON_ONLY = re.compile(r"\\q|\+\d|\d_\d")
"""Protobuf's Python reader hands numbers and escapes to Python, and so takes these, which the C++ reader refuses."""


@pytest.mark.filterwarnings("ignore:invalid escape sequence")
@settings(max_examples=500)
@given(text=mutations(GOLDEN_TEXTS))
def test_what_protobuf_refuses_is_refused(text: str) -> None:
    """Both read a text to the same message or both refuse it; what only we read has an unknown field."""
    ours = theirs = None
    try:
        ours = parse_text(text, NetParameter)
    except PrototxtError as error:
        assert error.where is not None and error.where.startswith("line ")
    with suppress(text_format.ParseError):
        theirs = text_format.Parse(text, NetParameter())
    if ours is not None and theirs is not None:
        assert same(ours.message, theirs)
    elif ours is not None:
        assert ours.unknown or re.search(r"-\s", text)
    elif theirs is not None:
        assert PYTHON_ONLY.search(text)


# Cases recorded from Caffe's own reader


FORKS_MAY_MEAN = [f"relu_param {{ engine: {value} }}" for value in ("-1", "7", "FOO", "caffe")]


@pytest.mark.parametrize(("text", "means"), CASES.items(), ids=CASES)
def test_takes_refuses_and_means_what_caffe_does(text: str, means: str | None) -> None:
    if text in FORKS_MAY_MEAN:  # kept apart, as fields of forks are; a layer that is run decides what it may be
        parsed = parse_text(f'layer {{ name: "a" type: "T" {text} }}', NetParameter)
        assert means is None and [field.name for field in parsed.unknown] == ["layer[0].relu_param.engine"]
        assert not parsed.message.layer[0].relu_param.HasField("engine")
    elif means is None:
        with pytest.raises(PrototxtError):
            _inside_a_layer(text)
    else:
        assert same(_inside_a_layer(text), text_format.Parse(means, LayerParameter(name="a", type="T")))


def _inside_a_layer(text: str) -> Any:
    """The message of a layer with a name, a type and the text, as the cases were recorded."""
    parsed = parse_text(f'layer {{ name: "a" type: "T" {text}\n}}', NetParameter)
    assert parsed.unknown == ()
    return parsed.message.layer[0]


@pytest.mark.filterwarnings("ignore:invalid escape sequence")
def test_wrong_variant_protobufs_python_reader_is_caught() -> None:
    """It is another reader than Caffe's: the cases tell them apart."""

    def meaning(text: str) -> Any:
        try:
            return text_format.Parse(f'name: "a" type: "T" {text}\n', LayerParameter()).SerializeToString()
        except text_format.ParseError:
            return None

    wrong = [text for text, means in CASES.items() if meaning(text) != (None if means is None else meaning(means))]
    assert "loss_weight: - .5" in wrong and "propagate_down: 0x1" in wrong


# Where this reader is stricter or milder than Caffe's, on purpose


@pytest.mark.parametrize("string", [r"\777", r"\400", r"\ud83d", r"\ude00\ud83d", r"\U00110000", r"\xff", r"\303"])
def test_strings_that_say_no_text_are_refused(string: str) -> None:
    """Caffe takes them: it cuts octal numbers to eight bits and passes on what is not UTF-8."""
    with pytest.raises(PrototxtError, match="line 1, column 6"):
        parse_text(f'top: "{string}"', LayerParameter)


def test_bytes_may_be_anything() -> None:
    assert parse_text(r'raw_data: "\377\x00" "a"', BlobProto).message.raw_data == b"\xff\0a"


def test_escapes_of_characters_beyond_ascii() -> None:
    text = r'top: "\303\251" top: "\u00e9" top: "\ud83d\ude00" top: "\U0001f600" top: "é😀"'
    assert list(parse_text(text, LayerParameter).message.top) == ["é", "é", "😀", "😀", "é😀"]


def test_a_byte_order_mark_is_tolerated() -> None:
    assert parse_text('\ufeffname: "a"', LayerParameter).message.name == "a"
    with pytest.raises(PrototxtError, match="line 1, column 1:"):
        parse_text("\ufeff?", LayerParameter)


# What the schema does not know is kept


def test_unknown_fields_are_kept_as_they_were_found() -> None:
    text = """layer {
      pooling_param { kernel_size: 2 ceil_mode: false }
      bn_param: <
        scale_filler { type: "constant" value: 1 }
        bn_mode: INFERENCE; size: [1, -2, 0x10], ratio: -.5 name: 'a' "b" bytes: "\\377" far: -inf
        empty { }
      >
      include { } include { fork: 3 }
    }
    net_fork: 99999999999999999999999"""
    parsed = parse_text(text, NetParameter)
    filler = UnknownField("scale_filler", (_field("type", "constant", 4), _field("value", 1, 4)), 4)
    assert parsed.unknown == (
        _field("layer[0].pooling_param.ceil_mode", Identifier("false"), 2),
        UnknownField(
            "layer[0].bn_param",
            (
                filler,
                *(_field("bn_mode", Identifier("INFERENCE"), 5), _field("size", 1, 5), _field("size", -2, 5)),
                *(_field("size", 16, 5), _field("ratio", -0.5, 5), _field("name", "ab", 5)),
                *(_field("bytes", b"\xff", 5), _field("far", Identifier("-inf"), 5), UnknownField("empty", (), 6)),
            ),
            3,
        ),
        _field("layer[0].include[1].fork", 3, 8),
        _field("net_fork", Identifier("99999999999999999999999"), 10),
    )
    bn_mode, name = parsed.unknown[1].value[1].value, parsed.unknown[1].value[6].value
    assert isinstance(bn_mode, Identifier) and not isinstance(name, Identifier)
    assert parsed.message.layer[0].pooling_param.kernel_size == 2
    assert (parsed.lines["layer[0].pooling_param"], parsed.lines["layer[0].include[1]"]) == (2, 8)

    again = parse_text(format_text(parsed.message, unknown=parsed.unknown), NetParameter)
    assert again.message == parsed.message
    # In its own message, each after the known fields.
    assert sorted(_without_lines(again.unknown)) == sorted(_without_lines(parsed.unknown))


def _field(name: str, value: Any, line: int) -> UnknownField:
    return UnknownField(name, value, line)


def _without_lines(fields: tuple[UnknownField, ...]) -> list[tuple[str, Any]]:
    return [
        (f.name, str(_without_lines(f.value)) if isinstance(f.value, tuple) else f"{type(f.value)} {f.value!r}")
        for f in fields
    ]


def test_values_that_forks_gave_enums_are_kept() -> None:
    parsed = parse_text("type: CROP", V1LayerParameter)
    assert parsed.unknown == (_field("type", Identifier("CROP"), 1),)
    assert not parsed.message.HasField("type")
    assert parse_text("type: 4294967296", V1LayerParameter).unknown == (_field("type", 4294967296, 1),)
    assert parse_text("type: 4", V1LayerParameter).message.type == V1LayerParameter.CONVOLUTION
    parsed = parse_text("lrn_param { norm_region: MIN }", V1LayerParameter)
    assert parsed.unknown == (_field("lrn_param.norm_region", Identifier("MIN"), 1),)
    for text, problem in {
        "include { phase: TRIAN }": "expected TRAIN or TEST for 'phase', found 'TRIAN'",
        'type: "CROP"': "written without quotes",
    }.items():
        with pytest.raises(PrototxtError, match=problem):
            parse_text(text, V1LayerParameter)


@pytest.mark.parametrize("text", ['layers { type: "ReLU" }', 'layer { pooling_param { pool: "MAX" } }'])
def test_a_type_of_today_in_layers_is_told_of_layer(text: str) -> None:
    with pytest.raises(PrototxtError) as found:
        parse_text(text, NetParameter)
    assert "without quotes" in str(found.value) and ("write layer {" in str(found.value)) == text.startswith("layers")


def test_unknown_fields_of_binary_files_become_comments() -> None:
    text = format_text(LayerParameter(name="a"), unknown=[UnknownField("#45", b"\0" * 9), UnknownField("#46", 3)])
    assert text == 'name: "a"\n# field 45, which has no name: 9 bytes\n# field 46, which has no name: 3\n'
    assert parse_text(text, LayerParameter).unknown == ()


# Errors say where, what was expected, and what was found


@pytest.mark.parametrize(
    ("text", "where", "problem"),
    [
        ('name: "a"\nlayer {\n  top: x\n}', "line 3, column 8", "expected a string in quotes for 'top', found 'x'"),
        ("layer {\n  phase: TEST", "line 2, column 14", "'}' to close the '{' of line 1, column 7, found the end"),
        ('layer {\n\tname "a" }', "line 2, column 7", "expected ':' or '{' after 'name', found \"a\""),
        ("# 1\n\n  }", "line 3, column 3", "expected a field name, found '}'"),
        ('layer { name: "a', "line 1, column 15", 'expected a closing " on the same line, found "a'),
        ("layer { loss_weight: 64x }", "line 1, column 22", "expected a number, found '64x'"),
        ("force_backward: 2", "line 1, column 17", "expected true or false for 'force_backward', found '2'"),
        ("layer: 3", "line 1, column 8", "expected '{' for 'layer', found '3'"),
        ("name: {}", "line 1, column 7", "expected a string in quotes for 'name', found '{'"),
        ("input_dim: -3000000000", "line 1, column 12", "expected an integer from -2147483648 to 2147483647"),
        ("layer { } // x", "line 1, column 11", "comments begin with #"),
        ('name: "é" name: "b"', "line 1, column 11", "'name' is given a second time; the first is on line 1"),
        ("state { level: [1] }", "line 1, column 9", "'level' takes one value, found a list of 1"),
        ("layer { top: 'a' } }", "line 1, column 20", "expected a field name, found '}'"),
        ("layer < name: 'a' }", "line 1, column 19", "'>' to close the '<' of line 1, column 7, found '}'"),
        ("name: \udcb1", "line 1, column 7", "byte 0xb1 is not UTF-8"),
        ("name: '\udcb1'", "line 1, column 7", "the string of 'name' is not UTF-8: byte 0xb1"),
    ],
)
def test_errors_name_the_place_and_what_was_expected(text: str, where: str, problem: str) -> None:
    with pytest.raises(PrototxtError) as caught:
        parse_text(text, NetParameter)
    assert caught.value.where == where
    assert problem in str(caught.value)


# Whatever the text, an answer, soon


@pytest.mark.parametrize("text", GOLDEN_TEXTS, ids=len)
def test_every_beginning_of_a_text_is_read_or_refused(text: str) -> None:
    for end in range(0, len(text), 7):
        try:
            parse_text(text[:end], NetParameter)
        except PrototxtError as error:
            assert error.where is not None


@given(text=st.text() | st.text(alphabet="{}<>[]:,;-\"'\\#.01eaf \n") | st.binary().map(lambda b: b.decode("latin-1")))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(PrototxtError):
        parse_text(text, NetParameter)


N = 100_000


@pytest.mark.parametrize(
    "text",
    [
        "layer {" * N,
        "a {" * N,
        "a: [" * N,
        "layer { name: '" + "a" * N,
        "layer { name: '" + "\\a" * N,
        "layer { name: " + "'a'" * N + "}",
        "#\n" * N,
        " " * N + "\n" * N,
        "layer { fork: " + "9" * N + "}",
        "layer { loss_weight: " + "9" * N + "}",
        "layer { fork: 0" + "7" * N + " fork: 0x" + "f" * N + "}",
        "layer { loss_weight: 1" + "e+" * N + "}",
        "layer {" + "a:1 " * N + "}",
        "layer {" + "bottom:'' " * N + "}",
        "layer{}" * N,
        "-" * N,
        "a" * N,
    ],
    ids=lambda text: f"{text[:10]!r}...",
)
def test_time_is_linear_in_the_length(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a megabyte takes a second or two; anything quadratic takes minutes."""
    monkeypatch.setenv("FCN_PORT_LIMITS", "10")
    start = time.process_time()
    try:
        parse_text(text, NetParameter)
    except PrototxtError as error:
        assert len(str(error)) < 300
    assert time.process_time() - start < 10


def test_blocks_nest_to_a_limit() -> None:
    parsed = parse_text("a {" * 100 + "}" * 100, NetParameter)
    assert format_text(parsed.message, unknown=parsed.unknown).count("{") == 100
    with pytest.raises(PrototxtError, match="blocks are nested more than 100 deep"):
        parse_text("a {" * 101 + "}" * 101, NetParameter)
