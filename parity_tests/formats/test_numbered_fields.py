"""A caffemodel alone: SSD's fields, which have numbers there and no names, become fields again and keep their bytes."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import pytest

from converters import CaffeModel, NetError, parse_prototxt, write_caffemodel
from converters.formats.caffemodel import parse_caffemodel
from converters.formats.prototxt import format_prototxt
from converters.schema import NetParameter

FIELDS = {
    "permute_param { order: 0 order: 2 order: 3 order: 1 }": ("Permute", 202, b"\x08\x00\x08\x02\x08\x03\x08\x01"),
    "permute_param { order: 0 order: 2 }": ("Permute", 202, b"\x0a\x02\x00\x02"),
    "norm_param { across_spatial: false channel_shared: true eps: 1e-10 }": (
        *("Normalize", 206),
        b"\x08\x00\x18\x01\x25" + struct.pack("<f", 1e-10),
    ),
    "prior_box_param { min_size: 30.1 aspect_ratio: 2 aspect_ratio: 3 flip: true step: 8 img_size: 300 }": (
        *("PriorBox", 203),
        b"\x0d" + struct.pack("<f", 30.1) + b"\x1d" + struct.pack("<f", 2) + b"\x1d" + struct.pack("<f", 3)
        + b"\x20\x01\x55" + struct.pack("<f", 8) + b"\x38\xac\x02",
    ),
    "detection_output_param { num_classes: 21 background_label_id: -1 nms_param { nms_threshold: 0.45 top_k: 400 } "
    "code_type: CENTER_SIZE keep_top_k: 200 }": (
        *("DetectionOutput", 204),
        b"\x08\x15\x18" + b"\xff" * 9 + b"\x01\x22\x08\x0d" + struct.pack("<f", 0.45) + b"\x10\x90\x03"
        + b"\x30\x02\x38\xc8\x01",
    ),
    "roi_pooling_param { pooled_h: 7 pooled_w: 6 spatial_scale: 0.0625 }": (
        *("ROIPooling", 8266711),
        b"\x08\x07\x10\x06\x1d" + struct.pack("<f", 0.0625),
    ),
    "roi_pooling_param { pooled_h: 7 pooled_w: 7 spatial_scale: 0.125 pad_ratio: 0.25 }": (
        *("ROIPooling", 150),
        b"\x08\x07\x10\x07\x1d" + struct.pack("<f", 0.125) + b"\x25" + struct.pack("<f", 0.25),
    ),
    "roi_align_param { pooled_h: 7 pooled_w: 7 spatial_scale: 0.125 sampling_ratio: 2 }": (
        *("ROIAlign", 161),
        b"\x08\x07\x10\x07\x1d" + struct.pack("<f", 0.125) + b"\x20\x02",
    ),
    "psroi_pooling_param { spatial_scale: 0.0625 output_dim: 21 group_size: 7 }": (
        *("PSROIPooling", 10001),
        b"\x0d" + struct.pack("<f", 0.0625) + b"\x10\x15\x18\x07",
    ),
    "interp_param { height: 60 width: 61 pad_beg: 0 }": ("Interp", 143, b"\x08\x3c\x10\x3d\x28\x00"),
    "upsample_param { scale: 2 upsample_h: 45 }": ("Upsample", 147, b"\x08\x02\x30\x2d"),
    "reorg_param { stride: 2 reverse: true }": ("Reorg", 147, b"\x08\x02\x10\x01"),
    "shuffle_channel_param { group: 3 }": ("ShuffleChannel", 164, b"\x08\x03"),
    'bn_param { scale_filler { type: "constant" value: 1 } bn_mode: INFERENCE }': (
        *("BN", 45),
        b"\x0a\x0f\x0a\x08constant\x15" + struct.pack("<f", 1) + b"\x18\x01",
    ),
    'bn_param { slope_filler { type: "constant" value: 1 } momentum: 0.95 frozen: true }': (
        *("BN", 152),
        b"\x0a\x0f\x0a\x08constant\x15" + struct.pack("<f", 1) + b"\x1d" + struct.pack("<f", 0.95) + b"\x28\x01",
    ),
}  # fmt: skip


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def _net(kind: str, number: int, content: bytes) -> bytes:
    message = NetParameter(name="n")
    layer = message.layer.add(name="a", type=kind, bottom=["x"], top=["y"])
    raw = layer.SerializeToString() + _varint(number << 3 | 2) + _varint(len(content)) + content
    head = NetParameter(name="n").SerializeToString()
    return head + b"\xa2\x06" + _varint(len(raw)) + raw


@pytest.mark.parametrize("text", FIELDS)
def test_they_are_what_a_prototxt_says(text: str, tmp_path: Path) -> None:
    kind, number, content = FIELDS[text]
    data = _net(kind, number, content)
    model = parse_caffemodel(data)
    assert model.spec is not None
    expected = parse_prototxt(f'layer {{ name: "a" type: "{kind}" bottom: "x" top: "y" {text} }}').layers[0]
    name = text.partition(" ")[0]
    found, wanted = model.spec.layers[0].extra_message(name), expected.extra_message(name)
    assert _plain(found) == _plain(wanted)
    assert not [note for note in model.notes if "not used" in note]
    write_caffemodel(CaffeModel(spec=model.spec, blobs={}), tmp_path / "again.caffemodel")
    assert (tmp_path / "again.caffemodel").read_bytes() == data
    again = parse_prototxt(format_prototxt(model.spec)).layers[0]
    assert _plain(again.extra_message(name)) == _plain(wanted)


def _plain(field: object) -> object:
    value = getattr(field, "value", field)
    name = getattr(field, "name", "")
    return (name, [_plain(each) for each in value]) if isinstance(value, tuple) else (name, value)


NOT_TOLD = {
    "momentum or var_eps": ("BN", b"\x1d" + struct.pack("<f", 0.9)),
    "a text": ("ROIPooling", b"\x0a\x01x"),
    "another form of a number": ("PSROIPooling", b"\x08\x07\x10\x07"),
    "a field more": ("Interp", b"\x08\x3c\x3a\x07nearest"),
    "upsample_h at 5 or pad_out_w": ("Upsample", b"\x28\x01\x30\x2d"),
    "another type": ("Convolution", b"\x08\x07\x10\x07"),
}


@pytest.mark.parametrize("kind, content", NOT_TOLD.values(), ids=NOT_TOLD)
def test_what_may_be_something_else_keeps_its_number(kind: str, content: bytes) -> None:
    model = parse_caffemodel(_net(kind, 300, content))
    assert model.spec is not None and [field.name for field in model.spec.layers[0].extra] == ["#300"]
    assert any("field #300" in note for note in model.notes)


def test_of_two_fields_that_fit_neither_is_taken() -> None:
    """One alone tells: under which number a fork has it is not known."""
    message = NetParameter()
    raw = message.layer.add(name="a", type="Reorg", bottom=["x"], top=["y"]).SerializeToString()
    layer = raw + _field(147, b"\x08\x02") + _field(148, b"\x08\x03")
    model = parse_caffemodel(_field(1, b"n") + _field(100, layer))
    assert model.spec is not None and {field.name for field in model.spec.layers[0].extra} == {"#147", "#148"}


def test_normalizations_that_were_merged_away_are_told() -> None:
    """ENet's published file: its own net has 83 BN layers of zeros, and its deploy.prototxt none."""
    message = NetParameter(name="n")
    for name, value in (("a", 0.0), ("b", 0.0), ("c", 1.0)):
        layer = message.layer.add(name=name, type="BN", bottom=["x"], top=["y"])
        for _ in range(2):
            layer.blobs.add(data=[value, 0.0]).shape.dim.extend((1, 2, 1, 1))
    (note,) = (note for note in parse_caffemodel(message.SerializeToString()).notes if "zeros" in note)
    assert note.startswith("layer 'a' and 1 more BN layers have nothing but zeros")


