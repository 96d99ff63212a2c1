"""Frozen records made of what JSON and TOML files hold, each value of the type that the record declares.

cattrs walks the types; the rules are ours, and strict: no text for a number, no true or false for one, no number that
is infinite or beyond 64 bits, nothing missing and, where people write the file, nothing unknown, which would be a typo.
"""

from __future__ import annotations

import difflib
import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, Literal, TypeVar, get_args, get_origin

from ..errors import CaffeFormatError

T = TypeVar("T")

_INT64 = range(-(1 << 63), 1 << 63)
_NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def to_record(value: Any, kind: type[T], *, where: str = "", ignore_unknown: bool = False) -> T:
    """`value`, of JSON's types, as a `kind`: a dataclass, or dict[str, X] or tuple[X, ...] of what a field may be.

    Fields are text, numbers, bool, Literal, None, tuples, mappings and other dataclasses. Raises CaffeFormatError with
    the place of the first value that is wrong, after `where`. Fields that the record does not have are errors, unless
    `ignore_unknown`: what a later version of this program wrote may have more.
    """
    from cattrs.errors import BaseValidationError

    try:
        found: T = _converter(ignore_unknown).structure(value, kind)
        return found
    except (BaseValidationError, CaffeFormatError) as error:
        first, place = _first(error, where)
    if not isinstance(first, CaffeFormatError):
        first = CaffeFormatError(str(first))
    raise first.inside(place) if place else first


def _first(error: BaseException, place: str) -> tuple[BaseException, str]:
    """The first error in a tree of them, and the place that their notes name: `releases.a-net.urls[0]`."""
    from cattrs.errors import AttributeValidationNote, BaseValidationError, IterableValidationNote

    for note in getattr(error, "__notes__", ()):
        if isinstance(note, AttributeValidationNote):
            place = f"{place}.{note.name}" if place else note.name
        elif isinstance(note, IterableValidationNote):
            name = f"[{note.index}]" if isinstance(note.index, int) else f".{note.index:.80}"
            place = f"{place}{name}" if place else name.removeprefix(".")
    return _first(error.exceptions[0], place) if isinstance(error, BaseValidationError) else (error, place)


def _wrong(value: Any, expected: str) -> CaffeFormatError:
    return CaffeFormatError(f"expected {expected}, found {value!r:.80}")


@functools.cache
def _converter(ignore_unknown: bool) -> Any:
    from cattrs import Converter
    from cattrs.cols import list_structure_factory, mapping_structure_factory
    from cattrs.gen import make_dict_structure_fn

    converter = Converter()

    def a_list(kind: Any) -> Callable[[Any, Any], Any]:
        each: Any = list[get_args(kind)[0]]  # type: ignore[misc]
        inner = list_structure_factory(each, converter)
        return lambda value, _: tuple(inner(_of(value, list, "a list"), kind))

    def a_table(kind: Any) -> Callable[[Any, Any], Any]:
        inner = mapping_structure_factory(kind, converter)
        return lambda value, _: inner(_of(value, dict, "a table"), kind)

    def a_record(kind: Any) -> Callable[[Any, Any], Any]:
        inner = make_dict_structure_fn(kind, converter)
        known = {field.name: field for field in fields(kind)}

        def structure(value: Any, _: Any) -> Any:
            _check_names(_of(value, dict, "a table"), known, ignore_unknown=ignore_unknown)
            return inner(value, kind)

        return structure

    for plain in _NAMES:
        converter.register_structure_hook(plain, _plain)
    converter.register_structure_hook_factory(_is_one_of(Literal), lambda kind: _choice)
    converter.register_structure_hook_factory(_is_one_of(tuple), a_list)
    converter.register_structure_hook_factory(_is_one_of(dict, Mapping), a_table)
    converter.register_structure_hook_factory(is_dataclass, a_record)
    return converter


def _is_one_of(*origins: Any) -> Callable[[Any], bool]:
    return lambda kind: get_origin(kind) in origins


def _of(value: Any, kind: type, name: str) -> Any:
    if not isinstance(value, kind):
        raise _wrong(value, name)
    return value


def _plain(value: Any, kind: Any) -> Any:
    if kind is float and type(value) is int and value in _INT64:
        value = float(value)
    if type(value) is not kind or (kind is int and value not in _INT64) or (kind is float and not math.isfinite(value)):
        raise _wrong(value, _NAMES[kind])
    return value


def _choice(value: Any, kind: Any) -> Any:
    choices = get_args(kind)
    if value not in choices:
        names = [repr(choice) for choice in choices]
        raise _wrong(value, " or ".join(filter(None, (", ".join(names[:-1]), names[-1]))))
    return value


def _check_names(found: Mapping[str, Any], known: Mapping[str, Field[Any]], *, ignore_unknown: bool) -> None:
    """CaffeFormatError for a name that no field has, and for a field that needs a value and has none."""
    for name in () if ignore_unknown else found:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(known)}"
            raise CaffeFormatError(f"unknown field '{name:.80}'; {hint}")
    for name, field in known.items():
        if name not in found and field.default is MISSING and field.default_factory is MISSING:
            raise CaffeFormatError(f"{name} is missing")
