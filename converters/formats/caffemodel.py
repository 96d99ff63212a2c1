"""The binary .caffemodel: a NetParameter with its blobs, in V2, V1 and V0 form; and the writer.

The file is mapped, not read. A scan of the wire format finds the layers and their blobs; what is left of each layer,
a few hundred bytes, goes to the protobuf library. Blobs stay views on the mapping until somebody writes them, so that
opening half a gigabyte takes milliseconds and no memory.
"""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, pairwise
from types import MappingProxyType
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError

from ..errors import CaffeFormatError, MismatchError, WireError, place
from ..net.layer import LayerSpec, UnknownField
from ..net.spec import net_from_message
from ..safety.files import whole_or_open
from ..safety.limits import check_limit
from ..safety.opening import open_file
from ..schema import LayerParameter, NetParameter, message_type
from . import sniff
from .blob import FLOAT32, FLOAT64, read_blob
from .budget import LAYER, V0_LAYER
from .fork_fields import NUMBER as FORK_TEXT
from .fork_fields import read_fork_text, write_fork_text
from .model import CaffeModel, is_left_out, refuse_no_model
from .nested import count_nested
from .numbered_fields import named_fields
from .text_format import PATHS, is_repeated
from .unknown_fields import notes_on, unknown_fields
from .upgrade import upgrade_net
from .wire import Buffer, Field, Message, write_tag, write_varint


def _number(message: str, field: str) -> int:
    return message_type(message).fields_by_name[field].number


class _LayerForm(NamedTuple):
    """A form in which Caffe wrote layers: the net's field of them, and where one keeps blobs and a nested V0 layer."""

    field: str
    blobs: int
    nested: int | None


_V2, _V1 = _number("NetParameter", "layer"), _number("NetParameter", "layers")
_FORMS = {
    _V2: _LayerForm("layer", _number("LayerParameter", "blobs"), None),
    _V1: _LayerForm("layers", _number("V1LayerParameter", "blobs"), _number("V1LayerParameter", "layer")),
}
_V0_BLOBS = _number("V0LayerParameter", "blobs")

_MOST_SETTINGS = 64 << 20
"""Bytes that are not in blobs; nets of a thousand layers have less than a MiB."""
_ANOTHER_PROGRAM = "is this a file of another program?"
_MOST_FORK_TEXT = 4 << 20
"""Bytes of text of forks' fields: as many as a prototxt may have."""


def read_caffemodel(path: str | os.PathLike[str]) -> CaffeModel:
    """The net and the blobs of a .caffemodel or .caffemodel.h5, told apart by content.

    Raises FileNotFoundError, and CaffeFormatError for everything that is wrong with the file.
    """
    with open_file(path) as file:
        kind = sniff.sniff(file.read(4096))
        try:
            if kind == sniff.HDF5:
                from .hdf5 import read_hdf5

                return read_hdf5(path)
            if kind != sniff.PROTOBUF:
                raise sniff.not_a("a .caffemodel or .caffemodel.h5", kind)
            return parse_caffemodel(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), path=os.fspath(path))
        except CaffeFormatError as error:
            error.in_file(path)
            raise


def parse_caffemodel(buffer: Buffer, *, path: str | None = None) -> CaffeModel:
    """The net and the blobs of a serialized NetParameter; the blobs are views of `buffer`."""
    kind = sniff.kind_of_message(Message.whole(buffer))
    if kind not in (sniff.NET, sniff.PROTOBUF):
        raise sniff.not_a("a net (.caffemodel)", kind)
    source = Message.whole(buffer)
    scan = _scan_net(source)
    message = NetParameter()
    net_extra = _merge(message, source, scan.settings)
    blobs: dict[str, tuple[np.ndarray, ...]] = {}
    extras: dict[int, tuple[UnknownField, ...]] = {}
    unknown = [("the net", field) for field in net_extra]
    notes: list[str] = []
    for number, layers in scan.layers.items():
        for index, layer in enumerate(layers):
            with place(f"layer {index}"):
                name, own, extra = _read_layer(layer, source, getattr(message, _FORMS[number].field).add())
                named = _read_fork_text(layer.fork_text, source, LayerParameter)
            kind = getattr(message, _FORMS[number].field)[index].type
            known = named_fields(kind, extra) if isinstance(kind, str) else {}
            if extra or named:
                extras[index] = (*extra, *known.values(), *named)
                unknown += [(f"layer '{name}'", field) for field in extra if field.name not in known]
            if own and name in blobs:
                notes.append(f"layer '{name}' has blobs twice; Caffe uses the last ones, and so does this")
            if own:
                blobs[name] = own
    notes += [*notes_on(unknown), *_order_notes(scan, source, message, extras), *_emptied(message, blobs)]
    upgraded = upgrade_net(message, extras=extras)
    spec = net_from_message(upgraded.message, path=path, extras=upgraded.extras, notes=(*notes, *upgraded.notes))
    spec = replace(spec, extra=net_extra + _read_fork_text(scan.fork_text, source, NetParameter))
    return CaffeModel(spec=spec, blobs=MappingProxyType(blobs), path=path, notes=spec.notes)