def test_a_layer_that_needs_them_has_them() -> None:
    model = parse_caffemodel(_net(*FIELDS["permute_param { order: 0 order: 2 order: 3 order: 1 }"]))
    assert model.spec is not None
    params = model.spec.layers[0].params
    assert params is not None and params.top_shapes([(1, 2, 3, 4)]) == ((1, 3, 4, 2),)


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


ORDERS = {
    "as Caffe": ("n", "1 2 3 4 202", ()),
    "fork's first": ("n", "202 1 2 3 4", ("layer 'a'",)),
    "backwards": ("n", "202 4 3 2 1", ("layer 'a'",)),
    "the net's name last": ("", "1 2 3 4 202", ("the net",)),
    "both": ("", "2 1 3 4 202", ("the net", "layer 'a'")),
    "unknown ones": ("n", "1 2 3 4 300 202", ("layer 'a'",)),  # by number again
    "within a message of Caffe's": ("n", "1 2 3 4 106", ("layer 'a'",)),
}
"""The net's name where it comes first, the order of a layer's fields, and what the note names."""


@pytest.mark.parametrize("order", ORDERS)
def test_another_writers_order_keeps_its_bytes_or_the_report_says_what_changed(order: str, tmp_path: Path) -> None:
    name, numbers, named = ORDERS[order]
    within = {1: b"a", 2: b"Permute", 3: b"x", 4: b"y", 202: b"\x08\x00\x08\x02", 300: b"z", 106: b"\x20\x03\x08\x04"}
    layer = _field(100, b"".join(_field(int(number), within[int(number)]) for number in numbers.split()))
    data = _field(1, b"n") + layer if name else layer + _field(1, b"n")
    model = parse_caffemodel(data)
    write_caffemodel(model, tmp_path / "again.caffemodel")
    again = (tmp_path / "again.caffemodel").read_bytes()
    notes = [note.partition(":")[0] for note in model.notes if "another order" in note]
    assert (again == data) == (not named) and notes == ([", ".join(named)] if named else [])
    assert not [note for note in parse_caffemodel(again).notes if "another order" in note]
    assert order == "unknown ones" or _layer(again) == _layer(data)


def _layer(data: bytes) -> object:
    spec = parse_caffemodel(data).spec
    assert spec is not None
    return spec.layers[0]


@pytest.mark.parametrize(
    ("kind", "number", "content"),
    [
        ("Permute", 203, b"\x08\x00"),  # another number
        ("Reorder", 202, b"\x08\x00"),  # another type
        ("Permute", 202, b"\x10\x00"),  # a field that the message does not have
        ("Permute", 202, b"\x0d\x00\x00\x00\x00"),  # of another wire type
        ("Permute", 202, b"\x0a\x05\x00"),  # damaged
        ("DetectionOutput", 204, b"\x30\x7f"),  # a word that there is not
    ],
)
def test_what_is_not_known_for_sure_keeps_its_number(kind: str, number: int, content: bytes) -> None:
    model = parse_caffemodel(_net(kind, number, content))
    assert model.spec is not None
    assert [field.name for field in model.spec.layers[0].extra] == [f"#{number}"]
    assert any(f"#{number}" in note for note in model.notes)
    if kind == "Permute":
        with pytest.raises(NetError, match="prototxt"):
            _ = replace(model.spec.layers[0]).params
