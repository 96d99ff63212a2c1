"""Vector: the `Sizes` of forms, numbers that are known when a model is written or that it works out for itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from .graph import Graph

_KNOWN: dict[str, Callable[[int, int], int]] = {
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: a * b,
    "Div": lambda a, b: a // b,
    "Max": max,
}


class Vector:
    """An int64 vector of one axis; each entry is a number or the name of a value of one number."""

    def __init__(self, graph: Graph, stem: str, entries: Sequence[int | str], *, whole: str | None = None) -> None:
        self._graph, self._stem, self._entries, self._whole = graph, stem, tuple(entries), whole

    @property
    def known(self) -> tuple[int, ...] | None:
        return tuple(map(int, self._entries)) if all(isinstance(entry, int) for entry in self._entries) else None

    @property
    def name(self) -> str:
        if self._whole is None:
            self._whole = self._make()
        return self._whole

    def _make(self) -> str:
        if self.known is not None:
            return self._constant(self.known)
        parts: list[str] = []
        waiting: list[int] = []
        for entry in self._entries:
            if isinstance(entry, int):
                waiting.append(entry)
                continue
            if waiting:
                parts.append(self._constant(waiting))
                waiting = []
            parts.append(entry)
        if waiting:
            parts.append(self._constant(waiting))
        return parts[0] if len(parts) == 1 else self._node("Concat", parts, axis=0)

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Vector:
        return Vector(self._graph, self._stem, [self._entries[index]])

    @property
    def entries(self) -> tuple[int | str, ...]:
        return self._entries

    def __add__(self, other: Any) -> Vector:
        return self._each("Add", other)

    def __sub__(self, other: Any) -> Vector:
        return self._each("Sub", other)

    def __mul__(self, other: Any) -> Vector:
        return self._each("Mul", other)

    def __floordiv__(self, other: Any) -> Vector:
        return self._each("Div", other)

    def at_least(self, least: int) -> Vector:
        return self._each("Max", least)

    def product(self) -> Vector:
        numbers = prod(entry for entry in self._entries if isinstance(entry, int))
        names = [entry for entry in self._entries if not isinstance(entry, int)]
        found = Vector(self._graph, self._stem, names[:1] or [numbers])
        for name in names[1:]:
            found = found * Vector(self._graph, self._stem, [name])
        return found * numbers if names else found

    def _each(self, op: str, other: Any) -> Vector:
        theirs = self._as_entries(other)
        mine = self._entries * len(theirs) if len(self._entries) == 1 else self._entries
        theirs = theirs * len(mine) if len(theirs) == 1 else theirs
        pairs = zip(mine, theirs, strict=True)
        return Vector(self._graph, self._stem, [self._entry(op, a, b) for a, b in pairs])

    def _as_entries(self, other: Any) -> tuple[int | str, ...]:
        if isinstance(other, Vector):
            return other._entries
        return tuple(map(int, other)) if isinstance(other, Sequence) else (int(other),)

    def _entry(self, op: str, a: int | str, b: int | str) -> int | str:
        if isinstance(a, int) and isinstance(b, int):
            return _KNOWN[op](a, b)
        if op != "Max" and b == (0 if op in ("Add", "Sub") else 1):
            return a
        return self._node(op, [x if isinstance(x, str) else self._constant([x]) for x in (a, b)])

    def _constant(self, numbers: Sequence[int]) -> str:
        return self._graph.initializer(f"{self._stem}/sizes", np.array(numbers, np.int64))

    def _node(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        return self._graph.add(op, inputs, f"{self._stem}/size", **attributes)
