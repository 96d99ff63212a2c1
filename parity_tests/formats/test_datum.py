"""Datum with fields that are not there, which protobuf takes for 0."""

from __future__ import annotations

import struct

import pytest

from converters.errors import WireError
from converters.formats.datum import parse_datum
from converters.formats.wire import write_tag

SHAPE = {1: 1, 2: 1, 3: 1}
"""The numbers of channels, height and width."""


def message(numbers: dict[int, int], data: bytes) -> bytes:
    """A Datum of small numbers, and of data where there is some."""
    written = b"".join(bytes((number << 3, value)) for number, value in numbers.items())
    return written + (write_tag(4, len(data)) + data if data else b"")


@pytest.mark.parametrize("packed", [True, False])
def test_floats(packed: bool) -> None:
    """float_data, field 6, as protobuf packs it and as Caffe's schema has it."""
    values = [struct.pack("<f", value) for value in (0.5, -3.0)]
    floats = write_tag(6, 8) + b"".join(values) if packed else b"".join(bytes([6 << 3 | 5]) + each for each in values)
    found = parse_datum(message({1: 1, 2: 1, 3: 2}, b"") + floats)
    assert found.values is not None and found.values.tolist() == [[[0.5, -3.0]]]


def test_a_label_that_is_not_there() -> None:
    found = parse_datum(message(SHAPE, b"\7"))
    assert found.values is not None and found.values.tolist() == [[[7]]] and found.label == 0


@pytest.mark.parametrize("missing", SHAPE)
def test_a_shape_that_is_not_there(missing: int) -> None:
    numbers = {number: value for number, value in SHAPE.items() if number != missing}
    with pytest.raises(WireError, match="1 values for"):
        parse_datum(message(numbers, b"\7"))


def test_a_picture_that_is_not_there() -> None:
    with pytest.raises(WireError, match="encoded and has no data"):
        parse_datum(message({**SHAPE, 7: 1}, b""))
    assert parse_datum(message({7: 1}, b"x")).encoded == b"x"
