"""TOML tables that check what they are asked for: a wrong type, a missing or an unknown field names its place."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar

from weights.errors import CatalogueError

T = TypeVar("T")

_KINDS: Mapping[type, str] = MappingProxyType(
    {
        str: "text",
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        list: "a list",
        dict: "a table",
    }
)


@dataclass(frozen=True)
class Table:
    """One table of a TOML file; `path` is the keys that lead to it."""

    path: tuple[str, ...]
    data: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The key of this table in the one around it."""
        return self.path[-1]

    def error(self, problem: str) -> CatalogueError:
        """An error about this table, to be raised."""
        return CatalogueError(": ".join(filter(None, ("releases.toml", ".".join(self.path), problem))))

    def get(self, key: str, kind: type[T]) -> T | None:
        """The value of `key`, or None if it is left out; an int does for a float, a bool never for a number."""
        return None if key not in self.data else self._checked(key, self.data[key], kind)

    def need(self, key: str, kind: type[T]) -> T:
        """The value of `key`; an error if it is left out."""
        if key not in self.data:
            raise self.error(f"{key} is missing")
        return self._checked(key, self.data[key], kind)

    def text(self, key: str) -> str:
        """The text under `key`, which must be there and say something."""
        text = self.need(key, str)
        if not text.strip():
            raise self.error(f"{key} is empty")
        return text

    def items(self, key: str, kind: type[T]) -> tuple[T, ...]:
        """The elements of the list under `key`, all of one kind; () if it is left out."""
        values = self.get(key, list) or []
        return tuple(self._checked(f"{key}[{index}]", value, kind) for index, value in enumerate(values))

    def table(self, key: str) -> Table:
        """The table under `key`, empty if it is left out."""
        return Table((*self.path, key), self.get(key, dict) or {})

    def tables(self, key: str) -> tuple[Table, ...]:
        """The tables in the table under `key`, or in the list under `key`; () if it is left out."""
        if isinstance(self.data.get(key), list):
            rows = self.items(key, dict)
            return tuple(Table((*self.path, f"{key}[{index}]"), row) for index, row in enumerate(rows))
        parent = self.table(key)
        return tuple(parent.table(name) for name in parent.data)

    def lookup(self, key: str, known: Mapping[str, T]) -> T:
        """What the text under `key` refers to."""
        name = self.text(key)
        if name not in known:
            raise self.error(f"{key} {name!r} is not one of {', '.join(known)}")
        return known[name]

    def only(self, *known: str) -> None:
        """Refuse fields that nobody reads: they are typos."""
        for key in self.data:
            if key not in known:
                close = difflib.get_close_matches(key, known, n=1)
                raise self.error(f"unknown field {key!r}" + (f", did you mean {close[0]!r}?" if close else ""))

    def _checked(self, key: str, value: Any, kind: type[T]) -> T:
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.error(f"{key} should be {_KINDS[kind]}, not {value!r}")
        return value
