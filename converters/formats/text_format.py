"""Protobuf's text format <-> messages of Caffe's schema, keeping what the schema does not know.

Reading follows protobuf's C++ reader (text_format.cc), which is the one in Caffe: a singular field given twice is an
error, integers must fit, `bool` takes true, True, t, 1 and their opposites, an enum its names or numbers. Where that
reader refuses a field that it does not know, this one keeps it, so that nets of Caffe's many forks can be read.

Writing gives fields in the order of their numbers, as protobuf does, and each number as short as it can be without
changing it.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor

from ..net.layer import Identifier, Scalar, UnknownField
from .budget import Budget
from .text_syntax import Block, Literal, Position, TextField, fail, parse_tree
from .wire import write_tag

CLOSED_ENUMS = ("Phase", "SolverParameter.", "ParamSpec.", "V1LayerParameter.DimCheckMode")
"""Enums of Caffe that have no values but Caffe's; to all others forks have added, and what is not known is kept."""

PATHS = ("source", "mean_file", "meanfile", "root_folder", "file_name")
"""Strings of Caffe's that name files; they are what somebody's disk has, and need not be UTF-8."""


@dataclass(frozen=True)
class ParsedText:
    """The content of a text.

    `message` holds the fields of the schema. `unknown` holds the others in file order; their names are paths from the
    root, with an index after each repeated message: "layer[3].pooling_param.ceil_mode". `lines` gives, by the same
    paths, the line on which each message and the first value of each scalar field begins.
    """

    message: Any
    unknown: tuple[UnknownField, ...]
    lines: Mapping[str, int]


def parse_text(text: str, message_class: Any, *, budget: Budget | None = None) -> ParsedText:
    """The message of `message_class` (see schema.py) that a text says; raises PrototxtError with line and column.

    `budget` counts what its fields take, for a text that is a part of a file; without one a text has its own.
    """
    filler = _Filler()
    message = message_class()
    filler.fill(message, parse_tree(text, budget=budget), "")
    return ParsedText(message, tuple(filler.unknown), filler.lines)


def format_text(message: Any, *, unknown: Iterable[UnknownField] = ()) -> str:
    """The text of a message, two spaces to a level, with the unknown fields at the end of the messages they are in.

    Fields known by number only, which binary files have ("#45"), become comments: text has no form for them.
    """
    lines = _write_message(message, [(tuple(field.name.split(".")), field) for field in unknown])
    return "".join(f"{line}\n" for line in lines)


def is_repeated(field: FieldDescriptor) -> bool:
    """True for a field that may be given several times (older protobuf has only `label`)."""
    if hasattr(field, "is_repeated"):
        return bool(field.is_repeated)
    return bool(getattr(field, "label") == FieldDescriptor.LABEL_REPEATED)  # noqa: B009


def set_scalar(message: Any, name: str, value: Any) -> None:
    """Set a field, of a path that is not UTF-8 as bytes, which protobuf's library takes from a file alone."""
    if isinstance(value, bytes):
        message.MergeFromString(write_tag(message.DESCRIPTOR.fields_by_name[name].number, len(value)) + value)
    else:
        setattr(message, name, value)


# Reading


class _Filler:
    """Sets the fields of messages from a tree, and collects what they have no place for."""

    def __init__(self) -> None:
        self.unknown: list[UnknownField] = []
        self.lines: dict[str, int] = {}

    def fill(self, message: Any, block: Block, prefix: str) -> None:
        known = message.DESCRIPTOR.fields_by_name
        first: dict[str, Position] = {}
        for entry in block.fields:
            field = known.get(entry.name)
            if field is None:
                self.unknown.extend(_keep(entry, prefix))
                continue
            if not is_repeated(field):
                _refuse_second(entry, first.setdefault(entry.name, entry.place))
            self.lines.setdefault(prefix + entry.name, entry.place.line)
            for value in entry.values:
                if field.message_type is None:
                    self._set_scalar(message, field, value, prefix)
                elif isinstance(value, Block):
                    self._set_message(message, field, value, prefix)
                else:
                    _refuse(field, "'{'", value)

    def _set_message(self, message: Any, field: FieldDescriptor, block: Block, prefix: str) -> None:
        path, child = prefix + field.name, getattr(message, field.name)
        if is_repeated(field):
            path = f"{path}[{len(child)}]"
            child = child.add()
            self.lines[path] = block.place.line
        else:
            child.SetInParent()
        self.fill(child, block, path + ".")

    def _set_scalar(self, message: Any, field: FieldDescriptor, value: Literal | Block, prefix: str) -> None:
        if field.enum_type is None:
            read = _READERS[field.cpp_type](field, value)
        elif isinstance(value, Literal) and _is_open(field.enum_type, value):
            self.unknown.append(UnknownField(prefix + field.name, _scalar(value), value.place.line))
            return
        else:
            read = _read_enum(field, field.enum_type, value)
        if is_repeated(field):
            getattr(message, field.name).append(read)
        else:
            set_scalar(message, field.name, read)


