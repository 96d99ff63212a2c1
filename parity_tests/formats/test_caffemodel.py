"""The .caffemodel against the protobuf library's parse of the whole file; the writer against files that Caffe wrote."""

from __future__ import annotations

import math
import mmap
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from converters import CaffeFormatError, MismatchError, read_caffemodel, write_caffemodel
from converters.formats.caffemodel import parse_caffemodel
from converters.formats.model import CaffeModel
from converters.formats.prototxt import format_prototxt, parse_prototxt
from converters.schema import LayerParameter, NetParameter
from parity_tests.goldens import GOLDEN, formats
from parity_tests.small_files import (
    PROTOTXT,
    blob_proto,
    small_blobs,
    small_v0,
    small_v1,
    small_v2,
)

GOLDENS = sorted(path.name for path in (GOLDEN / "formats").glob("*.caffemodel"))
V2 = [name for name in GOLDENS if not name.startswith("v")]
Blobs = dict[str, tuple[np.ndarray, ...]]


def blobs_by_protobuf(raw: bytes) -> Blobs:
    """Every blob of a net of any form, as the protobuf library parses it and blob.cpp, FromProto, takes it."""
    net = NetParameter.FromString(raw)
    layers = [layer.layer if layer.HasField("layer") else layer for layer in net.layers] or net.layer
    return {layer.name: tuple(map(_from_proto, layer.blobs)) for layer in layers if layer.blobs}


def _from_proto(blob: Any) -> np.ndarray:
    legacy = ("num", "channels", "height", "width")
    dims = [getattr(blob, d) for d in legacy] if any(map(blob.HasField, legacy)) else list(blob.shape.dim)
    if blob.HasField("raw_data"):
        return np.frombuffer(blob.raw_data, ["<f8", "<f4", "<f2"][blob.raw_data_type]).reshape(dims)
    values = np.array(blob.double_data, "<f8") if blob.double_data else np.array(blob.data, "<f4")
    return values.reshape(dims)


def assert_same(found: Any, expected: Blobs) -> None:
    assert list(found) == list(expected)
    for layer, blobs in expected.items():
        assert [(b.shape, b.dtype) for b in found[layer]] == [(b.shape, b.dtype) for b in blobs], layer
        assert [b.tobytes() for b in found[layer]] == [b.tobytes() for b in blobs], layer


# Reading


@pytest.mark.parametrize("name", GOLDENS)
def test_blobs_are_what_the_protobuf_library_finds(name: str) -> None:
    assert_same(read_caffemodel(formats(name)).blobs, blobs_by_protobuf(formats(name).read_bytes()))


@pytest.mark.parametrize("name", GOLDENS)
def test_blobs_are_read_only_views_of_the_mapped_file(name: str) -> None:
    for blobs in read_caffemodel(formats(name)).blobs.values():
        for blob in blobs:
            assert not blob.flags.writeable and not blob.flags.owndata
            base = blob
            while isinstance(base, np.ndarray) and base.base is not None:
                base = base.base
            assert isinstance(getattr(base, "obj", base), mmap.mmap)
            with pytest.raises(ValueError, match="read-only"):
                blob[...] = 0


@pytest.mark.parametrize("name", V2)
def test_the_net_is_what_the_protobuf_library_finds(name: str) -> None:
    expected = NetParameter.FromString(formats(name).read_bytes())
    for layer in expected.layer:
        layer.ClearField("blobs")
    assert read_caffemodel(formats(name)).spec.to_message() == expected


@pytest.mark.parametrize("net", ["v1-mini", "v0-mini"])
def test_the_net_of_an_old_file_is_upgraded(net: str) -> None:
    upgraded = parse_prototxt(formats(f"{net}.upgraded.prototxt").read_text())
    spec = read_caffemodel(formats(f"{net}.caffemodel")).spec
    assert [(layer.name, layer.type, layer.bottoms, layer.tops) for layer in spec.layers] == [
        (layer.name, layer.type, layer.bottoms, layer.tops) for layer in upgraded.layers
    ]


