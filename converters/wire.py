"""Protobuf's wire format: bounded varints, tags and fields, and nothing about what they mean.

A message is a run of fields; a field is a tag (number and wire type, one varint) and a value whose length the wire
type or a varint gives. Every length is checked against the end of the message around it before it is used, so
whatever the bytes, a scan ends, stays inside its message and takes time linear in its length. Payloads are never
copied: a field says where its value lies. Source: protobuf's "Encoding" page.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from mmap import mmap

import numpy as np

from .errors import WireError

Buffer = bytes | mmap | memoryview

VARINT, FIXED64, BYTES, START_GROUP, END_GROUP, FIXED32 = range(6)
_FIXED_SIZE = {FIXED64: 8, FIXED32: 4}
_WIRE_TYPE_NAMES = ("varint", "64-bit", "length-delimited", "group start", "group end", "32-bit")


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message: its tag begins at `start`, its value is `buffer[value:end]`."""

    number: int
    wire_type: int
    start: int
    value: int
    end: int


def read_varint(buffer: Buffer, position: int, end: int) -> tuple[int, int]:
    """The unsigned varint at `position` and the position after it; at most ten bytes, none at or past `end`."""
    result = 0
    for count in range(10):
        if position + count >= end:
            raise WireError("the bytes end inside a varint", where=f"offset {position}", hint=_TRUNCATED)
        byte = buffer[position + count]
        result |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            if result >> 64:
                break
            return result, position + count + 1
    raise WireError("a varint of more than 64 bits", where=f"offset {position}")


def fields(buffer: Buffer, start: int, end: int) -> Iterator[Field]:
    """The fields of the message in `buffer[start:end]`, in file order."""
    position = start
    while position < end:
        field = _read_field(buffer, position, end)
        yield field
        position = field.end


def _read_field(buffer: Buffer, start: int, end: int) -> Field:
    tag, value = read_varint(buffer, start, end)
    number, wire_type = tag >> 3, tag & 7
    if not 0 < number < 1 << 29:
        raise WireError(f"field number {number}; expected 1 to {(1 << 29) - 1}", where=f"offset {start}")
    if wire_type == VARINT:
        _, stop = read_varint(buffer, value, end)
    elif wire_type == BYTES:
        length, value = read_varint(buffer, value, end)
        stop = value + length
    elif wire_type in _FIXED_SIZE:
        stop = value + _FIXED_SIZE[wire_type]
    else:
        name = _WIRE_TYPE_NAMES[wire_type] if wire_type < 6 else "unused"
        raise WireError(
            f"field {number} has wire type {wire_type} ({name}), which Caffe never writes", where=f"offset {start}"
        )
    if stop > end:
        raise WireError(
            f"field {number}: {stop - value} bytes at offset {value} run past the end of the message ({end})",
            hint=_TRUNCATED,
        )
    return Field(number, wire_type, start, value, stop)


def expect(field: Field, *wire_types: int) -> Field:
    """`field` itself, if it has one of the wire types that its number calls for."""
    if field.wire_type not in wire_types:
        expected = " or ".join(_WIRE_TYPE_NAMES[t] for t in wire_types)
        raise WireError(
            f"field {field.number} is {_WIRE_TYPE_NAMES[field.wire_type]}; expected {expected}",
            where=f"offset {field.start}",
        )
    return field


def copy_fields(buffer: Buffer, found: Iterable[Field]) -> bytes:
    """The bytes of these fields, tags included, one after the other: a message again."""
    return b"".join(buffer[field.start : field.end] for field in found)


def read_numbers(buffer: Buffer, runs: Iterable[Field], dtype: np.dtype) -> np.ndarray:
    """The values of a repeated fixed-size field, packed and unpacked parts in file order, flat and read-only.

    One packed part, the usual case, and one run of unpacked values are views of the buffer; mixtures are copied.
    """
    parts = [_view(buffer, run, dtype) for run in runs]
    values = parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, dtype), *parts])
    values.flags.writeable = False
    return values


def merge_unpacked(buffer: Buffer, first: Field, end: int) -> Field:
    """`first` and the fields of the same tag right behind it as one Field, so that no value costs a Python step.

    The values of the run are `first.end - first.start` bytes apart. The search window grows with what it
    finds, so that it never reads much more than it returns.
    """
    stride = first.end - first.start
    tag = np.frombuffer(buffer, np.uint8, first.value - first.start, first.start)
    count, window = 1, 16
    while True:
        available = min((end - first.start) // stride, count + window) - count
        if available <= 0:
            break
        rows = np.frombuffer(buffer, np.uint8, available * stride, first.start + count * stride)
        same = (rows.reshape(available, stride)[:, : tag.size] == tag).all(axis=1)
        run = available if same.all() else int(same.argmin())
        count += run
        if run < available:
            break
        window = min(window * 2, 1 << 20)
    return Field(first.number, first.wire_type, first.start, first.value, first.start + count * stride)


def _view(buffer: Buffer, run: Field, dtype: np.dtype) -> np.ndarray:
    size = run.end - run.value
    if run.wire_type == BYTES:
        if size % dtype.itemsize:
            raise WireError(
                f"field {run.number}: {size} bytes are not a whole number of {dtype.itemsize}-byte values",
                where=f"offset {run.value}",
            )
        return np.frombuffer(buffer, dtype, size // dtype.itemsize, run.value)
    stride = run.value - run.start + dtype.itemsize
    count = (run.end - run.start) // stride
    return np.ndarray((count,), dtype, buffer, run.value, (stride,))


def write_varint(value: int) -> bytes:
    """An unsigned varint."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def write_tag(number: int, length: int) -> bytes:
    """The tag and the length of a length-delimited field."""
    return write_varint(number << 3 | BYTES) + write_varint(length)


_TRUNCATED = "the file is damaged or was cut short: get it again and compare its size and checksum"