# Bytes: what lies where


class _ScannedLayer(NamedTuple):
    """The fields of a layer; `nested` are those of a V0 layer inside it, None where there is none.

    `in_order` is True where its fields come by number, as Caffe writes them.
    """

    settings: list[Field]
    nested: list[Field] | None
    blobs: list[Field]
    fork_text: list[Field]
    in_order: bool


class _ScannedNet(NamedTuple):
    """The fields of a net, and its layers by the number of their form."""

    settings: list[Field]
    layers: dict[int, list[_ScannedLayer]]
    fork_text: list[Field]


def _next_or_ask(found: Iterator[Field], *, first: bool) -> Field | None:
    """The next field, None after the last; where no layer was read before an error, it asks what the file is."""
    try:
        return next(found, None)
    except WireError as error:
        error.hint = _ANOTHER_PROGRAM if first else error.hint
        raise


def _scan_net(net: Message) -> _ScannedNet:
    scan = _ScannedNet([], {number: [] for number in _FORMS}, [])
    found = net.fields()
    while True:
        with place(f"after {sum(map(len, scan.layers.values()))} layers"):
            field = _next_or_ask(found, first=not any(scan.layers.values()))
        if field is None:
            break
        layers = scan.layers.get(field.number)
        if layers is None:
            (scan.fork_text if field.number == FORK_TEXT else scan.settings).append(field)
        else:
            with place(f"layer {len(layers)}"):
                layers.append(_scan_layer(net.inside(field), _FORMS[field.number]))
    if not any(scan.layers.values()):
        raise WireError("a protobuf message without layers; expected a net", hint=_ANOTHER_PROGRAM)
    size = _size(_all_settings(scan))
    check_limit(size, _MOST_SETTINGS, what="what is not in blobs, the net's settings, has")
    size = _size([scan.fork_text, *(layer.fork_text for layer in chain.from_iterable(scan.layers.values()))])
    check_limit(size, _MOST_FORK_TEXT, what="the text of forks' fields has")
    return scan


def _size(all_fields: Iterable[list[Field]]) -> int:
    return sum(field.end - field.start for fields in all_fields for field in fields)


def _scan_layer(layer: Message, form: _LayerForm) -> _ScannedLayer:
    own = list(layer.fields())
    v0 = [layer.inside(field) for field in own if field.number == form.nested]
    layer.budget.take(V0_LAYER if v0 else LAYER, layer.start)
    nested = [field for message in v0 for field in message.fields()]
    return _ScannedLayer(
        settings=[field for field in own if field.number not in (form.blobs, form.nested, FORK_TEXT)],
        nested=[field for field in nested if field.number != _V0_BLOBS] if v0 else None,
        blobs=[f for f in own if f.number == form.blobs] + [f for f in nested if f.number == _V0_BLOBS],
        fork_text=[field for field in own if field.number == FORK_TEXT],
        in_order=all(before.number <= after.number for before, after in pairwise(own)),
    )


def _all_settings(scan: _ScannedNet) -> Iterator[list[Field]]:
    yield scan.settings
    for layer in chain.from_iterable(scan.layers.values()):
        yield layer.settings
        yield layer.nested or []


# Messages: what the fields say


def _read_layer(
    layer: _ScannedLayer, source: Message, message: Any
) -> tuple[str, tuple[np.ndarray, ...], tuple[UnknownField, ...]]:
    """Fill `message` with the settings of a layer; returns the layer's name, its blobs and its unknown fields."""
    extra = _merge(message, source, layer.settings)
    name = message.name
    if layer.nested is not None:
        message.layer.SetInParent()
        extra += _merge(message.layer, source, layer.nested)
        name = message.layer.name
    blobs = []
    for position, blob in enumerate(layer.blobs):
        with place(f"'{name}' blob {position}"):
            blobs.append(read_blob(source.inside(blob)))
    return name, tuple(blobs), extra