def _refuse_second(entry: TextField, first: Position) -> None:
    if first != entry.place:
        fail(entry.place, f"'{entry.name}' is given a second time; the first is on line {first.line}")
    if entry.is_list:
        fail(entry.place, f"'{entry.name}' takes one value, found a list of {len(entry.values)}")


def _refuse(field: FieldDescriptor, expected: str, value: Literal | Block, *, hint: str | None = None) -> NoReturn:
    fail(value.place, f"expected {expected} for '{field.name}', found {value.shown}", hint=hint)


_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: (-(1 << 31), (1 << 31) - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, (1 << 32) - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(1 << 63), (1 << 63) - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, (1 << 64) - 1),
}


def _integer(value: Literal | Block) -> int | None:
    """The value of an integer as C writes it; None for anything else, or beyond 64 bits."""
    digits = value.text.removeprefix("-")
    if value.kind != "number":
        return None
    if re.fullmatch(r"0[xX][0-9A-Fa-f]+", digits):
        number = int(digits, 16)
    elif re.fullmatch(r"0[0-7]*", digits):
        number = int(digits, 8)
    elif re.fullmatch(r"[1-9][0-9]{0,19}", digits):
        number = int(digits)
    else:
        return None
    number = -number if value.text.startswith("-") else number
    return number if -(1 << 63) <= number < 1 << 64 else None


def _read_integer(field: FieldDescriptor, value: Literal | Block) -> int:
    low, high = _INTEGERS[field.cpp_type]
    number = _integer(value)
    if number is None or not low <= number <= high or (low == 0 and value.text.startswith("-")):
        _refuse(field, f"an integer from {low} to {high}", value)
    return number


def _read_float(field: FieldDescriptor, value: Literal | Block) -> float:
    text = value.text.lower()
    if value.kind == "number" and not _has_base(text):
        return float(text.removesuffix("f"))
    if value.kind == "word" and text.removeprefix("-") in ("inf", "infinity", "nan"):
        return float(text)
    _refuse(field, "a decimal number", value)


def _has_base(number: str) -> bool:
    """True for a hexadecimal or octal number, which protobuf takes for integers only."""
    return re.match(r"-?0[0-9xX]", number) is not None


def _read_bool(field: FieldDescriptor, value: Literal | Block) -> bool:
    if value.kind == "word" and value.text in _BOOLS:
        return _BOOLS[value.text]
    number = _integer(value)
    if number not in (0, 1) or value.text.startswith("-"):
        _refuse(field, "true or false", value)
    return bool(number)


_BOOLS = {"true": True, "True": True, "t": True, "false": False, "False": False, "f": False}


def _read_string(field: FieldDescriptor, value: Literal | Block) -> str | bytes:
    if not isinstance(value, Literal) or value.kind != "string":
        _refuse(field, "a string in quotes", value)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return value.string
    try:
        return value.string.decode()
    except UnicodeDecodeError as error:
        if field.name in PATHS:
            return value.string
        problem = f"the string of '{field.name}' is not UTF-8: byte 0x{value.string[error.start]:02x}"
        fail(value.place, problem, hint="save the file as UTF-8")


def _read_enum(field: FieldDescriptor, enum: EnumDescriptor, value: Literal | Block) -> int:
    number = _enum_number(enum, value)
    if number is None:
        names = [known.name for known in enum.values]
        hint = "an enum's value is written without quotes" if value.kind == "string" else None
        if hint and enum.full_name == "caffe.V1LayerParameter.LayerType":
            hint += "; a type in quotes is one of 'layer', the form of today: write layer { ... } without the s"
        _refuse(field, f"{', '.join(names[:-1])} or {names[-1]}", value, hint=hint)
    return number


def _enum_number(enum: EnumDescriptor, value: Literal | Block) -> int | None:
    if value.kind == "word":
        known = enum.values_by_name.get(value.text)
        return known.number if known else None
    number = _integer(value)
    return number if any(number == known.number for known in enum.values) else None


def _is_open(enum: EnumDescriptor, value: Literal) -> bool:
    """True for what may be a value that a fork added to the enum."""
    is_value = value.kind == "word" or _integer(value) is not None
    is_closed = enum.full_name.removeprefix("caffe.").startswith(CLOSED_ENUMS)
    return is_value and not is_closed and _enum_number(enum, value) is None


_READERS = {
    **dict.fromkeys(_INTEGERS, _read_integer),
    FieldDescriptor.CPPTYPE_FLOAT: _read_float,
    FieldDescriptor.CPPTYPE_DOUBLE: _read_float,
    FieldDescriptor.CPPTYPE_BOOL: _read_bool,
    FieldDescriptor.CPPTYPE_STRING: _read_string,
}


