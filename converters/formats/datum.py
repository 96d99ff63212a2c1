"""Datum, the record of one image in Caffe's databases (caffe.proto): pixels as they are, or the file of a picture.

The bytes are scanned, not unpacked, as a database has millions of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import CaffeFormatError, WireError
from .wire import BYTES, FIXED32, Message, expect, read_int, read_numbers


@dataclass(frozen=True)
class Datum:
    """An image: `values` (c, h, w) as stored, uint8 or float32, or `encoded`, the bytes of a JPEG or PNG; its label.

    Three channels are in OpenCV's order, BGR, where Caffe's tools wrote them (io.cpp, CVMatToDatum).
    """

    values: np.ndarray | None
    encoded: bytes | None
    label: int


def parse_datum(content: bytes) -> Datum:
    """The record in a message; WireError where it is none, or has other values than its shape says."""
    data: bytes = b""
    numbers = {1: 0, 2: 0, 3: 0, 5: 0, 7: 0}
    floats = []
    for found in Message.whole(content).fields():
        if found.number in numbers:
            numbers[found.number] = read_int(content, found)
        elif found.number == 4:
            data = content[expect(found, BYTES).value : found.end]
        elif found.number == 6:
            floats.append(expect(found, BYTES, FIXED32))
    label = numbers[5]
    if numbers[7]:
        if not data:
            raise WireError("a Datum that is encoded and has no data")
        return Datum(None, data, label)
    shape = (numbers[1], numbers[2], numbers[3])
    values = np.frombuffer(data, np.uint8) if data else read_numbers(content, floats, np.dtype("<f4"))
    if min(shape) < 1 or shape[0] * shape[1] * shape[2] != len(values):
        raise WireError(
            f"{len(values)} values for {shape[0]} x {shape[1]} x {shape[2]} (channels, height, width)",
            hint="is it a database of Datum, as Caffe's convert_imageset writes?",
        )
    return Datum(values.reshape(shape), None, label)


def read_datum(content: bytes, *, path: object, where: str) -> Datum:
    """`parse_datum`, whose errors name the database and the record."""
    try:
        return parse_datum(content)
    except CaffeFormatError as error:
        raise error.in_file(str(path)).inside(where) from None
