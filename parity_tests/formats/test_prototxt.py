"""Prototxt files: nets of every age to a NetSpec and back, and good errors for what is no net."""

from __future__ import annotations

import os
import zipfile
from dataclasses import replace
from pathlib import Path

import h5py
import pytest
from hypothesis import given
from hypothesis import strategies as st

from converters import CaffeFormatError, LayerSpec, NetSpec, read_caffemodel
from converters.formats.prototxt import MAX_BYTES, format_prototxt, parse_prototxt, read_prototxt, write_prototxt
from converters.net.layer import Identifier, UnknownField
from converters.passes.merge_splits import merge_splits
from converters.schema import LayerParameter
from parity_tests.goldens import formats
from parity_tests.text_strategies import messages, mutations

NETS = ("fcn8s-mini", "layer-zoo-0", "layer-zoo-1", "v1-mini", "v0-mini")
LAYER = 'layer { name: "a" type: "Input" top: "data" }\n'


def without_lines(spec: NetSpec) -> NetSpec:
    """The net without the lines on which its layers and unknown fields stood."""
    layers = (replace(layer, line=None, extra=_bare(layer.extra)) for layer in spec.layers)
    return replace(spec, layers=tuple(layers), extra=_bare(spec.extra))


def _bare(fields: tuple[UnknownField, ...]) -> tuple[UnknownField, ...]:
    return tuple(
        UnknownField(field.name, _bare(field.value) if isinstance(field.value, tuple) else field.value)
        for field in fields
    )


# Nets


@pytest.mark.parametrize("net", ["v0-mini", "v1-mini"])
def test_caffes_own_upgrader_writes_the_same_bytes(net: str) -> None:
    """Reading, the upgrade and the style of writing at once, against a file that Caffe wrote."""
    assert format_prototxt(read_prototxt(formats(f"{net}.prototxt"))) == formats(f"{net}.upgraded.prototxt").read_text()


@pytest.mark.parametrize("net", NETS)
def test_a_net_that_was_written_is_read_as_it_was(net: str) -> None:
    spec = read_prototxt(formats(f"{net}.prototxt"))
    assert without_lines(parse_prototxt(format_prototxt(spec))) == without_lines(spec)


@pytest.mark.parametrize("net", ["fcn8s-mini", "layer-zoo-0", "layer-zoo-1"])
def test_the_net_in_a_caffemodel_is_the_one_in_the_prototxt(net: str) -> None:
    """Before it wrote the file, Caffe set phases, kept the solver off BatchNorm, and copied blobs by Split layers."""
    spec = read_caffemodel(formats(f"{net}.caffemodel")).spec
    assert spec is not None
    layers = []
    for layer in merge_splits(spec).layers:
        message = layer.to_message()
        message.ClearField("phase")
        if layer.type == "BatchNorm":
            message.ClearField("param")
        layers.append(LayerSpec.from_message(message))
    assert tuple(layers) == without_lines(read_prototxt(formats(f"{net}.prototxt"))).layers


@given(layers=st.lists(messages(LayerParameter), min_size=1, max_size=3), data=st.data())
def test_any_net_is_written_and_read_again(layers: list, data: st.DataObject) -> None:
    """With fields of forks at random: in the net, in layers, and in what layers hold."""
    spec = NetSpec(name="n", layers=tuple(_layer(message, data) for message in layers), extra=data.draw(UNKNOWN))
    assert parse_prototxt(format_prototxt(spec)).to_message() == spec.to_message()
    assert without_lines(parse_prototxt(format_prototxt(spec))) == spec


def _layer(message: LayerParameter, data: st.DataObject) -> LayerSpec:
    inside = "relu_param." if message.HasField("relu_param") else ""
    extra = [*data.draw(UNKNOWN), *(replace(field, name=inside + field.name) for field in data.draw(UNKNOWN))]
    # In the order in which they are written: what is inside of a message before what comes after it.
    extra.sort(key=lambda field: "." not in field.name)
    return LayerSpec.from_message(message, extra=tuple(extra))


NAMES = st.from_regex(r"fork_[a-z0-9]{1,3}", fullmatch=True)
SCALARS = st.one_of(
    st.integers(-(1 << 63), (1 << 64) - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec="utf-8"), max_size=4),
    st.binary(min_size=1, max_size=3).map(lambda raw: b"\xff" + raw),
    st.from_regex(r"[A-Za-z_]\w{0,5}", fullmatch=True).filter(str.isascii).map(Identifier),
)
TREES = st.recursive(SCALARS, lambda inner: st.lists(st.builds(UnknownField, NAMES, inner), max_size=3).map(tuple))
UNKNOWN = st.lists(st.builds(UnknownField, NAMES, TREES), max_size=3).map(tuple)


