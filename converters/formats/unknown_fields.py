"""Fields and values of forks, which BVLC Caffe's schema lacks, in a parsed message, and what to tell of them.

In a binary file a field has a number and no name, and forks use the same numbers for different parameters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from google.protobuf.unknown_fields import UnknownFieldSet

from ..net.layer import UnknownField
from .text_format import is_repeated


def unknown_fields(message: Any, *, prefix: str = "") -> Iterator[UnknownField]:
    """The fields of a message, at any depth, that are not in the schema, and values that an enum in it does not have.

    A field's name is its number, "convolution_param.#18"; that of a message which a fork has under one of Caffe's
    numbers is "#147". Values of enums come under the name of their field, "pooling_param.pool".
    """
    for field in _unknown(message):
        known = message.DESCRIPTOR.fields_by_number.get(field.field_number)
        is_value = known is not None and known.enum_type is not None
        name = known.name if is_value else f"#{field.field_number}"
        yield UnknownField(prefix + name, _value(field.data))
    for known, index, inner in _inner_messages(message):
        if not prefix and _is_of_a_fork(inner):
            yield UnknownField(f"#{known.number}", inner.SerializeToString())
        else:
            yield from unknown_fields(inner, prefix=f"{prefix}{known.name}{index}.")


def notes_on(found: Iterable[tuple[str, UnknownField]]) -> list[str]:
    """Notes for people on unknown fields and where each was ("layer 'conv1'"): one note for each name or value.

    The type of a V1 layer, whose values forks have added to, is left to the upgrade.
    """
    places: dict[str, dict[str, None]] = {}
    for where, field in found:
        name = re.sub(r"\[\d+\]", "", field.name)
        if "#" in name:
            problem = f"field {name} is not BVLC Caffe's; kept but not used, for only a prototxt tells its name"
        else:
            problem = f"{name} has value {field.value!r}, which is not BVLC Caffe's; kept, and its default is used"
        if name != "type":
            places.setdefault(problem, {})[where] = None
    notes = []
    for problem, where_all in places.items():
        more = f" and {len(where_all) - 3} more" if len(where_all) > 3 else ""
        notes.append(f"{', '.join([*where_all][:3])}{more}: {problem}")
    return notes


def _is_of_a_fork(message: Any) -> bool:
    """True where a known number holds a value of another type: then this is another message, which a fork has there."""
    numbers = message.DESCRIPTOR.fields_by_number
    if any(f.field_number in numbers and numbers[f.field_number].enum_type is None for f in _unknown(message)):
        return True
    return any(_is_of_a_fork(inner) for _, _, inner in _inner_messages(message))


def _inner_messages(message: Any) -> Iterator[tuple[Any, str, Any]]:
    """The messages in a message's fields: descriptor, "[0]" for a repeated one, message."""
    for known, value in message.ListFields():
        if known.message_type is not None:
            if is_repeated(known):
                yield from ((known, f"[{index}]", inner) for index, inner in enumerate(value))
            else:
                yield known, "", value


def _value(data: Any) -> Any:
    if isinstance(data, UnknownFieldSet):  # a group
        return tuple(UnknownField(f"#{inner.field_number}", _value(inner.data)) for inner in _iterate(data))
    return data


def _unknown(message: Any) -> Iterator[Any]:
    return _iterate(UnknownFieldSet(message))


def _iterate(fields: Any) -> Iterator[Any]:
    return iter(fields)  # protobuf's stub of UnknownFieldSet leaves this out
