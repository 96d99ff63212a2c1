"""BlobProto: the shape and the values of one blob, in every form that Caffe and its forks wrote."""

from __future__ import annotations

from collections import defaultdict
from math import prod

import numpy as np

from .errors import WireError
from .schema import message_type
from .wire import BYTES, FIXED32, FIXED64, VARINT, Buffer, Field, expect, fields, merge_unpacked, read_numbers, read_varint

_NUMBERS = {field.name: field.number for field in message_type("BlobProto").fields}
_LEGACY_DIMS = tuple(_NUMBERS[name] for name in ("num", "channels", "height", "width"))
_SHAPE, _DATA, _DOUBLE_DATA = _NUMBERS["shape"], _NUMBERS["data"], _NUMBERS["double_data"]
_RAW_TYPE, _RAW_DATA = _NUMBERS["raw_data_type"], _NUMBERS["raw_data"]
_UNPACKED = {(_DATA, FIXED32), (_DOUBLE_DATA, FIXED64)}
_SHAPE_DIM = 1
_MAX_AXES = 32
"""blob.hpp, kMaxBlobAxes."""

FLOAT32, FLOAT64 = np.dtype("<f4"), np.dtype("<f8")
_RAW_TYPES = {0: FLOAT64, 1: FLOAT32, 2: np.dtype("<f2"), 3: np.dtype("<i4"), 4: np.dtype("<u4")}


def read_blob(buffer: Buffer, start: int, end: int) -> np.ndarray:
    """The blob in `buffer[start:end]`: a read-only array in the file's own shape, a view wherever that is possible.

    Legacy dims (num, channels, height, width) give four axes and win over `shape`; double_data wins over data
    (blob.cpp, FromProto); raw_data is NVCaffe's and OpenCV's; diff is passed over.
    """
    found: dict[int, list[Field]] = defaultdict(list)
    skip_to = start
    for field in fields(buffer, start, end):
        if field.start < skip_to:
            continue
        if (field.number, field.wire_type) in _UNPACKED:
            field = merge_unpacked(buffer, field, end)
            skip_to = field.end
        found[field.number].append(field)
    shape = _read_shape(buffer, found)
    values = _read_values(buffer, found)
    if values.size != prod(shape):
        raise WireError(
            f"shape {'x'.join(map(str, shape)) or '()'} needs {prod(shape)} values; found {values.size}",
            where=f"offset {start}",
        )
    return values.reshape(shape)


def _read_shape(buffer: Buffer, found: dict[int, list[Field]]) -> tuple[int, ...]:
    if any(number in found for number in _LEGACY_DIMS):
        dims = [_read_int(buffer, found[number][-1]) if number in found else 0 for number in _LEGACY_DIMS]
    else:
        dims = [dim for field in found[_SHAPE] for dim in _read_dims(buffer, expect(field, BYTES))]
    place = f"offset {found[_SHAPE][0].start}" if found[_SHAPE] else None
    if len(dims) > _MAX_AXES:
        raise WireError(f"a shape of {len(dims)} axes; Caffe has at most {_MAX_AXES}", where=place)
    if any(dim < 0 for dim in dims) or prod(dims) >= 1 << 63:
        raise WireError(f"an impossible shape: {dims}", where=place)
    return tuple(dims)


def _read_dims(buffer: Buffer, shape: Field) -> list[int]:
    dims: list[int] = []
    for field in fields(buffer, shape.value, shape.end):
        if field.number != _SHAPE_DIM:
            continue
        position = expect(field, VARINT, BYTES).value
        while position < field.end and len(dims) <= _MAX_AXES:
            dim, position = read_varint(buffer, position, field.end)
            dims.append(_signed(dim))
    return dims


def _read_values(buffer: Buffer, found: dict[int, list[Field]]) -> np.ndarray:
    if found[_RAW_DATA] and not (found[_DATA] or found[_DOUBLE_DATA]):
        return _read_raw(buffer, found)
    if found[_DOUBLE_DATA]:
        doubles = read_numbers(buffer, (expect(f, BYTES, FIXED64) for f in found[_DOUBLE_DATA]), FLOAT64)
        if doubles.size:
            return doubles
    return read_numbers(buffer, (expect(f, BYTES, FIXED32) for f in found[_DATA]), FLOAT32)


def _read_raw(buffer: Buffer, found: dict[int, list[Field]]) -> np.ndarray:
    number = _read_int(buffer, found[_RAW_TYPE][-1]) if found[_RAW_TYPE] else 0
    if number not in _RAW_TYPES:
        raise WireError(f"raw_data_type {number}; expected 0 to 4", where=f"offset {found[_RAW_DATA][0].start}")
    return read_numbers(buffer, [expect(found[_RAW_DATA][-1], BYTES)], _RAW_TYPES[number])


def _read_int(buffer: Buffer, field: Field) -> int:
    return _signed(read_varint(buffer, expect(field, VARINT).value, field.end)[0])


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value
