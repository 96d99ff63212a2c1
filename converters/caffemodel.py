"""The binary .caffemodel: a NetParameter with its blobs, in V2, V1 and V0 form; and the writer.

The file is mapped, not read. A scan of the wire format finds the layers and their blobs; what is left of each layer,
a few hundred bytes, goes to the protobuf library. Blobs stay views on the mapping until somebody writes them, so that
opening half a gigabyte takes milliseconds and no memory.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from . import sniff
from .blob import FLOAT32, FLOAT64, read_blob
from .errors import CaffeFormatError, MismatchError, WireError, place
from .files import whole_file
from .net import LayerSpec, NetSpec, UnknownField, net_from_message
from .schema import LayerParameter, NetParameter, V1LayerParameter, message_type
from .upgrade import upgrade_net
from .wire import BYTES, Buffer, Field, copy_fields, expect, fields, write_tag, write_varint

Blobs = Mapping[str, tuple[np.ndarray, ...]]


@dataclass(frozen=True)
class CaffeModel:
    """A net and its learned blobs.

    `spec` is None for a .caffemodel.h5, which holds no net. `blobs` are read-only arrays by layer name, in the file's
    own shapes and types; layers without blobs are not in it. `notes` say what a reader should know of the file.
    """

    spec: NetSpec | None
    blobs: Blobs
    path: str | None = None
    notes: tuple[str, ...] = ()


def _number(message: str, field: str) -> int:
    return message_type(message).fields_by_name[field].number


class _Form(NamedTuple):
    """Where a layer of one of the forms keeps its blobs, and a V0 layer inside a V1 one."""

    message: Any
    blobs: int
    nested: int | None


_LAYER = _number("NetParameter", "layer")
_FORMS = {
    _LAYER: _Form(LayerParameter, _number("LayerParameter", "blobs"), None),
    _number("NetParameter", "layers"): _Form(
        V1LayerParameter, _number("V1LayerParameter", "blobs"), _number("V1LayerParameter", "layer")
    ),
}
_V0_BLOBS = _number("V0LayerParameter", "blobs")


def read_caffemodel(path: str | os.PathLike[str]) -> CaffeModel:
    """The net and the blobs of a .caffemodel or .caffemodel.h5, told apart by content.

    Raises FileNotFoundError, and CaffeFormatError for everything that is wrong with the file.
    """
    with sniff.open_file(path) as file:
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
    message = NetParameter()
    blobs: dict[str, tuple[np.ndarray, ...]] = {}
    extras: dict[int, tuple[UnknownField, ...]] = {}
    notes: list[str] = []
    rest: list[Field] = []
    for field in fields(buffer, 0, len(buffer)):
        if field.number not in _FORMS:
            rest.append(field)
            continue
        layers = message.layer if field.number == _LAYER else message.layers
        index = len(layers)
        with place(f"layer {index}"):
            name, own, extra = _read_layer(buffer, field, layers.add())
        if extra:
            extras[index] = extra
            numbers = ", ".join(f.name for f in extra)
            notes.append(f"layer '{name}': field {numbers} is not BVLC Caffe's; kept, but its name is not in the file")
        if own:
            if name in blobs:
                notes.append(f"layer '{name}' has blobs twice; Caffe uses the last ones, and so does this")
            blobs[name] = own
    _merge(message, buffer, rest)
    if not message.layer and not message.layers:
        raise WireError(
            "a protobuf message without layers; expected a net (NetParameter)",
            hint="a mean (.binaryproto) is read by read_mean; a .solverstate holds no net",
        )
    upgraded = upgrade_net(message, extras=extras)
    spec = net_from_message(
        upgraded.message, path=path, extras=upgraded.extras, notes=(*notes, *upgraded.notes)
    )
    return CaffeModel(spec=spec, blobs=MappingProxyType(blobs), path=path, notes=spec.notes)


def _read_layer(
    buffer: Buffer, field: Field, message: Any
) -> tuple[str, tuple[np.ndarray, ...], tuple[UnknownField, ...]]:
    """Fill `message` from one layer of the net; returns the layer's name, blobs and unknown fields."""
    form = _FORMS[field.number]
    own = list(fields(buffer, expect(field, BYTES).value, field.end))
    nested = [inner for f in own if f.number == form.nested for inner in fields(buffer, expect(f, BYTES).value, f.end)]
    extra = _merge(message, buffer, [f for f in own if f.number not in (form.blobs, form.nested)])
    name = message.name
    if nested:
        extra += _merge(message.layer, buffer, [f for f in nested if f.number != _V0_BLOBS])
        name = message.layer.name
    found = [f for f in own if f.number == form.blobs] + [f for f in nested if f.number == _V0_BLOBS]
    blobs = []
    for i, blob in enumerate(found):
        with place(f"'{name}' blob {i}"):
            blobs.append(read_blob(buffer, expect(blob, BYTES).value, blob.end))
    return name, tuple(blobs), extra


