"""BlobProto: the shape and the values of one blob, in every form that Caffe and its forks wrote."""

from __future__ import annotations

from collections import defaultdict
from math import prod

import numpy as np

from ..errors import WireError
from ..net.layer import Shape
from ..net.shapes import MOST_AXES
from ..schema import message_type
from .wire import BYTES, FIXED32, FIXED64, VARINT, Field, Message, expect, read_int, read_numbers, read_varint, signed

_NUMBERS = {field.name: field.number for field in message_type("BlobProto").fields}
_LEGACY_DIMS = tuple(_NUMBERS[name] for name in ("num", "channels", "height", "width"))
_SHAPE, _DATA, _DOUBLE_DATA = _NUMBERS["shape"], _NUMBERS["data"], _NUMBERS["double_data"]
_RAW_TYPE, _RAW_DATA = _NUMBERS["raw_data_type"], _NUMBERS["raw_data"]
_VIDEO_DIMS, _VIDEO_DATA = (1, 2, 3, 4, 5), 6
"""C3D's own numbers: num, channels, length, height, width, and data where Caffe has diff (facebook/C3D, C3D-v1.0,
src/caffe/proto/caffe.proto, BlobProto)."""
_SHAPE_DIM = 1
_MAX_PRODUCT = 1 << 60
"""Of the dims that are not 0: what numpy can count in bytes; no file holds so much."""

FLOAT32: np.dtype = np.dtype("<f4")
FLOAT64: np.dtype = np.dtype("<f8")
_RAW_TYPES: dict[int, np.dtype] = {0: FLOAT64, 1: FLOAT32, 2: np.dtype("<f2"), 3: np.dtype("<i4"), 4: np.dtype("<u4")}

_Found = dict[int, list[Field]]


def read_blob(message: Message) -> np.ndarray:
    """The blob of a BlobProto: a read-only array in the file's own shape and type, a view wherever that is possible.

    Legacy dims (num, channels, height, width) give four axes and win over `shape`; double_data wins over data
    (blob.cpp, FromProto); raw_data is NVCaffe's and OpenCV's; diff is passed over. C3D's blobs, told by a whole number
    where Caffe has data beside the four dims, have five axes.
    """
    found: _Found = defaultdict(list)
    for field in message.fields():
        found[field.number].append(field)
    video = all(number in found and found[number][-1].wire_type == VARINT for number in _VIDEO_DIMS)
    shape = _checked(message, _dims_by_number(message, found, _VIDEO_DIMS) if video else _read_dims_of(message, found))
    values = _read_floats(message, found[_VIDEO_DATA]) if video else _read_values(message, found)
    if values.size != prod(shape):
        raise WireError(
            f"shape {'x'.join(map(str, shape)) or '()'} needs {prod(shape)} values; found {values.size}",
            where=f"offset {message.start}",
        )
    return values.reshape(shape)


def _read_dims_of(message: Message, found: _Found) -> list[int]:
    if any(number in found for number in _LEGACY_DIMS):
        return _dims_by_number(message, found, _LEGACY_DIMS)
    return [dim for field in found[_SHAPE] for dim in _read_dims(message.inside(field))]


def _dims_by_number(message: Message, found: _Found, numbers: tuple[int, ...]) -> list[int]:
    return [read_int(message.buffer, found[n][-1]) if found.get(n) else 0 for n in numbers]


def _checked(message: Message, dims: list[int]) -> Shape:
    if len(dims) > MOST_AXES:
        raise WireError(f"a shape of {len(dims)} axes or more; Caffe has {MOST_AXES}", where=f"offset {message.start}")
    if min(dims, default=0) < 0 or prod(dim or 1 for dim in dims) > _MAX_PRODUCT:
        raise WireError(f"an impossible shape: {'x'.join(map(str, dims))}", where=f"offset {message.start}")
    return tuple(dims)


def _read_floats(message: Message, fields: list[Field]) -> np.ndarray:
    return read_numbers(message.buffer, (expect(field, BYTES, FIXED32) for field in fields), FLOAT32)


def _read_dims(shape: Message) -> list[int]:
    """The dims of one BlobShape, packed or not; one more than Caffe allows is enough to see that there are too many."""
    dims: list[int] = []
    for field in shape.fields():
        if field.number != _SHAPE_DIM:
            continue
        position = expect(field, VARINT, BYTES).value
        while position < field.end and len(dims) <= MOST_AXES:
            dim, position = read_varint(shape.buffer, position, field.end)
            dims.append(signed(dim))
    return dims


def _read_values(message: Message, found: _Found) -> np.ndarray:
    doubles = read_numbers(message.buffer, (expect(f, BYTES, FIXED64) for f in found[_DOUBLE_DATA]), FLOAT64)
    if doubles.size:
        return doubles
    floats = _read_floats(message, found[_DATA])
    if floats.size or not found[_RAW_DATA]:
        return floats
    number = read_int(message.buffer, found[_RAW_TYPE][-1]) if found[_RAW_TYPE] else 0
    if number not in _RAW_TYPES:
        raise WireError(f"raw_data_type {number}; expected 0 to 4", where=f"offset {found[_RAW_TYPE][-1].start}")
    return read_numbers(message.buffer, [expect(found[_RAW_DATA][-1], BYTES)], _RAW_TYPES[number])