def test_a_layer_knows_its_line_and_its_forks_fields() -> None:
    spec = parse_prototxt(
        'name: "n" fork_flag: true\n'
        + LAYER
        + '\nlayer {\n  name: "b" type: "BN"\n  bn_param { scale_filler { value: 1 } mode: LEARN mode: "x" }\n}\n'
        + 'layer { name: "c" type: "Pooling" pooling_param { kernal_size: 3 } }\n'
        + 'layer { name: "d" type: "BN" bn_param { } }\n'
    )
    assert [layer.line for layer in spec.layers] == [2, 4, 8, 9]
    assert spec.extra == (UnknownField("fork_flag", Identifier("true"), 1),)
    assert spec.layer("b").extra_message("bn_param").children()["mode"] == ["LEARN", "x"]
    assert spec.layer("c").extra == (UnknownField("pooling_param.kernal_size", 3, 8),)
    assert spec.notes == (
        "line 1: field 'fork_flag' is not BVLC Caffe's; kept",
        "lines 6 and 9: field 'bn_param' is not BVLC Caffe's; kept",
        "line 8: field 'pooling_param.kernal_size' is not BVLC Caffe's; kept (did you mean 'kernel_size'?)",
    )


@pytest.mark.parametrize(
    ("field", "told"),
    [
        ("engine: MKL2017", "field 'pooling_param.engine' has a value that BVLC Caffe does not have; kept"),
        ("pool: AVE_TF", "field 'pooling_param.pool' has a value that BVLC Caffe does not have; kept"),
        ("pad_l: 1", "field 'pooling_param.pad_l' is not BVLC Caffe's; kept"),
        ("strides: 2", "field 'pooling_param.strides' is not BVLC Caffe's; kept (did you mean 'stride'?)"),
    ],
)  # fmt: skip
def test_a_fork_s_value_or_word_is_no_mistyped_name(field: str, told: str) -> None:
    spec = parse_prototxt(LAYER + f'layer {{ name: "p" type: "Pooling" pooling_param {{ kernel_size: 2 {field} }} }}')
    assert spec.notes == (f"line 2: {told}",)


def test_notes_on_unknown_fields_come_to_an_end() -> None:
    notes = parse_prototxt(LAYER + "".join(f"fork_{i}: 1 " for i in range(60))).notes
    assert len(notes) == 51 and notes[-1] == "10 more fields are not BVLC Caffe's; kept"


def test_v1_layers_keep_their_lines_when_an_input_is_put_before_them() -> None:
    spec = read_prototxt(formats("v1-mini.prototxt"))
    assert [(layer.name, layer.line) for layer in spec.layers[:3]] == [("input", None), ("conv1", 4), ("relu1", 6)]
    assert spec.notes == ("upgraded 8 layers from the form of 2014 (V1)",)


def test_weights_in_a_text_are_told_of() -> None:
    spec = parse_prototxt('layer { name: "a" blobs { data: 1 data: 2 } }')
    assert spec.notes == ("the text has the weights of 1 layers; they are not read, only the net is",)


def test_floats_are_written_as_short_as_they_can_be_and_strings_readable() -> None:
    text = format_prototxt(
        parse_prototxt(r"""layer { name: "\303\251'\"\\\n\001" loss_weight: [1.0, 0.10000000149,
        16777217, 1e-5, 1e+10, 3.4028235e38, -0.0, 0.333333343] }""")
    )
    assert text == (
        'layer {\n  name: "é\\\'\\"\\\\\\n\\001"\n'
        + "".join(
            f"  loss_weight: {number}\n"
            for number in ("1", "0.1", "16777216", "1e-05", "1e+10", "3.4028235e+38", "-0", "0.33333334")
        )
        + "}\n"
    )