def _read_fork_text(found: Sequence[Field], source: Message, message_class: Any) -> tuple[UnknownField, ...]:
    texts = [source.inside(field) for field in found]
    return tuple(
        field for t in texts for field in read_fork_text(t.buffer[t.start : t.end], message_class, budget=source.budget)
    )


def _merge(message: Any, source: Message, found: Sequence[Field]) -> tuple[UnknownField, ...]:
    """Let the protobuf library parse `found` into the empty `message`; returns the fields that it does not know.

    Forks of Caffe use the same field numbers for different parameters, so parameters that do not parse are not
    damage by themselves: they count as unknown.
    """
    for field in found:
        count_nested(source.buffer, field.start, field.end, message.DESCRIPTOR, source.budget)
    colliding: list[UnknownField] = []
    try:
        message.MergeFromString(source.copy(found))
    except DecodeError:
        message.Clear()
        for field in found:
            raw = source.copy([field])
            try:
                type(message).FromString(raw)
            except DecodeError as error:
                known = message.DESCRIPTOR.fields_by_number.get(field.number)
                name = f"field {field.number}" if known is None else f"'{known.name}'"
                if known is None or not known.name.endswith("_param"):
                    raise WireError(f"{name} does not parse", where=f"offset {field.start}") from error
                colliding.append(UnknownField(f"#{field.number}", bytes(source.buffer[field.value : field.end])))
            else:
                message.MergeFromString(raw)
    _check_strings(message)
    return (*unknown_fields(message), *colliding)


def _check_strings(message: Any) -> None:
    """Refuse names that are not UTF-8, and what Python layers say; in other parameters such strings stay bytes.

    They are paths on somebody's disk, or a fork's message under one of Caffe's numbers.
    """
    for known, value in message.ListFields():
        for item in value if is_repeated(known) else [value]:
            is_read = known.name == "python_param" and message.type == "Python"
            if known.message_type is not None and (is_read or not known.name.endswith("_param")):
                _check_strings(item)
            elif known.type == known.TYPE_STRING and isinstance(item, bytes) and known.name not in PATHS:
                raise WireError(f"{known.name} is not UTF-8: {item[:80]!r}")


def _order_notes(
    scan: _ScannedNet, source: Message, message: Any, extras: Mapping[int, tuple[UnknownField, ...]]
) -> Iterator[str]:
    """A note where the settings of a V2 net are not the bytes that `write_caffemodel` makes of them."""
    layers = scan.layers[_V2]
    if not layers or scan.layers[_V1]:
        return  # upgraded, which has a note of its own
    header = NetParameter()
    header.CopyFrom(message)
    header.ClearField("layer")
    starts = [layer.settings[0].start for layer in layers if layer.settings]
    late = bool(starts) and any(field.start > starts[0] for field in scan.settings)
    as_written = source.copy(scan.settings) == _in_order(header.SerializeToString(deterministic=True))
    other = ["the net"] if late or not as_written else []
    for index, (layer, held) in enumerate(zip(layers, message.layer, strict=True)):
        if not layer.in_order or source.copy(layer.settings) != _settings(held, extras.get(index, ())):
            other.append(f"layer '{held.name}'")
    if other:
        more = f" and {len(other) - 3} more" if len(other) > 3 else ""
        yield (
            f"{', '.join(other[:3])}{more}: the fields are in another order or form than Caffe writes them in; nothing "
            "is lost, but a .caffemodel written from this has them in Caffe's, and so other bytes"
        )


def _emptied(message: Any, blobs: Mapping[str, Sequence[np.ndarray]]) -> Iterator[str]:
    """A note on BN layers that hold only zeros, as they are left where they were merged into convolutions (ENet)."""
    of_type = (layer.name for layer in message.layer if layer.type == "BN")
    names = [name for name in of_type if blobs.get(name) and not any(blob.any() for blob in blobs[name])]
    if names:
        more = f" and {len(names) - 1} more BN layers have" if len(names) > 1 else " has"
        yield (
            f"layer '{names[0]}'{more} nothing but zeros, and so have their tops: if they were merged into the "
            "convolutions, give the prototxt without them"
        )


# The writer