def _keep(entry: TextField, prefix: str) -> Iterator[UnknownField]:
    for value in entry.values:
        if isinstance(value, Block):
            children = tuple(child for inner in value.fields for child in _keep(inner, ""))
            yield UnknownField(prefix + entry.name, children, entry.place.line)
        else:
            yield UnknownField(prefix + entry.name, _scalar(value), entry.place.line)


def _scalar(value: Literal) -> Scalar:
    """An unknown field's value; a number that no 64-bit type holds stays as it was written."""
    if value.kind == "string":
        try:
            return value.string.decode()
        except UnicodeDecodeError:
            return value.string
    integer = _integer(value)
    if integer is not None:
        return integer
    if value.kind == "word" or _has_base(value.text) or value.text.removeprefix("-").isdecimal():
        return Identifier(value.text)
    number = float(value.text.lower().removesuffix("f"))
    return Identifier(value.text) if math.isinf(number) else number


# Writing

_Unknown = tuple[tuple[str, ...], UnknownField]


def _write_message(message: Any, unknown: list[_Unknown]) -> Iterator[str]:
    inside: dict[str, list[_Unknown]] = {}
    for path, field in unknown:
        inside.setdefault(path[0] if len(path) > 1 else "", []).append((path[1:], field))
    for descriptor, value in message.ListFields():
        repeated = is_repeated(descriptor)
        for index, item in enumerate(value if repeated else [value]):
            if descriptor.message_type is None:
                yield f"{descriptor.name}: {_format_scalar(descriptor, item)}"
            else:
                key = f"{descriptor.name}[{index}]" if repeated else descriptor.name
                yield from _write_block(descriptor.name, _write_message(item, inside.pop(key, [])))
    for _, field in inside.pop("", []):
        yield from _write_unknown(field.name.rpartition(".")[2], field)
    for name, fields in inside.items():  # in a message that is not there
        yield from _write_block(name.partition("[")[0], _write_orphans(fields))


def _write_orphans(fields: list[_Unknown]) -> Iterator[str]:
    for path, field in fields:
        lines = _write_unknown(path[-1], field)
        for name in reversed(path[:-1]):
            lines = _write_block(name.partition("[")[0], lines)
        yield from lines


def _write_block(name: str, lines: Iterable[str]) -> Iterator[str]:
    yield f"{name} {{"
    yield from (f"  {line}" for line in lines)
    yield "}"


def _write_unknown(name: str, field: UnknownField) -> Iterator[str]:
    if name.startswith("#"):
        value = f"{len(field.value)} bytes" if isinstance(field.value, bytes) else field.value
        yield f"# field {name[1:]}, which has no name: {value}"
    elif isinstance(field.value, tuple):
        yield from _write_block(name, (line for child in field.value for line in _write_unknown(child.name, child)))
    elif isinstance(field.value, Identifier):
        yield f"{name}: {field.value}"
    elif isinstance(field.value, (str, bytes)):
        yield f"{name}: {_quote(field.value)}"
    else:
        yield f"{name}: {field.value!r}"


def _format_scalar(field: FieldDescriptor, value: Any) -> str:
    if field.enum_type is not None:
        return str(field.enum_type.values_by_number[value].name)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, bytes)):
        return _quote(value)
    if isinstance(value, float):
        return _shortest(value, digits=6 if field.cpp_type == FieldDescriptor.CPPTYPE_FLOAT else 15)
    return str(value)


def _shortest(value: float, *, digits: int) -> str:
    """The fewest digits, from the `digits` that always survive, that read back as the same float or double."""
    if math.isnan(value) or math.isinf(value):
        return ("-" if math.copysign(1, value) < 0 else "") + ("nan" if math.isnan(value) else "inf")
    for precision in (digits, digits + 1, digits + 2):
        text = f"{value:.{precision}g}"
        if float(text) == value or (digits == 6 and _single(float(text)) == value):
            return text
    return f"{value:.{digits + 3}g}"


def _single(value: float) -> float:
    try:
        return float(struct.unpack("<f", struct.pack("<f", value))[0])
    except OverflowError:
        return math.inf


_PLAIN = {'"': r"\"", "'": r"\'", "\\": r"\\", "\n": r"\n", "\r": r"\r", "\t": r"\t"}


def _quote(value: str | bytes) -> str:
    """A quoted string as protobuf escapes it, but readable: UTF-8 stays as it is."""
    if isinstance(value, bytes):
        value = value.decode("ascii", "surrogateescape")
    return '"' + re.sub(r"[\"'\\\x00-\x1f\x7f\udc80-\udcff]", _escape, value) + '"'


def _escape(match: re.Match[str]) -> str:
    character = match.group()
    return _PLAIN.get(character) or f"\\{ord(character) & 0xFF:03o}"