def _merge(message: Any, buffer: Buffer, found: Sequence[Field]) -> tuple[UnknownField, ...]:
    """Let the protobuf library parse `found` into `message`; returns the fields that it does not know.

    Forks of Caffe use the same field numbers for different parameters, so parameters that do not parse are not
    damage by themselves: they count as unknown.
    """
    colliding: list[UnknownField] = []
    try:
        message.MergeFromString(copy_fields(buffer, found))
    except DecodeError:
        message.Clear()
        for field in found:
            raw = copy_fields(buffer, [field])
            try:
                type(message).FromString(raw)
            except DecodeError as error:
                known = message.DESCRIPTOR.fields_by_number[field.number].name
                if not known.endswith("_param"):
                    raise WireError(f"'{known}' does not parse", where=f"offset {field.start}") from error
                colliding.append(UnknownField(f"#{field.number}", bytes(buffer[field.value : field.end])))
            else:
                message.MergeFromString(raw)
    unknown = (UnknownField(_name(message, f.field_number), f.data) for f in UnknownFieldSet(message))
    return (*unknown, *colliding)


def _name(message: Any, number: int) -> str:
    """The name of an unknown field: a number, but for the type of a V1 layer, whose values forks have added to."""
    known = message.DESCRIPTOR.fields_by_number.get(number)
    return known.name if known is not None else f"#{number}"


def write_caffemodel(model: CaffeModel, path: str | os.PathLike[str]) -> None:
    """Write a .caffemodel as Caffe 1.0 does: a file that Caffe wrote comes out with the same bytes.

    float64 blobs become `double_data`, as in a net of doubles; every other type becomes float32 `data`.
    """
    if model.spec is None:
        raise MismatchError("these blobs come without a net; a .caffemodel holds one", path=model.path)
    strangers = set(model.blobs) - {layer.name for layer in model.spec.layers}
    if strangers:
        raise MismatchError(f"blobs of layers that the net does not have: {', '.join(sorted(strangers))}")
    header = NetParameter.FromString(model.spec.definition)
    header.name = model.spec.name
    with whole_file(path) as file:
        file.write(_in_order(header.SerializeToString(deterministic=True)))
        for layer in model.spec.layers:
            _write_layer(file, layer, model.blobs.get(layer.name, ()))


def _write_layer(file: BinaryIO, layer: LayerSpec, blobs: Sequence[np.ndarray]) -> None:
    blob_number = _FORMS[_LAYER].blobs
    raw = _in_order(layer.to_message().SerializeToString(deterministic=True))
    split = next((f.start for f in fields(raw, 0, len(raw)) if f.number > blob_number), len(raw))
    parts = [raw[:split]]
    for blob in blobs:
        header, values, trailer = _blob_parts(blob)
        parts += [write_tag(blob_number, len(header) + values.nbytes + len(trailer)), header, values.data, trailer]
    parts.append(raw[split:])
    file.write(write_tag(_LAYER, sum(memoryview(part).nbytes for part in parts)))
    for part in parts:
        file.write(part)


def _blob_parts(blob: np.ndarray) -> tuple[bytes, np.ndarray, bytes]:
    """A BlobProto as the bytes before its values, the values, and the bytes after them (fields by number)."""
    double = blob.dtype == FLOAT64
    values = np.ascontiguousarray(blob, FLOAT64 if double else FLOAT32).reshape(-1)
    dims = b"".join(write_varint(dim) for dim in blob.shape)
    shape = write_tag(1, len(dims)) + dims if dims else b""
    shape = write_tag(_number("BlobProto", "shape"), len(shape)) + shape
    data = write_tag(_number("BlobProto", "double_data" if double else "data"), values.nbytes)
    return (shape + data, values, b"") if double else (data, values, shape)


def _in_order(raw: bytes) -> bytes:
    """The fields of a message by number, as C++ protobuf writes them; the order within a number stays."""
    return copy_fields(raw, sorted(fields(raw, 0, len(raw)), key=lambda field: field.number))
