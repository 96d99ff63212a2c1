"""Parameters of Caffe's forks, read by name from the fields that BVLC Caffe's schema does not have."""

from __future__ import annotations

from ast import literal_eval
from dataclasses import dataclass
from math import copysign, inf
from typing import TYPE_CHECKING, Any

from ..net.layer import UnknownField
from ..net.reading import WatchedFields
from .base import refuse

if TYPE_CHECKING:
    from ..net.layer import LayerSpec

READ_AS = "fork"
"""The field of a layer that says as which fork's it is read."""


_INFINITE, _NOTHING = (2 - 2.0**-24) * 2.0**127, 2.0**-150
"""Numbers from which on, and up to which, float32 has infinity and 0."""


def _as_float(value: float) -> float:
    """A number as a message of Caffe's holds it, where it is beyond float32's: infinite, or 0."""
    number = float(value) if abs(value) < _INFINITE else copysign(inf, value)
    return number if abs(number) > _NOTHING else 0.0


@dataclass(frozen=True)
class ForkMessage:
    """One message of a fork, such as norm_param; of a scalar that is given twice the last counts, as in protobuf."""

    spec: LayerSpec
    name: str
    fields: dict[str, list[Any]]

    def __contains__(self, field: str) -> bool:
        return field in self.fields

    def integer(self, field: str, default: int) -> int:
        value = self._last(field, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._wrong(field, "a whole number", value)
        return value

    def integers(self, field: str) -> tuple[int, ...]:
        values = self.fields.get(field, [])
        if not all(isinstance(value, int) for value in values):
            raise self._wrong(field, "whole numbers", values)
        return tuple(values)

    def number(self, field: str, default: float) -> float:
        value = self._last(field, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self._wrong(field, "a number", value)
        return _as_float(value)

    def numbers(self, field: str) -> tuple[float, ...]:
        values = self.fields.get(field, [])
        if not all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
            raise self._wrong(field, "numbers", values)
        return tuple(map(_as_float, values))

    def messages(self, field: str) -> tuple[ForkMessage, ...]:
        """Each of a repeated message inside this one."""
        values = self.fields.get(field, [])
        if not all(isinstance(value, UnknownField) for value in values):
            raise self._wrong(field, "messages", values)
        return tuple(ForkMessage(self.spec, f"{self.name}.{field}", value.children()) for value in values)

    def message(self, field: str) -> ForkMessage:
        """The message inside this one, merged over repeats, empty where there is none."""
        values = self.fields.get(field, [])
        if not all(isinstance(value, UnknownField) for value in values):
            raise self._wrong(field, "a message", values)
        children = tuple(child for value in values for child in value.value)
        return ForkMessage(self.spec, f"{self.name}.{field}", UnknownField(field, children).children())

    def flag(self, field: str, *, default: bool) -> bool:
        value = str(self._last(field, default)).lower()
        if value not in ("true", "false", "t", "f", "1", "0"):
            raise self._wrong(field, "true or false", value)
        return value in ("true", "t", "1")

    def word(self, field: str, default: str) -> str:
        return str(self._last(field, default))

    def _last(self, field: str, default: Any) -> Any:
        return self.fields[field][-1] if self.fields.get(field) else default

    def _wrong(self, field: str, expected: str, found: Any) -> Exception:
        return refuse(self.spec, f"{self.name}.{field} is {found!r}; expected {expected}")


def fork_message(spec: LayerSpec, name: str) -> ForkMessage:
    """The message `name` of a layer, empty where it has none.

    Raises NetError where a binary file holds it by number only: forks disagree about the numbers.
    """
    numbered = [f.name for f in spec.extra if f.name.startswith("#")]
    if numbered and not any(f.name == name for f in spec.extra):
        raise refuse(
            spec,
            f"{name} cannot be read from a binary file, which has field {', '.join(numbered)} and no names",
            hint="give the net's prototxt as well; its fields have names",
        )
    return ForkMessage(spec, name, WatchedFields(UnknownField.merged(name, spec.extra).children(), name))


def fork_fields(spec: LayerSpec, message: str) -> ForkMessage:
    """The fields that a fork added to one of Caffe's own messages, such as convolution_param.hole."""
    fields: dict[str, list[Any]] = {}
    for field in spec.extra:
        parent, _, name = field.name.rpartition(".")
        if parent == message:
            fields.setdefault(name, []).append(field.value)
    return ForkMessage(spec, message, WatchedFields(fields, message))


def read_as(spec: LayerSpec) -> str:
    """The fork as whose a layer is to be read where forks disagree: its field `fork`, which a person may write too.

    It is no field of Caffe's; `passes/fork_readings.py` adds it where only that fork's layer fits the net.
    """
    return next((str(field.value) for field in spec.extra if field.name == READ_AS), "")


def python_settings(spec: LayerSpec) -> dict[str, Any]:
    """The param_str of a Python layer that is written as a dict of plain values, as most are; {} where it is empty.

    It is read, never run. Raises NetError for what is no such dict.
    """
    text = spec.message.python_param.param_str.strip()
    try:
        found = literal_eval(text) if text else {}
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise refuse(spec, f"param_str is {text[:60]!r}; expected a dict of plain values, such as {{'stride': 2}}")
    return found


def python_integer(spec: LayerSpec, name: str) -> int:
    """A whole number of `python_settings`; raises NetError for another value, or none."""
    value = python_settings(spec).get(name)
    if isinstance(value, bool) or not isinstance(value, int):
        raise refuse(spec, f"{name} of param_str is {value!r}; expected a whole number")
    return value
