"""JSON from somebody else: read within limits, and refused where it is not what RFC 8259 lets every program read.

No NaN, no number beyond 64 bits, no name twice, no half of a surrogate pair, and nothing deeper than `DEEPEST`: each of
these ends one reader or another in an error of its own later, far from the file.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from typing import Any, NoReturn

from ..errors import CaffeFormatError
from .opening import open_file

MOST_BYTES = 16 << 20
"""The longest JSON that is read where a caller does not say otherwise."""
DEEPEST = 50
"""Lists and tables within each other."""

_INT64 = range(-(1 << 63), 1 << 63)
_HALF_A_PAIR = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")


def read_json(path: str | os.PathLike[str], *, most_bytes: int = MOST_BYTES) -> Any:
    """The value in a JSON file, UTF-8; raises CaffeFormatError, which names the file, and FileNotFoundError."""
    with open_file(path) as file:
        data = file.read(min(os.fstat(file.fileno()).st_size, most_bytes) + 1)  # read() takes what it is told at once
    try:
        if len(data) > most_bytes:
            raise CaffeFormatError(f"more than {most_bytes:,} bytes of JSON, the limit")
        return parse_json(data.decode("utf-8"), most_bytes=most_bytes)
    except UnicodeDecodeError as error:
        raise CaffeFormatError(f"not JSON: byte {error.start} is not UTF-8", path=path) from None
    except CaffeFormatError as error:
        raise error.in_file(path) from None


def parse_json(text: str, *, most_bytes: int = MOST_BYTES) -> Any:
    """The value of a JSON text: int (64 bits), finite float, str, bool, None, list and dict.

    Raises CaffeFormatError, also for more than `most_bytes` characters.
    """
    if len(text) > most_bytes:
        raise CaffeFormatError(f"{len(text):,} characters of JSON; the limit is {most_bytes:,}")
    try:
        value = json.loads(
            text, parse_int=_integer, parse_float=_number, parse_constant=_constant, object_pairs_hook=_table
        )
    except RecursionError:
        raise CaffeFormatError(f"JSON of more than {DEEPEST} lists within lists, the limit") from None
    except json.JSONDecodeError as error:
        raise CaffeFormatError(f"not JSON: {error}") from None
    _check_depth(value)
    if _HALF_A_PAIR.search(text):
        _check_text(value)
    return value


def _integer(digits: str) -> int:
    if len(digits) <= 20 and (value := int(digits)) in _INT64:
        return value
    raise CaffeFormatError(f"the number {digits[:25]}{'...' * (len(digits) > 25)} does not fit 64 bits")


def _number(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise CaffeFormatError(f"the number {digits[:25]} is beyond what a double holds")
    return value


def _constant(name: str) -> NoReturn:
    raise CaffeFormatError(f"{name} is not JSON")


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise CaffeFormatError(f"{twice[:80]!a} is given twice in one table")
    return table


def _check_depth(value: Any) -> None:
    level = [value] if isinstance(value, (list, dict)) else []
    for _ in range(DEEPEST):
        inner = (each for found in level for each in (found.values() if isinstance(found, dict) else found))
        level = [each for each in inner if isinstance(each, (list, dict))]
        if not level:
            return
    raise CaffeFormatError(f"JSON of more than {DEEPEST} lists within lists, the limit")


def _check_text(value: Any) -> None:
    """Refuse lone surrogates, which no UTF-8 file or terminal takes."""
    rest = [value]
    while rest:
        found = rest.pop()
        if isinstance(found, str):
            try:
                found.encode("utf-8")
            except UnicodeEncodeError:
                raise CaffeFormatError(f"the text {found[:80]!a} has half of a surrogate pair") from None
        elif isinstance(found, list):
            rest += found
        elif isinstance(found, dict):
            rest += [*found, *found.values()]
