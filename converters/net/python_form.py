"""Form and Site: what `Layer.to_python` gives, and what it is told of its layer's place in the net.

    def to_python(self, site):
        return Form((f"{site.x} * torch.sigmoid({self.beta} * {site.x})",))

Expressions are of PyTorch, of the functions in converters/layers/functions.py, and of the classes in
converters/export/python/helpers.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..escaping import python_literal


@dataclass(frozen=True)
class Site:
    """The surroundings of a layer: the expressions of its bottoms, of its module and of its blobs, and their shapes."""

    bottoms: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    tops: int
    module: str
    blobs: tuple[str, ...]
    blob_shapes: tuple[tuple[int, ...], ...]

    @property
    def x(self) -> str:
        """The first bottom."""
        return self.bottoms[0]

    @property
    def rank(self) -> int:
        """The axes of the first bottom."""
        return len(self.shapes[0])


@dataclass(frozen=True)
class Form:
    """The text of a layer.

    `tops` has an expression for each top, or one that gives them all. `module` makes the attribute that holds the
    blobs; it is "" for a plain holder, which is also what a layer gets that shares blobs with another one: then
    `shared`, which uses `site.blobs`, replaces `tops`.
    """

    tops: tuple[str, ...]
    module: str = ""
    shared: tuple[str, ...] = ()


class NoFormError(LookupError):
    """The type, or a setting of it, is not written in Python; the message names it."""


def number(value: float) -> str:
    """The shortest decimal that is the same float32, as a person would have written it."""
    return python_literal(decimal(value))


def decimal(value: float) -> float:
    """The number of `number`."""
    if isinstance(value, int) or not math.isfinite(value) or float(np.float32(value)) != value:
        return value
    return float(str(np.float32(value)))


def numbers(values: Sequence[int]) -> str:
    """A size along several axes as one number where they are equal, as in PyTorch's arguments."""
    return str(values[0]) if len(set(values)) == 1 else repr(tuple(values))


def call(function: str, *positional: object, **named: object) -> str:
    """The text of a call; arguments that are None are left out."""
    arguments = [_written(value) for value in positional]
    arguments += [f"{name}={_written(value)}" for name, value in named.items() if value is not None]
    return f"{function}({', '.join(arguments)})"


def unless(default: Any, value: Any, text: str | None = None) -> str | None:
    """The text of an argument, None where it has its default."""
    return None if value == default else _written(value) if text is None else text


def _written(value: object) -> str:
    """An argument's text: an expression as it is, all else so that Python reads it back."""
    return python_literal(value) if isinstance(value, (float, tuple, list)) else str(value)


def times(x: str, factor: float) -> str:
    """The text of x times a number."""
    return x if factor == 1 else f"{x} * {number(factor)}"


def plus(x: str, term: float) -> str:
    """The text of x plus a number."""
    return x if term == 0 else f"{x} + {number(term)}" if term > 0 else f"{x} - {number(-term)}"


def spread(operand: str, trailing: int) -> str:
    """`operand` with axes appended, so that it broadcasts."""
    return f"{operand}[{', '.join(['...', *['None'] * trailing])}]" if trailing else operand
