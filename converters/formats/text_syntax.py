"""The syntax of protobuf's text format: text -> a tree of fields, knowing nothing of any message.

    name: "conv1"                        a field with one value
    dim: [1, 3, 4]                       with several
    layer { ... }   layer: < ... >       with a block of fields
    # a comment; and ; or , may follow any field

Source: protobuf's own reader, text_format.cc and io/tokenizer.cc of the 3.12 that Caffe 1.0 is built with. Every text
gives a tree or a PrototxtError that says where, what was expected and what was found, in time linear in its length.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple, NoReturn

from ..errors import PrototxtError
from .budget import FIELD, LAYER, TEXT_FIELD, TEXT_VALUE, V0_LAYER, Budget

MAX_DEPTH = 100
"""Blocks within blocks; no net of Caffe's needs more than 6."""

_EXPANSION = 16
"""Bytes of memory for each of a text, beside 64 MiB: nets as people write them take 8."""
_FIELD_COST = {"layer": LAYER, "layers": V0_LAYER}


class Position(NamedTuple):
    """The line and the column where something begins; both count from 1, columns in characters."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}"


class Literal(NamedTuple):
    """A scalar as it was written: `kind` is "number", "word" or "string".

    `text` is the number or word with its minus sign, or the quoted strings as they stand, for errors; `string` what
    the strings say.
    """

    kind: str
    text: str
    string: bytes
    place: Position

    @property
    def shown(self) -> str:
        """The text with which errors show it."""
        return _shorten(self.text)


class Block(NamedTuple):
    """The fields between two braces, in order."""

    fields: tuple[TextField, ...]
    place: Position

    @property
    def kind(self) -> str:
        """As a Literal's; never one of those."""
        return "block"

    @property
    def text(self) -> str:
        """The bracket with which it begins."""
        return "{"

    @property
    def shown(self) -> str:
        """The text with which errors show it."""
        return "'{'"


class TextField(NamedTuple):
    """`name` with its values: one, or as many as its [list] has."""

    name: str
    values: tuple[Literal | Block, ...]
    is_list: bool
    place: Position


def parse_tree(text: str, *, budget: Budget | None = None) -> Block:
    """The fields of a whole text; raises PrototxtError, and LimitError where they would take too much memory."""
    reader = _Reader(text, budget or Budget(len(text), expansion=_EXPANSION))
    fields = reader.read_fields(depth=0)
    if reader.kind != "end":
        reader.fail("a field name")
    return Block(fields, Position(1, 1))


def fail(place: Position, problem: str, *, hint: str | None = None) -> NoReturn:
    """Raise the error for something at `place`."""
    raise PrototxtError(problem, where=str(place), hint=hint)


class _Token(NamedTuple):
    kind: str  # name, number, string, symbol or end
    text: str
    place: Position

    def __str__(self) -> str:
        return "the end of the text" if self.kind == "end" else _shorten(self.text)


# Repeated groups are avoided: the re module spends a hundred bytes on each repetition.
_TOKEN = re.compile(
    r"""(?P<space> [ \t\r\v\f\n]+ | \#[^\n]* )
      | (?P<name> [A-Za-z_][A-Za-z0-9_]* )
      | (?P<number> \.?[0-9][0-9A-Za-z_.]* (?: (?<=[eE]) [+-] [0-9A-Za-z_.]* )? )
      | (?P<string> ["'] )
      | (?P<symbol> [{}<>\[\]:;,-] )""",
    re.VERBOSE,
)
_STRING_END = {quote: re.compile(rf"[\\\n\0{quote}]") for quote in "\"'"}
_NUMBER = re.compile(
    r"0[xX][0-9A-Fa-f]+ | 0[0-7]+ | (?!0[0-9]) (?: [0-9]+\.?[0-9]* | \.[0-9]+ ) (?: [eE][+-]?[0-9]+ )? [fF]?",
    re.VERBOSE,
)


def _tokens(text: str) -> Iterator[_Token]:
    position = line_start = 1 if text.startswith("\ufeff") else 0
    line = 1
    while position < len(text):
        place = Position(line, position - line_start + 1)
        match = _TOKEN.match(text, position)
        if match is None:
            _refuse_character(text, position, place)
        kind, end = str(match.lastgroup), match.end()
        if kind == "string":
            end = _string_end(text, position, place)
        found = text[position:end]
        if kind == "space":
            if "\n" in found:
                line += found.count("\n")
                line_start = position + found.rindex("\n") + 1
        else:
            if kind == "number" and not _NUMBER.fullmatch(found):
                fail(place, f"expected a number, found {_shorten(found)}", hint=_number_hint(found))
            yield _Token(kind, found, place)
        position = end
    yield _Token("end", "", Position(line, position - line_start + 1))


def _string_end(text: str, start: int, place: Position) -> int:
    """The end of the string that starts with the quote at `start`; it may not run over the end of a line."""
    quote, position = text[start], start + 1
    while (stop := _STRING_END[quote].search(text, position)) is not None:
        if stop.group() == quote:
            return stop.end()
        if stop.group() != "\\" or text[stop.end() : stop.end() + 1] in ("", "\n", "\0"):
            break
        position = stop.end() + 1
    found = text[start : stop.start() if stop else len(text)]
    fail(place, f"expected a closing {quote} on the same line, found {_shorten(found)}")


def _number_hint(text: str) -> str | None:
    if re.match(r"0[0-9]", text):
        return "a number that starts with 0 is octal: it has digits from 0 to 7 and no point"
    return "a number and the name after it need a space between them" if re.match(r"[0-9.]+[A-Za-z_]", text) else None