# Files


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.prototxt"
    spec = parse_prototxt(LAYER)
    write_prototxt(spec, path)
    assert without_lines(read_prototxt(path)) == without_lines(spec) and read_prototxt(path).path == os.fspath(path)
    monkeypatch.setattr("converters.formats.prototxt.format_prototxt", lambda spec: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_prototxt(spec, path)
    assert path.read_text() == format_prototxt(spec) and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "empty file"),
        (b"  \n", "there is no 'layer' in it"),
        (b'name: "x"', "there is no 'layer' in it"),
        (b"<!DOCTYPE html>\n<html>", "HTML page"),
        (b"404: Not Found", "line 1, column 1: expected a field name"),
        (b'{"layer": []}', "line 1, column 1: expected a field name"),
        (b"\x89PNG\r\n\x1a\n\0\0", "PNG image"),
        (b"\x1f\x8b\x08\0\0", "gzip archive"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        ("layer { }".encode("utf-16"), "this is a file of UTF-16 text; expected a prototxt"),
        ("layer { }".encode("utf-32"), "this is a file of UTF-32 text; expected a prototxt"),
        (LAYER.encode().replace(b"data", b"\xb1\xea"), "line 1, column 38: the string of 'top' is not UTF-8"),
        (b'\xef\xbb\xbflayer { name: "a }', 'line 1, column 15: expected a closing "'),
        (b"#" * (MAX_BYTES + 1), "more than 4 MiB of text"),
        (b'net: "train.prototxt"\nbase_lr: 0.1', "this is a solver, not a net\n  its net is in train.prototxt"),
        (b"layer { top: [1] }", "line 1, column 15: expected a string in quotes for 'top'"),
    ],
    ids=lambda value: repr(value[:20]) if isinstance(value, bytes) else None,
)
def test_what_is_no_net_gets_an_error_that_says_what_it_is(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "net.prototxt"
    path.write_bytes(content)
    with pytest.raises(CaffeFormatError) as caught:
        read_prototxt(path)
    assert str(caught.value).startswith(f"{path}: ") and problem in str(caught.value)


def test_other_files_named_prototxt(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("deploy.prototxt", LAYER)
    with pytest.raises(CaffeFormatError, match=r"this is a zip archive; expected a prototxt\n  .*unpack"):
        read_prototxt(path)
    with h5py.File(path, "w") as file:
        file["data"] = [1.0]
    with pytest.raises(CaffeFormatError, match="this is an HDF5 file"):
        read_prototxt(path)
    with pytest.raises(CaffeFormatError, match=r"a protobuf message; expected a prototxt\n  .*\.caffemodel"):
        read_prototxt(formats("v1-mini.caffemodel"))
    with pytest.raises(CaffeFormatError, match="this is a folder"):
        read_prototxt(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_prototxt(tmp_path / "none.prototxt")


def test_comments_may_be_in_any_encoding(tmp_path: Path) -> None:
    """Caffe skips their bytes, and people wrote them in their own languages."""
    path = tmp_path / "net.prototxt"
    path.write_bytes("\ufeff# 卷积层\n".encode() + "# 卷积层\n".encode("gbk") + LAYER.encode() + b"# \xe9t\xe9")
    assert read_prototxt(path).layers[0].line == 3


@given(text=mutations(tuple(formats(f"{net}.prototxt").read_text() for net in NETS)))
def test_any_text_gives_a_net_or_our_own_error(text: str) -> None:
    try:
        spec = parse_prototxt(text, path="net.prototxt")
    except CaffeFormatError as error:
        assert str(error).startswith("net.prototxt: ")
    else:
        assert without_lines(parse_prototxt(format_prototxt(spec))) == without_lines(spec)


def test_errors_of_the_upgrade_name_the_file_too() -> None:
    with pytest.raises(CaffeFormatError, match=r"^old\.prototxt: layer 'r': its bottom is made by padding layer 'p'"):
        parse_prototxt(
            'input: "d" layers { layer { name: "p" type: "padding" pad: 1 } bottom: "d" top: "e" }'
            'layers { layer { name: "r" type: "relu" } bottom: "e" top: "f" }',
            path="old.prototxt",
        )


def test_a_hundred_levels_are_written_too() -> None:
    assert format_prototxt(parse_prototxt(LAYER + "a {" * 100 + "}" * 100)).count("{") == 101


@pytest.mark.parametrize("field", ["net_param", "train_net_param"])
def test_the_net_inside_a_solver_is_read(field: str) -> None:
    spec = parse_prototxt(f'base_lr: 0.1 {field} {{ name: "in" {LAYER} }} max_iter: 2')
    assert spec.name == "in" and spec.layers == parse_prototxt(LAYER).layers
    assert spec.notes[0] == f"the net that a solver has in its {field}"
    with pytest.raises(CaffeFormatError, match="this is a solver"):
        parse_prototxt(f"base_lr: 0.1 test_net_param {{ {LAYER} }}")
