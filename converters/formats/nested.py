"""The fields of a message at any depth, counted in its bytes before the protobuf library makes objects of them.

The library takes what it is given: a million empty messages, a packed field of eight million numbers, groups in
groups. Here only their cost is worked out, by the schema, with nothing kept.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from ..errors import WireError
from .budget import FIELD, UNKNOWN_FIELD, UNPACKED, VALUE, Budget
from .text_format import is_repeated
from .wire import BYTES, END_GROUP, FIXED32, FIXED64, START_GROUP, VARINT, Buffer, Field, read_field, read_tag

_DEEPEST = 100
"""The protobuf library refuses more levels than that."""
_FIXED = {FieldDescriptor.TYPE_FLOAT: 4, FieldDescriptor.TYPE_DOUBLE: 8}
_TEXT = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)


def count_nested(buffer: Buffer, start: int, end: int, descriptor: Descriptor, budget: Budget) -> None:
    """Take from `budget` what the fields of the message in `buffer[start:end]` cost, at all depths.

    Bytes that do not parse are left to the protobuf library, which refuses them as well.
    """
    try:
        _count(buffer, start, end, descriptor, budget, 0)
    except WireError:
        return


def _count(buffer: Buffer, start: int, end: int, descriptor: Descriptor | None, budget: Budget, depth: int) -> int:
    """Count up to `end`, or up to the end of the group that one is in (`descriptor` None); the position there."""
    numbers: Any = {} if descriptor is None else descriptor.fields_by_number
    position = start
    while position < end:
        number, wire_type, value = read_tag(buffer, position, end)
        known = numbers.get(number)
        if wire_type == END_GROUP:
            return value
        if wire_type == START_GROUP:
            budget.take(UNKNOWN_FIELD, position)
            if depth >= _DEEPEST:
                raise WireError("groups are nested too deep", where=f"offset {position}")
            position = _count(buffer, value, end, None, budget, depth + 1)
            continue
        found = read_field(buffer, position, end)
        budget.take(_cost(buffer, found, known), position)
        if known is not None and known.message_type is not None and wire_type == BYTES and depth < _DEEPEST:
            _count(buffer, found.value, found.end, known.message_type, budget, depth + 1)
        position = found.end
    return position


def _cost(buffer: Buffer, found: Field, known: Any) -> int:
    """Bytes for one field, all its numbers if it is packed."""
    if known is None:
        return UNKNOWN_FIELD
    if known.message_type is not None or known.type in _TEXT:
        return FIELD if found.wire_type == BYTES else UNKNOWN_FIELD
    if known.enum_type is not None:  # a value that the enum does not have becomes an unknown field
        return UNKNOWN_FIELD * (_packed(buffer, found, 0) + 1 if found.wire_type == BYTES else 1)
    if found.wire_type == BYTES and is_repeated(known):
        return FIELD + VALUE * _packed(buffer, found, _FIXED.get(known.type, 0))
    size = _FIXED.get(known.type)
    return UNPACKED if found.wire_type == {None: VARINT, 4: FIXED32, 8: FIXED64}[size] else UNKNOWN_FIELD


def _packed(buffer: Buffer, found: Field, size: int) -> int:
    """The count of numbers in a packed field, of `size` bytes each or, 0, varints: their last bytes are below 128."""
    length = found.end - found.value
    if size:
        return length // size
    return int(np.count_nonzero(np.frombuffer(buffer, np.uint8, length, found.value) < 0x80)) if length else 0
