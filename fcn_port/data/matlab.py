"""MATLAB's MAT files of level 5 (save -v6 and -v7), as far as label maps need them: a matrix, also inside structs.

Every element is a tag (type and length) and its bytes, padded to 8; lengths are checked against what is around them
before they are used, and nothing else is trusted. Strings, cells, sparse matrices and objects are stepped over.
Source: MathWorks, "MAT-File Format", chapter 1, level 5.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np

from converters.safety import check_limit, memory_limit, scaled

from .errors import DataError

_HEADER = 128
_HDF5_VERSION = 0x0200
_INT8, _INT32, _UINT32, _MATRIX, _COMPRESSED = 1, 5, 6, 14, 15
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""Types of elements (mi...) and numpy's names of them."""
_STRUCT, _NUMERIC = 2, range(6, 16)
"""Classes of arrays (mx...): a struct, and double to uint64."""
_COMPLEX = 0x0800
_EXPANSION = 8
"""Bytes for each byte of a file, beyond the first 64 MiB."""
_MOST_AXES = 32


@dataclass(frozen=True)
class _Element:
    """An element's type and bytes, and the bytes after it."""

    type: int
    body: memoryview
    rest: memoryview


@dataclass(frozen=True)
class _MatlabArray:
    """The head of an array, and the elements that follow it."""

    kind: int
    is_complex: bool
    dims: tuple[int, ...]
    name: bytes
    rest: memoryview


def parse_matrix(raw: bytes, *keys: str) -> np.ndarray:
    """The numbers under `keys`, a variable and then fields of structs (of several structs the first one's).

    In MATLAB's shape and order, of the type in which the file stores them. KeyError where there are no such keys,
    DataError where there are no real numbers under them, or for damage.
    """
    order = _byte_order(raw)
    array = _variable(raw, keys[0], order)
    for key in keys[1:]:
        array = _field(array, key, order)
    return _numbers(array, ".".join(keys), order)


def _byte_order(raw: bytes) -> str:
    """numpy's sign for the order of the file's bytes; DataError where the header is not one of level 5."""
    order = {b"IM": "<", b"MI": ">"}.get(raw[126:_HEADER])
    if order is None:
        raise DataError("damaged, or not a MATLAB file of level 5", hint="save it with -v7")
    if struct.unpack_from(f"{order}H", raw, 124)[0] == _HDF5_VERSION:
        raise DataError("a MATLAB 7.3 file; save it with -v7")
    return order


def _variable(raw: bytes, name: str, order: str) -> _MatlabArray:
    limit = memory_limit(len(raw), expansion=_EXPANSION)
    unpacked = 0
    for element in _elements(memoryview(raw)[_HEADER:], order):
        if element.type == _COMPRESSED:
            body = _unpacked(element.body, scaled(limit) - unpacked)
            unpacked += len(body)
            check_limit(unpacked, limit, what="its variables unpack to at least")
            element = _element(memoryview(body), order)
        if element.type == _MATRIX:
            array = _array(element.body, order)
            if array.name == name.encode():
                return array
    raise KeyError(name)


def _unpacked(body: memoryview, most: int) -> bytes:
    """The bytes that a compressed element holds: at most one byte more than `most`."""
    stream = zlib.decompressobj()
    try:
        found = stream.decompress(body, most + 1)
    except zlib.error as error:
        raise DataError(f"damaged: {error}") from None
    if not stream.eof and len(found) <= most:
        raise DataError("damaged: a packed variable ends early")
    return found


def _elements(data: memoryview, order: str) -> Iterator[_Element]:
    """The elements in `data`, one after the other."""
    while len(data) >= 8:
        element = _element(data, order)
        yield element
        data = element.rest


def _element(data: memoryview, order: str) -> _Element:
    """The first element in `data`; DataError where it is not all there."""
    if len(data) < 8:
        raise DataError("damaged: it ends in the middle of a variable")
    type_, size = struct.unpack_from(f"{order}II", data)
    if type_ >> 16:  # a small element: its size beside its type, its bytes in the tag
        type_, size, start, end = type_ & 0xFFFF, type_ >> 16, 4, 8
        if size > 4:
            raise DataError(f"damaged: a small element of {size} bytes")
    else:
        start, end = 8, 8 + size + (0 if type_ == _COMPRESSED else -size % 8)
    if start + size > len(data):
        raise DataError(f"damaged: an element of {size} bytes where {len(data) - start} are left")
    return _Element(type_, data[start : start + size], data[end:])


def _array(body: memoryview, order: str) -> _MatlabArray:
    """The head of an array: flags, dims and name; an array of no bytes is an empty one."""
    if not len(body):
        return _MatlabArray(0, False, (), b"", body)
    flags = _element(body, order)
    dims = _element(flags.rest, order)
    name = _element(dims.rest, order)
    if (flags.type, dims.type, name.type) != (_UINT32, _INT32, _INT8) or len(flags.body) != 8:
        raise DataError("damaged: an array does not begin with its flags, dims and name")
    axes, odd = divmod(len(dims.body), 4)
    if odd or axes > _MOST_AXES:
        raise DataError(f"damaged: dims of {len(dims.body)} bytes")
    word = struct.unpack_from(f"{order}I", flags.body)[0]
    sizes = struct.unpack(f"{order}{axes}i", dims.body)
    if min(sizes, default=0) < 0:
        raise DataError(f"damaged: dims {sizes}")
    return _MatlabArray(word & 0xFF, bool(word & _COMPLEX), sizes, bytes(name.body), name.rest)


def _field(array: _MatlabArray, key: str, order: str) -> _MatlabArray:
    """A field of a struct, or of the first of several."""
    if array.kind != _STRUCT or not prod(array.dims):
        raise KeyError(key)
    length = _element(array.rest, order)
    names = _element(length.rest, order)
    width = struct.unpack(f"{order}i", length.body)[0] if len(length.body) == 4 else 0
    if width < 1 or len(names.body) % width:
        raise DataError("damaged: names of fields of no length")
    data = names.rest
    for start in range(0, len(names.body), width):
        element = _element(data, order)
        if bytes(names.body[start : start + width]).split(b"\0")[0] == key.encode():
            if element.type != _MATRIX:
                raise DataError(f"damaged: field {key} is not an array")
            return _array(element.body, order)
        data = element.rest
    raise KeyError(key)


def _numbers(array: _MatlabArray, what: str, order: str) -> np.ndarray:
    if array.kind not in _NUMERIC or array.is_complex:
        raise DataError(f"{what} is not a matrix of labels")
    real = _element(array.rest, order)
    if real.type not in _NUMBERS:
        raise DataError(f"damaged: {what} has values of type {real.type}")
    dtype = np.dtype(f"{order}{_NUMBERS[real.type]}")
    if len(real.body) != prod(array.dims) * dtype.itemsize:
        raise DataError(f"damaged: {what} has {len(real.body)} bytes; expected {prod(array.dims)} of {dtype}")
    return np.frombuffer(real.body, dtype).reshape(array.dims, order="F").astype(dtype.newbyteorder("="), copy=False)