@pytest.mark.parametrize("make", [small_v2, small_v1, small_v0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_every_form_and_type_gives_the_same_blobs(make: Callable[[Blobs], Any], dtype: type) -> None:
    blobs = {name: tuple(b.astype(dtype) for b in own) for name, own in small_blobs().items()}
    raw = make(blobs).SerializeToString()
    model = parse_caffemodel(raw)
    assert_same(model.blobs, blobs_by_protobuf(raw))
    for name, own in blobs.items():
        for found, blob in zip(model.blobs[name], own, strict=True):
            assert found.dtype == dtype
            np.testing.assert_array_equal(found.reshape(blob.shape), blob)
    assert [layer.type for layer in model.spec.layers] == ["Input", "Convolution", "ReLU", "InnerProduct"]


def test_the_diff_of_a_blob_is_passed_over() -> None:
    net = small_v2()
    for layer in net.layer:
        for blob in layer.blobs:
            blob.diff.extend([7.0] * len(blob.data))
            blob.double_diff.append(7.0)
    assert_same(parse_caffemodel(net.SerializeToString()).blobs, small_blobs())


names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)
shapes = st.lists(st.integers(0, 4), max_size=4)


@st.composite
def nets(draw: st.DrawFn) -> Any:
    """A net of V2 or V1 with blobs and settings of any kind; names may be odd or there twice."""
    net = NetParameter(name=draw(names), force_backward=draw(st.booleans()))
    form = draw(st.sampled_from(["layer", "layers"]))
    for _ in range(draw(st.integers(1, 4))):
        layer = getattr(net, form).add(name=draw(names), bottom=draw(st.lists(names, max_size=2)), top=["t"])
        layer.convolution_param.num_output = draw(st.integers(0, 2**32 - 1))
        layer.loss_weight.extend(draw(st.lists(st.floats(width=32), max_size=3)))
        layer.type = draw(names) if form == "layer" else draw(st.sampled_from([4, 14, 18]))
        for shape in draw(st.lists(shapes, max_size=3)):
            dtype = draw(st.sampled_from([np.float32, np.float64, np.float16]))
            layer.blobs.append(blob_proto(np.arange(math.prod(shape)).astype(dtype).reshape(shape)))
    return net


@given(nets())
def test_any_net_is_what_the_protobuf_library_finds(net: Any) -> None:
    raw = net.SerializeToString()
    model = parse_caffemodel(raw)
    expected = blobs_by_protobuf(raw)
    found = {name: tuple(np.asarray(b) for b in own) for name, own in model.blobs.items()}
    assert found.keys() == expected.keys()
    for name, own in expected.items():
        assert [(b.shape, b.dtype, b.tobytes()) for b in found[name]] == [(b.shape, b.dtype, b.tobytes()) for b in own]
    for layer in [*net.layer, *net.layers]:
        layer.ClearField("blobs")
    if net.layer:
        assert model.spec.to_message() == NetParameter.FromString(net.SerializeToString())
    else:
        assert [layer.name for layer in model.spec.layers] == [layer.name for layer in net.layers]


def test_reading_needs_no_torch() -> None:
    code = (
        "import sys, converters\n"
        f"model = converters.read_caffemodel({str(formats('fcn8s-mini.caffemodel'))!r})\n"
        f"converters.read_caffemodel({str(formats('fcn8s-mini.caffemodel.h5'))!r})\n"
        "converters.read_prototxt\n"
        "assert model.blobs['conv1_1'][0].sum() and model.spec.inputs\n"
        "print([name for name in sys.modules if name.partition('.')[0] in ('torch', 'requests', 'PIL', 'click')])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# Forks


def test_fields_of_forks_are_kept_and_told_once() -> None:
    net = small_v2()
    for layer in net.layer:
        layer.MergeFromString(b"\xea\x02\x03abc")  # field 45, as ENet's bn_param
    net.MergeFromString(b"\x80\x19\x07")  # field 400 of the net
    model = parse_caffemodel(net.SerializeToString())
    assert model.spec.extra[0].name == "#400" and model.spec.extra[0].value == 7
    assert [(field.name, field.value) for field in model.spec.layers[2].extra] == [("#45", b"abc")]
    about_45 = [note for note in model.notes if "#45" in note]
    assert about_45 == [
        "layer 'data', layer 'conv', layer 'relu' and 1 more: field #45 is not BVLC Caffe's; "
        "kept but not used, for only a prototxt tells its name"
    ]
    assert any(note.startswith("the net: field #400") for note in model.notes)


def test_a_field_of_a_fork_inside_one_of_caffes_messages_is_told_too() -> None:
    """DeepLab's holes change every number, and only this field says so."""
    net = small_v2()
    net.layer[1].convolution_param.MergeFromString(b"\xa0\x06\x02")  # field 100: 2
    model = parse_caffemodel(net.SerializeToString())
    assert [(field.name, field.value) for field in model.spec.layers[1].extra] == [("convolution_param.#100", 2)]
    assert any("convolution_param.#100" in note and "'conv'" in note for note in model.notes)


def test_a_value_that_an_enum_does_not_have_is_told() -> None:
    net = small_v2()
    net.layer[2].MergeFromString(b"\xca\x07\x02\x08\x09")  # pooling_param { pool: 9 }
    model = parse_caffemodel(net.SerializeToString())
    assert [(field.name, field.value) for field in model.spec.layers[2].extra] == [("pooling_param.pool", 9)]
    assert "layer 'relu': pooling_param.pool has value 9, which is not BVLC Caffe's; kept, and its default is used" in (
        model.notes
    )


@pytest.mark.parametrize("payload", [b"\x08\x02", b"\x0a\x05ab"], ids=["another type of value", "no message at all"])
def test_a_message_of_a_fork_under_one_of_caffes_numbers_is_not_taken_for_caffes(
    payload: bytes, tmp_path: Path
) -> None:
    """ENet's upsample_param { scale: 2 } has the number of Caffe's swish_param { beta: 1.0 }."""
    net = small_v2()
    raw = net.SerializeToString()
    layer = net.layer[2].SerializeToString() + b"\x9a\x09" + bytes([len(payload)]) + payload
    del net.layer[:]
    raw = net.SerializeToString() + b"\xa2\x06" + bytes([len(layer)]) + layer
    model = parse_caffemodel(raw)
    assert [field.name for field in model.spec.layers[0].extra] == ["#147"]
    assert any("field #147" in note for note in model.notes)
    write_caffemodel(model, tmp_path / "out.caffemodel")
    assert (tmp_path / "out.caffemodel").read_bytes() == raw


@pytest.mark.parametrize("name", ["include", "exclude", "param"])
def test_what_is_broken_in_caffes_own_messages_is_no_forks(name: str) -> None:
    """Only parameters of layers have numbers that forks gave away again."""
    number = LayerParameter.DESCRIPTOR.fields_by_name[name].number
    layer = small_v2().layer[2].SerializeToString() + bytes([number << 3 | 2, 1, 0xFF])
    with pytest.raises(CaffeFormatError, match=f"'{name}' does not parse"):
        parse_caffemodel(b"\xa2\x06" + bytes([len(layer)]) + layer)


def test_a_v1_type_that_only_a_fork_has_is_told_by_the_upgrade_alone() -> None:
    net = small_v1()
    raw = net.SerializeToString().replace(b"\x22\x04relu\x28\x12", b"\x22\x04relu\x28\x64")  # type: 18 -> 100
    assert len(raw) == len(net.SerializeToString()) and raw != net.SerializeToString()
    notes = parse_caffemodel(raw).notes
    assert len([note for note in notes if "100" in note]) == 1


def test_both_forms_in_one_file_are_refused_as_caffe_refuses_them() -> None:
    net = small_v1()
    net.layer.add(name="stranger", type="Convolution").blobs.append(blob_proto(np.zeros(3, np.float32)))
    with pytest.raises(CaffeFormatError, match=r"both 'layer' .* and 'layers' .* Caffe refuses"):
        parse_caffemodel(net.SerializeToString())


def test_of_blobs_that_are_there_twice_the_last_count() -> None:
    net = small_v2()
    net.layer.add(name="conv", type="Convolution").blobs.append(blob_proto(np.ones(3, np.float32)))
    model = parse_caffemodel(net.SerializeToString())
    assert [blob.tolist() for blob in model.blobs["conv"]] == [[1, 1, 1]]
    assert any("'conv' has blobs twice" in note for note in model.notes)


def test_a_name_that_is_not_utf8_is_refused_and_a_path_that_is_not_is_kept() -> None:
    name = small_v2().SerializeToString().replace(b"\x0a\x04relu", b"\x0a\x04re\xff\xfe")
    with pytest.raises(CaffeFormatError, match=r"layer 2.*name is not UTF-8: b're\\xff\\xfe'"):
        parse_caffemodel(name)
    net = small_v2()
    net.layer[0].data_param.source = "XX/train_lmdb"
    raw = net.SerializeToString().replace(b"XX/", b"\xca\xfd/")  # GBK, from somebody's Windows
    model = parse_caffemodel(raw)
    assert r'source: "\312\375/train_lmdb"' in format_prototxt(model.spec)
    assert model.spec.to_message().SerializeToString(deterministic=True) in _without_blobs(raw)


def test_other_names_that_are_not_utf8_are_refused() -> None:
    net = small_v2()
    net.layer[1].include.add().stage.append("XX")
    with pytest.raises(CaffeFormatError, match=r"layer 1.*stage is not UTF-8"):
        parse_caffemodel(net.SerializeToString().replace(b"XX", b"\xff\xfe"))
    net = small_v2()
    net.layer.add(name="data", type="Python", top=["x"]).python_param.param_str = "XX"
    with pytest.raises(CaffeFormatError, match=r"layer 4.*param_str is not UTF-8: b'\\xca\\xfd'"):
        parse_caffemodel(net.SerializeToString().replace(b"XX", b"\xca\xfd"))


def _without_blobs(raw: bytes) -> bytes:
    net = NetParameter.FromString(raw)
    for layer in net.layer:
        layer.ClearField("blobs")
    return net.SerializeToString(deterministic=True)


# Writing


@pytest.mark.parametrize("name", V2)
def test_a_file_that_caffe_wrote_comes_out_with_the_same_bytes(tmp_path: Path, name: str) -> None:
    out = tmp_path / "out.caffemodel"
    write_caffemodel(read_caffemodel(formats(name)), out)
    assert out.read_bytes() == formats(name).read_bytes()


@pytest.mark.parametrize("make", [small_v2, small_v1, small_v0])
def test_the_protobuf_library_finds_in_ours_what_we_read(tmp_path: Path, make: Callable[[], Any]) -> None:
    model = parse_caffemodel(make().SerializeToString())
    out = tmp_path / "out.caffemodel"
    write_caffemodel(model, out)
    assert_same(blobs_by_protobuf(out.read_bytes()), dict(model.blobs))
    again = read_caffemodel(out)
    assert again.spec == model.spec
    assert_same(again.blobs, dict(model.blobs))


def test_every_type_and_shape_is_written_as_caffe_does(tmp_path: Path) -> None:
    blobs = {
        "conv": (
            np.array([[0.1, -0.0, np.nan], [np.inf, 1e300, 5e-324]]),
            np.array([1.5, 60000], np.float16),
            np.arange(24, dtype=np.float32).reshape(2, 3, 4)[:, ::2].swapaxes(0, 2),
            np.float32(2.5).reshape(()),
            np.empty((0, 3), np.float32),
        )
    }
    out = tmp_path / "out.caffemodel"
    write_caffemodel(CaffeModel(parse_prototxt(PROTOTXT), blobs), out)
    net = NetParameter()
    net.layer.add()
    net.layer[0].blobs.extend(blob_proto(b.astype(np.float32) if b.dtype == np.float16 else b) for b in blobs["conv"])
    found = NetParameter.FromString(out.read_bytes()).layer[1].blobs
    assert [b.SerializeToString() for b in found] == [b.SerializeToString() for b in net.layer[0].blobs]


def test_fields_of_forks_survive_a_round_trip(tmp_path: Path) -> None:
    net = small_v2()
    net.layer[2].MergeFromString(b"\xea\x02\x03abc")
    net.layer[1].convolution_param.MergeFromString(b"\xa0\x06\x02")
    net.MergeFromString(b"\x80\x19\x07")
    out = tmp_path / "out.caffemodel"
    write_caffemodel(parse_caffemodel(net.SerializeToString()), out)
    assert NetParameter.FromString(out.read_bytes()) == net


def test_what_a_caffemodel_cannot_hold_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    out = tmp_path / "out.caffemodel"
    with pytest.raises(MismatchError, match="come without a net"):
        write_caffemodel(CaffeModel(None, small_blobs()), out)
    with pytest.raises(MismatchError, match="layers that the net does not have: stranger"):
        write_caffemodel(CaffeModel(parse_prototxt(PROTOTXT), {"stranger": ()}), out)
    assert list(tmp_path.iterdir()) == []