def write_caffemodel(model: CaffeModel, path: str | os.PathLike[str] | BinaryIO) -> None:
    """Write a .caffemodel as Caffe 1.0 does: a file that Caffe wrote comes out with the same bytes.

    `path` may be a file that is open for writing.
    float64 blobs become `double_data`, as in a net of doubles; every other type becomes float32 `data`. Fields of forks
    that were read from a prototxt have a name and no number: they are written as fork_text.py says, which this reads
    again and Caffe passes over; Caffe takes a net's settings from the prototxt anyway.
    """
    refuse_no_model(model)
    if model.spec is None:
        raise MismatchError("these blobs come without a net; a .caffemodel holds one", path=model.path)
    strangers = set(model.blobs) - {layer.name for layer in model.spec.layers}
    if strangers:
        raise MismatchError(f"blobs of layers that the net does not have: {', '.join(sorted(strangers))}")
    left_out = [name for name, own in model.blobs.items() if any(map(is_left_out, own))]
    if left_out:
        hint = "from_state_dict(to_state_dict(model, spec=spec), spec) fills them in"
        raise MismatchError(f"shared blobs of {', '.join(left_out)} are not in this .h5", path=model.path, hint=hint)
    header = NetParameter.FromString(model.spec.definition)
    header.name = model.spec.name
    with whole_or_open(path) as file:
        file.write(_in_order(header.SerializeToString(deterministic=True)))
        for layer in model.spec.layers:
            _write_layer(file, layer, model.blobs.get(layer.name, ()))
        file.write(_fork_text(model.spec.extra, NetParameter))


def _write_layer(file: BinaryIO, layer: LayerSpec, blobs: Sequence[np.ndarray]) -> None:
    blob_number = _FORMS[_V2].blobs
    raw = _settings(layer.message, layer.extra)
    split = next((f.start for f in Message.whole(raw).fields() if f.number > blob_number), len(raw))
    parts: list[bytes | memoryview] = [raw[:split]]
    for blob in blobs:
        header, values, trailer = blob_parts(blob)
        parts += [write_tag(blob_number, len(header) + values.nbytes + len(trailer)), header, values.data, trailer]
    known = set(named_fields(layer.type, layer.extra).values())  # they are in the message under their numbers
    parts += [raw[split:], _fork_text([field for field in layer.extra if field not in known], LayerParameter)]
    file.write(write_tag(_V2, sum(memoryview(part).nbytes for part in parts)))
    for part in parts:
        file.write(part)


def _settings(message: Any, extra: Sequence[UnknownField]) -> bytes:
    """The bytes of a layer's message without its blobs, and of what `extra` has under numbers of Caffe's."""
    return _in_order(message.SerializeToString(deterministic=True) + _colliding(extra, message))


def _colliding(extra: Sequence[UnknownField], message: Any) -> bytes:
    """Messages of forks under numbers of Caffe's parameters, as far as `message` does not hold them: see `_merge`."""
    raw = b""
    for field in extra:
        number = int(field.name[1:]) if re.fullmatch(r"#\d+", field.name) else 0
        known = message.DESCRIPTOR.fields_by_number.get(number)
        if known is None or not known.name.endswith("_param") or not isinstance(field.value, bytes):
            continue
        if getattr(message, known.name).SerializeToString() != field.value:
            raw += write_tag(number, len(field.value)) + field.value
    return raw


def _fork_text(extra: Sequence[UnknownField], message_class: Any) -> bytes:
    text = write_fork_text(extra, message_class)
    return write_tag(FORK_TEXT, len(text)) + text if text else b""


def blob_parts(blob: np.ndarray) -> tuple[bytes, np.ndarray, bytes]:
    """A BlobProto as the bytes before its values, the values, and the bytes after them (fields by number)."""
    double = blob.dtype == FLOAT64
    values = np.ascontiguousarray(blob, FLOAT64 if double else FLOAT32).reshape(-1)
    data, shape = b"", b""
    if values.size:
        data = write_tag(_number("BlobProto", "double_data" if double else "data"), values.nbytes)
    if blob.ndim:  # Caffe adds dim by dim, so that a blob without axes has no shape (blob.cpp, ToProto)
        dims = b"".join(write_varint(dim) for dim in blob.shape)
        dims = write_tag(_number("BlobShape", "dim"), len(dims)) + dims
        shape = write_tag(_number("BlobProto", "shape"), len(dims)) + dims
    return (shape + data, values, b"") if double else (data, values, shape)


def _in_order(raw: bytes) -> bytes:
    """The fields of a message by number, as C++ protobuf writes them; the order within a number stays."""
    message = Message.whole(raw)
    return message.copy(sorted(message.fields(), key=lambda field: field.number))
