"""Protobuf's wire format: bounded varints, tags and fields, and nothing about what they mean.

A message is a run of fields; a field is a tag (number and wire type, one varint) and a value whose length the wire
type or a varint gives. Every length is checked against the end of the message around it before it is used, so
whatever the bytes, a scan ends and stays inside its message. Payloads are never copied: a field says where its value
lies. Source: protobuf's "Encoding" page.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from mmap import mmap

import numpy as np

from ..errors import WireError
from .budget import FIELD, Budget

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


@dataclass(frozen=True, slots=True)
class Message:
    """The message in `buffer[start:end]`; `budget` counts what all fields of the file take."""

    buffer: Buffer
    start: int
    end: int
    budget: Budget

    @classmethod
    def whole(cls, buffer: Buffer) -> Message:
        """The message that fills a buffer."""
        return cls(buffer, 0, len(buffer), Budget(len(buffer)))

    def inside(self, outer: Field) -> Message:
        """The message that a field of this one holds."""
        expect(outer, BYTES)
        return replace(self, start=outer.value, end=outer.end)

    def fields(self) -> Iterator[Field]:
        """The fields in file order; values of a repeated fixed-size field that follow each other are one Field."""
        position = self.start
        while position < self.end:
            self.budget.take(FIELD, position)
            found = read_field(self.buffer, position, self.end)
            if found.wire_type in _FIXED_SIZE:
                found = _merge_run(self.buffer, found, self.end)
            yield found
            position = found.end

    def copy(self, found: Iterable[Field]) -> bytes:
        """The bytes of these fields, tags included, one after the other: a message again."""
        return b"".join(self.buffer[f.start : f.end] for f in found)


def read_varint(buffer: Buffer, position: int, end: int) -> tuple[int, int]:
    """The unsigned varint at `position` and the position after it; at most ten bytes, none at or past `end`."""
    result = 0
    for index in range(10):
        if position + index >= end:
            raise WireError("the bytes end inside a varint", where=f"offset {position}", hint=_TRUNCATED)
        byte = buffer[position + index]
        result |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            if result >> 64:
                break
            return result, position + index + 1
    raise WireError("a varint of more than 64 bits", where=f"offset {position}")


def read_tag(buffer: Buffer, start: int, end: int) -> tuple[int, int, int]:
    """The number and the wire type of the field at `start`, and where its value or length begins."""
    tag, value = read_varint(buffer, start, end)
    number, wire_type = tag >> 3, tag & 7
    if not 0 < number < 1 << 29:
        raise WireError(f"field number {number}; expected 1 to {(1 << 29) - 1}", where=f"offset {start}")
    return number, wire_type, value


def read_field(buffer: Buffer, start: int, end: int) -> Field:
    """The field at `start`, which ends before `end`; no group."""
    number, wire_type, value = read_tag(buffer, start, end)
    if wire_type == VARINT:
        _, stop = read_varint(buffer, value, end)
    elif wire_type == BYTES:
        length, value = read_varint(buffer, value, end)
        stop = value + length
    elif wire_type in _FIXED_SIZE:
        stop = value + _FIXED_SIZE[wire_type]
    else:
        name = _WIRE_TYPE_NAMES[wire_type] if wire_type < len(_WIRE_TYPE_NAMES) else "unused"
        raise WireError(
            f"field {number} has wire type {wire_type} ({name}), which Caffe never writes", where=f"offset {start}"
        )
    if stop > end:
        raise WireError(
            f"field {number}: {stop - value} bytes at offset {value} run past the end of the message ({end})",
            hint=_TRUNCATED,
        )
    return Field(number, wire_type, start, value, stop)


def _merge_run(buffer: Buffer, first: Field, end: int) -> Field:
    """`first` and the fields of the same tag right behind it as one Field, so that no value costs a Python step.

    The values of the run are as far apart as `first` is long. The search window grows with what it finds, so that it
    never reads much more than it returns.
    """
    stride = first.end - first.start
    tag = np.frombuffer(buffer, np.uint8, first.value - first.start, first.start)
    most = (end - first.start) // stride
    found, window = 1, 16
    while found < most:
        rows_here = min(most - found, window)
        rows = np.frombuffer(buffer, np.uint8, rows_here * stride, first.start + found * stride)
        same = (rows.reshape(rows_here, stride)[:, : tag.size] == tag).all(axis=1)
        run = rows_here if same.all() else int(same.argmin())
        found += run
        if run < rows_here:
            break
        window = min(window * 2, 1 << 20)
    return replace(first, end=first.start + found * stride)


def expect(found: Field, *wire_types: int) -> Field:
    """`found` itself, if it has one of the wire types that its number calls for."""
    if found.wire_type not in wire_types:
        expected = " or ".join(_WIRE_TYPE_NAMES[t] for t in wire_types)
        raise WireError(
            f"field {found.number} is {_WIRE_TYPE_NAMES[found.wire_type]}; expected {expected}",
            where=f"offset {found.start}",
        )
    return found


def read_int(buffer: Buffer, found: Field) -> int:
    """The value of an int32, int64 or enum field."""
    return signed(read_varint(buffer, expect(found, VARINT).value, found.end)[0])


def signed(value: int) -> int:
    """A varint as two's complement of 64 bits, which is how int32 and int64 are written."""
    return value - (1 << 64) if value >> 63 else value


def read_numbers(buffer: Buffer, runs: Iterable[Field], dtype: np.dtype) -> np.ndarray:
    """The values of a repeated fixed-size field, packed and unpacked parts in file order, flat and read-only.

    One packed part, the usual case, and one run of unpacked values are views of the buffer; mixtures are copied.
    """
    parts = [part for part in (_view(buffer, run, dtype) for run in runs) if part.size]
    values = parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, dtype), *parts])
    values.flags.writeable = False
    return values


def _view(buffer: Buffer, run: Field, dtype: np.dtype) -> np.ndarray:
    if run.wire_type == BYTES:
        size = run.end - run.value
        if size % dtype.itemsize:
            raise WireError(
                f"field {run.number}: {size} bytes are not a whole number of {dtype.itemsize}-byte values",
                where=f"offset {run.value}",
            )
        return np.frombuffer(buffer, dtype, size // dtype.itemsize, run.value)
    stride = run.value - run.start + dtype.itemsize
    strided: np.ndarray = np.ndarray(((run.end - run.start) // stride,), dtype, buffer, run.value, (stride,))
    return strided


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
