"""Fields of forks that have names and no numbers, inside a .caffemodel: as text, in one field of our own.

A prototxt names a fork's fields, and every fork numbers them otherwise, so that a binary file has no number for them
that would be right everywhere. They go into field NUMBER of their LayerParameter, or of the NetParameter, as the text
that a prototxt would have:

    convolution_param {
      hole: 2
    }

Caffe, its forks and OpenCV pass over numbers that they do not know. A net without such fields has no such field.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from ..errors import place
from ..net.layer import Identifier, UnknownField
from .budget import Budget
from .text_format import format_text, is_repeated, parse_text
from .wire import Buffer

NUMBER = 0x66636E
"""6,710,126, "fcn" in ASCII: far from the numbers of Caffe and its forks, which count up from 1."""


def write_fork_text(extra: Iterable[UnknownField], message_class: Any) -> bytes:
    """The fields of `extra` that a message of `message_class` cannot hold itself, as text; b"" where there are none.

    Fields by number ("#45") and numbers that Caffe's enums lack come from a binary file: they are in the message.
    Names that its enums lack ("AVE_EXC_PAD") come from a text.
    """
    known = message_class.DESCRIPTOR
    named = [field for field in extra if "#" not in field.name and _is_of_fork(field, known)]
    around = message_class()
    for field in named:
        _add_parents(around, field.name)
    return format_text(around, unknown=named).encode()


def read_fork_text(text: Buffer, message_class: Any, *, budget: Budget | None = None) -> tuple[UnknownField, ...]:
    """The fields that `write_fork_text` wrote; raises PrototxtError for what is no text of a `message_class`.

    `budget` counts what they take; without one they may take what a file of their size may.
    """
    with place(f"field {NUMBER}"):
        found = parse_text(bytes(text).decode("utf-8", "surrogateescape"), message_class, budget=budget).unknown
    return tuple(map(_without_line, found))


def _is_of_fork(field: UnknownField, descriptor: Any) -> bool:
    """True for what no message can hold: a field that Caffe's schema lacks, or an enum's value that has a name only."""
    return isinstance(field.value, Identifier) or not _is_caffes(field.name, descriptor)


def _is_caffes(path: str, descriptor: Any) -> bool:
    """True where Caffe's schema has a field of this path."""
    *parents, leaf = re.sub(r"\[\d+\]", "", path).split(".")
    for name in parents:
        known = descriptor.fields_by_name.get(name)
        if known is None or known.message_type is None:
            return False
        descriptor = known.message_type
    return leaf in descriptor.fields_by_name


def _add_parents(message: Any, path: str) -> None:
    """Make the messages that a path goes through: in text, the second of them is the one that comes after another."""
    for part in path.split(".")[:-1]:
        name, _, index = part.removesuffix("]").partition("[")
        known = message.DESCRIPTOR.fields_by_name.get(name)
        if known is None or known.message_type is None:
            return
        inner = getattr(message, name)
        if is_repeated(known):
            while len(inner) <= int(index):
                inner.add()
            inner = inner[int(index)]
        else:
            inner.SetInParent()
        message = inner


def _without_line(field: UnknownField) -> UnknownField:
    value = field.value
    return replace(field, value=tuple(map(_without_line, value)) if isinstance(value, tuple) else value, line=None)