def _refuse_character(text: str, position: int, place: Position) -> NoReturn:
    character = text[position]
    if 0xDC80 <= ord(character) <= 0xDCFF:
        fail(place, f"byte 0x{ord(character) - 0xDC00:02x} is not UTF-8 text", hint="save the file as UTF-8")
    hint = "comments begin with #" if text.startswith(("//", "/*"), position) else None
    fail(place, f"expected a field name, a value or a brace, found {character!a}", hint=hint)


class _Reader:
    """Recursive descent over the tokens, one of which is looked at: `kind`, `text`."""

    def __init__(self, text: str, budget: Budget) -> None:
        self._tokens = _tokens(text)
        self._budget = budget
        self._next()

    def _next(self) -> None:
        self.token = next(self._tokens)
        self.kind, self.text = self.token.kind, self.token.text

    def fail(self, expected: str) -> NoReturn:
        fail(self.token.place, f"expected {expected}, found {self.token}")

    def _skip(self, *symbols: str) -> bool:
        if self.kind != "symbol" or self.text not in symbols:
            return False
        self._next()
        return True

    def _looks_at(self, *symbols: str) -> bool:
        return self.kind == "symbol" and self.text in symbols

    def read_fields(self, *, depth: int) -> tuple[TextField, ...]:
        fields = []
        while self.kind == "name":
            fields.append(self._read_field(depth))
            self._skip(";", ",")
        return tuple(fields)

    def _read_field(self, depth: int) -> TextField:
        name, place = self.text, self.token.place
        self._budget.take(_FIELD_COST.get(name, TEXT_FIELD), place)
        self._next()
        has_colon = self._skip(":")
        if self._skip("["):
            values = self._read_list(depth)
            if not has_colon and any(isinstance(value, Literal) for value in values):
                fail(place, f"expected ':' after {_shorten(name)}, found a list")
            return TextField(name, values, True, place)
        if not has_colon and not self._looks_at("{", "<"):
            self.fail(f"':' or '{{' after {_shorten(name)}")
        return TextField(name, (self._read_value(depth),), False, place)

    def _read_list(self, depth: int) -> tuple[Literal | Block, ...]:
        if self._skip("]"):
            return ()
        values = [self._read_value(depth)]
        while self._skip(","):
            self._budget.take(TEXT_VALUE, self.token.place)
            values.append(self._read_value(depth))
        if not self._skip("]"):
            self.fail("',' or ']'")
        return tuple(values)

    def _read_value(self, depth: int) -> Literal | Block:
        if self._looks_at("{", "<"):
            return self._read_block(depth + 1)
        if self.kind == "string":
            return self._read_string()
        place, sign = self.token.place, "-" if self._skip("-") else ""
        if self.kind not in ("number", "name"):
            self.fail("a number" if sign else "a value")
        if sign and self.kind == "name" and self.text.lower() not in ("inf", "infinity", "nan"):
            self.fail("a number")
        literal = Literal("number" if self.kind == "number" else "word", sign + self.text, b"", place)
        self._next()
        return literal

    def _read_block(self, depth: int) -> Block:
        opened = self.token
        if depth > MAX_DEPTH:
            fail(opened.place, f"blocks are nested more than {MAX_DEPTH} deep")
        self._next()
        fields = self.read_fields(depth=depth)
        closing = "}" if opened.text == "{" else ">"
        if not self._skip(closing):
            self.fail(f"a field name, or '{closing}' to close the '{opened.text}' of {opened.place}")
        return Block(fields, opened.place)

    def _read_string(self) -> Literal:
        place, written, said = self.token.place, [], bytearray()
        while self.kind == "string":
            self._budget.take(FIELD, place)
            written.append(self.text)
            said += _unescape(self.token)
            self._next()
        return Literal("string", " ".join(written), bytes(said), place)


_ESCAPE = re.compile(
    r"""\\(?: ([0-7]{1,3}) | x([0-9A-Fa-f]{1,2}) | u([dD][89abAB][0-9A-Fa-f]{2}\\u[dD][c-fC-F][0-9A-Fa-f]{2})
          | u([0-9A-Fa-f]{4}) | U([0-9A-Fa-f]{8}) | ([abfnrtv\\'"?]) | . )""",
    re.VERBOSE,
)
_SIMPLE = dict(zip("abfnrtv\\'\"?", b"\a\b\f\n\r\t\v\\'\"?", strict=True))


def _unescape(token: _Token) -> bytes:
    """The bytes that a quoted string says (tokenizer.cc, ParseStringAppend)."""
    body = token.text[1:-1]
    said, end = bytearray(), 0
    for match in _ESCAPE.finditer(body):
        said += _encode(body[end : match.start()], token.place)
        said += _escaped(match, token.place)
        end = match.end()
    return bytes(said + _encode(body[end:], token.place))


def _escaped(match: re.Match[str], place: Position) -> bytes:
    octal, hexadecimal, pair, short, long, simple = match.groups()
    if simple:
        return bytes([_SIMPLE[simple]])
    if octal and int(octal, 8) < 256:
        return bytes([int(octal, 8)])
    if hexadecimal:
        return bytes([int(hexadecimal, 16)])
    if pair:  # of UTF-16 surrogates
        return bytes.fromhex(pair.replace(r"\u", "")).decode("utf-16-be").encode()
    code = int(short or long or "D800", 16)
    if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
        fail(place, f"{match.group()} in a string is no escape sequence", hint=r"write a backslash as \\")
    return chr(code).encode()


def _encode(text: str, place: Position) -> bytes:
    """The bytes of a part of a string; of a file that is not UTF-8 those that it has (`read_text`)."""
    try:
        return text.encode(errors="surrogateescape")
    except UnicodeEncodeError as error:
        fail(place, f"{text[error.start]!a} in a string is half a character")


def _shorten(text: str) -> str:
    found = text if len(text) <= 40 else text[:40] + "..."
    return found if found[0] in "\"'" else f"'{found}'"
